"""Who waits, in which order. Decides fairness among callers, and nothing about memory.

Each request gets a start tag when it comes: one more than its caller's last, but never less than
that of the request served last. Served by tag, every caller gets a turn before anyone gets two,
however many requests one of them has sent (start-time fair queueing). Requests of one tag are
served as they came.

Tags are counted for each model, since what is served elsewhere puts nobody ahead here; and once
more over all models, to say which of them has its turn first.
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


class _Tags:
    """Each caller's last tag, and that of the request served last. They start at 0."""

    __slots__ = ("_last", "_serving")

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._serving = 0

    def give(self, caller: str) -> int:
        last = self._last.get(caller)
        tag = self._serving if last is None or last < self._serving else last + 1
        self._last[caller] = tag
        return tag

    def serve(self, tag: int) -> None:
        self._serving = max(self._serving, tag)
        if len(self._last) > CALLERS_KEPT:
            self._last = {who: last for who, last in self._last.items() if last > self._serving}

    def take_back(self, caller: str, tag: int) -> None:
        """A request that was not served; if it was its caller's last, the next takes its place."""
        if self._last.get(caller) == tag:
            self._last[caller] = tag - 1


class Line:
    """Everyone who waits, by model: the tag there, the ticket's id, the ticket, the tag of all."""

    def __init__(self) -> None:
        self._places: dict[ModelRef, list[tuple[int, int, Ticket, int]]] = {}
        self._tags: dict[ModelRef, _Tags] = {}
        self._tags_of_all = _Tags()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        for places in self._places.values():
            for _, _, ticket, _ in places:
                yield ticket

    def __contains__(self, model: ModelRef) -> bool:
        return model in self._places

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The models that somebody waits for, the one whose turn is first first.

        Whoever of those who wait for a model has the first turn of all brings it forward.
        """

        def turn(model: ModelRef) -> tuple[int, int]:
            return min([(tag, number) for _, number, _, tag in self._places[model]])

        return tuple(sorted(self._places, key=turn))

    def pass_through(self, ticket: Ticket) -> None:
        """A request is served without having waited."""
        for tags in (self._tags_for(ticket.model), self._tags_of_all):
            tags.serve(tags.give(ticket.caller))

    def add(self, ticket: Ticket) -> None:
        tag = self._tags_for(ticket.model).give(ticket.caller)
        of_all = self._tags_of_all.give(ticket.caller)
        insort(self._places.setdefault(ticket.model, []), (tag, ticket.id, ticket, of_all))
        self._count += 1

    def waiting_for(self, model: ModelRef) -> tuple[Ticket, ...]:
        """In the order in which they will be served."""
        return tuple(ticket for _, _, ticket, _ in self._places.get(model, ()))

    def first(self, model: ModelRef, before: float = math.inf) -> Ticket | None:
        """Whose turn it is, among those who have waited since ``before``."""
        for _, _, ticket, _ in self._places.get(model, ()):
            if ticket.since <= before:
                return ticket
        return None

    def serve(self, ticket: Ticket) -> None:
        """Its turn has come, or it goes ahead of those whose turn it is: they keep theirs."""
        if (place := self._take(ticket)) is not None:
            ahead = self._places.get(ticket.model)
            self._tags_for(ticket.model).serve(min(place[0], ahead[0][0]) if ahead else place[0])
            self._tags_of_all.serve(place[1])

    def leave(self, ticket: Ticket) -> bool:
        """It waits no longer and was not served; false when it did not wait."""
        if (place := self._take(ticket)) is None:
            return False
        self._tags_for(ticket.model).take_back(ticket.caller, place[0])
        self._tags_of_all.take_back(ticket.caller, place[1])
        return True

    def oldest(self, model: ModelRef) -> float:
        """Since when somebody has been waiting for the model."""
        return min(ticket.since for _, _, ticket, _ in self._places[model])

    def _take(self, ticket: Ticket) -> tuple[int, int] | None:
        """Its two tags; ``None`` when it did not wait."""
        places = self._places.get(ticket.model, [])
        for index, (tag, number, _, of_all) in enumerate(places):
            if number == ticket.id:
                del places[index]
                self._count -= 1
                if not places:
                    del self._places[ticket.model]
                return tag, of_all
        return None

    def _tags_for(self, model: ModelRef) -> _Tags:
        return self._tags.get(model) or self._tags.setdefault(model, _Tags())
