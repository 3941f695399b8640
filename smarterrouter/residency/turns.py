"""The pass over the queue: who is served, what is brought in, and what goes for it.

Pure, as all of ``planner``. What one pass does:

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
from dataclasses import dataclass, field

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency import words
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.events import Effect, Grant, Refuse, Suspect
from smarterrouter.residency.eviction import Resident
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.room import Way
from smarterrouter.residency.states import Residency
from smarterrouter.residency.table import Table


@dataclass(slots=True)
class _Round:
    """One pass: what it decided, which devices are spoken for, who gets no new use, and whose turn
    to be brought in has been."""

    effects: list[Effect] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    earlier: set[ModelRef] = field(default_factory=set)
    barred: set[ModelRef] = field(default_factory=set)
    impatient: list[ModelRef] = field(default_factory=list)


class Turns:
    """Whose turn it is, and what is remembered of that from one pass to the next: who is barred
    for whom, and who has made way for whom."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._line = table.line
        self._bars: dict[ModelRef, Way] = {}
        self._made_way: dict[ModelRef, tuple[ModelRef, ...]] = {}
        self._suspected: set[int] = set()

    def came_in(self, model: ModelRef) -> list[Effect]:
        """A load has succeeded: whoever waited for it is served first."""
        self._made_way.pop(model, None)
        turn = _Round()
        self._grant(model, turn)
        return turn.effects

    def did_not_come_in(self, model: ModelRef) -> tuple[ModelRef, ...]:
        """A load has failed: who had made way for it."""
        return self._made_way.pop(model, ())

    def plan(self, now: float) -> list[Effect]:
        """One pass."""
        for model in [m for m in self._made_way if m not in self._line]:
            if self._table.seat(model).state is not Residency.LOADING:
                del self._made_way[model]
        if not self._line:
            self._bars.clear()
            self._suspected.clear()
            return []
        turn = _Round()
        for model in self._line.models:
            self._refuse_hopeless(model, turn, now)
        if self._line:
            self._bar(turn, now)
            for model in self._line.models:
                self._grant(model, turn)
            idle = self._idle(turn, now)
            for model in dict.fromkeys([*self._made_way, *turn.impatient, *self._line.models]):
                if self._table.cold(model):
                    self._bring_in(model, turn, idle, now)
                    turn.earlier.add(model)
        return turn.effects

    def _refuse_hopeless(self, model: ModelRef, turn: _Round, now: float) -> None:
        seat = self._table.seat(model)
        if not (seat.away or seat.ready):
            return
        if seat.away and seat.failure is not None and now < seat.retry_at:
            turn.effects += self._table.refuse_all(model, words.again(model, seat, now))
            return
        for ticket in sorted(self._line.waiting_for(model), key=lambda one: -one.context):
            if seat.ready and seat.suffices(ticket.context):
                return
            if seat.ready and seat.failure is not None and now < seat.retry_at:
                error = words.again(model, seat, now)  # a reload that its backend was too busy for
            elif (lack := self._table.too_large(model, ticket.context)) is None:
                return
            elif self._may_pass(ticket, turn, now):
                continue
            else:
                error = words.never(self._table, model, ticket.context, lack)
            self._line.leave(ticket)
            turn.effects.append(Refuse(ticket, error))

    def _may_pass(self, ticket: Ticket, turn: _Round, now: float) -> bool:
        """Whether only what others use is in the way, and perhaps not for long: it may be ours and
        not known yet, or freed and not seen yet."""
        demand = self._table.demand(ticket.model, ticket.context)
        if demand is None or self._table.rooms.never_fits(ticket.model, demand):
            return False
        if now - ticket.since > min(self._table.limits.doubt_s, self._table.limits.patience_s):
            return False
        if ticket.id not in self._suspected:
            self._suspected.add(ticket.id)
            turn.effects.append(Suspect(ticket.model))
        return True

    def _bar(self, turn: _Round, now: float) -> None:
        """Rule 2. Only the first to lose patience on a device bars anyone there."""
        since = {m: self._line.oldest(m) for m in self._line.models if self._table.cold(m)}
        late = [
            model for model, began in since.items() if now - began > self._table.limits.patience_s
        ]
        turn.impatient = sorted(late, key=lambda model: since[model])
        bars: dict[ModelRef, Way] = {}
        spoken_for: set[str] = set()
        for model in turn.impatient:
            wanted = self._table.wanted(model)
            if spoken_for.issuperset(wanted.devices):
                continue
            before = self._bars[model].going if model in self._bars else ()
            way = self._table.rooms.in_the_way(model, wanted, before)
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
        seat = self._table.seat(model)
        before = seat.since if model in turn.barred else math.inf
        while (
            seat.ready
            and seat.has_slot
            and (ticket := self._line.first(model, before)) is not None
            and seat.suffices(ticket.context)
        ):
            self._line.serve(ticket)
            seat.leases += 1
            turn.effects.append(Grant(ticket))

    def _bring_in(self, model: ModelRef, turn: _Round, idle: list[Resident], now: float) -> None:
        """Rule 4, for one model."""
        stay = turn.earlier - turn.barred
        may_go = [one for one in idle if one.ref not in stay] if stay else idle
        context, way = self._way(model, may_go, turn)
        if way is None:
            turn.claimed |= set(self._bars[model].share) if model in self._bars else set()
            if self._table.seat(model).ready and model not in turn.impatient:
                self._grant_past(model, turn)
        elif way.going or way.waits:
            why = f"to make room for {model}, {words.since(self._table, model, now)}"
            for ref in way.going:
                turn.effects.append(self._table.start_unload(ref, why, now))
            gone = frozenset(way.going)
            idle[:] = [one for one in idle if one.ref not in gone]
            if way.going:
                self._made_way[model] = (*self._made_way.get(model, ()), *way.going)
            turn.claimed |= set(way.share)
        else:
            why = words.since(self._table, model, now)
            turn.effects.append(self._table.start_load(model, way, why, now, context))
            idle[:] = [one for one in idle if one.ref != model]  # it was there, or in doubt

    def _way(self, model: ModelRef, idle: list[Resident], turn: _Round) -> tuple[int, Way | None]:
        """How it can come in, with as long a context as there is room for of those wanted."""
        contexts = sorted({t.context for t in self._line.waiting_for(model)}, reverse=True)
        if self._table.seat(model).ready:  # a reload that does not suffice for the longest is none
            contexts = contexts[:1]
        for context in contexts:
            demand = self._table.demand(model, context) or Demand(0, "unknown")
            way = self._table.rooms.way(model, demand, idle, turn.claimed)
            if way is not None:
                return context, way
        return 0, None

    def _grant_past(self, model: ModelRef, turn: _Round) -> None:
        """Whoever is next needs a longer context than there is room for: those for whom it
        suffices as it is do not wait for that."""
        seat = self._table.seat(model)
        for ticket in self._line.waiting_for(model):
            if seat.has_slot and seat.suffices(ticket.context) and model not in turn.barred:
                self._line.serve(ticket)
                seat.leases += 1
                turn.effects.append(Grant(ticket))

    def _idle(self, turn: _Round, now: float) -> list[Resident]:
        """Who may go in this round: nobody that can serve those who wait for it, or that will be
        asked for in a moment, unless it is barred. One that is to be loaded anew may go for those
        whose turn is before its own."""
        stay = {model for model in self._line.models if not self._table.cold(model)} - turn.barred
        return [
            one
            for one in self._table.rooms.idle(now)
            if one.ref not in stay
            if (seat := self._table.seats[one.ref]).pause_s is None
            or one.ref in turn.barred
            or not seat.lingers(now)
        ]
