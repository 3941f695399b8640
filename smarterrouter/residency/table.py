"""All that is known of residency, and the single moves that change it.

Decides what one move means for the ledger and for a model's seat; not when a move is made: that is
``planner``'s and ``turns``'s.
"""

from __future__ import annotations

from collections.abc import Callable

from smarterrouter.domain.models import ModelRef, Placement
from smarterrouter.errors import SmarterRouterError
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import (
    Effect,
    Held,
    Limits,
    Reading,
    Refuse,
    StartLoad,
    StartUnload,
    Used,
)
from smarterrouter.residency.ledger import Share, VramLedger
from smarterrouter.residency.line import Line
from smarterrouter.residency.room import Rooms, Rules, Way
from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import Move, Residency

USUAL_SERVICE_S = 5.0
GROWTH_FORESEEN = ("estimated", "measured")
"""Where a demand comes from that counts what a model will grow to."""


class Table:
    """Every model's seat, who waits in line, and what the ledger holds of each device."""

    def __init__(
        self,
        ledger: VramLedger,
        demand: Callable[[ModelRef, int], Demand | None],
        limits: Limits,
        rules: Rules | None,
        conduct: Callable[[ModelRef], Conduct],
    ) -> None:
        self.ledger = ledger
        self.limits = limits
        self.seats: dict[ModelRef, Seat] = {}
        self.line = Line()
        self.demand = demand
        self.conduct = conduct
        self.rooms = Rooms(ledger, self.seats, rules)

    def refresh(self, model: ModelRef) -> Seat:
        """Look anew at how the model is to be treated; its backend may have changed its mind."""
        seat = self.seats.setdefault(model, Seat())
        seat.conduct = self.conduct(model)
        if not (seat.away or seat.ready):  # on its way: what it is now counted as, it stays
            return seat
        seat.counted = self.demand(model, 0) is not None
        if not seat.counted:
            seat.state = Residency.READY
            self.forget(model, seat)
        return seat

    def seat(self, model: ModelRef) -> Seat:
        """What is known of the model, even if nothing was asked of it yet."""
        return self.seats.get(model) or self.refresh(model)

    def cold(self, model: ModelRef) -> bool:
        """Whether the model has to be loaded before whoever is next can be served."""
        seat, ticket = self.seat(model), self.line.first(model)
        if ticket is None:
            return False
        return seat.away or (seat.ready and not seat.leases and not seat.suffices(ticket.context))

    def wanted(self, model: ModelRef) -> Demand:
        """What the model takes with a context that suffices for all who wait."""
        return self.demand(model, self.longest_context(model)) or Demand(0, "unknown")

    def longest_context(self, model: ModelRef) -> int:
        """What the most demanding of those who wait needs."""
        return max((ticket.context for ticket in self.line.waiting_for(model)), default=0)

    def expected_wait_s(self, model: ModelRef, now: float, load_s: float) -> tuple[float, float]:
        """How long a new request would wait: for its turn, and for the load.

        ``load_s`` is taken for a model that has never been loaded here.
        """
        seat = self.seat(model)
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

    def too_large(self, model: ModelRef, context: int = 0) -> str | None:
        """Why the model would not fit even if all went that may; ``None`` when it would."""
        demand = self.demand(model, context)
        return None if demand is None else self.rooms.too_large(model, demand)

    def start_load(
        self, model: ModelRef, way: Way, why: str, now: float, context: int = 0
    ) -> StartLoad:
        """What it will hold is counted from now on, and what it held as well."""
        seat = self.seat(model)
        seat.reloading, seat.held_before = seat.ready, self.ledger.share_of(model)
        seat.since_before = seat.since
        seat.move(Move.RELOAD if seat.ready else Move.LOAD, now)
        seat.loading_for = context
        self.ledger.settle(model, larger(way.share, seat.held_before))
        return StartLoad(model, Placement(way.share, seat.loading_for), why)

    def start_unload(self, model: ModelRef, why: str, now: float) -> StartUnload:
        """What it holds stays counted until it is gone."""
        self.seat(model).move(Move.UNLOAD, now)
        return StartUnload(model, why)

    def settle(self, model: ModelRef, seat: Seat, held: Held) -> None:
        """What a load was seen to lead to, or a backend says."""
        self.count(model, seat, held.share)
        seat.source, seat.context, seat.reported = held.source, held.context, held.reported

    def count(self, model: ModelRef, seat: Seat, share: Share) -> None:
        """Count what it was seen to hold; a model that has yet to grow keeps what was reserved."""
        seat.seen = share
        demand = self.demand(model, seat.loading_for)
        if demand is not None and demand.grows and demand.source in GROWTH_FORESEEN:
            reserved = self.ledger.share_of(model)
            share = {d: max(count, reserved.get(d, 0)) for d, count in share.items()}
        if share != self.ledger.share_of(model):
            self.ledger.settle(model, share)

    def forget(self, model: ModelRef, seat: Seat) -> None:
        """The model holds nothing any more."""
        self.ledger.release(model)
        seat.context = seat.reported = seat.source = None
        seat.seen = {}

    def look(self, used: Used) -> None:
        """What devices hold, with nothing said of whose it is."""
        for device, count in used.items():
            self.observe(device, Reading(None, count))

    def observe(self, device: str, reading: Reading) -> None:
        """What a device holds, and how much of it is surely ours; the rest is foreign."""
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

    def refuse_all(self, model: ModelRef, error: SmarterRouterError) -> list[Effect]:
        """Whoever waits for the model gets the error."""
        effects: list[Effect] = []
        for ticket in self.line.waiting_for(model):
            self.line.leave(ticket)
            effects.append(Refuse(ticket, error))
        return effects


def larger(one: Share, other: Share) -> Share:
    """What a model may hold while it moves from one place to the other."""
    return {d: max(one.get(d, 0), other.get(d, 0)) for d in (*one, *other)}
