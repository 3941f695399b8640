"""The real scheduler over simulated cards, in virtual time, with everything that goes wrong.

What is true stands in ``tests/support/house.py`` and ``tests/fakes/machine.py``. ``Watch`` holds
every decision against it, by the rules that must hold whatever happens. The state machines only
stir: ``Unruly`` with all that backends, other programs and people do; ``Exact`` with nothing that
could not have been foreseen, and there no card may ever overflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import BackendError, InsufficientVram, Overloaded
from smarterrouter.residency.demand import Conduct
from smarterrouter.residency.events import Limits
from smarterrouter.residency.eviction import Strategy
from smarterrouter.residency.history import Kind
from smarterrouter.residency.ledger import Share
from smarterrouter.residency.placement import placed
from smarterrouter.residency.room import Rules
from smarterrouter.residency.scheduler import BY_HAND, TICK_S
from smarterrouter.residency.seat import AWAY
from smarterrouter.residency.states import Residency
from tests.fakes.machine import GB, Build
from tests.support.house import (
    BOXED,
    BROAD,
    BUFFER,
    CLOUD,
    KEPT,
    LIST_S,
    ROOMY,
    Client,
    House,
)

PATIENCE_S = 5.0
SLACK_S = 0.1
STEP_S = 0.3
DRAINED_S = 3000.0
"""Within this long everybody has been served or refused, once nothing goes wrong any more."""

CALLERS = ("ann", "bob", "cy")
WHOLE, HUGE, STRETCH = (ModelRef(BOXED, name) for name in ("whole", "huge", "stretch"))
USUAL, MORE, MOST, NEVER = 0, 8192, 16384, 1 << 20
"""Tokens of context that requests need."""
PER_TOKEN = GB // 4096

ONE_CARD = {"gpu0": 24 * GB}
TWO_CARDS = {"gpu0": 24 * GB, "gpu1": 16 * GB}
BUILDS = {
    BOXED: [
        Build("small", 5 * GB),
        Build("stretch", 6 * GB, per_token=PER_TOKEN),
        Build("large", 13 * GB),
        Build("whole", 21 * GB),
        Build("huge", 60 * GB),
    ],
    ROOMY: [Build("mid", 7 * GB), Build("gum", 4 * GB, per_token=PER_TOKEN)],
    CLOUD: [Build("far", GB)],
}
ON_TWO = {
    BOXED: [*BUILDS[BOXED], Build("split", 30 * GB)],
    BROAD: [Build("wide", 12 * GB)],
    CLOUD: BUILDS[CLOUD],
}
LIARS = {
    BOXED: [Build("fat", 5 * GB, more=2 * GB), Build("thin", 8 * GB, more=-3 * GB)],
    ROOMY: [Build("plump", 6 * GB, more=GB)],
}
LIMITS = [
    Limits(256, PATIENCE_S, wait_s=5000.0),
    Limits(256, PATIENCE_S, wait_s=15.0),
    Limits(4, PATIENCE_S, wait_s=5000.0),
]
CONDUCTS = [Conduct(slots, keep) for keep in (-1.0, 15.0, 0.0) for slots in (None, 1, 2)]


class Watch:
    """Holds every decision against the truth. ``wrong`` says what was not as it must be."""

    def __init__(self, house: House) -> None:
        self.house, self.planner = house, house.planner
        self.wrong: list[str] = []
        self._seats: dict[ModelRef, tuple[Residency, float]] = {}
        self._shares: dict[ModelRef, Share] = {}
        self._room_for: set[ModelRef] = set()
        self._perhaps_for: set[ModelRef] = set()
        self._heard = 0
        house.on_grant = self.granted
        house.on_notice = self.remember
        house.scheduler.watch(self.decided)
        for backend in house.backends.values():
            backend.asked_to_unload = self.asked_to_unload

    def decided(self) -> None:
        """Something was decided: what began, and was it right?"""
        self._hear()
        begun = [
            (ref, seat.state)
            for ref, seat in self.planner.seats.items()
            if (seat.state, seat.since) != self._seats.get(ref)
        ]
        for ref, state in begun:
            if state is Residency.LOADING:
                self._load_begun(ref)
            if state is Residency.UNLOADING:
                self._unload_begun(ref)
        self.remember()

    def _hear(self) -> None:
        """Who went, to make room for whom?"""
        events = list(self.house.scheduler.history.events)
        for event in events[self._heard :]:
            made = re.match("to make room for (.*?),", event.why)
            if made and event.kind is Kind.UNLOAD:
                wanting = ModelRef(*made[1].split("/"))
                if self._has_waited(wanting, event.seconds):
                    self._room_for.add(wanting)
        self._heard = len(events)

    def _has_waited(self, ref: ModelRef, seconds: float) -> bool:
        """Whether somebody who waits for it has done so for so long: since its victim had to go."""
        now, line = self.house.loop.time(), self.planner.line
        return ref in line and now - line.oldest(ref) >= seconds - TICK_S

    def remember(self) -> None:
        self._room_for &= self._wanted().keys()
        self._perhaps_for &= self._wanted().keys()
        for ref, seat in self.planner.seats.items():
            self._seats[ref] = (seat.state, seat.since)
            self._shares[ref] = dict(self.planner.ledger.share_of(ref))

    def _load_begun(self, ref: ModelRef) -> None:
        ledger, before = self.planner.ledger, self._shares.get(ref, {})
        for device, count in ledger.share_of(ref).items():
            own, total = ledger.own(device), self.house.cards.sizes[device]
            most = min(total - KEPT, total - BUFFER - ledger.foreign[device])
            if count > before.get(device, 0) and own > most:
                self.wrong.append(f"{ref} was loaded on {device}, where there was no room")
        if not self.house.waiting(ref) and not self._brought_back(ref):
            self.wrong.append(f"{ref} was loaded, and nobody wanted it")
        if ref not in self._room_for | self._perhaps_for and not before:
            self._took_the_room(ref)

    def _took_the_room(self, ref: ModelRef) -> None:
        for other in self._room_for & self._wanted().keys():
            taken = self._would_fit(other, without=ref) and not self._would_fit(other)
            if taken and self._came_later(ref, other):
                self.wrong.append(f"{ref} took the room that was made for {other}")

    def _came_later(self, ref: ModelRef, other: ModelRef) -> bool:
        line = self.planner.line
        return ref not in line or line.oldest(ref) > line.oldest(other)

    def _brought_back(self, ref: ModelRef) -> bool:
        """It had made way for a model that has failed to load just now."""
        now = self.house.loop.time()
        failed = [r for r, s in self.planner.seats.items() if now - s.failed_at < SLACK_S]
        went = self.house.scheduler.history.events
        return any(
            e.model == ref and f"make room for {one}," in e.why for e in went for one in failed
        )

    def _unload_begun(self, ref: ModelRef) -> None:
        if self.house.reading(ref):
            self.wrong.append(f"{ref} was unloaded under its readers")
        if ref in self.house.pinned:
            self.wrong.append(f"{ref} was unloaded although it is pinned")
        if not self._may_go(ref):
            self._made_room(ref)

    def _made_room(self, ref: ModelRef) -> None:
        """For whom did it go? Where several would fit now, it is told when it has gone."""
        fitting = {other for other in self._wanted() if self._would_fit(other)}
        if not fitting:
            self.wrong.append(f"{ref} was unloaded in vain")
        if len(fitting) == 1:
            self._room_for |= fitting
        self._perhaps_for |= fitting

    def _may_go(self, ref: ModelRef) -> bool:
        """Sent away, idle for too long, or there is more than the budget allows."""
        seat = self.planner.seat(ref)
        keep, idle_s = seat.conduct.keep_alive_s, seat.since - seat.last_used
        over = [d for d in self.planner.ledger.limits if self.planner.ledger.over_budget(d)]
        return ref in self.house.sent_away or 0 <= keep <= idle_s + SLACK_S or bool(over)

    def _wanted(self) -> dict[ModelRef, int]:
        """Models that somebody waits for and that are not ready for them, with their context."""
        line = self.planner.line
        return {
            ref: max(ticket.context for ticket in line.waiting_for(ref))
            for ref in line.models
            if self.planner.state(ref) in (*AWAY, Residency.READY)
        }

    def _would_fit(self, ref: ModelRef, without: ModelRef | None = None) -> bool:
        """Whether the model fits when everybody has gone who is on the way out."""
        demand, ledger = self.house.demand(ref, self._wanted()[ref]), self.planner.ledger
        room = {device: ledger.free(device) for device in ledger.limits}
        for other, seat in self.planner.seats.items():
            if seat.state is Residency.UNLOADING or other in (ref, without):
                for device, count in ledger.share_of(other).items():
                    room[device] += count
        return demand is not None and placed(demand, room) is not None

    def asked_to_unload(self, ref: ModelRef) -> None:
        if self.house.reading(ref):
            self.wrong.append(f"{ref} was to be unloaded under its readers")

    def granted(self, client: Client) -> None:
        there = self.house.backends[client.ref.backend].settled().get(client.ref.name)
        if client.ref.backend in (BOXED, BROAD):
            if there is None:
                self.wrong.append(f"{client.ref} was granted and is not there")
            elif there.context is not None and there.context < client.context:
                self.wrong.append(f"{client.ref} was granted with too short a context")
        oldest = min(self.house.waiting(), key=lambda one: one.since, default=None)
        late_s = self.house.loop.time() - oldest.since - PATIENCE_S if oldest else -PATIENCE_S
        if late_s < 0:
            self._in_turn(client)
        if late_s > TICK_S and oldest and len(self.house.cards.sizes) == 1:
            self._patience(client, oldest)

    def _in_turn(self, client: Client) -> None:
        """Every caller gets a turn before anyone gets two; in a queue that nobody holds up. Who
        needs a longer context than there is room for now is passed by those who do not."""
        suffices = self.planner.seat(client.ref).suffices
        for other in self.house.waiting(client.ref):
            if other.caller not in (client.caller, BY_HAND) and suffices(other.context):
                other.passed[client.caller] += 1
                if other.passed[client.caller] > other.allowed:
                    self.wrong.append(f"{client.caller} was served {other.passed} before {other}")

    def _patience(self, client: Client, oldest: Client) -> None:
        """Nobody gets a new use of what stands in the way of whoever has waited for too long.

        Everything on the card stands in the way of the model that takes all of it. Who waited for
        a load before it was done gets what was loaded.
        """
        away = oldest.ref == WHOLE and self.planner.state(WHOLE) in AWAY
        new = client.since > self.planner.seat(client.ref).since
        if away and new and self.planner.ledger.share_of(client.ref):
            self.wrong.append(f"{client.ref} was granted while {oldest} was overdue")

    def check(self) -> None:
        """What must be so at any moment."""
        self.remember()
        house = self.house
        assert not house.loop.broken, house.loop.broken
        assert not self.wrong, self.wrong
        for backend in house.backends.values():
            assert not backend.complaints, backend.complaints
        for ref in house.refs:
            seat = self.planner.seat(ref)
            assert seat.leases == len(house.holding(ref)), ref
            waiting = self.planner.line.waiting_for(ref)
            assert len(waiting) == len(house.waiting(ref)), ref
            assert seat.pinned == (ref in house.pinned), ref
        for client in house.waiting():
            waited = house.loop.time() - client.since
            assert waited <= self.planner.limits.wait_s + TICK_S + SLACK_S, client
        self._counted()

    def _counted(self) -> None:
        """What we have loaded and what is still there is in the books."""
        ledger = self.planner.ledger
        for backend in self.house.backends.values():
            for name, there in backend.settled().items():
                share = ledger.share_of(ModelRef(backend.name, name))
                known = there.ours and not there.spilled
                assert share or not known, f"{name} is there and is not counted"
        for device in ledger.limits:
            shares = [ledger.share_of(ref).get(device, 0) for ref in self.house.refs]
            assert ledger.own(device) == sum(shares)


class Stirred(RuleBasedStateMachine):
    """What people do to any house."""

    cards: ClassVar[dict[str, int]]
    builds: ClassVar[dict[str, list[Build]]]
    may_evict: ClassVar[st.SearchStrategy[bool]] = st.just(True)

    @initialize(data=st.data())
    def move_in(self, data: st.DataObject) -> None:
        count = sum(map(len, self.builds.values()))
        conducts = data.draw(st.lists(st.sampled_from(CONDUCTS), min_size=count, max_size=count))
        refs = [ModelRef(name, b.name) for name, builds in self.builds.items() for b in builds]
        self.house = House(
            self.cards,
            self.builds,
            data.draw(st.sampled_from(LIMITS)),
            Rules(data.draw(st.sampled_from(Strategy)), data.draw(self.may_evict)),
            dict(zip(refs, conducts, strict=True)).__getitem__,
        )
        self.watch = Watch(self.house)
        self.furnish(data)

    def furnish(self, data: st.DataObject) -> None:
        """What there is before anybody asks for anything."""

    def ref(self, number: int) -> ModelRef:
        """One of all models; of those that are there as often as of all."""
        there = [
            ModelRef(backend.name, name)
            for backend in self.house.backends.values()
            for name in sorted(backend.settled())
        ]
        refs = there if there and number % 2 else self.house.refs
        return refs[number // 2 % len(refs)]

    @rule(
        number=st.integers(0, 40),
        caller=st.sampled_from(CALLERS),
        context=st.sampled_from([USUAL, USUAL, MORE, MOST]),
        hold_s=st.sampled_from([0.0, 0.5, 5.0, 40.0]),
    )
    def ask(self, number: int, caller: str, context: int, hold_s: float) -> None:
        self.house.ask(self.ref(number), caller, context, hold_s)

    @rule(number=st.integers(0, 40), caller=st.sampled_from(CALLERS), times=st.integers(2, 5))
    def ask_many_times(self, number: int, caller: str, times: int) -> None:
        for _ in range(times):
            self.house.ask(self.ref(number), caller, USUAL, 1.0)

    @rule(number=st.integers(0, 40), caller=st.sampled_from(CALLERS))
    def ask_for_the_whole_card(self, number: int, caller: str) -> None:
        self.house.ask(WHOLE, caller, USUAL, 1.0)

    @rule(caller=st.sampled_from(CALLERS), huge=st.booleans())
    def ask_for_what_never_fits(self, caller: str, huge: bool) -> None:
        ref = HUGE if huge else STRETCH
        before = self.house.planner.state(ref)
        asked = self.house.ask(ref, caller, NEVER, 0.0)
        self.house.loop.settle()
        if before in (Residency.UNLOADED, Residency.READY):
            assert isinstance(asked.error, InsufficientVram | Overloaded | BackendError), asked

    @rule(number=st.integers(0, 40))
    def ask_and_hang_up_when_served(self, number: int) -> None:
        ref = self.ref(number)
        self.house.ask(ref, f"eve{len(self.house.clients)}", USUAL, 1.0).fickle = True

    @precondition(lambda self: self.house.live())
    @rule(number=st.integers(0, 50))
    def hang_up(self, number: int) -> None:
        live = self.house.live()
        self.house.hang_up([live[number % len(live)]])

    @precondition(lambda self: self.house.live())
    @rule()
    def all_hang_up(self) -> None:
        """Whoever is being answered first, so that others are served who have just left."""
        self.house.hang_up(sorted(self.house.live(), key=lambda one: one.state))

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.house.loop.let_pass(seconds)

    @rule(number=st.integers(0, 40), act=st.sampled_from(["load", "unload", "pin", "unpin"]))
    def do_by_hand(self, number: int, act: str) -> None:
        getattr(self.house, act)(self.ref(number))

    @rule(
        number=st.integers(0, 3),
        load_s=st.sampled_from([0.2, 4.0]),
        unload_s=st.sampled_from([0.0, 2.0]),
        freed_after_s=st.sampled_from([0.0, 1.0, 3.0]),
    )
    def be_slow(self, number: int, load_s: float, unload_s: float, freed_after_s: float) -> None:
        backend = list(self.house.backends.values())[number % len(self.house.backends)]
        backend.load_s, backend.unload_s = load_s, unload_s
        backend.freed_after_s = freed_after_s

    @rule(number=st.integers(0, 40))
    def fail_to_load(self, number: int) -> None:
        ref = self.ref(number)
        self.house.backends[ref.backend].fails_to_load = {ref.name}

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        self.house.loop.let_pass(STEP_S)
        self.watch.check()

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        try:
            self.calm_down()
            until = self.house.loop.time() + DRAINED_S
            while self.house.live() and self.house.loop.time() < until:
                self.house.loop.let_pass(5.0)
                self.watch.check()
            assert not self.house.live(), f"waits for ever: {self.house.live()}"
            assert not self.house.planner.line
        finally:
            left = self.house.close()
        assert not left

    def calm_down(self) -> None:
        """Nothing goes wrong any more, and nobody asks for anything more."""
        for backend in self.house.backends.values():
            backend.heal()


class Exact(Stirred):
    """Models take what was planned, memory is freed in time, and no other program takes more."""

    def furnish(self, data: st.DataObject) -> None:
        for card in self.house.cards.sizes:
            self.house.cards.foreign(card, data.draw(st.sampled_from([0, 0, 3])) * GB)
        self.house.at_once(self.house.look)

    @invariant()
    def no_card_overflows(self) -> None:
        assert not self.house.cards.overruns, self.house.cards.overruns

    @invariant()
    def nothing_holds_more_than_is_counted(self) -> None:
        for backend in self.house.backends.values():
            for name, there in backend.settled().items():
                share = self.house.planner.ledger.share_of(ModelRef(backend.name, name))
                uncounted = {c: n for c, n in there.share.items() if n > share.get(c, 0)}
                assert not uncounted, f"{name} holds {there.share} and is counted with {share}"


class Unruly(Stirred):
    may_evict = st.sampled_from([True, True, True, False])

    @rule(number=st.integers(0, 40))
    def crash(self, number: int) -> None:
        boxed = self.house.backends[BOXED]
        if there := sorted(boxed.settled()):
            name = there[number % len(there)]
            for client in self.house.holding(ModelRef(BOXED, name)):
                client.orphan = True
            self.house.at_once(lambda: boxed.crash(name))

    @rule(number=st.integers(0, 40))
    def evict_by_itself(self, number: int) -> None:
        for name, backend in self.house.backends.items():
            there = [n for n in backend.settled() if not self.house.holding(ModelRef(name, n))]
            if backend.lists and there:
                self.house.at_once(partial(backend.drop, there[number % len(there)]))

    @rule(number=st.integers(0, 40))
    def load_for_others(self, number: int) -> None:
        for backend in self.house.backends.values():
            if backend.lists:
                names = list(backend.builds)
                backend.load_for_others(names[number % len(names)])

    @rule(number=st.integers(0, 1), count=st.sampled_from([0, 1, 4, 9, 16]))
    def others_use(self, number: int, count: int) -> None:
        cards = list(self.house.cards.sizes)
        self.house.cards.foreign(cards[number % len(cards)], count * GB)

    @rule(number=st.integers(0, 40), stays=st.booleans(), asked=st.booleans())
    def fail_to_unload(self, number: int, stays: bool, asked: bool) -> None:
        ref = self.ref(number)
        self.house.backends[ref.backend].fails_to_unload[ref.name] = stays
        if asked:
            self.house.unload(ref)

    @rule(seconds=st.sampled_from([0.0, 3.0, 8.0]))
    def free_memory_too_late(self, seconds: float) -> None:
        for backend in self.house.backends.values():
            backend.freed_after_s = seconds

    def calm_down(self) -> None:
        super().calm_down()
        for card in self.house.cards.sizes:
            self.house.cards.foreign(card, 0)


class OneCard(Unruly):
    cards = ONE_CARD
    builds: ClassVar = {
        BOXED: [*BUILDS[BOXED], *LIARS[BOXED]],
        ROOMY: [*BUILDS[ROOMY], *LIARS[ROOMY]],
        CLOUD: BUILDS[CLOUD],
    }


class TwoCards(Unruly):
    cards = TWO_CARDS
    builds: ClassVar = {
        BOXED: [*ON_TWO[BOXED], *LIARS[BOXED]],
        ROOMY: [*BUILDS[ROOMY], *LIARS[ROOMY]],
        BROAD: ON_TWO[BROAD],
        CLOUD: BUILDS[CLOUD],
    }


class ExactOneCard(Exact):
    cards = ONE_CARD
    builds = BUILDS


class ExactTwoCards(Exact):
    cards = TWO_CARDS
    builds = ON_TWO


ORDINARY = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestOneCard, TestTwoCards = OneCard.TestCase, TwoCards.TestCase
TestExactOneCard, TestExactTwoCards = ExactOneCard.TestCase, ExactTwoCards.TestCase
for _case in (TestOneCard, TestTwoCards, TestExactOneCard, TestExactTwoCards):
    _case.settings = ORDINARY


# What chance finds too seldom


@contextmanager
def living(cards: dict[str, int], builds: dict[str, list[Build]]) -> Iterator[House]:
    """A house in which nothing goes wrong that a test does not ask for."""
    house = House(cards, builds, Limits(256, PATIENCE_S), Rules(), lambda ref: Conduct())
    watch = Watch(house)
    try:
        yield house
        house.loop.let_pass(60.0)
        watch.check()
        assert not house.live()
        assert not house.cards.overruns
    finally:
        left = house.close()
    assert not left


def test_a_model_that_moves_to_another_card_keeps_its_old_place_until_it_is_there() -> None:
    twins = [Build("small", 5 * GB), Build("twin", 5 * GB)]
    with living(
        TWO_CARDS, {BOXED: [Build("stretch", 6 * GB, per_token=PER_TOKEN), *twins]}
    ) as house:
        boxed = house.backends[BOXED]
        house.ask(STRETCH, "ann", USUAL, 0.0)
        house.loop.let_pass(2.0)
        house.ask(ModelRef(BOXED, "small"), "ann", USUAL, 20.0)
        house.loop.let_pass(2.0)
        boxed.freed_after_s = 3.0
        house.ask(STRETCH, "ann", 20480, 0.0)
        house.loop.let_pass(1.0)
        house.ask(ModelRef(BOXED, "twin"), "ann", USUAL, 0.0)
        house.loop.let_pass(10.0)
        assert [list(boxed.resident[name].share) for name in ("small", "stretch", "twin")] == [
            ["gpu1"],
            ["gpu0"],
            ["gpu0"],
        ]


def test_after_a_reload_that_failed_a_model_counts_until_it_is_known_to_be_gone() -> None:
    with living(ONE_CARD, {BOXED: BUILDS[BOXED]}) as house:
        house.ask(STRETCH, "ann", USUAL, 0.0)
        house.loop.let_pass(2.0)
        house.backends[BOXED].fails_to_unload["stretch"] = True
        refused = house.ask(STRETCH, "ann", MORE, 0.0)
        house.loop.let_pass(2.0)
        assert isinstance(refused.error, BackendError)
        assert house.planner.ledger.share_of(STRETCH) == {"gpu0": 6 * GB}
        house.at_once(lambda: house.backends[BOXED].crash("stretch"))
        assert house.planner.ledger.own("gpu0") == 0


def test_a_model_that_would_not_go_and_is_listed_again_counts_as_before() -> None:
    gum = ModelRef(ROOMY, "gum")
    with living(ONE_CARD, {ROOMY: BUILDS[ROOMY]}) as house:
        house.ask(gum, "ann", USUAL, 0.0)
        house.loop.let_pass(2.0)
        house.backends[ROOMY].fails_to_unload["gum"] = True
        house.unload(gum)
        house.loop.let_pass(1.0)
        assert house.planner.state(gum) is Residency.FAILED
        house.loop.let_pass(2 * LIST_S)
        assert house.planner.state(gum) is Residency.READY
        assert house.planner.ledger.share_of(gum) == {"gpu0": 4 * GB}


@pytest.mark.parametrize("begun_s", [0.0, 0.5, 4.1], ids=["before", "during", "after"])
def test_what_another_load_takes_is_not_counted_for_a_model(begun_s: float) -> None:
    wide = ModelRef(BROAD, "wide")
    with living(TWO_CARDS, {BROAD: ON_TWO[BROAD], BOXED: BUILDS[BOXED]}) as house:
        house.backends[BROAD].load_s = 4.0
        house.backends[BOXED].load_s = 0.2 if begun_s else 2.0
        if not begun_s:
            house.load(ModelRef(BOXED, "small"))
            house.loop.let_pass(0.5)
        house.load(wide)
        house.loop.let_pass(begun_s)
        house.load(ModelRef(BOXED, "small"))
        house.loop.let_pass(20.0)
        held = house.planner.ledger.share_of(wide)
        assert held == house.backends[BROAD].resident["wide"].share


def test_nobody_is_brought_back_into_room_that_others_wait_for() -> None:
    with living(ONE_CARD, {BOXED: BUILDS[BOXED]}) as house:
        boxed = house.backends[BOXED]
        house.ask(ModelRef(BOXED, "small"), "ann", USUAL, 0.0)
        house.loop.let_pass(2.0)
        house.ask(STRETCH, "ann", USUAL, 2.2)
        house.loop.let_pass(2.0)
        boxed.fails_to_load = {"large"}
        house.ask(ModelRef(BOXED, "large"), "ann", USUAL, 0.0)
        house.ask(WHOLE, "bob", USUAL, 0.0)
        house.loop.let_pass(20.0)
        assert boxed.loads == ["small", "stretch", "large", "whole"]


def test_whoever_comes_later_does_not_take_room_that_is_being_made() -> None:
    with living(ONE_CARD, {BOXED: BUILDS[BOXED], ROOMY: BUILDS[ROOMY]}) as house:
        for ref in (ModelRef(BOXED, "small"), ModelRef(ROOMY, "mid")):
            house.ask(ref, "bob", USUAL, 0.0)
            house.loop.let_pass(2.0)
        house.backends[ROOMY].unload_s = 2.0
        house.ask(WHOLE, "bob", USUAL, 0.0)
        house.loop.let_pass(1.0)
        house.ask(STRETCH, "ann", USUAL, 0.0)  # it is her first: her turn is before his third
        house.loop.let_pass(20.0)
        assert house.backends[BOXED].loads == ["small", "whole", "stretch"]


def test_a_model_that_is_loaded_again_does_not_make_way_for_another_in_the_same_moment() -> None:
    tall, small = ModelRef(BOXED, "tall"), ModelRef(BOXED, "small")
    builds = [*BUILDS[BOXED], Build("busy", 9 * GB), Build("tall", 10 * GB)]
    with living(ONE_CARD, {BOXED: builds}) as house:
        boxed = house.backends[BOXED]
        for ref, hold_s in ((STRETCH, 0.0), (small, 0.0), (ModelRef(BOXED, "busy"), 30.0)):
            house.ask(ref, "ann", USUAL, hold_s)
            house.loop.let_pass(2.0)
        boxed.fails_to_unload["stretch"] = True
        house.unload(STRETCH)
        house.loop.let_pass(1.0)
        house.ask(tall, "ann", USUAL, 0.0)  # waits for all to go but the one in use
        house.loop.let_pass(1.0)
        boxed.unload_s = 6.0
        house.ask(STRETCH, "bob", MOST, 0.0)  # makes the small one go, slowly
        house.loop.let_pass(30.0)
        assert boxed.loads == ["stretch", "small", "busy", "stretch", "tall"]


def test_steady_traffic_keeps_nobody_out_for_longer_than_patience_and_one_answer() -> None:
    with living(ONE_CARD, {BOXED: BUILDS[BOXED]}) as house:
        house.ask(ModelRef(BOXED, "small"), "cy", USUAL, 2.0)
        house.loop.let_pass(1.5)
        waiting = house.ask(WHOLE, "bob", USUAL, 0.0)
        while waiting.state == "waiting":
            house.ask(ModelRef(BOXED, "small"), "cy", USUAL, 2.0)
            house.loop.let_pass(0.5)
            answer_unload_load_s = 2.0 + 0.2 + 1.0
            waited_s = house.loop.time() - waiting.since
            assert waited_s < PATIENCE_S + answer_unload_load_s + 2 * TICK_S
