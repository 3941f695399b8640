"""Who is served next: each caller in turn, and within a turn as they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.line import CALLERS_KEPT, Line, Ticket

A, B = ModelRef("x", "a"), ModelRef("x", "b")
MODELS, CALLERS = [A, B, ModelRef("x", "c")], ["ann", "bob", "cy", "dee"]


def ticket(number: int, caller: str, model: ModelRef = A, since: float = 0.0) -> Ticket:
    return Ticket(number, model, caller, since)


def queue(line: Line, *callers: str, model: ModelRef = A, first: int = 1) -> list[Ticket]:
    tickets = [ticket(number, caller, model) for number, caller in enumerate(callers, first)]
    for one in tickets:
        line.add(one)
    return tickets


def served(line: Line, model: ModelRef = A) -> Iterator[str]:
    """Serve everybody who waits for the model."""
    while (one := line.first(model)) is not None:
        line.serve(one)
        yield one.caller


def test_one_caller_is_served_as_they_came() -> None:
    line = Line()
    tickets = queue(line, "ann", "ann", "ann")
    assert line.waiting_for(A) == tuple(tickets)


def test_every_caller_gets_a_turn_before_anyone_gets_two() -> None:
    line = Line()
    queue(line, "ann", "ann", "ann", "bob", "cy", "bob")
    assert list(served(line)) == ["ann", "bob", "cy", "ann", "bob", "ann"]


def test_who_comes_late_is_not_given_the_turns_that_others_had_before() -> None:
    line = Line()
    queue(line, "ann", "ann", "ann", "ann")
    for _ in range(3):
        line.serve(line.waiting_for(A)[0])
    queue(line, "bob", "bob", first=5)
    assert list(served(line)) == ["bob", "ann", "bob"]


def test_what_is_served_elsewhere_puts_nobody_behind_here() -> None:
    line = Line()
    queue(line, *["ann"] * 5)
    for number in range(10, 30):
        line.pass_through(ticket(number, "cy", B))
    queue(line, "bob", first=30)
    queue(line, "cy", first=31)
    assert list(served(line))[:3] == ["ann", "bob", "cy"]


def test_the_model_of_whoever_has_had_fewest_turns_comes_first() -> None:
    line = Line()
    queue(line, "ann", model=A, first=1)
    queue(line, "ann", model=B, first=2)
    queue(line, "bob", model=MODELS[2], first=3)
    assert line.models == (A, MODELS[2], B)


def test_who_hangs_up_and_asks_again_does_not_lose_another_turn() -> None:
    line = Line()
    queue(line, "ann", "ann", "ann")
    for number in range(10, 20):
        [gone] = queue(line, "bob", first=number)
        line.leave(gone)
    queue(line, "bob", first=20)
    assert list(served(line)) == ["ann", "bob", "ann", "ann"]


def test_only_those_who_have_waited_long_enough_are_first_where_that_is_asked() -> None:
    line = Line()
    old, new = ticket(1, "ann", since=5.0), ticket(2, "bob", since=1.0)
    line.add(old)
    line.add(new)
    assert line.first(A) == old
    assert line.first(A, before=2.0) == new
    assert line.first(A, before=0.5) is None
    assert line.oldest(A) == 1.0


def test_leaving_twice_or_never_having_come_changes_nothing() -> None:
    line = Line()
    [one] = queue(line, "ann")
    assert line.leave(one)
    assert not line.leave(one)
    assert not line.leave(ticket(7, "bob", B))
    assert len(line) == 0
    assert line.models == ()


def test_callers_without_end_do_not_fill_the_memory_and_the_queue_stays_fair() -> None:
    line = Line()
    for number in range(3 * CALLERS_KEPT):
        line.pass_through(ticket(number, f"caller{number}"))
    queue(line, "ann", "ann", "bob", first=100_000)
    assert list(served(line)) == ["ann", "bob", "ann"]


@given(st.lists(st.sampled_from(CALLERS), max_size=30), st.data())
def test_leaving_keeps_the_others_in_their_order(callers: list[str], data: st.DataObject) -> None:
    line = Line()
    queue(line, *callers)
    before = line.waiting_for(A)
    gone = data.draw(st.lists(st.sampled_from(before), unique=True)) if before else []
    for one in gone:
        line.leave(one)
    assert line.waiting_for(A) == tuple(one for one in before if one not in gone)


class NaiveTags:
    """Start tags, as the module's first lines define them."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.serving = 0

    def give(self, caller: str) -> int:
        self.last[caller] = max(self.serving, self.last.get(caller, self.serving - 1) + 1)
        return self.last[caller]


class Queues(RuleBasedStateMachine):
    """The line beside a list that is sorted anew at every question."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.waiting: list[tuple[Ticket, int, int]] = []
        self.tags = {model: NaiveTags() for model in MODELS}
        self.of_all = NaiveTags()
        self.passed: dict[int, Counter[str]] = {}
        self.allowed: dict[int, int] = {}
        self.count = 0

    def new(self, model: ModelRef, caller: str) -> Ticket:
        self.count += 1
        return ticket(self.count, caller, model, float(self.count))

    @rule(model=st.sampled_from(MODELS), caller=st.sampled_from(CALLERS))
    def add(self, model: ModelRef, caller: str) -> None:
        one = self.new(model, caller)
        first = self.tags[model].serving
        tag = self.tags[model].give(caller)
        self.waiting.append((one, tag, self.of_all.give(caller)))
        self.passed[one.id], self.allowed[one.id] = Counter(), 1 + tag - first
        self.line.add(one)

    @rule(model=st.sampled_from(MODELS), caller=st.sampled_from(CALLERS))
    def pass_through(self, model: ModelRef, caller: str) -> None:
        if not self.waiting:
            self.line.pass_through(self.new(model, caller))
            for tags in (self.tags[model], self.of_all):
                tags.serving = max(tags.serving, tags.give(caller))

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 9))
    def serve(self, number: int) -> None:
        models = self.line.models
        one = self.line.first(models[number % len(models)])
        assert one is not None
        self._serve(one)
        for other, _, _ in self.waiting:
            if other.model == one.model and other.caller != one.caller:
                self.passed[other.id][one.caller] += 1

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 30))
    def serve_ahead_of_others(self, number: int) -> None:
        self._serve(self.waiting[number % len(self.waiting)][0])

    def _serve(self, one: Ticket) -> None:
        self.line.serve(one)
        [(_, tag, of_all)] = [place for place in self.waiting if place[0] == one]
        self.waiting = [place for place in self.waiting if place[0] != one]
        ahead = [other for place, other, _ in self.waiting if place.model == one.model]
        tags = self.tags[one.model]
        tags.serving = max(tags.serving, min([tag, *ahead]))
        self.of_all.serving = max(self.of_all.serving, of_all)

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 30))
    def leave(self, number: int) -> None:
        one, tag, of_all = self.waiting.pop(number % len(self.waiting))
        for tags, own in ((self.tags[one.model], tag), (self.of_all, of_all)):
            if tags.last[one.caller] == own:
                tags.last[one.caller] = own - 1
        assert self.line.leave(one)

    @invariant()
    def both_agree(self) -> None:
        assert len(self.line) == len(self.waiting)
        assert set(self.line) == {one for one, _, _ in self.waiting}
        firsts = {}
        for model in MODELS:
            places = [place for place in self.waiting if place[0].model == model]
            places.sort(key=lambda place: (place[1], place[0].id))
            assert self.line.waiting_for(model) == tuple(one for one, _, _ in places)
            assert (model in self.line) == bool(places)
            if places:
                firsts[model] = min((of_all, one.id) for one, _, of_all in places)
                assert self.line.oldest(model) == min(one.since for one, _, _ in places)
        assert list(self.line.models) == sorted(firsts, key=lambda model: firsts[model])

    @invariant()
    def nobody_is_passed_more_often_than_its_caller_had_turns(self) -> None:
        for one, _, _ in self.waiting:
            assert all(count <= self.allowed[one.id] for count in self.passed[one.id].values())


TestQueues = Queues.TestCase
