"""What Ollama's own lists say of its models, in our words. Decides which of them are models here.

``/api/tags`` has names and sizes, ``/api/show`` what a model can do and was trained for,
``/api/ps`` what is loaded. ``served_context`` stays unknown: a longer context than the loaded one
is a reload away, so a request may use all that the model was trained for.

What a loaded model holds is ``size_vram``; the rest of ``size`` has spilled into RAM. With nothing
on a card it is ``size``, and none of that counts as spilled: from here nobody can tell an Ollama
without cards from one whose model found no room there. Who knows of cards must judge.

How many requests a model answers at once (``slots``) Ollama tells nowhere. It is what Ollama was
started with, but one for models that only embed and for some families.

Not listed: models that run elsewhere (``remote_host``), since no memory here is theirs, and those
that neither talk nor embed. Servers before 0.6.4 do not tell capabilities: then a BERT embeds,
anything else chats, and the rest is uncertain.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from smarterrouter.backends.control import count, text
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef

STATED = {
    "completion": Capability.CHAT,
    "embedding": Capability.EMBEDDING,
    "vision": Capability.VISION,
    "tools": Capability.TOOLS,
    "thinking": Capability.THINKING,
}
VOCABULARY = "token_embd.weight"
"""The table that has a row for each token."""

UNSTATED = frozenset({Capability.TOOLS, Capability.VISION, Capability.THINKING})
ANSWERING = frozenset({Capability.CHAT, Capability.EMBEDDING})
ONE_AT_A_TIME = frozenset(
    {
        *("mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next"),
        *("lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni"),
    }
)
"""Families that Ollama gives one slot, whatever it was started with."""


class Details(Struct, frozen=True):
    family: str | None = None
    quantization_level: str | None = None


class Tag(Struct, frozen=True):
    """A model on disk."""

    name: str
    size: int | None = None
    digest: str | None = None
    details: Details | None = None
    remote_host: str | None = None

    @property
    def key(self) -> str:
        """Changes when the model does."""
        return self.digest or self.name


class Running(Struct, frozen=True):
    """A model in memory; ``size_vram`` is the part of ``size`` that lies on devices."""

    name: str
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None


class Card(Struct, frozen=True):
    """What ``/api/show`` says of a model, as far as it is read.

    ``model_info`` is the header of its file, arrays in it null or empty. Of ``tensors``, which not
    every server tells, only the ``VOCABULARY`` is kept.
    """

    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    tensors: Any = None


class Tags(Struct, frozen=True):
    models: list[Tag] | None = None


class Processes(Struct, frozen=True):
    models: list[Running] | None = None


def tags(answer: object) -> list[Tag]:
    """The models that run here. Raises ``msgspec.ValidationError`` for anything else."""
    listed = msgspec.convert(answer, Tags).models or []
    return [tag for tag in listed if not tag.remote_host]


def running(answer: object) -> dict[str, Running]:
    """What is loaded, by name. Raises ``msgspec.ValidationError`` for anything else."""
    return {one.name: one for one in msgspec.convert(answer, Processes).models or []}


def card(answer: object) -> Card:
    """Raises ``msgspec.ValidationError`` for anything else."""
    told = msgspec.convert(answer, Card)
    tensors = told.tensors if isinstance(told.tensors, list) else []
    kept = [one for one in tensors if isinstance(one, dict) and one.get("name") == VOCABULARY]
    return replace(told, tensors=kept)


def model(
    tag: Tag,
    shown: Card,
    backend: str,
    prefix: str,
    loaded: Running | None,
    parallel: int = 1,
    *,
    cards: bool = False,
) -> Model | None:
    """The model, or ``None`` if it can neither chat nor embed.

    ``parallel`` is what its server was started with; ``cards``: it has some.
    """
    details, info = tag.details or Details(), shown.model_info or {}
    architecture = text(info.get("general.architecture")) or details.family or None
    has, uncertain = abilities(shown, architecture)
    if not has & ANSWERING:
        return None
    return Model(
        ref=ModelRef(backend, tag.name),
        id=prefix + tag.name,
        capabilities=has,
        uncertain=uncertain,
        size_bytes=tag.size or None,
        parameters=count(info.get("general.parameter_count")),
        quantization=_known(details.quantization_level),
        context_length=count(info.get(f"{architecture}.context_length")),
        architecture=architecture,
        digest=tag.digest or None,
        resident=loaded is not None,
        held=footprint(loaded, cards=cards) if loaded else None,
        slots=slots(has, details.family or architecture, parallel),
    )


def abilities(
    shown: Card, architecture: str | None
) -> tuple[frozenset[Capability], frozenset[Capability]]:
    """What a model can do, and what its server leaves open."""
    if shown.capabilities is not None:
        return frozenset(STATED[c] for c in shown.capabilities if c in STATED), frozenset()
    if "bert" in (architecture or ""):
        return frozenset({Capability.EMBEDDING}), frozenset()
    return frozenset({Capability.CHAT}), UNSTATED


def slots(has: frozenset[Capability], family: str | None, parallel: int) -> int:
    """How many requests a model answers at once."""
    alone = Capability.CHAT not in has or family in ONE_AT_A_TIME
    return 1 if alone else parallel


def footprint(one: Running, *, cards: bool = False) -> Footprint | None:
    """What a loaded model holds on ``cards``; without any, what it holds in RAM."""
    if not one.size:
        return None
    held = one.size_vram if cards else one.size_vram or one.size
    return Footprint(held, "reported", max(0, one.size - held), one.context_length)


def _known(level: str | None) -> str | None:
    return None if level in (None, "", "unknown") else level
