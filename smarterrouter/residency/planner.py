"""Who gets a model, who waits, what is loaded and what goes: every residency decision.

Pure: each event is one method call that changes the state and returns the effects to carry
out (grant, refuse, start a load, start an unload). Nothing here awaits, reads a clock or
touches a backend, so ``scheduler`` runs it for real and a simulation can run it on any clock.

How a waiting request is served, oldest first:

1. Its model is ready: granted, unless the model stands in the way of an older request that
   has waited longer than ``patience_s``.
2. Its model is loading or unloading: it waits; everyone waiting joins the same load.
3. Its model failed to load a moment ago: refused with the reason, until the back-off is over.
4. Its model can never fit: refused with the sizes.
5. It fits now, and no older request is gathering room there: reserved, and the load starts.
6. Enough idle models can go: all of them are unloaded, together.
7. Otherwise nothing is evicted, and it waits for a lease to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import InsufficientVram, Overloaded, SmarterRouterError
from smarterrouter.residency.eviction import Resident, victims
from smarterrouter.residency.ledger import Share, VramLedger
from smarterrouter.residency.states import Move, Residency, advance

FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 300.0
BUSY_BACKOFF_S = 1.0


class Ticket(Struct, frozen=True):
    """One request's place in the queue. ``since`` is when it came, in clock seconds."""

    id: int
    model: ModelRef
    caller: str
    since: float


class Grant(Struct, frozen=True):
    ticket: Ticket


class Refuse(Struct, frozen=True):
    ticket: Ticket
    error: SmarterRouterError


class StartLoad(Struct, frozen=True):
    model: ModelRef


class StartUnload(Struct, frozen=True):
    model: ModelRef


Effect = Grant | Refuse | StartLoad | StartUnload


@dataclass(frozen=True, slots=True)
class Limits:
    """``queue_size`` requests may wait at once; ``patience_s`` as in rule 1 above."""

    queue_size: int = 256
    patience_s: float = 30.0


@dataclass(slots=True)
class Seat:
    """What the planner knows of one model."""

    state: Residency = Residency.UNLOADED
    leases: int = 0
    last_used: float = 0.0
    since: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    failure: SmarterRouterError | None = None

    def move(self, move: Move, now: float) -> None:
        self.state = advance(self.state, move)
        self.since = now

    @property
    def ready(self) -> bool:
        return self.state is Residency.READY

    @property
    def retry_at(self) -> float:
        """When a failed model may be tried again: 5 s, doubling up to 5 minutes.

        A backend that was merely busy says itself how long, else a second.
        """
        if isinstance(self.failure, Overloaded):
            return self.failed_at + (self.failure.retry_after_s or BUSY_BACKOFF_S)
        return self.failed_at + min(FIRST_BACKOFF_S * 2.0 ** (self.failures - 1), LONGEST_BACKOFF_S)


@dataclass(slots=True)
class _Round:
    """One pass over the queue: what it decided, and who may no longer start what."""

    effects: list[Effect] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    barred: set[ModelRef] = field(default_factory=set)
    waiting: list[Ticket] = field(default_factory=list)


class Planner:
    """All residency state, and the only code that changes it.

    ``footprint`` tells what a model will hold when loaded, by device; ``None`` means its
    backend manages its own memory, and the model counts as always ready.
    """

    def __init__(
        self,
        ledger: VramLedger,
        footprint: Callable[[ModelRef], Share | None],
        limits: Limits | None = None,
    ) -> None:
        self.ledger = ledger
        self.limits = limits or Limits()
        self.seats: dict[ModelRef, Seat] = {}
        self.waiting: list[Ticket] = []
        self._footprint = footprint

    # events

    def request(self, ticket: Ticket) -> list[Effect]:
        """Somebody wants the model."""
        seat = self._seat(ticket.model)
        if not self.waiting and seat.ready:
            seat.leases += 1
            return [Grant(ticket)]
        full = len(self.waiting) >= self.limits.queue_size
        if full and not seat.ready:
            return [Refuse(ticket, self._queue_full())]
        self.waiting.append(ticket)
        effects = self._plan(ticket.since)
        if full and ticket in self.waiting:  # its model is ready, but older requests go first
            self.waiting.remove(ticket)
            effects.append(Refuse(ticket, self._queue_full()))
        return effects

    def leave(self, ticket: Ticket, now: float) -> list[Effect]:
        """The waiter has hung up. A load already under way is finished: it was paid for."""
        self.waiting = [other for other in self.waiting if other.id != ticket.id]
        return self._plan(now)

    def release(self, model: ModelRef, now: float) -> list[Effect]:
        """A lease has ended."""
        seat = self._seat(model)
        seat.leases -= 1
        seat.last_used = now
        planned = self._plan(now) if self.waiting else []
        return planned + self._back_within_budget(now)

    def loaded(self, model: ModelRef, held: Share | None, now: float) -> list[Effect]:
        """A load has succeeded; ``held`` is what it was seen to hold, if it was seen.

        Whoever waited for it is served first, so that nobody can evict it before its first use.
        """
        seat = self._seat(model)
        seat.move(Move.LOADED, now)
        seat.failures, seat.failure, seat.last_used = 0, None, now
        self.ledger.settle(model, held or self.ledger.share_of(model))
        served = self._take_waiting(model)
        seat.leases += len(served)
        grants: list[Effect] = [Grant(ticket) for ticket in served]
        return grants + self._plan(now) + self._back_within_budget(now)

    def load_failed(self, model: ModelRef, error: SmarterRouterError, now: float) -> list[Effect]:
        """A load has failed: every waiter gets the reason."""
        seat = self._seat(model)
        seat.move(Move.LOAD_FAILED, now)
        seat.failures, seat.failure, seat.failed_at = seat.failures + 1, error, now
        self.ledger.release(model)
        refusals: list[Effect] = [Refuse(ticket, error) for ticket in self._take_waiting(model)]
        return refusals + self._plan(now)

    def unloaded(self, model: ModelRef, now: float) -> list[Effect]:
        """An unload we started is done, and the memory is seen to be free."""
        seat = self._seat(model)
        if seat.state is Residency.UNLOADING:
            seat.move(Move.UNLOADED, now)
            self.ledger.release(model)
        return self._plan(now)

    def lost(self, model: ModelRef, now: float) -> list[Effect]:
        """A ready model went away by itself. Its readers find out from their own streams."""
        seat = self._seat(model)
        if seat.ready:
            seat.move(Move.LOST, now)
            self.ledger.release(model)
        return self._plan(now)

    def seen(self, model: ModelRef, loaded: bool, since: float, now: float) -> list[Effect]:
        """Its backend says whether the model is loaded, as it was at ``since`` or later.

        What has changed after that is known better here, and a load or an unload under way is
        waited for.
        """
        seat = self._seat(model)
        if seat.since > since:
            return []
        if loaded and seat.state in (Residency.UNLOADED, Residency.FAILED):
            seat.move(Move.ADOPT, now)
            seat.failures, seat.failure, seat.last_used = 0, None, now
            return self._plan(now)
        if not loaded and seat.ready and not seat.leases:
            return self.lost(model, now)
        return []

    def unload(self, model: ModelRef, now: float) -> list[Effect]:
        """Somebody asks for an idle model to go. Nothing happens while it is in use."""
        seat = self._seat(model)
        if not seat.ready or seat.leases:
            return []
        return [self._start_unload(model, now)]

    # questions

    def state(self, model: ModelRef) -> Residency:
        """Where the model stands; a model that manages itself is always ready."""
        return self._seat(model).state

    def resident(self) -> dict[ModelRef, Residency]:
        """Every model that is loaded, or on its way in or out."""
        away = (Residency.UNLOADED, Residency.FAILED)
        return {ref: seat.state for ref, seat in self.seats.items() if seat.state not in away}

    def to_make_room(self, model: ModelRef) -> tuple[ModelRef, ...] | None:
        """Who would have to go if the model were wanted now; ``None`` if nobody could."""
        share = self._footprint(model)
        if share is None or self.ledger.share_of(model):
            return ()
        lack = self.ledger.shortfall(share)
        return victims(lack, self._idle()) if lack else ()

    def too_large(self, model: ModelRef) -> str | None:
        """Why the model would not fit even if nothing else were loaded; ``None`` when it would."""
        for device, need in (self._footprint(model) or {}).items():
            most = max(0, self.ledger.ceiling(device))
            if need > most:
                return f"needs {_gb(need)} and {device} has at most {_gb(most)} for models"
        return None

    # the pass over the queue

    def _plan(self, now: float) -> list[Effect]:
        if not self.waiting:
            return []
        turn = _Round()
        for ticket in self.waiting:
            self._serve(ticket, turn, now)
        self.waiting = turn.waiting
        return turn.effects

    def _serve(self, ticket: Ticket, turn: _Round, now: float) -> None:
        seat = self._seat(ticket.model)
        if seat.ready and ticket.model not in turn.barred:
            seat.leases += 1
            turn.effects.append(Grant(ticket))
            return
        if seat.state in (Residency.UNLOADED, Residency.FAILED):
            if error := self._hopeless(ticket.model, seat, now):
                turn.effects.append(Refuse(ticket, error))
                return
            self._bring_in(ticket, seat, turn, now)
        turn.waiting.append(ticket)

    def _hopeless(self, model: ModelRef, seat: Seat, now: float) -> SmarterRouterError | None:
        if seat.failure is not None and now < seat.retry_at:
            wait = seat.retry_at - now
            return type(seat.failure)(
                f"{model.name} failed to load {now - seat.failed_at:.0f} s ago and is tried again "
                f"in {wait:.0f} s. The reason was: {seat.failure.message}",
                retry_after_s=wait,
            )
        if lack := self.too_large(model):
            return InsufficientVram(
                f"{model.name} {lack}. Use a smaller quantisation or context, or raise "
                "ROUTER_VRAM_MAX_TOTAL_GB."
            )
        return None

    def _bring_in(self, ticket: Ticket, seat: Seat, turn: _Round, now: float) -> None:
        share = self._footprint(ticket.model) or {}
        claimed = not turn.claimed.isdisjoint(share)
        lack = self.ledger.shortfall(share)
        if not lack and not claimed:
            self.ledger.reserve(ticket.model, share)
            seat.move(Move.LOAD, now)
            turn.effects.append(StartLoad(ticket.model))
            return
        if claimed:
            return
        coming = self._coming(lack)
        going = victims({d: n - coming[d] for d, n in lack.items()}, self._idle())
        if going is not None:
            turn.effects += [self._start_unload(model, now) for model in going]
        impatient = now - ticket.since > self.limits.patience_s
        if going is not None or impatient:
            turn.claimed |= set(share)
        if impatient:
            turn.barred |= self._in_the_way(lack)

    def _coming(self, lack: Share) -> dict[str, int]:
        """Bytes that unloads under way will free, by device."""
        leaving = [ref for ref, seat in self.seats.items() if seat.state is Residency.UNLOADING]
        return {d: sum(self.ledger.share_of(ref).get(d, 0) for ref in leaving) for d in lack}

    def _in_the_way(self, lack: Share) -> set[ModelRef]:
        """Ready models on the devices that are short: no new use of them for now."""
        return {
            ref
            for ref, seat in self.seats.items()
            if seat.ready and not self.ledger.share_of(ref).keys().isdisjoint(lack)
        }

    def _idle(self) -> list[Resident]:
        return [
            Resident(ref, self.ledger.share_of(ref), seat.last_used)
            for ref, seat in self.seats.items()
            if seat.ready and seat.leases == 0 and self.ledger.share_of(ref)
        ]

    def _back_within_budget(self, now: float) -> list[Effect]:
        """A model turned out larger than reserved: idle ones go until the budget holds."""
        lack = {d: -free for d in self.ledger.limits if (free := self.ledger.free(d)) < 0}
        if not lack:
            return []
        coming = self._coming(lack)
        still = {d: n - coming[d] for d, n in lack.items() if n > coming[d]}
        return [self._start_unload(model, now) for model in victims(still, self._idle()) or ()]

    def _start_unload(self, model: ModelRef, now: float) -> StartUnload:
        self._seat(model).move(Move.UNLOAD, now)
        return StartUnload(model)

    def _take_waiting(self, model: ModelRef) -> list[Ticket]:
        """Take everyone who waits for the model out of the queue, oldest first."""
        taken = [ticket for ticket in self.waiting if ticket.model == model]
        self.waiting = [ticket for ticket in self.waiting if ticket.model != model]
        return taken

    def _seat(self, model: ModelRef) -> Seat:
        seat = self.seats.get(model)
        if seat is None:
            seat = self.seats[model] = Seat()
        away = seat.state in (Residency.UNLOADED, Residency.FAILED)
        if away and self._footprint(model) is None:
            seat.state = advance(seat.state, Move.ADOPT)
        return seat

    def _queue_full(self) -> Overloaded:
        return Overloaded(
            f"{len(self.waiting)} requests are already waiting for a model. Try again in a "
            "moment, or raise ROUTER_QUEUE_SIZE.",
            retry_after_s=5.0,
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
