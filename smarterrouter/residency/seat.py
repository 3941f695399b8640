"""What the planner knows of one model. Decides when a failure is over, and what a wait takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smarterrouter.errors import Overloaded, SmarterRouterError
from smarterrouter.residency.demand import Conduct
from smarterrouter.residency.states import Move, Residency, advance

FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 300.0
BUSY_BACKOFF_S = 1.0
WEIGHT_OF_LAST = 0.3
"""How much the newest of a row of figures counts in their moving average."""

AWAY = (Residency.UNLOADED, Residency.FAILED)


@dataclass(slots=True)
class Seat:
    """``service_s`` and ``gap_s`` are moving averages: how long a use lasts, and how long it is
    from one request to the next. ``context`` is what a request may use as it is loaded,
    ``loading_for`` what the last load was asked for, ``held_before`` what the model held when that
    began: as it was ``reloading``, or in doubt."""

    state: Residency = Residency.UNLOADED
    conduct: Conduct = field(default_factory=Conduct)
    counted: bool = True
    leases: int = 0
    pinned: bool = False
    last_used: float = 0.0
    since: float = 0.0
    context: int | None = None
    loading_for: int = 0
    reloading: bool = False
    held_before: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None
    reported: int | None = None
    failures: int = 0
    failed_at: float = 0.0
    failure: SmarterRouterError | None = None
    load_s: float | None = None
    last_load_s: float | None = None
    service_s: float | None = None
    gap_s: float | None = None
    asked_at: float | None = None

    def move(self, move: Move, now: float) -> None:
        self.state = advance(self.state, move)
        self.since = now

    @property
    def ready(self) -> bool:
        return self.state is Residency.READY

    @property
    def away(self) -> bool:
        return self.state in AWAY

    @property
    def has_slot(self) -> bool:
        """Whether it can answer one more request at once."""
        return self.conduct.slots is None or self.leases < self.conduct.slots

    @property
    def retry_at(self) -> float:
        """When a failed model may be tried again: 5 s, doubling up to 5 minutes.

        A backend that was merely busy says itself how long, else a second.
        """
        if isinstance(self.failure, Overloaded):
            return self.failed_at + (self.failure.retry_after_s or BUSY_BACKOFF_S)
        doublings = min(max(0, self.failures - 1), 10)
        return self.failed_at + min(FIRST_BACKOFF_S * 2.0**doublings, LONGEST_BACKOFF_S)

    def suffices(self, context: int) -> bool:
        """Whether a request that needs so many tokens can be answered as it is loaded."""
        return self.context is None or context <= self.context

    def asked(self, now: float) -> None:
        if self.asked_at is not None:
            self.gap_s = average(self.gap_s, now - self.asked_at)
        self.asked_at = now

    def failed(self, error: SmarterRouterError, now: float) -> None:
        self.failures, self.failure, self.failed_at = self.failures + 1, error, now

    def doubted(self, now: float) -> None:
        """An unload has failed: it may be tried again later, and a load at once."""
        self.failures, self.failure, self.failed_at = self.failures + 1, None, now

    def well(self, now: float) -> None:
        self.failures, self.failure, self.last_used = 0, None, now


def average(known: float | None, new: float) -> float:
    """The moving average with one more figure."""
    return new if known is None else known + WEIGHT_OF_LAST * (new - known)
