"""What whoever is refused or kept waiting is told. Decides nothing."""

from __future__ import annotations

from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import InsufficientVram, Overloaded, SmarterRouterError, Unavailable
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import Residency
from smarterrouter.residency.table import USUAL_SERVICE_S, Table

LEAST_RETRY_S = 1.0


def since(table: Table, model: ModelRef, now: float) -> str:
    count = len(table.line.waiting_for(model))
    if not count:
        return "asked for"
    waited = max(0.0, now - table.line.oldest(model))
    who = "a request" if count == 1 else f"{count} requests"
    return who if waited < 0.05 else f"{who}, waiting for {waited:.1f} s"


def retry_after_s(table: Table, model: ModelRef, now: float) -> float:
    return max(LEAST_RETRY_S, sum(table.expected_wait_s(model, now, USUAL_SERVICE_S)))


def never(table: Table, model: ModelRef, context: int, lack: str) -> InsufficientVram:
    demand = table.demand(model, context)
    advice = table.rooms.advice(model, demand) if demand else ""
    return InsufficientVram(f"{model.name} {lack}. {advice}")


def queue_full(table: Table, model: ModelRef, now: float) -> Overloaded:
    return Overloaded(
        f"{len(table.line)} requests are already waiting for a model. Try again in a "
        "moment, or raise ROUTER_QUEUE_SIZE.",
        retry_after_s=retry_after_s(table, model, now),
    )


def waited_too_long(table: Table, ticket: Ticket, now: float) -> Unavailable:
    name, seat, waited = ticket.model.name, table.seat(ticket.model), now - ticket.since
    reason = f"There was no room for {name} for {waited:.0f} s: others were in use."
    if seat.state is Residency.LOADING:
        reason = f"{name} is still loading after {waited:.0f} s."
    elif seat.ready:
        reason = f"{name} was busy with others for {waited:.0f} s."
    return Unavailable(
        f"{reason} Try again, or raise ROUTER_QUEUE_WAIT_S.",
        retry_after_s=retry_after_s(table, ticket.model, now),
    )


def again(model: ModelRef, seat: Seat, now: float) -> SmarterRouterError:
    """The reason of a failure that is not over yet."""
    assert seat.failure is not None
    wait = seat.retry_at - now
    return type(seat.failure)(
        f"{model.name} failed to load {now - seat.failed_at:.0f} s ago and is tried again "
        f"in {wait:.0f} s. The reason was: {seat.failure.message}",
        retry_after_s=wait,
    )
