"""Who gets a model, who waits and what is evicted: single events, and a state machine."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import BackendError, InsufficientVram, Overloaded
from smarterrouter.residency.ledger import DeviceLimit, VramLedger
from smarterrouter.residency.planner import (
    Effect,
    Grant,
    Limits,
    Planner,
    Refuse,
    StartLoad,
    StartUnload,
    Ticket,
)
from smarterrouter.residency.states import Residency

SIZES = {"a": 40, "b": 40, "c": 70, "d": 10, "huge": 500}
REMOTE = ModelRef("cloud", "gpt")


def ref(name: str) -> ModelRef:
    return ModelRef("x", name)


def planner(budget: int = 100, limits: Limits | None = None) -> Planner:
    def footprint(model: ModelRef) -> dict[str, int] | None:
        return None if model == REMOTE else {"gpu0": SIZES[model.name]}

    books = VramLedger({"gpu0": DeviceLimit(budget, budget)})
    return Planner(books, footprint, limits)


_ids = itertools.count()


def ticket(name: str, since: float = 0.0) -> Ticket:
    return Ticket(next(_ids), ref(name), "me", since)


def load(plan: Planner, name: str, now: float = 0.0) -> Ticket:
    """Ask for a model, have it loaded, and keep the lease."""
    wanted = ticket(name, now)
    assert StartLoad(ref(name)) in plan.request(wanted)
    assert Grant(wanted) in plan.loaded(ref(name), None, now)
    return wanted


def test_a_ready_model_is_granted_at_once() -> None:
    plan = planner()
    load(plan, "a")
    again = ticket("a", 1.0)
    assert plan.request(again) == [Grant(again)]


def test_all_waiters_join_one_load() -> None:
    plan = planner()
    first, second = ticket("a"), ticket("a")
    assert plan.request(first) == [StartLoad(ref("a"))]
    assert plan.request(second) == []
    assert plan.loaded(ref("a"), None, 1.0) == [Grant(first), Grant(second)]


def test_a_model_in_use_is_never_evicted() -> None:
    plan = planner()
    load(plan, "a")
    waiting = ticket("c", 1.0)
    assert plan.request(waiting) == []
    assert plan.release(ref("a"), 2.0) == [StartUnload(ref("a"))]
    assert plan.unloaded(ref("a"), 3.0) == [StartLoad(ref("c"))]


def test_a_loading_model_is_never_evicted() -> None:
    plan = planner()
    plan.request(ticket("a"))
    assert plan.request(ticket("c", 1.0)) == []
    assert plan.state(ref("a")) is Residency.LOADING


def test_a_model_just_loaded_is_used_before_it_can_be_evicted() -> None:
    plan = planner()
    load(plan, "a")
    blocked = ticket("c", 1.0)
    plan.request(blocked)
    joined = ticket("b", 2.0)
    plan.request(joined)
    effects = plan.loaded(ref("b"), None, 3.0)
    assert Grant(joined) in effects
    assert StartUnload(ref("b")) not in effects


def test_a_pass_over_the_queue_evicts_nothing_when_the_idle_ones_do_not_suffice() -> None:
    plan = planner(budget=100)
    load(plan, "a")
    load(plan, "d")
    plan.release(ref("d"), 1.0)
    assert plan.request(ticket("c", 2.0)) == []
    assert plan.state(ref("d")) is Residency.READY


def test_a_model_that_can_never_fit_is_refused_with_the_sizes() -> None:
    [refusal] = planner().request(ticket("huge"))
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, InsufficientVram)
    assert "0.0 GB" in refusal.error.message


def test_a_failed_load_tells_every_waiter_why_and_is_not_retried_at_once() -> None:
    plan = planner()
    first, second = ticket("a"), ticket("a")
    plan.request(first)
    plan.request(second)
    refusals = plan.load_failed(ref("a"), BackendError("no such file"), 1.0)
    assert [r.ticket for r in refusals if isinstance(r, Refuse)] == [first, second]
    [soon] = plan.request(ticket("a", 2.0))
    assert isinstance(soon, Refuse)
    assert "no such file" in soon.error.message
    assert plan.request(ticket("a", 7.0)) == [StartLoad(ref("a"))]


def test_a_backend_that_was_too_busy_to_load_is_tried_again_soon() -> None:
    plan = planner()
    plan.request(ticket("a"))
    plan.load_failed(ref("a"), Overloaded("the queue is full"), 10.0)
    [refusal] = plan.request(ticket("a", 10.5))
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.error.retry_after_s == 0.5
    assert plan.request(ticket("a", 11.5)) == [StartLoad(ref("a"))]


def test_the_back_off_grows_with_each_failure_up_to_five_minutes() -> None:
    plan, now, waits = planner(), 0.0, []
    for _ in range(9):
        plan.request(ticket("a", now))
        plan.load_failed(ref("a"), BackendError("broken"), now)
        waits.append(plan.seats[ref("a")].retry_at - now)
        now = plan.seats[ref("a")].retry_at
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_waiter_that_hung_up_triggers_no_load() -> None:
    plan = planner()
    load(plan, "a")
    gone = ticket("c", 1.0)
    plan.request(gone)
    plan.leave(gone, 2.0)
    assert plan.release(ref("a"), 3.0) == []


def test_steady_traffic_to_a_resident_model_does_not_starve_a_waiter() -> None:
    plan = planner(limits=Limits(patience_s=30.0))
    load(plan, "a")
    cold = ticket("c", 1.0)
    plan.request(cold)
    early, late = ticket("a", 20.0), ticket("a", 40.0)
    assert plan.request(early) == [Grant(early)]
    assert plan.request(late) == []
    assert plan.release(ref("a"), 41.0) == []
    assert plan.release(ref("a"), 42.0) == [StartUnload(ref("a"))]
    assert plan.unloaded(ref("a"), 43.0) == [StartLoad(ref("c"))]


def test_room_that_is_being_gathered_is_not_taken_by_a_later_request() -> None:
    plan = planner(budget=80)
    load(plan, "a")
    load(plan, "b")
    plan.release(ref("a"), 1.0)
    plan.release(ref("b"), 1.0)
    first = ticket("c", 2.0)
    assert set(plan.request(first)) == {StartUnload(ref("a")), StartUnload(ref("b"))}
    plan.request(ticket("d", 3.0))
    effects = plan.unloaded(ref("a"), 4.0)
    assert StartLoad(ref("d")) not in effects
    assert StartLoad(ref("c")) in plan.unloaded(ref("b"), 5.0)


def test_a_model_larger_than_reserved_pushes_idle_ones_out_until_the_budget_holds() -> None:
    plan = planner()
    load(plan, "a")
    plan.release(ref("a"), 1.0)
    wanted = ticket("b", 2.0)
    plan.request(wanted)
    assert plan.loaded(ref("b"), {"gpu0": 70}, 3.0) == [Grant(wanted), StartUnload(ref("a"))]


def test_what_was_in_use_then_goes_when_its_lease_ends_until_the_budget_holds() -> None:
    plan = planner()
    load(plan, "a")
    plan.request(ticket("b", 2.0))
    plan.loaded(ref("b"), {"gpu0": 70}, 3.0)
    assert plan.release(ref("a"), 4.0) == [StartUnload(ref("a"))]
    assert plan.release(ref("b"), 5.0) == []


def test_a_lost_model_frees_its_memory_and_can_be_loaded_again() -> None:
    plan = planner()
    load(plan, "a")
    plan.lost(ref("a"), 1.0)
    assert plan.ledger.own("gpu0") == 0
    assert plan.request(ticket("a", 2.0)) == [StartLoad(ref("a"))]


def test_a_backend_that_manages_itself_is_always_ready_and_costs_no_memory() -> None:
    plan = planner()
    remote = Ticket(next(_ids), REMOTE, "me", 0.0)
    assert plan.request(remote) == [Grant(remote)]
    assert plan.ledger.own("gpu0") == 0


def test_a_full_queue_refuses_nobody_who_need_not_wait() -> None:
    plan = planner(limits=Limits(queue_size=1))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    again, remote = ticket("a", 2.0), Ticket(next(_ids), REMOTE, "me", 2.0)
    assert plan.request(again) == [Grant(again)]
    assert plan.request(remote) == [Grant(remote)]


def test_a_full_queue_refuses_whom_an_older_request_bars_and_loads_nothing_for_them() -> None:
    plan = planner(limits=Limits(queue_size=1, patience_s=5.0))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    late = ticket("a", 10.0)
    [refusal] = plan.request(late)
    assert isinstance(refusal, Refuse)
    assert refusal.ticket == late
    assert late not in plan.waiting


def test_what_a_backend_lists_as_loaded_is_ready_and_what_it_no_longer_lists_is_not() -> None:
    plan = planner()
    assert plan.seen(ref("a"), loaded=True, since=1.0, now=2.0) == []
    assert plan.state(ref("a")) is Residency.READY
    plan.seen(ref("a"), loaded=False, since=1.5, now=3.0)
    assert plan.state(ref("a")) is Residency.READY, "the listing is older than what is known"
    plan.seen(ref("a"), loaded=False, since=4.0, now=5.0)
    assert plan.state(ref("a")) is Residency.UNLOADED


def test_a_listing_disturbs_neither_a_lease_nor_a_load_under_way() -> None:
    plan = planner()
    load(plan, "a", 1.0)
    plan.seen(ref("a"), loaded=False, since=2.0, now=3.0)
    assert plan.state(ref("a")) is Residency.READY
    plan.request(ticket("b", 4.0))
    plan.seen(ref("b"), loaded=True, since=5.0, now=6.0)
    assert plan.state(ref("b")) is Residency.LOADING


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    plan = planner(limits=Limits(queue_size=1))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    [refusal] = plan.request(ticket("c", 2.0))
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.error.retry_after_s


class Residents(RuleBasedStateMachine):
    """Random requests, hang-ups, slow loads, failures and losses against the real planner."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = planner(limits=Limits(queue_size=6, patience_s=30.0))
        self.now = 0.0
        self.loading: set[ModelRef] = set()
        self.unloading: set[ModelRef] = set()
        self.held: list[Ticket] = []
        self.waiting: dict[int, Ticket] = {}

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(granted):
                    assert self.plan.state(granted.model) is Residency.READY
                    self.waiting.pop(granted.id)
                    self.held.append(granted)
                case Refuse(refused, error):
                    assert error.message
                    self.waiting.pop(refused.id)
                case StartLoad(model):
                    assert model not in self.loading, "one load per model"
                    assert self.plan.ledger.free("gpu0") >= 0, "a load begins within the budget"
                    assert any(t.model == model for t in self.waiting.values()), "somebody wants it"
                    self.loading.add(model)
                case StartUnload(model):
                    assert model not in self.unloading
                    assert all(t.model != model for t in self.held), "a leased model is no victim"
                    self.unloading.add(model)

    @rule(name=st.sampled_from(list(SIZES)), wait=st.floats(0, 20))
    def request(self, name: str, wait: float) -> None:
        self.now += wait
        wanted = ticket(name, self.now)
        self.waiting[wanted.id] = wanted
        self.carry_out(self.plan.request(wanted))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ended = data.draw(st.sampled_from(self.held))
        self.held.remove(ended)
        self.carry_out(self.plan.release(ended.model, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        gone = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        self.carry_out(self.plan.leave(gone, self.now))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), growth=st.integers(-5, 15))
    def load_succeeds(self, data: st.DataObject, growth: int) -> None:
        model = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.discard(model)
        held = {"gpu0": SIZES[model.name] + growth} if growth else None
        self.carry_out(self.plan.loaded(model, held, self.now))

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def load_fails(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.discard(model)
        self.carry_out(self.plan.load_failed(model, BackendError("broken"), self.now))

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def unload_ends(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.discard(model)
        self.carry_out(self.plan.unloaded(model, self.now))

    @rule(name=st.sampled_from(["a", "b", "c", "d"]))
    def backend_loses(self, name: str) -> None:
        self.carry_out(self.plan.lost(ref(name), self.now))

    @invariant()
    def books_agree_with_the_world(self) -> None:
        holding = {model for model in map(ref, SIZES) if self.plan.ledger.share_of(model)}
        resident = set(self.plan.resident())
        assert holding == resident
        assert {
            m for m, s in self.plan.resident().items() if s is Residency.LOADING
        } == self.loading

    @invariant()
    def leases_are_counted(self) -> None:
        for model in map(ref, SIZES):
            seat = self.plan.seats.get(model)
            counted = seat.leases if seat else 0
            assert counted == sum(t.model == model for t in self.held)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Whoever waits waits for a load, an unload, or a lease that somebody holds."""
        if self.waiting:
            assert self.loading or self.unloading or self.held

    def teardown(self) -> None:
        """Left alone, every waiter is served or refused."""
        for _ in range(200):
            self.now += 400.0
            if not self.waiting:
                return
            for model in sorted(self.loading):
                self.loading.discard(model)
                self.carry_out(self.plan.loaded(model, None, self.now))
            for model in sorted(self.unloading):
                self.unloading.discard(model)
                self.carry_out(self.plan.unloaded(model, self.now))
            for ended in list(self.held):
                self.held.remove(ended)
                self.carry_out(self.plan.release(ended.model, self.now))
        raise AssertionError(f"still waiting: {self.waiting}")


Residents.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestResidents = Residents.TestCase
