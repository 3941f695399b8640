"""Single events, and the effects that follow, in their order where the order matters."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

import pytest

from smarterrouter.domain.models import Placing
from smarterrouter.errors import (
    BackendError,
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
)
from smarterrouter.residency.eviction import Strategy
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.room import Rules
from smarterrouter.residency.states import Residency
from tests.support.residency import Takes, by_context, gb, held, limit, ref, share, ticket
from tests.support.residency import planner as planner_of

SIZES: Mapping[str, Takes] = {"a": 4.0, "b": 4.0, "c": 7.0, "d": 1.0, "huge": 50.0, "remote": None}


def planner(
    *, limits: Limits | None = None, rules: Rules | None = None, **conduct: Conduct
) -> Planner:
    """One card of 10 GB; the models of ``SIZES``."""
    return planner_of(SIZES, limits=limits, rules=rules, conduct=conduct)


def load(plan: Planner, name: str, now: float = 0.0, context: int = 0) -> Ticket:
    """Ask for a model, have it loaded, and keep the lease."""
    wanted = ticket(name, now, context=context)
    assert loads(plan.request(wanted)) == [name]
    assert Grant(wanted) in plan.loaded(ref(name), None, now)
    return wanted


def idle(plan: Planner, *names: str, now: float = 0.0) -> None:
    """Have models loaded, and used one after the other."""
    for name in names:
        load(plan, name, now)
        assert plan.release(ref(name), now) == []


def loads(effects: list[Effect]) -> list[str]:
    return [one.model.name for one in effects if isinstance(one, StartLoad)]


def unloads(effects: list[Effect]) -> list[str]:
    return [one.model.name for one in effects if isinstance(one, StartUnload)]


def granted(effects: list[Effect]) -> list[Ticket]:
    return [one.ticket for one in effects if isinstance(one, Grant)]


def refused(effects: list[Effect], ticket: Ticket) -> SmarterRouterError:
    """Why that ticket was refused."""
    [error] = [one.error for one in effects if isinstance(one, Refuse) and one.ticket is ticket]
    return error


# who is granted


def test_a_ready_model_is_granted_at_once() -> None:
    plan = planner()
    load(plan, "a")
    again = ticket("a", 1.0)
    assert plan.request(again) == [Grant(again)]


def test_a_load_is_told_where_to_go_and_why() -> None:
    [effect] = planner().request(ticket("a", 3.0))
    assert isinstance(effect, StartLoad)
    assert (effect.model, effect.placement.share) == (ref("a"), share(4))
    assert effect.why == "a request"


def test_all_waiters_join_one_load() -> None:
    plan = planner()
    first, second = ticket("a"), ticket("a")
    assert loads(plan.request(first)) == ["a"]
    assert plan.request(second) == []
    assert plan.loaded(ref("a"), None, 1.0) == [Grant(first), Grant(second)]


def test_a_model_answers_no_more_requests_at_once_than_it_has_slots() -> None:
    plan = planner(a=Conduct(slots=2))
    one, two, three = ticket("a"), ticket("a"), ticket("a")
    for wanted in (one, two, three):
        plan.request(wanted)
    assert plan.loaded(ref("a"), None, 1.0) == [Grant(one), Grant(two)]
    assert plan.release(ref("a"), 2.0) == [Grant(three)]


def test_each_caller_gets_a_turn_before_anyone_gets_two() -> None:
    plan = planner(a=Conduct(slots=1))
    load(plan, "a")
    agent = [ticket("a", 1.0, "agent") for _ in range(8)]
    for wanted in agent:
        assert plan.request(wanted) == []
    person = ticket("a", 2.0, "person")
    assert plan.request(person) == []
    assert granted(plan.release(ref("a"), 3.0) + plan.release(ref("a"), 4.0)) == [agent[0], person]


def test_a_backend_that_manages_itself_is_always_ready_and_costs_no_memory() -> None:
    plan = planner()
    remote = ticket("remote")
    assert plan.request(remote) == [Grant(remote)]
    assert plan.ledger.own("gpu0") == 0


# who may be evicted


def test_a_model_in_use_is_never_evicted() -> None:
    plan = planner()
    load(plan, "a")
    assert plan.request(ticket("c", 1.0)) == []
    assert unloads(plan.release(ref("a"), 2.0)) == ["a"]
    assert loads(plan.unloaded(ref("a"), 3.0)) == ["c"]


def test_a_loading_model_is_never_evicted() -> None:
    plan = planner()
    plan.request(ticket("a"))
    assert plan.request(ticket("c", 1.0)) == []
    assert plan.state(ref("a")) is Residency.LOADING


def test_a_model_just_loaded_is_used_before_it_can_be_evicted() -> None:
    plan = planner()
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    joined = ticket("b", 2.0)
    plan.request(joined)
    assert plan.loaded(ref("b"), None, 3.0) == [Grant(joined)]


def test_a_model_that_others_wait_for_does_not_make_room() -> None:
    plan = planner_of({"a": by_context(3, 1), "b": 5.0, "c": 5.0})
    plan.request(ticket("a"))
    plan.loaded(ref("a"), held(3, context=1000), 0.0)
    plan.release(ref("a"), 0.0)
    load(plan, "b")
    larger = ticket("a", 1.0, context=4000)
    assert plan.request(larger) == [], "b is in the way of the reload"
    assert plan.request(ticket("c", 2.0)) == []
    assert loads(plan.leave(larger, 3.0)) == []
    assert plan.state(ref("a")) is Residency.UNLOADING


def test_two_idle_models_that_both_need_a_longer_context_do_not_block_each_other() -> None:
    plan = planner_of({"a": by_context(4, 1), "b": by_context(4, 1)})
    for name in ("a", "b"):
        plan.request(ticket(name))
        plan.loaded(ref(name), held(4, context=1000), 0.0)
        plan.release(ref(name), 0.0)
    first, second = ticket("a", 1.0, context=5000), ticket("b", 1.0, context=5000)
    assert unloads(plan.request(first)) == ["b"]
    assert plan.request(second) == []
    assert loads(plan.unloaded(ref("b"), 2.0)) == ["a"]


def test_two_that_came_at_the_same_time_are_served_in_turn_though_each_is_in_the_others_way() -> (
    None
):
    plan = planner_of({"a": by_context(4, 1), "b": by_context(4, 1), "c": 1.5})
    for name in ("a", "b", "c"):
        plan.request(ticket(name))
        plan.loaded(ref(name), held(1.5 if name == "c" else 4, context=1000), 0.0)
    first, second = ticket("a", 1.0, context=5000), ticket("b", 1.0, context=5000)
    assert plan.request(first) == plan.request(second) == []
    plan.release(ref("b"), 2.0)
    assert plan.state(ref("b")) is Residency.READY, (
        "b alone is not enough room for a, which is used"
    )
    assert unloads(plan.release(ref("a"), 3.0)) == ["b"]


def test_what_others_use_may_pass_and_is_looked_into_before_anyone_is_refused_for_it() -> None:
    plan = planner()
    plan.observe({"gpu0": Reading(gb(10), gb(8))}, 0.0)
    wanted = ticket("c", 1.0)
    assert plan.request(wanted) == [Suspect(ref("c"))]
    assert plan.tick(5.0) == [], "it is asked about once"
    assert loads(plan.observe({"gpu0": Reading(gb(10), gb(1))}, 6.0)) == ["c"]


def test_what_others_go_on_using_is_a_reason_to_refuse() -> None:
    plan = planner(limits=Limits(doubt_s=5.0))
    plan.observe({"gpu0": Reading(gb(10), gb(8))}, 0.0)
    wanted = ticket("c", 1.0)
    plan.request(wanted)
    assert plan.tick(5.9) == []
    assert "used by other programs" in refused(plan.tick(6.1), wanted).message


def test_a_model_that_others_have_loaded_serves_who_waited_for_it() -> None:
    plan = planner()
    plan.observe({"gpu0": Reading(gb(10), gb(8))}, 0.0)
    waiting = ticket("c", 1.0)
    plan.request(waiting)
    effects = plan.seen(ref("c"), loaded=True, since=2.0, now=3.0, held=held(7))
    assert Grant(waiting) in effects


def test_a_person_does_not_wait_behind_all_models_of_an_agent_that_asks_for_the_same_one() -> None:
    plan = planner_of(dict.fromkeys("abcdefgh", 8.0))
    for name in "abcdefgh":
        plan.request(ticket(name, 1.0, "agent"))
    plan.request(ticket("h", 2.0, "person"))
    assert plan.line.models[:2] == (ref("a"), ref("h")), "a is loading; h is next"


def test_who_waits_for_other_loads_alone_gets_no_turn_before_others() -> None:
    roomiest = Demand(gb(4), "measured", ("gpu0", "gpu1"), Placing.ROOMIEST)
    plan = planner_of(dict.fromkeys("abcd", roomiest), {"gpu0": 20.0, "gpu1": 20.0})
    assert loads(plan.request(ticket("a", 1.0, "agent"))) == ["a"]
    for name in "bc":
        assert plan.request(ticket(name, 1.0, "agent")) == []
    plan.request(ticket("d", 2.0, "person"))
    assert loads(plan.loaded(ref("a"), None, 3.0)) == ["d"]
    assert loads(plan.loaded(ref("d"), None, 4.0)) == ["b"]


def test_short_requests_pass_a_long_one_that_there_is_no_room_for() -> None:
    plan = planner_of({"a": by_context(3, 1), "b": 5.0})
    plan.request(ticket("a"))
    plan.loaded(ref("a"), held(3, context=1000), 0.0)
    plan.release(ref("a"), 0.0)
    load(plan, "b")
    assert plan.request(ticket("a", 1.0, "agent", context=4000)) == []
    short = ticket("a", 2.0, "person", context=500)
    assert plan.request(short) == [Grant(short)]
    later = ticket("a", 40.0, "person", context=500)
    plan.release(ref("a"), 39.0)
    assert plan.request(later) == [], "the long one has lost patience"


def test_a_model_is_loaded_with_as_long_a_context_as_there_is_room_for() -> None:
    plan = planner_of({"a": by_context(3, 1), "b": 5.0})
    load(plan, "b")
    plan.limits = Limits(patience_s=60.0)
    plan.request(ticket("a", 1.0, "agent", context=4000))
    assert plan.state(ref("a")) is Residency.UNLOADED
    [effect] = plan.request(ticket("a", 2.0, "person", context=1000))
    assert isinstance(effect, StartLoad)
    assert effect.placement.context == 1000


def test_a_reading_older_than_a_load_says_nothing_of_it() -> None:
    plan = planner()
    plan.observe({"gpu0": Reading(gb(10), gb(3), at=0.0)}, 0.0)
    plan.request(ticket("a", 1.0))
    plan.loaded(ref("a"), held(4), 5.0)
    plan.observe({"gpu0": Reading(gb(10), gb(3), at=4.0)}, 5.1)
    assert plan.ledger.foreign["gpu0"] == gb(3)
    plan.observe({"gpu0": Reading(gb(10), gb(5), at=5.2)}, 5.3)
    assert plan.ledger.foreign["gpu0"] == gb(1)


def test_a_reload_that_its_backend_was_too_busy_for_is_not_tried_again_at_once() -> None:
    plan = planner_of({"a": by_context(3, 1), "b": 4.0})
    for name in "ab":
        plan.request(ticket(name))
        plan.loaded(ref(name), held(3 if name == "a" else 4, context=1000), 0.0)
        plan.release(ref(name), 0.0)
    longer = ticket("a", 1.0, context=6000)
    assert unloads(plan.request(longer)) == ["b"]
    assert loads(plan.unloaded(ref("b"), 2.0)) == ["a"]
    busy = Overloaded("busy", retry_after_s=10.0)
    effects = plan.load_failed(ref("a"), busy, 3.0)
    assert refused(effects, longer) is busy
    assert loads(effects) == ["b"], "who made way comes back"
    again = ticket("a", 5.0, context=6000)
    assert "is tried again in 8 s" in refused(plan.request(again), again).message
    short = ticket("a", 6.0, context=500)
    assert plan.request(short) == [Grant(short)]


def test_who_made_way_long_ago_does_not_come_back_when_another_load_fails() -> None:
    plan = planner()
    idle(plan, "a")
    wanted = ticket("c", 1.0)
    assert unloads(plan.request(wanted)) == ["a"]
    plan.unloaded(ref("a"), 2.0)
    plan.leave(wanted, 2.5)
    plan.loaded(ref("c"), None, 3.0)
    plan.lost(ref("c"), 10.0)
    again = ticket("c", 3000.0)
    plan.request(again)
    assert loads(plan.load_failed(ref("c"), BackendError("no"), 3001.0)) == []


def test_a_listing_that_began_before_a_use_does_not_know_what_the_use_has_loaded() -> None:
    plan = planner()
    load(plan, "a", 1.0)
    plan.release(ref("a"), 20.0)
    plan.seen(ref("a"), loaded=False, since=15.0, now=21.0)
    assert plan.state(ref("a")) is Residency.READY
    plan.seen(ref("a"), loaded=False, since=22.0, now=23.0)
    assert plan.state(ref("a")) is Residency.UNLOADED


def test_what_a_failed_load_has_left_behind_stays_counted() -> None:
    plan = planner()
    plan.request(ticket("a", 1.0))
    plan.load_failed(ref("a"), BackendError("no"), 2.0, left=share(3))
    assert plan.ledger.own("gpu0") == gb(3)
    assert unloads(plan.unload(ref("a"), 3.0)) == ["a"]


def test_nothing_is_evicted_when_the_idle_ones_do_not_suffice() -> None:
    plan = planner()
    load(plan, "a")
    idle(plan, "d")
    assert plan.request(ticket("c", 2.0)) == []
    assert plan.state(ref("d")) is Residency.READY


def test_all_victims_go_at_once_and_the_load_waits_for_the_last_of_them() -> None:
    plan = planner_of({"a": 3.0, "b": 3.0, "c": 9.0})
    idle(plan, "a", "b")
    assert unloads(plan.request(ticket("c", 2.0))) == ["a", "b"]
    assert plan.unloaded(ref("b"), 3.0) == []
    assert loads(plan.unloaded(ref("a"), 4.0)) == ["c"]


def test_an_unload_says_for_whom() -> None:
    plan = planner()
    idle(plan, "a", now=1.0)
    [effect] = plan.request(ticket("c", 2.0))
    assert effect == StartUnload(ref("a"), "to make room for slow/c, a request")


def test_the_longest_unused_goes_first_and_cost_spares_what_is_slow_to_load() -> None:
    for strategy, goes in ((Strategy.LRU, "slow"), (Strategy.COST, "quick")):
        plan = planner_of({"slow": 4.0, "quick": 4.0, "c": 4.0}, rules=Rules(strategy))
        for name, seconds in (("slow", 60.0), ("quick", 2.0)):
            plan.request(ticket(name))
            plan.loaded(ref(name), None, seconds)
        plan.release(ref("slow"), 70.0)
        plan.release(ref("quick"), 71.0)
        assert unloads(plan.request(ticket("c", 80.0))) == [goes]


def test_room_that_is_being_gathered_is_not_taken_by_a_later_request() -> None:
    plan = planner_of({"a": 4.0, "b": 4.0, "c": 7.0, "d": 1.0}, {"gpu0": 8.0})
    idle(plan, "a", "b")
    assert set(unloads(plan.request(ticket("c", 2.0)))) == {"a", "b"}
    plan.request(ticket("d", 3.0))
    assert plan.unloaded(ref("a"), 4.0) == []
    assert loads(plan.unloaded(ref("b"), 5.0)) == ["c", "d"]


# patience


def test_steady_traffic_to_a_resident_model_does_not_starve_a_waiter() -> None:
    plan = planner(limits=Limits(patience_s=30.0))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    early, late = ticket("a", 20.0), ticket("a", 40.0)
    assert plan.request(early) == [Grant(early)]
    assert plan.request(late) == []
    assert plan.release(ref("a"), 41.0) == []
    assert unloads(plan.release(ref("a"), 42.0)) == ["a"]
    assert loads(plan.unloaded(ref("a"), 43.0)) == ["c"]


def test_only_who_stands_in_the_way_is_barred() -> None:
    plan = planner_of({"a": 4.0, "b": 4.0, "c": 7.0}, {"gpu0": 11.0}, limits=Limits(patience_s=5))
    load(plan, "a", 0.0)
    load(plan, "b", 1.0)
    plan.request(ticket("c", 2.0))
    assert plan.request(ticket("a", 10.0)) == []
    elsewhere = ticket("b", 11.0)
    assert plan.request(elsewhere) == [Grant(elsewhere)]
    assert unloads(plan.release(ref("a"), 12.0)) == ["a"]


# failures


def test_a_model_that_can_never_fit_is_refused_with_the_sizes() -> None:
    wanted = ticket("huge")
    error = refused(planner().request(wanted), wanted)
    assert isinstance(error, InsufficientVram)
    assert error.message.startswith("huge needs 50.0 GB and gpu0 has at most 10.0 GB for models. ")


def test_who_asks_for_too_much_context_is_refused_and_the_others_are_not() -> None:
    plan = planner_of({"a": by_context(4, 1), "b": 8.0})
    load(plan, "b")
    modest, greedy = ticket("a", 1.0), ticket("a", 1.0, context=90_000)
    assert plan.request(modest) == []
    assert isinstance(refused(plan.request(greedy), greedy), InsufficientVram)
    assert plan.line.waiting_for(ref("a")) == (modest,)


def test_a_failed_load_tells_every_waiter_why_and_is_not_retried_at_once() -> None:
    plan = planner()
    first, second, soon = ticket("a"), ticket("a"), ticket("a", 2.0)
    plan.request(first)
    plan.request(second)
    error = BackendError("no such file")
    assert plan.load_failed(ref("a"), error, 1.0) == [Refuse(first, error), Refuse(second, error)]
    told = refused(plan.request(soon), soon)
    assert (type(told), told.retry_after_s) == (BackendError, 4.0)
    assert told.message == (
        "a failed to load 1 s ago and is tried again in 4 s. The reason was: no such file"
    )
    assert loads(plan.request(ticket("a", 7.0))) == ["a"]


def test_a_backend_that_was_too_busy_to_load_is_tried_again_soon() -> None:
    plan = planner()
    plan.request(ticket("a"))
    plan.load_failed(ref("a"), Overloaded("the queue is full"), 10.0)
    soon = ticket("a", 10.5)
    error = refused(plan.request(soon), soon)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 0.5
    assert loads(plan.request(ticket("a", 11.5))) == ["a"]


def test_a_backend_that_says_when_to_come_back_is_believed() -> None:
    plan = planner()
    plan.request(ticket("a"))
    plan.load_failed(ref("a"), Overloaded("the queue is full", retry_after_s=20.0), 10.0)
    soon = ticket("a", 29.0)
    assert refused(plan.request(soon), soon).retry_after_s == 1.0


def test_the_back_off_grows_with_each_failure_up_to_five_minutes() -> None:
    plan, now, waits = planner(), 0.0, []
    for _ in range(9):
        plan.request(ticket("a", now))
        plan.load_failed(ref("a"), BackendError("broken"), now)
        waits.append(plan.seats[ref("a")].retry_at - now)
        now = plan.seats[ref("a")].retry_at
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_load_that_succeeds_ends_the_count_of_failures() -> None:
    plan = planner()
    for now in (0.0, 10.0):
        plan.request(ticket("a", now))
        plan.load_failed(ref("a"), BackendError("broken"), now)
    load(plan, "a", 30.0)
    plan.lost(ref("a"), 31.0)
    plan.request(ticket("a", 32.0))
    plan.load_failed(ref("a"), BackendError("broken"), 33.0)
    assert plan.seats[ref("a")].retry_at == 38.0


def test_who_made_way_for_a_load_that_failed_comes_back_last_gone_first_back() -> None:
    plan = planner_of({"a": 3.0, "b": 3.0, "c": 9.0})
    idle(plan, "a", now=1.0)
    idle(plan, "b", now=2.0)
    plan.request(ticket("c", 3.0))
    plan.unloaded(ref("a"), 4.0)
    plan.unloaded(ref("b"), 4.0)
    effects = plan.load_failed(ref("c"), BackendError("broken"), 5.0)
    assert loads(effects) == ["b", "a"]
    assert [one.why for one in effects if isinstance(one, StartLoad)] == [
        "brought back, since slow/c failed to load"
    ] * 2


def test_who_made_way_for_nobody_in_the_end_is_forgotten() -> None:
    plan = planner()
    idle(plan, "a")
    gone = ticket("c", 1.0)
    plan.request(gone)
    plan.leave(gone, 2.0)
    plan.unloaded(ref("a"), 3.0)
    plan.request(ticket("c", 100.0))
    effects = plan.load_failed(ref("c"), BackendError("broken"), 101.0)
    assert loads(effects) == []


def test_who_is_not_to_stay_when_idle_is_not_brought_back_either() -> None:
    plan = planner(a=Conduct(keep_alive_s=0.0))
    load(plan, "a")
    plan.release(ref("a"), 1.0, by_hand=True)
    plan.request(ticket("c", 2.0))
    plan.unloaded(ref("a"), 3.0)
    assert loads(plan.load_failed(ref("c"), BackendError("broken"), 4.0)) == []


def test_an_unload_that_failed_leaves_its_bytes_taken_and_is_tried_again_later() -> None:
    plan = planner()
    idle(plan, "a")
    plan.request(ticket("c", 1.0))
    assert plan.unload_failed(ref("a"), 2.0) == []
    assert (plan.state(ref("a")), plan.ledger.own("gpu0")) == (Residency.FAILED, gb(4))
    assert plan.tick(6.9) == []
    assert unloads(plan.tick(7.1)) == ["a"]
    assert loads(plan.unloaded(ref("a"), 8.0)) == ["c"]


def test_a_model_whose_unload_failed_can_be_loaded_at_once_in_its_own_place() -> None:
    plan = planner_of({"a": 6.0})
    idle(plan, "a")
    plan.unload(ref("a"), 1.0)
    plan.unload_failed(ref("a"), 2.0)
    assert loads(plan.request(ticket("a", 3.0))) == ["a"]
    assert plan.ledger.own("gpu0") == gb(6)


def test_a_listing_settles_what_a_failed_unload_left_in_doubt() -> None:
    plan = planner()
    idle(plan, "a")
    plan.unload(ref("a"), 1.0)
    plan.unload_failed(ref("a"), 2.0)
    plan.seen(ref("a"), loaded=False, since=3.0, now=4.0)
    assert (plan.state(ref("a")), plan.ledger.own("gpu0")) == (Residency.UNLOADED, 0)


# who leaves


def test_a_waiter_that_hung_up_triggers_no_load() -> None:
    plan = planner()
    load(plan, "a")
    gone = ticket("c", 1.0)
    plan.request(gone)
    plan.leave(gone, 2.0)
    assert plan.release(ref("a"), 3.0) == []


def test_a_waiter_that_leaves_lets_those_behind_it_go_on() -> None:
    plan = planner(limits=Limits(patience_s=5.0))
    load(plan, "a")
    impatient, barred = ticket("c", 1.0), ticket("a", 10.0)
    plan.request(impatient)
    assert plan.request(barred) == []
    assert plan.leave(impatient, 11.0) == [Grant(barred)]


def test_whoever_waited_too_long_is_told_so_and_when_to_come_back() -> None:
    plan = planner(limits=Limits(wait_s=60.0))
    load(plan, "a")
    patient = ticket("c", 0.0)
    plan.request(patient)
    assert plan.tick(60.0) == []
    error = refused(plan.tick(61.0), patient)
    assert isinstance(error, Unavailable)
    assert error.message == (
        "There was no room for c for 61 s: others were in use. Try again, or raise "
        "ROUTER_QUEUE_WAIT_S."
    )
    assert error.retry_after_s == 5.0
    assert not plan.line


def test_whoever_waited_too_long_for_a_load_or_a_slot_is_told_that() -> None:
    plan = planner(limits=Limits(wait_s=60.0), a=Conduct(slots=1))
    load(plan, "a")
    for_slot, for_load = ticket("a", 1.0), ticket("b", 1.0)
    plan.request(for_slot)
    plan.request(for_load)
    effects = plan.tick(62.0)
    assert refused(effects, for_slot).message.startswith("a was busy with others for 61 s. ")
    assert refused(effects, for_load).message.startswith("b is still loading after 61 s. ")


# a full queue


def test_a_full_queue_refuses_nobody_who_need_not_wait() -> None:
    plan = planner(limits=Limits(queue_size=1))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    again, remote = ticket("a", 2.0), ticket("remote", 2.0)
    assert plan.request(again) == [Grant(again)]
    assert plan.request(remote) == [Grant(remote)]


def test_a_full_queue_refuses_whom_an_older_request_bars_and_loads_nothing_for_them() -> None:
    plan = planner(limits=Limits(queue_size=1, patience_s=5.0))
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    late = ticket("a", 10.0)
    effects = plan.request(late)
    assert isinstance(refused(effects, late), Overloaded)
    assert len(effects) == 1
    assert late not in plan.line


def test_a_full_queue_refuses_with_the_time_that_the_turns_before_will_take() -> None:
    plan = planner(limits=Limits(queue_size=3), a=Conduct(slots=1))
    load(plan, "a")
    plan.release(ref("a"), 20.0, held_s=20.0)
    for _ in range(4):
        plan.request(ticket("a", 21.0))
    late = ticket("a", 21.0)
    error = refused(plan.request(late), late)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 80.0
    assert error.message == (
        "3 requests are already waiting for a model. Try again in a moment, or raise "
        "ROUTER_QUEUE_SIZE."
    )


# context


def contexts() -> Planner:
    """``a`` takes 1 GB more for each thousand tokens above the first; ``b`` takes 4 GB."""
    return planner_of({"a": by_context(3, 1), "b": 4.0})


def loaded_for(plan: Planner, context: int) -> None:
    """Have ``a`` loaded for so much context, and idle."""
    plan.request(ticket("a", context=context))
    plan.loaded(ref("a"), held(3, context=context), 1.0)
    plan.release(ref("a"), 2.0)


def test_a_smaller_context_is_served_by_the_resident_one() -> None:
    plan = contexts()
    loaded_for(plan, 4000)
    small = ticket("a", 3.0, context=1000)
    assert plan.request(small) == [Grant(small)]


def test_a_larger_context_reloads_once_for_all_who_wait_and_for_the_largest_of_them() -> None:
    plan = contexts()
    loaded_for(plan, 1000)
    reader = ticket("a", 3.0, context=1000)
    plan.request(reader)
    larger, largest = ticket("a", 4.0, context=2000), ticket("a", 4.0, context=4000)
    assert plan.request(larger) == []
    assert plan.request(largest) == []
    [effect] = plan.release(ref("a"), 5.0)
    assert isinstance(effect, StartLoad)
    assert (effect.placement.context, effect.placement.share) == (4000, share(6))
    assert plan.loaded(ref("a"), held(6, context=4000), 6.0) == [Grant(larger), Grant(largest)]


def test_a_reload_takes_its_own_place_and_what_is_free_beside_it() -> None:
    plan = contexts()
    idle(plan, "b")
    loaded_for(plan, 1000)
    assert loads(plan.request(ticket("a", 3.0, context=4000))) == ["a"]
    assert plan.ledger.own("gpu0") == gb(10)


def test_a_reload_that_needs_more_room_makes_it_first() -> None:
    plan = contexts()
    idle(plan, "b")
    loaded_for(plan, 1000)
    assert unloads(plan.request(ticket("a", 3.0, context=6000))) == ["b"]
    assert loads(plan.unloaded(ref("b"), 4.0)) == ["a"]


def test_a_backend_that_gives_less_context_than_asked_for_is_not_asked_for_ever() -> None:
    plan = contexts()
    wanted = ticket("a", context=4000)
    plan.request(wanted)
    assert plan.loaded(ref("a"), held(6, context=2000), 1.0) == [Grant(wanted)]


def test_a_reload_that_its_backend_was_too_busy_for_has_changed_nothing() -> None:
    plan = contexts()
    loaded_for(plan, 1000)
    large, small = ticket("a", 3.0, context=4000), ticket("a", 4.0)
    plan.request(large)
    plan.request(small)
    error = Overloaded("too busy")
    assert plan.load_failed(ref("a"), error, 5.0) == [Refuse(large, error), Grant(small)]
    assert plan.ledger.own("gpu0") == gb(3)


def test_after_a_reload_that_failed_nobody_knows_what_is_left_and_its_bytes_stay_taken() -> None:
    plan = contexts()
    loaded_for(plan, 1000)
    large = ticket("a", 3.0, context=4000)
    plan.request(large)
    assert refused(plan.load_failed(ref("a"), BackendError("broken"), 5.0), large)
    assert (plan.state(ref("a")), plan.ledger.own("gpu0")) == (Residency.FAILED, gb(3))
    assert unloads(plan.unload(ref("a"), 6.0)) == ["a"]
    plan.unloaded(ref("a"), 7.0)
    assert plan.ledger.own("gpu0") == 0


# the budget


def test_a_model_larger_than_reserved_pushes_idle_ones_out_until_the_budget_holds() -> None:
    plan = planner()
    idle(plan, "a")
    wanted = ticket("b", 2.0)
    plan.request(wanted)
    effects = plan.loaded(ref("b"), held(7), 3.0)
    assert effects == [
        Grant(wanted),
        StartUnload(ref("a"), "more was held than the budget allows"),
    ]


def test_what_was_in_use_then_goes_when_its_lease_ends_until_the_budget_holds() -> None:
    plan = planner()
    load(plan, "a")
    plan.request(ticket("b", 2.0))
    plan.loaded(ref("b"), held(7), 3.0)
    assert unloads(plan.release(ref("a"), 4.0)) == ["a"]
    assert plan.release(ref("b"), 5.0) == []


def test_a_model_that_has_grown_is_counted_as_it_is_now() -> None:
    plan = planner()
    idle(plan, "a", "b")
    assert plan.holds(ref("b"), share(5), 1.0) == []
    assert plan.ledger.own("gpu0") == gb(9)
    assert unloads(plan.holds(ref("b"), share(7), 2.0, "measured")) == ["a"]
    assert plan.seat(ref("b")).source == "measured"


def test_what_others_use_is_what_is_left_of_a_reading() -> None:
    plan = planner()
    idle(plan, "a")
    plan.observe({"gpu0": Reading(gb(10), gb(6))}, 1.0)
    assert plan.ledger.foreign["gpu0"] == gb(2)
    plan.observe({"gpu0": Reading(gb(10), gb(6), {ref("a"): gb(5)})}, 2.0)
    assert plan.ledger.foreign["gpu0"] == gb(1)
    plan.observe({"gpu0": Reading(gb(10), None)}, 3.0)
    assert plan.ledger.foreign["gpu0"] == gb(1), "nobody knows, so what was known stands"


def test_what_a_load_under_way_takes_is_not_called_foreign() -> None:
    plan = planner()
    plan.request(ticket("a"))
    for used in (1, 2, 4):
        plan.observe({"gpu0": Reading(gb(10), gb(used))}, 1.0)
        assert plan.ledger.foreign["gpu0"] == 0
    plan.observe({"gpu0": Reading(gb(10), gb(7))}, 2.0)
    assert plan.ledger.foreign["gpu0"] == gb(3)


def test_a_waiter_goes_on_as_soon_as_others_have_left_the_card() -> None:
    plan = planner()
    plan.observe({"gpu0": Reading(gb(10), gb(2))}, 0.0)
    load(plan, "d", 0.0)
    plan.request(ticket("c", 1.0))
    plan.observe({"gpu0": Reading(gb(10), gb(4))}, 1.5)
    assert loads(plan.observe({"gpu0": Reading(gb(10), gb(1))}, 2.0)) == []
    assert plan.state(ref("c")) is Residency.LOADING


# what is noticed


def test_a_lost_model_frees_its_memory_and_can_be_loaded_again() -> None:
    plan = planner()
    load(plan, "a")
    plan.lost(ref("a"), 1.0)
    assert plan.ledger.own("gpu0") == 0
    assert loads(plan.request(ticket("a", 2.0))) == ["a"]


def test_a_lost_model_makes_room_for_who_waits() -> None:
    plan = planner()
    load(plan, "a")
    plan.request(ticket("c", 1.0))
    assert loads(plan.lost(ref("a"), 2.0)) == ["c"]


def test_the_last_reader_of_a_lost_model_does_not_end_the_lease_of_the_next() -> None:
    plan = planner()
    load(plan, "a")
    plan.lost(ref("a"), 1.0)
    load(plan, "a", 2.0)
    plan.release(ref("a"), 3.0)
    plan.request(ticket("c", 4.0))
    assert plan.state(ref("a")) is Residency.READY
    assert unloads(plan.release(ref("a"), 5.0)) == ["a"]


def test_what_a_backend_lists_as_loaded_is_ready_and_what_it_no_longer_lists_is_not() -> None:
    plan = planner()
    assert plan.seen(ref("a"), loaded=True, since=1.0, now=2.0) == []
    assert plan.state(ref("a")) is Residency.READY
    plan.seen(ref("a"), loaded=False, since=1.5, now=3.0)
    assert plan.state(ref("a")) is Residency.READY, "the listing is older than what is known"
    plan.seen(ref("a"), loaded=False, since=4.0, now=5.0)
    assert plan.state(ref("a")) is Residency.UNLOADED


def test_what_others_load_beyond_the_budget_is_made_up_for() -> None:
    plan = planner()
    idle(plan, "a", "b", now=0.5)
    assert unloads(plan.seen(ref("c"), True, since=2.0, now=3.0, held=held(6))) == ["a"]
    assert plan.state(ref("c")) is Residency.READY


def test_a_ready_model_that_nobody_counts_any_more_holds_nothing() -> None:
    takes: dict[str, Takes] = {"a": 6.0, "b": 6.0}
    plan = planner_of(takes)
    idle(plan, "a")
    takes["a"] = None
    plan.refresh(ref("a"))
    assert plan.ledger.own("gpu0") == 0
    assert plan.state(ref("a")) is Residency.READY
    assert loads(plan.request(ticket("b", 1.0))) == ["b"]


def test_an_adopted_model_serves_who_waited_for_it() -> None:
    plan = planner()
    load(plan, "c")
    waiting = ticket("a", 1.0)
    plan.request(waiting)
    effects = plan.seen(ref("a"), loaded=True, since=2.0, now=3.0, held=held(4))
    assert effects == [Grant(waiting)]


def test_a_listing_disturbs_neither_a_lease_nor_a_load_under_way() -> None:
    plan = planner()
    load(plan, "a", 1.0)
    plan.seen(ref("a"), loaded=False, since=2.0, now=3.0)
    assert plan.state(ref("a")) is Residency.READY
    plan.request(ticket("b", 4.0))
    plan.seen(ref("b"), loaded=True, since=5.0, now=6.0)
    assert plan.state(ref("b")) is Residency.LOADING


def test_a_listing_corrects_what_a_model_holds_only_when_it_says_something_new() -> None:
    plan = planner()
    plan.request(ticket("a"))
    plan.loaded(ref("a"), Held(share(4), "reported", None, gb(4)), 1.0)
    plan.holds(ref("a"), share(5), 2.0, "measured")
    plan.seen(ref("a"), True, 3.0, 3.0, Held(share(4), "reported", None, gb(4)))
    assert plan.ledger.own("gpu0") == gb(5), "measured beats what was known before"
    plan.seen(ref("a"), True, 4.0, 4.0, Held(share(6), "reported", None, gb(6)))
    assert plan.ledger.own("gpu0") == gb(6)


# what people do


def test_a_pinned_model_never_makes_room() -> None:
    plan = planner()
    idle(plan, "a")
    plan.pin(ref("a"), True, 1.0)
    wanted = ticket("c", 2.0)
    error = refused(plan.request(wanted), wanted)
    assert "4.0 GB held by models that stay" in error.message
    plan.pin(ref("a"), False, 3.0)
    assert unloads(plan.request(ticket("c", 4.0))) == ["a"]


def test_unpinning_lets_a_waiter_go_on() -> None:
    plan = planner_of({"a": 4.0, "b": 3.0, "c": 5.0})
    idle(plan, "a")
    plan.pin(ref("a"), True, 0.0)
    load(plan, "b")
    assert plan.request(ticket("c", 1.0)) == []
    assert unloads(plan.pin(ref("a"), False, 2.0)) == ["a"]


def test_unloading_by_hand_says_what_stands_against_it() -> None:
    plan = planner()
    load(plan, "a")
    plan.request(ticket("b"))
    idle(plan, "d")
    plan.pin(ref("d"), True, 0.0)
    told = {}
    for name in ("a", "b", "d", "remote"):
        with pytest.raises(Conflict) as conflict:
            plan.unload(ref(name), 1.0)
        told[name] = conflict.value.message
    assert told == {
        "a": "slow/a is answering 1 request(s). Try again after that.",
        "b": "slow/b is loading. Try again when it is loaded.",
        "d": "slow/d is pinned. Unpin it first: smarterrouter vram unpin slow/d.",
        "remote": "slow/remote manages its own memory: smarterrouter neither loads nor unloads it.",
    }


def test_unloading_by_hand_what_is_not_loaded_does_nothing() -> None:
    plan = planner()
    assert plan.unload(ref("a"), 1.0) == []
    idle(plan, "b")
    assert unloads(plan.unload(ref("b"), 2.0)) == ["b"]
    assert plan.unload(ref("b"), 3.0) == []


# how long a model stays


def test_a_model_without_keep_alive_goes_when_its_last_use_ends() -> None:
    plan = planner(a=Conduct(keep_alive_s=0.0))
    load(plan, "a")
    plan.request(ticket("a", 1.0))
    assert plan.release(ref("a"), 2.0) == []
    assert plan.release(ref("a"), 3.0) == [
        StartUnload(ref("a"), "idle, and its keep-alive is 0 s"),
    ]


def test_a_model_without_keep_alive_goes_when_all_who_waited_for_it_have_left() -> None:
    plan = planner(a=Conduct(keep_alive_s=0.0))
    gone = ticket("a")
    plan.request(gone)
    plan.leave(gone, 1.0)
    assert unloads(plan.loaded(ref("a"), None, 2.0)) == ["a"]


def test_a_model_goes_when_it_was_idle_for_its_keep_alive() -> None:
    plan = planner(a=Conduct(keep_alive_s=60.0))
    idle(plan, "a")
    assert plan.tick(59.0) == []
    plan.request(ticket("a", 59.5))
    assert plan.tick(61.0) == []
    plan.release(ref("a"), 100.0)
    assert plan.tick(159.0) == []
    assert unloads(plan.tick(160.0)) == ["a"]


def test_a_model_stays_for_ever_when_its_keep_alive_is_negative_or_it_is_pinned() -> None:
    plan = planner(a=Conduct(keep_alive_s=-1.0), b=Conduct(keep_alive_s=60.0))
    idle(plan, "a", "b")
    plan.pin(ref("b"), True, 1.0)
    assert plan.tick(1e6) == []


# what is asked


def test_whom_a_model_would_push_out_is_told_before_it_is_asked_for() -> None:
    plan = planner()
    idle(plan, "a", now=1.0)
    idle(plan, "b", now=2.0)
    assert plan.to_make_room(ref("c"), 3.0) == (ref("a"), ref("b"))
    assert plan.to_make_room(ref("d"), 3.0) == ()
    assert plan.to_make_room(ref("a"), 3.0) == ()
    assert plan.to_make_room(ref("remote"), 3.0) == ()
    assert plan.to_make_room(ref("huge"), 3.0) == ()


def test_the_wait_is_the_turns_before_and_the_rest_of_the_load() -> None:
    plan = planner(a=Conduct(slots=2))
    assert plan.expected_wait_s(ref("a"), 0.0, 12.0) == (0.0, 12.0)
    plan.request(ticket("a", 0.0))
    assert plan.expected_wait_s(ref("a"), 4.0, 12.0) == (2.5, 8.0)
    plan.loaded(ref("a"), None, 10.0)
    assert plan.expected_wait_s(ref("a"), 11.0, 12.0) == (0.0, 0.0)
    plan.request(ticket("a", 12.0))
    plan.release(ref("a"), 20.0, held_s=8.0)
    plan.request(ticket("a", 21.0))
    plan.request(ticket("a", 21.0))
    assert plan.expected_wait_s(ref("a"), 21.0, 12.0) == (12.0, 0.0)


# how long a decision takes

REQUEST_LIMIT_S = 100e-6
RELEASE_LIMIT_S = 100e-6
PATIENCE_S = 4.0
"""For how long a busy machine is asked again before it counts as too slow."""

CARDS = ("gpu0", "gpu1")


def crowd(strategy: Strategy) -> Planner:
    """Fifty models on two cards, idle; ``cold`` needs several of them to go."""
    takes: dict[str, Takes] = {
        f"m{number}": Demand(gb(0.8 + 0.02 * (number % 7)), "measured", CARDS)
        for number in range(50)
    }
    takes["cold"] = Demand(gb(5), "measured", CARDS)
    plan = planner_of(takes, dict.fromkeys(CARDS, 22.5), rules=Rules(strategy))
    for number in range(50):
        idle(plan, f"m{number}", now=float(number))
    assert len(plan.resident()) == 50
    return plan


def request_s(plan: Planner) -> float:
    """How long the decision takes whom to unload; afterwards all is as it was."""
    wanted = ticket("cold", 100.0)
    began = time.perf_counter()
    effects = plan.request(wanted)
    took = time.perf_counter() - began
    going = [ref(name) for name in unloads(effects)]
    assert len(going) == len(effects) > 1
    plan.leave(wanted, 100.0)
    for model in going:
        used, bytes_held = plan.seat(model).last_used, plan.ledger.share_of(model)
        plan.unloaded(model, 100.0)
        back = Held(bytes_held, "reported", None, sum(bytes_held.values()))
        plan.seen(model, True, 100.0, 100.0, back)
        plan.seat(model).last_used = used
    return took


def release_s(plan: Planner) -> float:
    """How long it takes to see that the end of one lease helps none of fifty waiters."""
    began = time.perf_counter()
    effects = plan.release(ref("m3"), 105.0, 5.0)
    took = time.perf_counter() - began
    assert effects == []
    plan.seat(ref("m3")).leases += 1
    return took


def best(measure: Callable[[], float], limit_s: float) -> float:
    """The least of several hundred, and of more until the limit is kept or patience is lost."""
    until, least = time.perf_counter() + PATIENCE_S, float("inf")
    for number in itertools.count():
        least = min(least, measure())
        if number >= 300 and (least < limit_s or time.perf_counter() > until):
            return least
    raise AssertionError


@pytest.mark.bench
def test_a_decision_over_fifty_models_and_fifty_waiters_takes_less_than_100_microseconds() -> None:
    figures = {}
    for strategy in Strategy:
        plan = crowd(strategy)
        took = best(lambda plan=plan: request_s(plan), REQUEST_LIMIT_S)  # type: ignore[misc]
        figures[f"request with victims, {strategy}"] = (took, REQUEST_LIMIT_S)
    plan = crowd(Strategy.LRU)
    for number in range(50):
        plan.request(ticket(f"m{number}", 100.0))
    for number in range(50):
        assert plan.request(ticket("cold", 101.0, f"caller {number % 7}")) == []
    took = best(lambda: release_s(plan), RELEASE_LIMIT_S)
    figures["release with fifty in line"] = (took, RELEASE_LIMIT_S)
    for what, (took, _) in figures.items():
        print(f"{what}: {took * 1e6:.0f} us")
    assert [what for what, (took, allowed) in figures.items() if took > allowed] == []


@pytest.mark.parametrize(
    ("budget", "foreign", "pinned", "advice"),
    [
        (10.0, 0.0, False, "raise ROUTER_VRAM_MAX_TOTAL_GB"),
        (20.0, 9.0, False, "End what else uses that memory"),
        (20.0, 0.0, True, "Unpin and unload slow/b first"),
    ],
)
def test_a_refusal_advises_what_would_help(
    budget: float, foreign: float, pinned: bool, advice: str
) -> None:
    limits = Limits(doubt_s=-1.0)
    plan = planner_of({"a": 12.0, "b": 9.0}, {"gpu0": limit(20.0, budget)}, limits=limits)
    plan.request(ticket("b"))
    plan.loaded(ref("b"), None, 1.0)
    plan.release(ref("b"), 2.0)
    plan.pin(ref("b"), pinned, 2.0)
    plan.observe({"gpu0": Reading(gb(20), gb(9 + foreign))}, 3.0)
    [refused] = plan.request(ticket("a", 4.0))
    assert isinstance(refused, Refuse)
    assert advice in refused.error.message


def test_a_backend_that_stops_managing_memory_while_a_model_loads_breaks_nothing() -> None:
    takes: dict[str, Takes] = {"a": 4.0}
    plan = planner_of(takes)
    wanted = ticket("a")
    plan.request(wanted)
    takes["a"] = None
    plan.refresh(ref("a"))
    assert plan.loaded(ref("a"), None, 1.0) == [Grant(wanted)]
    plan.refresh(ref("a"))
    assert not plan.seat(ref("a")).counted
