"""What profiling says while it works. Decides nothing; the command line and the daemon show it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Planned(Struct, frozen=True):
    """Which models are profiled now, in this order, and about how long each will take."""

    models: tuple[tuple[str, float], ...]


class Skipped(Struct, frozen=True):
    """A model that is not profiled, and why."""

    model: str
    why: str


class ModelBegan(Struct, frozen=True):
    model: str
    number: int
    of: int


class StepBegan(Struct, frozen=True):
    """A step of the model that has begun last; ``what`` completes "now: ..."."""

    what: str


class Answered(Struct, frozen=True):
    """One task was answered and kept. ``left_s`` is what the model's other tasks will take."""

    subject: str
    task_id: str
    group: str
    score: float | None
    why: str
    left: int
    left_s: float


class Noted(Struct, frozen=True):
    """Something worth a line: what could not be measured, or has settled early."""

    model: str
    text: str


class Paused(Struct, frozen=True):
    """Somebody else needs the models."""


class Resumed(Struct, frozen=True):
    """Nobody else does any more."""


class ModelEnded(Struct, frozen=True):
    """``failure`` says why it was given up."""

    model: str
    seconds: float
    failure: str | None


Event = (
    Planned | Skipped | ModelBegan | StepBegan | Answered | Noted | Paused | Resumed | ModelEnded
)
Tell = Callable[[Event], None]
