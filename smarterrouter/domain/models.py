"""What a model is: its name, its size, what it can do, and what has been measured of it.

Decides nothing. Unknown is ``None`` and stays ``None``: nobody here guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct


class Capability(StrEnum):
    """What a model can do (first group) or what a backend can do with its models (second)."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    VISION = "vision"
    TOOLS = "tools"
    THINKING = "thinking"

    LOAD = "load"
    UNLOAD = "unload"


class ModelRef(Struct, frozen=True, order=True):
    """One model on one backend: ``name`` is what that backend calls it."""

    backend: str
    name: str

    def __str__(self) -> str:
        return f"{self.backend}/{self.name}"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its backend describes it.

    ``id`` is what clients put in ``model``; backends that have the same weights share it.
    ``context_length`` is what the model was trained for, ``served_context`` what one
    request may use as it is (or will be) loaded; both in tokens. ``uncertain`` holds the
    capabilities that nobody has stated or probed: the model may have them or not.
    ``resident`` says whether it is loaded where its backend can tell, as of its last listing,
    and ``held`` what it holds then. ``slots`` is how many requests it answers at once.
    ``preload``: its backend is set to load it at start. ``fingerprint`` is another one when its
    file is; unlike a ``digest`` it says nothing about the same weights elsewhere.
    """

    ref: ModelRef
    id: str
    capabilities: frozenset[Capability]
    size_bytes: int | None = None
    parameters: int | None = None
    quantization: str | None = None
    context_length: int | None = None
    served_context: int | None = None
    architecture: str | None = None
    digest: str | None = None
    fingerprint: str | None = None
    uncertain: frozenset[Capability] = frozenset()
    resident: bool | None = None
    held: Footprint | None = None
    slots: int | None = None
    preload: bool = False

    @property
    def usable_context(self) -> int | None:
        """Tokens that one request may use, prompt and answer together."""
        return self.served_context or self.context_length


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What was measured of one model on this hardware. Rates are tokens per second."""

    footprint_bytes: int | None = None
    load_seconds: float | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None
    ttft_s: float | None = None


class Placing(StrEnum):
    """Who decides on which cards a model lies, where there are several.

    ``CHOSEN``: we do, one card or a split. ``ROOMIEST``: its backend takes the one card with the
    most free memory, and all of them when that is too small. ``SPREAD``: always all of them.
    """

    CHOSEN = "chosen"
    ROOMIEST = "roomiest"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model is to be loaded: bytes by device id, empty where nobody counts them.

    ``context`` is the tokens that one request needs at least; 0 is the usual.
    """

    share: Mapping[str, int] = field(default_factory=dict)
    context: int = 0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a loaded model holds on devices, and how we know.

    ``source`` is measured, reported, estimated or default. ``spilled_bytes`` lie in RAM although
    they were meant for a card. ``context`` is the tokens that a request may use as it is loaded,
    where a load can choose.
    """

    bytes: int
    source: str
    spilled_bytes: int = 0
    context: int | None = None
