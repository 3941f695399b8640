"""What a model is: its name, its size, what it can do, and what has been measured of it.

Decides nothing. Unknown is ``None`` and stays ``None``: nobody here guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    ``resident`` says whether it is loaded where its backend can tell, as of its last listing.
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
    uncertain: frozenset[Capability] = frozenset()
    resident: bool | None = None

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


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes a loaded model holds, and how we know: measured, reported, estimated or default."""

    bytes: int
    source: str
