"""Who gets a model, who waits, what is loaded and what goes: every residency decision.

Pure: each event is one method call that changes the state and returns the effects to carry
out (grant, refuse, start a load, start an unload). Nothing here awaits, reads a clock or
touches a backend, so ``scheduler`` runs it for real and a simulation can run it on any clock.

In what order the queue is served, ``turns`` decides; what a single move means, ``table``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from smarterrouter.domain.models import ModelRef, Placement, Placing
from smarterrouter.errors import Conflict, Overloaded, SmarterRouterError
from smarterrouter.residency import words
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import (
    Effect,
    Grant,
    Held,
    Limits,
    Reading,
    Refuse,
    Used,
)
from smarterrouter.residency.ledger import GONE, DeviceLimit, Share, VramLedger
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.room import Rules
from smarterrouter.residency.seat import Seat, average
from smarterrouter.residency.states import Move, Residency
from smarterrouter.residency.table import Table, larger
from smarterrouter.residency.turns import Turns

NOTHING: Used = {}
NOWHERE: Share = {}


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
        self._table = table = Table(ledger, demand, limits or Limits(), rules, conduct)
        self._turns = Turns(table)
        self.ledger, self.limits = table.ledger, table.limits
        self.seats, self.line = table.seats, table.line

    # what requests do

    def request(self, ticket: Ticket) -> list[Effect]:
        """Somebody wants the model."""
        model = ticket.model
        seat = self.seats.get(model) or self._table.seat(model)
        seat.asked(ticket.since)
        if not self.line and seat.ready and seat.has_slot and seat.suffices(ticket.context):
            seat.leases += 1
            self.line.pass_through(ticket)
            return [Grant(ticket)]
        full = len(self.line) >= self.limits.queue_size
        if full and not (seat.ready and seat.has_slot and seat.suffices(ticket.context)):
            return [Refuse(ticket, words.queue_full(self._table, model, ticket.since))]
        self.line.add(ticket)
        effects = self._turns.plan(ticket.since)
        if full and self.line.leave(ticket):  # its model is ready, but others go first
            effects.append(Refuse(ticket, words.queue_full(self._table, model, ticket.since)))
        return effects

    def leave(self, ticket: Ticket, now: float) -> list[Effect]:
        """The waiter has hung up. A load already under way is finished: it was paid for."""
        self.line.leave(ticket)
        return self._turns.plan(now)

    def release(
        self, model: ModelRef, now: float, held_s: float | None = None, *, by_hand: bool = False
    ) -> list[Effect]:
        """A lease has ended, after ``held_s``. What was loaded ``by_hand`` stays, though idle."""
        seat = self.seats[model]
        seat.answered(now)
        if held_s is not None:
            seat.service_s = average(seat.service_s, held_s)
        effects = self._turns.plan(now) if self.line else []
        if seat.counted:
            effects += self._shed(now)
            if seat.conduct.keep_alive_s == 0.0 and not by_hand:
                effects += self._let_go(model, seat, now)
        return effects

    def loaded(self, model: ModelRef, held: Held | None, now: float) -> list[Effect]:
        """A load has succeeded; ``held`` is what it was seen to hold, if it was seen.

        Whoever waited for it is served first, so that nobody can evict it before its first use.
        """
        seat = self._table.seat(model)
        seat.last_load_s = now - seat.since
        seat.load_s = average(seat.load_s, seat.last_load_s)
        seat.move(Move.LOADED, now)
        seat.well(now)
        seat.conduct = self._table.conduct(model)
        if held is not None:
            self._table.settle(model, seat, held)
        if seat.context is not None:  # a load can do no more: asking again would go on for ever
            seat.context = max(seat.context, seat.loading_for)
        served = self._turns.came_in(model)
        effects = served + self._turns.plan(now) + self._shed(now)
        if seat.conduct.keep_alive_s == 0.0 and not served:  # all who waited have hung up
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
        seat = self._table.seat(model)
        if isinstance(error, Overloaded) and seat.reloading:
            return self._not_reloaded(model, seat, error, now)
        seat.move(Move.LOAD_FAILED, now)
        seat.failed(error, now)
        seat.context = None
        self.ledger.settle(model, larger(seat.held_before, left))
        self._table.look(used)
        effects = self._table.refuse_all(model, error)
        return effects + self._come_back(model, now)

    def _come_back(self, failed: ModelRef, now: float) -> list[Effect]:
        """After a load has failed: who waits goes on, and who made way for it comes back."""
        made_way = self._turns.did_not_come_in(failed)
        effects = self._turns.plan(now)
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
        seat = self._table.seat(model)
        if seat.state is Residency.UNLOADING:
            seat.move(Move.UNLOADED, now)
            self._table.forget(model, seat)
            self._table.look(used)
        return self._turns.plan(now)

    def unload_failed(self, model: ModelRef, now: float) -> list[Effect]:
        """Nobody knows what the model holds: its bytes stay taken until somebody does."""
        seat = self._table.seat(model)
        if seat.state is Residency.UNLOADING:
            seat.move(Move.UNLOAD_FAILED, now)
            seat.doubted(now)
        return self._turns.plan(now)

    def lost(self, model: ModelRef, now: float) -> list[Effect]:
        """A ready model went away by itself. Its readers find out from their own streams."""
        seat = self._table.seat(model)
        return self._seen_away(model, seat, now) if seat.counted else self._turns.plan(now)

    def seen(
        self, model: ModelRef, loaded: bool, since: float, now: float, held: Held | None = None
    ) -> list[Effect]:
        """Its backend says whether the model is loaded, as it was at ``since`` or later.

        What has changed after that is known better here, and a load or an unload under way is
        waited for. ``held`` is what the backend says it holds.
        """
        seat = self._table.seat(model)
        if seat.since > since or not seat.counted:
            return []
        if loaded and seat.away:
            seat.move(Move.ADOPT, now)
            seat.well(now)
            seat.conduct = self._table.conduct(model)
        if loaded and seat.ready and held is not None:
            unplaced = held.share and not self.ledger.share_of(model)  # its devices came later
            if unplaced or held.reported != seat.reported:
                self._table.settle(model, seat, held)
                return self._turns.plan(now) + self._shed(now)
        if not loaded and not seat.leases and seat.last_used <= since:
            return self._seen_away(model, seat, now)
        return self._turns.plan(now)

    def holds(
        self, model: ModelRef, share: Share, now: float, source: str | None = None
    ) -> list[Effect]:
        """A ready model was measured: what it has grown to is what it holds."""
        seat = self._table.seat(model)
        if not seat.ready or not seat.counted:
            return []
        seat.source = source or seat.source
        self._table.count(model, seat, share)
        return self._shed(now)

    def observe(self, readings: Mapping[str, Reading], now: float) -> list[Effect]:
        """The devices were looked at."""
        for device, reading in readings.items():
            self._table.observe(device, reading)
        return self._turns.plan(now)

    def look(self, used: Used, now: float) -> list[Effect]:
        """Some devices were looked at; ``used`` is what they hold."""
        self._table.look(used)
        return self._turns.plan(now)

    def refresh(self, model: ModelRef) -> Seat:
        """Look anew at how the model is to be treated; its backend may have changed its mind."""
        return self._table.refresh(model)

    def limit(self, device: str, limit: DeviceLimit | None) -> None:
        """What we may use of a device; ``None`` when it has gone."""
        self.ledger.limits[device] = limit or GONE

    def pin(self, model: ModelRef, pinned: bool, now: float) -> list[Effect]:
        """A pinned model never goes to make room; it is loaded by asking for it."""
        self._table.seat(model).pinned = pinned
        return self._turns.plan(now)

    def unload(self, model: ModelRef, now: float) -> list[Effect]:
        """Somebody asks for a model to go. Raises ``Conflict`` while that cannot be."""
        seat = self._table.seat(model)
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
        return [self._table.start_unload(model, "asked for", now)] if seat.ready or unknown else []

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: waits that were too long, models that were idle for too long."""
        effects: list[Effect] = []
        for ticket in [one for one in self.line if now - one.since > self.limits.wait_s]:
            self.line.leave(ticket)
            effects.append(Refuse(ticket, words.waited_too_long(self._table, ticket, now)))
        for model, seat in self.seats.items():
            keep = seat.conduct.keep_alive_s
            if keep > 0 and seat.ready and now - seat.last_used >= keep:
                effects += self._let_go(model, seat, now)
        return effects + self._turns.plan(now)

    def state(self, model: ModelRef) -> Residency:
        """Where the model stands; a model that manages itself is always ready."""
        return self._table.seat(model).state

    def seat(self, model: ModelRef) -> Seat:
        """All that is known of the model. To be read only."""
        return self._table.seat(model)

    def resident(self) -> dict[ModelRef, Residency]:
        """Every model that is loaded, or on its way in or out."""
        return {ref: seat.state for ref, seat in self.seats.items() if not seat.away}

    def to_make_room(self, model: ModelRef, now: float) -> tuple[ModelRef, ...]:
        """Who would have to go if the model were wanted now; nobody if that would not help."""
        demand = self._table.demand(model, 0)
        if demand is None or self.ledger.share_of(model):
            return ()
        way = self._table.rooms.way(model, demand, self._table.rooms.idle(now))
        return way.going if way else ()

    def too_large(self, model: ModelRef, context: int = 0) -> str | None:
        """Why the model would not fit even if all went that may; ``None`` when it would."""
        return self._table.too_large(model, context)

    def expected_wait_s(self, model: ModelRef, now: float, load_s: float) -> tuple[float, float]:
        """How long a new request would wait: for its turn, and for the load.

        ``load_s`` is taken for a model that has never been loaded here.
        """
        return self._table.expected_wait_s(model, now, load_s)

    def planned_source(self, model: ModelRef, context: int) -> str:
        """How we know what the model is expected to hold."""
        demand = self._table.demand(model, context)
        return demand.source if demand else "unknown"

    def reach(self, model: ModelRef) -> tuple[str, ...]:
        """The devices that the model may lie on."""
        demand = self._table.demand(model, 0)
        return demand.devices if demand else ()

    def to_watch(self, model: ModelRef, placement: Placement) -> tuple[str, ...]:
        """The devices on which a load may show: where its backend decides, not only the planned."""
        demand = self._table.demand(model, placement.context)
        if demand is None or demand.placing is Placing.CHOSEN:
            return tuple(placement.share)
        return demand.devices

    def _let_go(self, model: ModelRef, seat: Seat, now: float) -> list[Effect]:
        """Its keep-alive is over."""
        if not (seat.ready and seat.counted) or seat.leases or seat.pinned or model in self.line:
            return []
        keep = seat.conduct.keep_alive_s
        return [self._table.start_unload(model, f"idle, and its keep-alive is {keep:g} s", now)]

    def _bring_back(self, model: ModelRef, failed: ModelRef, now: float) -> list[Effect]:
        """The model made way for one that then failed to load."""
        demand, seat = self._table.demand(model, 0), self._table.seat(model)
        if demand is None or seat.state is not Residency.UNLOADED:
            return []
        if seat.conduct.keep_alive_s == 0.0:
            return []
        if any(self._table.cold(other) for other in self.line.models):  # they need the room
            return []
        way = self._table.rooms.way(model, demand, ())
        if way is None or way.waits:
            return []
        return [
            self._table.start_load(model, way, f"brought back, since {failed} failed to load", now)
        ]

    def _shed(self, now: float) -> list[Effect]:
        """A model turned out larger than reserved: idle ones go until the budget holds."""
        if not any(self.ledger.over_budget(device) for device in self.ledger.limits):
            return []
        why = "more was held than the budget allows"
        going = self._table.rooms.to_shed(self._table.rooms.idle(now))
        return [self._table.start_unload(model, why, now) for model in going]

    def _seen_away(self, model: ModelRef, seat: Seat, now: float) -> list[Effect]:
        """It is not loaded; what a failed unload had left in doubt is free."""
        if seat.ready or (seat.state is Residency.FAILED and self.ledger.share_of(model)):
            seat.move(Move.LOST, now)
            self._table.forget(model, seat)
        return self._turns.plan(now)
