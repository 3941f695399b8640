"""Who gets a model, who waits, what is loaded and what goes: every residency decision.

Pure: each event is one method call that changes the state and returns the effects to carry
out (grant, refuse, start a load, start an unload). Nothing here awaits, reads a clock or
touches a backend, so ``scheduler`` runs it for real and a simulation can run it on any clock.

What one pass over the queue does:

1. Whoever waits for a model that failed a moment ago, or can never fit, is refused.
2. Whoever stands in the way of a model that somebody has waited for longer than ``patience_s``
   gets no new use, except by those who waited for its own load.
3. Ready models are granted, each caller in turn, as many at once as the model answers.
4. Models that are away are brought in: first those that others have made way for, then those
   waited for too long. What fits is reserved and loaded. Otherwise enough idle models go, all
   together, and no later one takes their room. Otherwise nothing is evicted, and they wait for a
   lease to end.

A model that is resident with too short a context is loaded anew as in 4 once it is idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from smarterrouter.domain.models import ModelRef, Placement, Placing
from smarterrouter.errors import (
    Conflict,
    InsufficientVram,
    Overloaded,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import (
    Effect,
    Grant,
    Held,
    Limits,
    Reading,
    Refuse,
    StartLoad,
    StartUnload,
    Suspect,
    Used,
)
from smarterrouter.residency.eviction import Resident
from smarterrouter.residency.ledger import GONE, DeviceLimit, Share, VramLedger
from smarterrouter.residency.line import Line, Ticket
from smarterrouter.residency.room import Rooms, Rules, Way
from smarterrouter.residency.seat import Seat, average
from smarterrouter.residency.states import Move, Residency

LEAST_RETRY_S = 1.0
USUAL_SERVICE_S = 5.0
GROWTH_FORESEEN = ("estimated", "measured")
"""Where a demand comes from that counts what a model will grow to."""

NOTHING: Used = {}
NOWHERE: Share = {}


@dataclass(slots=True)
class _Round:
    """One pass: what it decided, which devices are spoken for, who gets no new use, and whose turn
    to be brought in has been."""

    effects: list[Effect] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    earlier: set[ModelRef] = field(default_factory=set)
    barred: set[ModelRef] = field(default_factory=set)
    impatient: list[ModelRef] = field(default_factory=list)


class Planner:
    """All residency state, and the only code that changes it.

    ``demand`` tells what a model will take when loaded with so many tokens of context; ``None``
    means its backend manages its own memory, and the model counts as always ready.
    """

    def __init__(
        self,
        ledger: VramLedger,
        demand: Callable[[ModelRef, int], Demand | None],
        limits: Limits | None = None,
        rules: Rules | None = None,
        conduct: Callable[[ModelRef], Conduct] = lambda ref: Conduct(),
    ) -> None:
        self.ledger = ledger
        self.limits = limits or Limits()
        self.seats: dict[ModelRef, Seat] = {}
        self.line = Line()
        self._demand = demand
        self._conduct = conduct
        self._rooms = Rooms(ledger, self.seats, rules)
        self._bars: dict[ModelRef, Way] = {}
        self._made_way: dict[ModelRef, tuple[ModelRef, ...]] = {}
        self._suspected: set[int] = set()

    # what requests do

    def request(self, ticket: Ticket) -> list[Effect]:
        """Somebody wants the model."""
        model = ticket.model
        seat = self.seats.get(model) or self._seat(model)
        seat.asked(ticket.since)
        if not self.line and seat.ready and seat.has_slot and seat.suffices(ticket.context):
            seat.leases += 1
            self.line.pass_through(ticket)
            return [Grant(ticket)]
        full = len(self.line) >= self.limits.queue_size
        if full and not (seat.ready and seat.has_slot and seat.suffices(ticket.context)):
            return [Refuse(ticket, self._queue_full(model, ticket.since))]
        self.line.add(ticket)
        effects = self._plan(ticket.since)
        if full and self.line.leave(ticket):  # its model is ready, but others go first
            effects.append(Refuse(ticket, self._queue_full(model, ticket.since)))
        return effects

    def leave(self, ticket: Ticket, now: float) -> list[Effect]:
        """The waiter has hung up. A load already under way is finished: it was paid for."""
        self.line.leave(ticket)
        return self._plan(now)

    def release(
        self, model: ModelRef, now: float, held_s: float | None = None, *, by_hand: bool = False
    ) -> list[Effect]:
        """A lease has ended, after ``held_s``. What was loaded ``by_hand`` stays, though idle."""
        seat = self.seats[model]
        seat.answered(now)
        if held_s is not None:
            seat.service_s = average(seat.service_s, held_s)
        effects = self._plan(now) if self.line else []
        if seat.counted:
            effects += self._shed(now)
            if seat.conduct.keep_alive_s == 0.0 and not by_hand:
                effects += self._let_go(model, seat, now)
        return effects

    # what backends do

    def loaded(self, model: ModelRef, held: Held | None, now: float) -> list[Effect]:
        """A load has succeeded; ``held`` is what it was seen to hold, if it was seen.

        Whoever waited for it is served first, so that nobody can evict it before its first use.
        """
        seat = self._seat(model)
        seat.last_load_s = now - seat.since
        seat.load_s = average(seat.load_s, seat.last_load_s)
        seat.move(Move.LOADED, now)
        seat.well(now)
        seat.conduct = self._conduct(model)
        self._made_way.pop(model, None)
        if held is not None:
            self._settle(model, seat, held)
        if seat.context is not None:  # a load can do no more: asking again would go on for ever
            seat.context = max(seat.context, seat.loading_for)
        turn = _Round()
        self._grant(model, turn)
        effects = turn.effects + self._plan(now) + self._shed(now)
        if seat.conduct.keep_alive_s == 0.0 and not turn.effects:  # all who waited have hung up
            effects += self._let_go(model, seat, now)
        return effects

    def load_failed(
        self,
        model: ModelRef,
        error: SmarterRouterError,
        now: float,
        used: Used = NOTHING,
        left: Share = NOWHERE,
    ) -> list[Effect]:
        """A load has failed: every waiter gets the reason, and who made way for it comes back.

        A reload that its backend was too busy for has changed nothing; after any other failure
        nobody knows whether what was there before has gone. ``used``: see ``unloaded``. ``left``
        is what the failed load may have left behind.
        """
        seat = self._seat(model)
        if isinstance(error, Overloaded) and seat.reloading:
            return self._not_reloaded(model, seat, error, now)
        seat.move(Move.LOAD_FAILED, now)
        seat.failed(error, now)
        seat.context = None
        self.ledger.settle(model, _larger(seat.held_before, left))
        self._look(used)
        effects = self._refuse_all(model, error)
        return effects + self._come_back(model, now)

    def _come_back(self, failed: ModelRef, now: float) -> list[Effect]:
        """After a load has failed: who waits goes on, and who made way for it comes back."""
        made_way = self._made_way.pop(failed, ())
        effects = self._plan(now)
        for victim in reversed(made_way):
            effects += self._bring_back(victim, failed, now)
        return effects

    def _not_reloaded(
        self, model: ModelRef, seat: Seat, error: SmarterRouterError, now: float
    ) -> list[Effect]:
        seat.move(Move.LOADED, seat.since_before)
        seat.failed(error, now)
        self.ledger.settle(model, seat.held_before)
        effects: list[Effect] = []
        for ticket in self.line.waiting_for(model):
            if not seat.suffices(ticket.context):
                self.line.leave(ticket)
                effects.append(Refuse(ticket, error))
        return effects + self._come_back(model, now)

    def unloaded(self, model: ModelRef, now: float, used: Used = NOTHING) -> list[Effect]:
        """An unload we started is done. ``used`` is what its devices hold now: what they still
        show of it is foreign until they show it free."""
        seat = self._seat(model)
        if seat.state is Residency.UNLOADING:
            seat.move(Move.UNLOADED, now)
            self._forget(model, seat)
            self._look(used)
        return self._plan(now)

    def unload_failed(self, model: ModelRef, now: float) -> list[Effect]:
        """Nobody knows what the model holds: its bytes stay taken until somebody does."""
        seat = self._seat(model)
        if seat.state is Residency.UNLOADING:
            seat.move(Move.UNLOAD_FAILED, now)
            seat.doubted(now)
        return self._plan(now)

    def lost(self, model: ModelRef, now: float) -> list[Effect]:
        """A ready model went away by itself. Its readers find out from their own streams."""
        seat = self._seat(model)
        return self._seen_away(model, seat, now) if seat.counted else self._plan(now)

    def seen(
        self, model: ModelRef, loaded: bool, since: float, now: float, held: Held | None = None
    ) -> list[Effect]:
        """Its backend says whether the model is loaded, as it was at ``since`` or later.

        What has changed after that is known better here, and a load or an unload under way is
        waited for. ``held`` is what the backend says it holds.
        """
        seat = self._seat(model)
        if seat.since > since or not seat.counted:
            return []
        if loaded and seat.away:
            seat.move(Move.ADOPT, now)
            seat.well(now)
            seat.conduct = self._conduct(model)
        if loaded and seat.ready and held is not None:
            unplaced = held.share and not self.ledger.share_of(model)  # its devices came later
            if unplaced or held.reported != seat.reported:
                self._settle(model, seat, held)
                return self._plan(now) + self._shed(now)
        if not loaded and not seat.leases and seat.last_used <= since:
            return self._seen_away(model, seat, now)
        return self._plan(now)

    def holds(
        self, model: ModelRef, share: Share, now: float, source: str | None = None
    ) -> list[Effect]:
        """A ready model was measured: what it has grown to is what it holds."""
        seat = self._seat(model)
        if not seat.ready or not seat.counted:
            return []
        seat.source = source or seat.source
        self._count(model, seat, share)
        return self._shed(now)

    def observe(self, readings: Mapping[str, Reading], now: float) -> list[Effect]:
        """The devices were looked at."""
        for device, reading in readings.items():
            self._observe(device, reading)
        return self._plan(now)

    def look(self, used: Used, now: float) -> list[Effect]:
        """Some devices were looked at; ``used`` is what they hold."""
        self._look(used)
        return self._plan(now)

    def refresh(self, model: ModelRef) -> Seat:
        """Look anew at how the model is to be treated; its backend may have changed its mind."""
        seat = self.seats.setdefault(model, Seat())
        seat.conduct = self._conduct(model)
        if not (seat.away or seat.ready):  # on its way: what it is now counted as, it stays
            return seat
        seat.counted = self._demand(model, 0) is not None
        if not seat.counted:
            seat.state = Residency.READY
            self._forget(model, seat)
        return seat

    def limit(self, device: str, limit: DeviceLimit | None) -> None:
        """What we may use of a device; ``None`` when it has gone."""
        self.ledger.limits[device] = limit or GONE

    # what people do

    def pin(self, model: ModelRef, pinned: bool, now: float) -> list[Effect]:
        """A pinned model never goes to make room; it is loaded by asking for it."""
        self._seat(model).pinned = pinned
        return self._plan(now)

    def unload(self, model: ModelRef, now: float) -> list[Effect]:
        """Somebody asks for a model to go. Raises ``Conflict`` while that cannot be."""
        seat = self._seat(model)
        if not seat.counted:
            raise Conflict(
                f"{model} manages its own memory: smarterrouter neither loads nor unloads it."
            )
        if seat.pinned:
            raise Conflict(f"{model} is pinned. Unpin it first: smarterrouter vram unpin {model}.")
        if seat.leases:
            raise Conflict(f"{model} is answering {seat.leases} request(s). Try again after that.")
        if seat.state is Residency.LOADING:
            raise Conflict(f"{model} is loading. Try again when it is loaded.")
        unknown = seat.state is Residency.FAILED and self.ledger.share_of(model)
        return [self._start_unload(model, "asked for", now)] if seat.ready or unknown else []

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: waits that were too long, models that were idle for too long."""
        effects: list[Effect] = []
        for ticket in [one for one in self.line if now - one.since > self.limits.wait_s]:
            self.line.leave(ticket)
            effects.append(Refuse(ticket, self._waited_too_long(ticket, now)))
        for model, seat in self.seats.items():
            keep = seat.conduct.keep_alive_s
            if keep > 0 and seat.ready and now - seat.last_used >= keep:
                effects += self._let_go(model, seat, now)
        return effects + self._plan(now)

    # questions

    def state(self, model: ModelRef) -> Residency:
        """Where the model stands; a model that manages itself is always ready."""
        return self._seat(model).state

    def seat(self, model: ModelRef) -> Seat:
        """All that is known of the model. To be read only."""
        return self._seat(model)

    def resident(self) -> dict[ModelRef, Residency]:
        """Every model that is loaded, or on its way in or out."""
        return {ref: seat.state for ref, seat in self.seats.items() if not seat.away}

    def to_make_room(self, model: ModelRef, now: float) -> tuple[ModelRef, ...]:
        """Who would have to go if the model were wanted now; nobody if that would not help."""
        demand = self._demand(model, 0)
        if demand is None or self.ledger.share_of(model):
            return ()
        way = self._rooms.way(model, demand, self._rooms.idle(now))
        return way.going if way else ()

    def too_large(self, model: ModelRef, context: int = 0) -> str | None:
        """Why the model would not fit even if all went that may; ``None`` when it would."""
        demand = self._demand(model, context)
        return None if demand is None else self._rooms.too_large(model, demand)

    def expected_wait_s(self, model: ModelRef, now: float, load_s: float) -> tuple[float, float]:
        """How long a new request would wait: for its turn, and for the load.

        ``load_s`` is taken for a model that has never been loaded here.
        """
        seat = self._seat(model)
        ahead = len(self.line.waiting_for(model))
        before = ahead + (0 if seat.has_slot else seat.leases)
        slots = seat.conduct.slots or max(1, before)
        service = USUAL_SERVICE_S if seat.service_s is None else seat.service_s
        turns = before / slots * service
        if seat.ready:
            return turns, 0.0
        usual = seat.load_s if seat.load_s is not None else load_s
        passed = now - seat.since if seat.state is Residency.LOADING else 0.0
        return turns, max(0.0, usual - passed)

    def planned_source(self, model: ModelRef, context: int) -> str:
        """How we know what the model is expected to hold."""
        demand = self._demand(model, context)
        return demand.source if demand else "unknown"

    def reach(self, model: ModelRef) -> tuple[str, ...]:
        """The devices that the model may lie on."""
        demand = self._demand(model, 0)
        return demand.devices if demand else ()

    def to_watch(self, model: ModelRef, placement: Placement) -> tuple[str, ...]:
        """The devices on which a load may show: where its backend decides, not only the planned."""
        demand = self._demand(model, placement.context)
        if demand is None or demand.placing is Placing.CHOSEN:
            return tuple(placement.share)
        return demand.devices

    # the pass over the queue

    def _plan(self, now: float) -> list[Effect]:
        for model in [m for m in self._made_way if m not in self.line]:
            if self._seat(model).state is not Residency.LOADING:
                del self._made_way[model]
        if not self.line:
            self._bars.clear()
            self._suspected.clear()
            return []
        turn = _Round()
        for model in self.line.models:
            self._refuse_hopeless(model, turn, now)
        if self.line:
            self._bar(turn, now)
            for model in self.line.models:
                self._grant(model, turn)
            idle = self._idle(turn, now)
            for model in dict.fromkeys([*self._made_way, *turn.impatient, *self.line.models]):
                if self._cold(model):
                    self._bring_in(model, turn, idle, now)
                    turn.earlier.add(model)
        return turn.effects

    def _refuse_hopeless(self, model: ModelRef, turn: _Round, now: float) -> None:
        seat = self._seat(model)
        if not (seat.away or seat.ready):
            return
        if seat.away and seat.failure is not None and now < seat.retry_at:
            turn.effects += self._refuse_all(model, _again(model, seat, now))
            return
        for ticket in sorted(self.line.waiting_for(model), key=lambda one: -one.context):
            if seat.ready and seat.suffices(ticket.context):
                return
            if seat.ready and seat.failure is not None and now < seat.retry_at:
                error = _again(model, seat, now)  # a reload that its backend was too busy for
            elif (lack := self.too_large(model, ticket.context)) is None:
                return
            elif self._may_pass(ticket, turn, now):
                continue
            else:
                error = self._never(model, ticket.context, lack)
            self.line.leave(ticket)
            turn.effects.append(Refuse(ticket, error))

    def _may_pass(self, ticket: Ticket, turn: _Round, now: float) -> bool:
        """Whether only what others use is in the way, and perhaps not for long: it may be ours and
        not known yet, or freed and not seen yet."""
        demand = self._demand(ticket.model, ticket.context)
        if demand is None or self._rooms.never_fits(ticket.model, demand):
            return False
        if now - ticket.since > min(self.limits.doubt_s, self.limits.patience_s):
            return False
        if ticket.id not in self._suspected:
            self._suspected.add(ticket.id)
            turn.effects.append(Suspect(ticket.model))
        return True

    def _bar(self, turn: _Round, now: float) -> None:
        """Rule 2. Only the first to lose patience on a device bars anyone there."""
        since = {m: self.line.oldest(m) for m in self.line.models if self._cold(m)}
        late = [model for model, began in since.items() if now - began > self.limits.patience_s]
        turn.impatient = sorted(late, key=lambda model: since[model])
        bars: dict[ModelRef, Way] = {}
        spoken_for: set[str] = set()
        for model in turn.impatient:
            wanted = self._wanted(model)
            if spoken_for.issuperset(wanted.devices):
                continue
            before = self._bars[model].going if model in self._bars else ()
            way = self._rooms.in_the_way(model, wanted, before)
            if spoken_for.isdisjoint(way.share):
                bars[model] = way
                spoken_for |= set(way.share)
                turn.barred |= set(way.going)
        self._bars = bars

    def _grant(self, model: ModelRef, turn: _Round) -> None:
        """Rule 3, for one model. A load serves all who waited for it, even if it is barred since:
        only those who came later are new. Otherwise many who wait for long would swap models at
        every request.
        """
        seat = self._seat(model)
        before = seat.since if model in turn.barred else math.inf
        while (
            seat.ready
            and seat.has_slot
            and (ticket := self.line.first(model, before)) is not None
            and seat.suffices(ticket.context)
        ):
            self.line.serve(ticket)
            seat.leases += 1
            turn.effects.append(Grant(ticket))

    def _bring_in(self, model: ModelRef, turn: _Round, idle: list[Resident], now: float) -> None:
        """Rule 4, for one model."""
        stay = turn.earlier - turn.barred
        may_go = [one for one in idle if one.ref not in stay] if stay else idle
        context, way = self._way(model, may_go, turn)
        if way is None:
            turn.claimed |= set(self._bars[model].share) if model in self._bars else set()
            if self._seat(model).ready and model not in turn.impatient:
                self._grant_past(model, turn)
        elif way.going or way.waits:
            why = f"to make room for {model}, {self._since(model, now)}"
            for ref in way.going:
                turn.effects.append(self._start_unload(ref, why, now))
            gone = frozenset(way.going)
            idle[:] = [one for one in idle if one.ref not in gone]
            if way.going:
                self._made_way[model] = (*self._made_way.get(model, ()), *way.going)
            turn.claimed |= set(way.share)
        else:
            why = self._since(model, now)
            turn.effects.append(self._start_load(model, way, why, now, context))
            idle[:] = [one for one in idle if one.ref != model]  # it was there, or in doubt

    def _way(self, model: ModelRef, idle: list[Resident], turn: _Round) -> tuple[int, Way | None]:
        """How it can come in, with as long a context as there is room for of those wanted."""
        contexts = sorted({t.context for t in self.line.waiting_for(model)}, reverse=True)
        if self._seat(model).ready:  # a reload that does not suffice for the longest is none
            contexts = contexts[:1]
        for context in contexts:
            demand = self._demand(model, context) or Demand(0, "unknown")
            way = self._rooms.way(model, demand, idle, turn.claimed)
            if way is not None:
                return context, way
        return 0, None

    def _grant_past(self, model: ModelRef, turn: _Round) -> None:
        """Whoever is next needs a longer context than there is room for: those for whom it
        suffices as it is do not wait for that."""
        seat = self._seat(model)
        for ticket in self.line.waiting_for(model):
            if seat.has_slot and seat.suffices(ticket.context) and model not in turn.barred:
                self.line.serve(ticket)
                seat.leases += 1
                turn.effects.append(Grant(ticket))

    def _idle(self, turn: _Round, now: float) -> list[Resident]:
        """Who may go in this round: nobody that can serve those who wait for it, or that will be
        asked for in a moment, unless it is barred. One that is to be loaded anew may go for those
        whose turn is before its own."""
        stay = {model for model in self.line.models if not self._cold(model)} - turn.barred
        return [
            one
            for one in self._rooms.idle(now)
            if one.ref not in stay
            if (seat := self.seats[one.ref]).pause_s is None
            or one.ref in turn.barred
            or not seat.lingers(now)
        ]

    def _cold(self, model: ModelRef) -> bool:
        """Whether the model has to be loaded before whoever is next can be served."""
        seat, ticket = self._seat(model), self.line.first(model)
        if ticket is None:
            return False
        return seat.away or (seat.ready and not seat.leases and not seat.suffices(ticket.context))

    def _wanted(self, model: ModelRef) -> Demand:
        """What the model takes with a context that suffices for all who wait."""
        return self._demand(model, self._context(model)) or Demand(0, "unknown")

    def _context(self, model: ModelRef) -> int:
        return max((ticket.context for ticket in self.line.waiting_for(model)), default=0)

    # single moves

    def _start_load(
        self, model: ModelRef, way: Way, why: str, now: float, context: int = 0
    ) -> StartLoad:
        seat = self._seat(model)
        seat.reloading, seat.held_before = seat.ready, self.ledger.share_of(model)
        seat.since_before = seat.since
        seat.move(Move.RELOAD if seat.ready else Move.LOAD, now)
        seat.loading_for = context
        self.ledger.settle(model, _larger(way.share, seat.held_before))
        return StartLoad(model, Placement(way.share, seat.loading_for), why)

    def _start_unload(self, model: ModelRef, why: str, now: float) -> StartUnload:
        self._seat(model).move(Move.UNLOAD, now)
        return StartUnload(model, why)

    def _let_go(self, model: ModelRef, seat: Seat, now: float) -> list[Effect]:
        """Its keep-alive is over."""
        if not (seat.ready and seat.counted) or seat.leases or seat.pinned or model in self.line:
            return []
        keep = seat.conduct.keep_alive_s
        return [self._start_unload(model, f"idle, and its keep-alive is {keep:g} s", now)]

    def _bring_back(self, model: ModelRef, failed: ModelRef, now: float) -> list[Effect]:
        """The model made way for one that then failed to load."""
        demand, seat = self._demand(model, 0), self._seat(model)
        if demand is None or seat.state is not Residency.UNLOADED:
            return []
        if seat.conduct.keep_alive_s == 0.0:
            return []
        if any(self._cold(other) for other in self.line.models):  # they need the room
            return []
        way = self._rooms.way(model, demand, ())
        if way is None or way.waits:
            return []
        return [self._start_load(model, way, f"brought back, since {failed} failed to load", now)]

    def _shed(self, now: float) -> list[Effect]:
        """A model turned out larger than reserved: idle ones go until the budget holds."""
        if not any(self.ledger.over_budget(device) for device in self.ledger.limits):
            return []
        why = "more was held than the budget allows"
        going = self._rooms.to_shed(self._rooms.idle(now))
        return [self._start_unload(model, why, now) for model in going]

    def _settle(self, model: ModelRef, seat: Seat, held: Held) -> None:
        self._count(model, seat, held.share)
        seat.source, seat.context, seat.reported = held.source, held.context, held.reported

    def _count(self, model: ModelRef, seat: Seat, share: Share) -> None:
        """Count what it was seen to hold; a model that has yet to grow keeps what was reserved."""
        seat.seen = share
        demand = self._demand(model, seat.loading_for)
        if demand is not None and demand.grows and demand.source in GROWTH_FORESEEN:
            reserved = self.ledger.share_of(model)
            share = {d: max(count, reserved.get(d, 0)) for d, count in share.items()}
        if share != self.ledger.share_of(model):
            self.ledger.settle(model, share)

    def _forget(self, model: ModelRef, seat: Seat) -> None:
        """The model holds nothing any more."""
        self.ledger.release(model)
        seat.context = seat.reported = seat.source = None
        seat.seen = {}

    def _seen_away(self, model: ModelRef, seat: Seat, now: float) -> list[Effect]:
        """It is not loaded; what a failed unload had left in doubt is free."""
        if seat.ready or (seat.state is Residency.FAILED and self.ledger.share_of(model)):
            seat.move(Move.LOST, now)
            self._forget(model, seat)
        return self._plan(now)

    def _look(self, used: Used) -> None:
        for device, count in used.items():
            self._observe(device, Reading(None, count))

    def _observe(self, device: str, reading: Reading) -> None:
        if reading.used_bytes is None:
            return
        ours = perhaps = 0
        for model, held in self.ledger.holders(device):
            seat = self.seats[model]
            if seat.since > reading.at:  # it came after the device was asked
                perhaps += held
            elif model in reading.ours:
                ours += reading.ours[model]
            elif seat.ready:
                ours += held
            else:
                perhaps += held
        self.ledger.observe(device, reading.used_bytes, ours, perhaps)

    def _refuse_all(self, model: ModelRef, error: SmarterRouterError) -> list[Effect]:
        effects: list[Effect] = []
        for ticket in self.line.waiting_for(model):
            self.line.leave(ticket)
            effects.append(Refuse(ticket, error))
        return effects

    def _seat(self, model: ModelRef) -> Seat:
        return self.seats.get(model) or self.refresh(model)

    # words

    def _since(self, model: ModelRef, now: float) -> str:
        count = len(self.line.waiting_for(model))
        if not count:
            return "asked for"
        waited = max(0.0, now - self.line.oldest(model))
        who = "a request" if count == 1 else f"{count} requests"
        return who if waited < 0.05 else f"{who}, waiting for {waited:.1f} s"

    def _retry_after_s(self, model: ModelRef, now: float) -> float:
        return max(LEAST_RETRY_S, sum(self.expected_wait_s(model, now, USUAL_SERVICE_S)))

    def _never(self, model: ModelRef, context: int, lack: str) -> InsufficientVram:
        demand = self._demand(model, context)
        advice = self._rooms.advice(model, demand) if demand else ""
        return InsufficientVram(f"{model.name} {lack}. {advice}")

    def _queue_full(self, model: ModelRef, now: float) -> Overloaded:
        return Overloaded(
            f"{len(self.line)} requests are already waiting for a model. Try again in a "
            "moment, or raise ROUTER_QUEUE_SIZE.",
            retry_after_s=self._retry_after_s(model, now),
        )

    def _waited_too_long(self, ticket: Ticket, now: float) -> Unavailable:
        name, seat, waited = ticket.model.name, self._seat(ticket.model), now - ticket.since
        reason = f"There was no room for {name} for {waited:.0f} s: others were in use."
        if seat.state is Residency.LOADING:
            reason = f"{name} is still loading after {waited:.0f} s."
        elif seat.ready:
            reason = f"{name} was busy with others for {waited:.0f} s."
        return Unavailable(
            f"{reason} Try again, or raise ROUTER_QUEUE_WAIT_S.",
            retry_after_s=self._retry_after_s(ticket.model, now),
        )


def _larger(one: Share, other: Share) -> Share:
    """What a model may hold while it moves from one place to the other."""
    return {d: max(one.get(d, 0), other.get(d, 0)) for d in (*one, *other)}


def _again(model: ModelRef, seat: Seat, now: float) -> SmarterRouterError:
    """The reason of a failure that is not over yet."""
    assert seat.failure is not None
    wait = seat.retry_at - now
    return type(seat.failure)(
        f"{model.name} failed to load {now - seat.failed_at:.0f} s ago and is tried again "
        f"in {wait:.0f} s. The reason was: {seat.failure.message}",
        retry_after_s=wait,
    )
