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

LONGEST_PAUSE_S, PAUSES = 0.5, 2.0
"""A model whose requests follow one another this closely may idle for so many such pauses before
it goes to make room."""

AWAY = (Residency.UNLOADED, Residency.FAILED)


@dataclass(slots=True)
class Seat:
    """``service_s`` and ``gap_s`` are moving averages: how long a use lasts, and how long it is
    from one request to the next; ``pause_s`` is that from an answer to the next request.
    ``seen`` is what it was last seen to hold, ``context`` what a request may use as it is loaded,
    ``loading_for`` what the last load was asked for, ``held_before`` what the model held when that
    began, as it was ``reloading`` or in doubt, and ``since_before`` since when."""

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
    since_before: float = 0.0
    source: str | None = None
    seen: Mapping[str, int] = field(default_factory=dict)
    reported: int | None = None
    failures: int = 0
    failed_at: float = 0.0
    failure: SmarterRouterError | None = None
    load_s: float | None = None
    last_load_s: float | None = None
    service_s: float | None = None
    gap_s: float | None = None
    asked_at: float | None = None
    pause_s: float | None = None
    answered_at: float | None = None

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
        if self.answered_at is not None:
            self.pause_s = average(self.pause_s, now - self.answered_at)
            self.answered_at = None

    def answered(self, now: float) -> None:
        """A use has ended."""
        self.leases -= 1
        self.last_used = now
        if not self.leases:
            self.answered_at = now

    def lingers(self, now: float) -> bool:
        """Whether the next request for an idle model is to be expected in a moment.

        It is when its requests follow one another closely, as those of a program do that waits for
        each answer: unloading it between two of them would swap at every request.
        """
        if self.pause_s is None or self.pause_s > LONGEST_PAUSE_S:
            return False
        return now - self.last_used < PAUSES * self.pause_s

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
