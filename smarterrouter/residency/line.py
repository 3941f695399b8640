"""Who waits, in which order. Decides fairness among callers, and nothing about memory.

Each request gets a start tag when it comes: one more than its caller's last, but never less than
that of the request served last. Served by tag, every caller gets a turn before anyone gets two,
however many requests one of them has sent (start-time fair queueing). Requests of one tag are
served as they came.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator

from msgspec import Struct

from smarterrouter.domain.models import ModelRef

CALLERS_KEPT = 1024


class Ticket(Struct, frozen=True):
    """One request's place in the queue. ``since`` is when it came, in clock seconds.

    ``context``: the tokens it needs; 0 where any context will do.
    """

    id: int
    model: ModelRef
    caller: str
    since: float
    context: int = 0


class Line:
    """Everyone who waits, by model. Tags start at 0."""

    def __init__(self) -> None:
        self._places: dict[ModelRef, list[tuple[int, int, Ticket]]] = {}
        self._last: dict[str, int] = {}
        self._serving = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        for places in self._places.values():
            for _, _, ticket in places:
                yield ticket

    def __contains__(self, model: ModelRef) -> bool:
        return model in self._places

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The models that somebody waits for, the one whose turn is first first."""
        return tuple(sorted(self._places, key=lambda model: self._places[model][0][:2]))

    def pass_through(self, caller: str) -> None:
        """A request is served without having waited."""
        last = self._last.get(caller)
        tag = self._serving if last is None or last < self._serving else last + 1
        self._serving = self._last[caller] = tag
        if len(self._last) > CALLERS_KEPT:
            self._forget()

    def add(self, ticket: Ticket) -> None:
        last = self._last.get(ticket.caller)
        tag = self._serving if last is None else max(self._serving, last + 1)
        self._last[ticket.caller] = tag
        insort(self._places.setdefault(ticket.model, []), (tag, ticket.id, ticket))
        self._count += 1

    def waiting_for(self, model: ModelRef) -> tuple[Ticket, ...]:
        """In the order in which they will be served."""
        return tuple(ticket for _, _, ticket in self._places.get(model, ()))

    def first(self, model: ModelRef, before: float = math.inf) -> Ticket | None:
        """Whose turn it is, among those who have waited since ``before``."""
        for _, _, ticket in self._places.get(model, ()):
            if ticket.since <= before:
                return ticket
        return None

    def serve(self, ticket: Ticket) -> None:
        """Its turn has come."""
        if tag := self._take(ticket):
            self._serving = max(self._serving, tag)

    def leave(self, ticket: Ticket) -> bool:
        """It waits no longer, served or not; false when it did not wait."""
        return self._take(ticket) is not None

    def oldest(self, model: ModelRef) -> float:
        """Since when somebody has been waiting for the model."""
        return min(ticket.since for _, _, ticket in self._places[model])

    def _take(self, ticket: Ticket) -> int | None:
        places = self._places.get(ticket.model, [])
        for index, (tag, number, _) in enumerate(places):
            if number == ticket.id:
                del places[index]
                self._count -= 1
                if not places:
                    del self._places[ticket.model]
                return tag
        return None

    def _forget(self) -> None:
        """Callers who have had no more than their turn are as good as new ones."""
        waiting = {ticket.caller for ticket in self}
        self._last = {
            caller: tag
            for caller, tag in self._last.items()
            if tag > self._serving or caller in waiting
        }
