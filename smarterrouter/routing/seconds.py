"""How long until the last word? queue + making room + load + prefill + decode, in seconds.

Measured figures are used where there are any. Otherwise the model's size gives a prior for a
machine that reads 30 GB/s from memory and 1 GB/s from disk: wrong by a factor on any given
machine, but in the right order among its models, which is what a choice needs.
"""

from __future__ import annotations

from msgspec import Struct

from smarterrouter.domain.decision import PromptFeatures
from smarterrouter.domain.models import Model, ModelProfile
from smarterrouter.routing.quality import UNKNOWN_PARAMETERS

MEMORY_BYTES_PER_S = 30e9
DISK_BYTES_PER_S = 1e9
PREFILL_PER_DECODE = 8.0
LOAD_BASE_S = 1.0
BYTES_PER_PARAMETER = 0.6
CORE_FLOPS, CORE_BYTES_PER_S = 1e10, 2e9
"""What one core of a processor computes and reads from memory in a second, as a model uses it."""


class Seconds(Struct, frozen=True):
    """Expected seconds by part. ``source`` says whether they were measured or guessed by size."""

    queue: float
    load: float
    prefill: float
    decode: float
    source: str

    @property
    def total(self) -> float:
        return self.queue + self.load + self.prefill + self.decode

    def __str__(self) -> str:
        before = f"queue {self.queue:.1f} + load {self.load:.1f} + read {self.prefill:.1f}"
        return f"{self.total:.1f} s ({before} + write {self.decode:.1f}; {self.source})"


class Standing(Struct, frozen=True):
    """How a model stands at this moment.

    ``load_s`` is what remains until it is loaded (0 when resident), ``room_s`` what it will
    cost to bring back whoever is pushed out for it. ``loading``: a load is under way.
    ``obstacle`` says why it can never be loaded.
    """

    resident: bool
    loading: bool = False
    queue_s: float = 0.0
    load_s: float | None = None
    room_s: float = 0.0
    obstacle: str | None = None

    @property
    def wait_s(self) -> float:
        """Until an answer could begin: the queue, and the load."""
        return self.queue_s + (0.0 if self.resident else self.load_s or 0.0)


def load_seconds(model: Model, profile: ModelProfile | None = None) -> float | None:
    """How long a load takes: measured, else from the file's size; ``None`` if that is unknown."""
    if profile and profile.load_seconds is not None:
        return profile.load_seconds
    weights = _weight_bytes(model)
    return None if weights is None else LOAD_BASE_S + weights / DISK_BYTES_PER_S


def expected(
    model: Model, profile: ModelProfile | None, features: PromptFeatures, standing: Standing
) -> Seconds | None:
    """Seconds for one prompt; ``None`` where neither speed nor size is known."""
    measured = profile.decode_tps if profile else None
    decode_tps = measured or _decode_prior(model)
    if decode_tps is None:
        return None
    prefill_tps = (profile.prefill_tps if profile else None) or decode_tps * PREFILL_PER_DECODE
    load = 0.0
    if not standing.resident:
        load = standing.load_s if standing.load_s is not None else load_seconds(model, profile) or 0
        load += standing.room_s
    return Seconds(
        queue=standing.queue_s,
        load=load,
        prefill=features.prompt_tokens / prefill_tps,
        decode=features.answer_tokens / decode_tps,
        source="measured" if measured else "guessed from size",
    )


def guessed_pace(model: Model, cores: int = 0) -> tuple[float, float, float]:
    """Seconds to load, and tokens read and written a second, by size alone; for a model of unknown
    size as if it had 7 billion parameters. ``cores`` of a processor, where there is no card."""
    weights = _weight_bytes(model) or UNKNOWN_PARAMETERS * BYTES_PER_PARAMETER
    load = LOAD_BASE_S + weights / DISK_BYTES_PER_S
    if not cores:
        decode = MEMORY_BYTES_PER_S / weights
        return load, decode * PREFILL_PER_DECODE, decode
    parameters = model.parameters or weights / BYTES_PER_PARAMETER
    prefill = cores * CORE_FLOPS / (2.0 * parameters)
    return load, prefill, min(prefill, min(cores * CORE_BYTES_PER_S, MEMORY_BYTES_PER_S) / weights)


def _decode_prior(model: Model) -> float | None:
    weights = _weight_bytes(model)
    return None if not weights else MEMORY_BYTES_PER_S / weights


def _weight_bytes(model: Model) -> float | None:
    if model.size_bytes:
        return float(model.size_bytes)
    return model.parameters * BYTES_PER_PARAMETER if model.parameters else None
