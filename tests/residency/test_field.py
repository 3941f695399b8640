"""What breaks in the field, elsewhere, and must not break here: one test or more for each.

Through the scheduler, in virtual time; where a decision alone is in question, through the planner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from smarterrouter.domain.models import Footprint
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    Conflict,
    InsufficientVram,
    Overloaded,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import Held, Limits, Reading
from smarterrouter.residency.eviction import Strategy
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.room import Rules
from smarterrouter.residency.scheduler import FREED_LIMIT_S, Scheduler
from smarterrouter.residency.states import Residency
from tests.fakes.backend import Dials, SlowBackend
from tests.support.residency import (
    Takes,
    by_context,
    gb,
    held,
    now,
    passed,
    planner,
    ref,
    scheduled,
    share,
    use,
    virtual,
)

A, B, C = ref("a"), ref("b"), ref("c")
SWAPPING: Mapping[str, Takes] = {"a": 6.0, "b": 6.0}
"""Of these only one fits on the card of 10 GB."""
TWO_CARDS = {"gpu0": 10.0, "gpu1": 10.0}


def state(plan: Planner, name: str) -> Residency:
    return plan.state(ref(name))


async def refusal(scheduler: Scheduler, name: str) -> SmarterRouterError:
    """Why a request is refused."""
    with pytest.raises(SmarterRouterError) as refused:
        await use(scheduler, name)
    return refused.value


async def ask_all(scheduler: Scheduler, names: str, every_s: float, seconds: float = 0.5) -> None:
    """One request after the other, each in its own task, until all are served."""
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(names):
            group.create_task(use(scheduler, name, seconds, caller=f"caller {number % 5}"))
            await passed(every_s)


# a streaming model evicted under its reader


@virtual
async def test_a_streaming_model_is_never_evicted_under_its_reader() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING, limits=Limits(patience_s=5))) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 120))
        await passed(2)
        waiter = asyncio.create_task(use(scheduler, "b"))
        backend.when_unloaded = lambda name: reader.done() or pytest.fail("under its reader")
        await reader
        await waiter
    assert backend.unloads == ["a"]


@virtual
async def test_a_keep_alive_that_ends_does_not_stop_a_long_answer() -> None:
    backend = SlowBackend()
    plan = planner(SWAPPING, conduct={"a": Conduct(keep_alive_s=10.0)})
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a", 120)
        assert backend.unloads == []


# two loads of one model at once


@virtual
async def test_one_model_is_loaded_once_however_it_is_asked_for() -> None:
    backend = SlowBackend()
    plan = planner({"a": by_context(4, 1)})
    async with scheduled(backend, plan) as scheduler:
        await asyncio.gather(
            *(use(scheduler, "a", 1, caller=f"caller {number}") for number in range(8)),
            scheduler.load(A),
            scheduler.pin(A),
        )
    assert backend.loads == ["a"]


@virtual
async def test_a_listing_in_the_middle_of_a_load_starts_no_second_one() -> None:
    backend = SlowBackend(load_s=4.0)
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        waiter = asyncio.create_task(use(scheduler, "a"))
        await passed(2)
        scheduler.seen(A, loaded=True, since=now(), held=held(6))
        scheduler.seen(A, loaded=False, since=now())
        await asyncio.gather(waiter, use(scheduler, "a"))
    assert backend.loads == ["a"]


# an eviction between load and first use


@virtual
async def test_a_model_is_used_by_who_waited_for_it_before_it_can_be_evicted() -> None:
    backend, served = SlowBackend(load_s=10.0), list[str]()
    plan = planner({"a": 6.0, "b": 4.0, "c": 10.0}, limits=Limits(patience_s=3.0))
    async with scheduled(backend, plan) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 30))
        await passed(11)
        whole = asyncio.create_task(use(scheduler, "c", caller="c", served=served))
        await passed(1)
        first = asyncio.create_task(use(scheduler, "b", 40, caller="b", served=served))
        await asyncio.gather(reader, whole, first)
    assert served == ["b", "c"]
    assert backend.loads == ["a", "b", "c"]


# a lost wake-up after a cancelled waiter


@virtual
async def test_a_waiter_cancelled_as_its_turn_comes_passes_the_turn_on() -> None:
    plan = planner(SWAPPING, conduct={"a": Conduct(slots=1)})
    async with scheduled(SlowBackend(), plan) as scheduler:
        gone = asyncio.create_task(asyncio.sleep(0))

        async def hold() -> None:
            async with scheduler.lease(A, "holder"):
                await passed(5)
            gone.cancel()

        holder = asyncio.create_task(hold())
        await passed(2)
        gone = asyncio.create_task(use(scheduler, "a", 50, caller="gone"))
        await passed(0.1)
        next_one = asyncio.create_task(use(scheduler, "a", caller="next"))
        await asyncio.wait([holder, gone])
        assert gone.cancelled()
        await asyncio.wait_for(next_one, 1.0)


@virtual
async def test_a_cancelled_waiter_that_barred_others_lets_them_in() -> None:
    plan = planner(SWAPPING, limits=Limits(patience_s=2.0))
    async with scheduled(SlowBackend(), plan) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 60))
        await passed(2)
        impatient = asyncio.create_task(use(scheduler, "b"))
        await passed(5)
        barred = asyncio.create_task(use(scheduler, "a"))
        await passed(5)
        assert not barred.done()
        impatient.cancel()
        await asyncio.wait_for(barred, 1.0)
        reader.cancel()
        await asyncio.wait([reader, impatient])


# a failed load retried at once, for ever


@virtual
async def test_a_client_that_retries_all_the_time_causes_few_loads() -> None:
    backend, reasons = SlowBackend(failure=BackendError("out of memory")), set[str]()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        while now() < 120:
            reasons.add((await refusal(scheduler, "a")).message.rpartition(": ")[2])
            await passed(0.1)
    assert len(backend.loads) == 5, "at once and after 5, 10, 20 and 40 seconds"
    assert reasons == {"out of memory"}


# a victim stopped, and then the target fails to load


@virtual
async def test_who_made_way_for_a_model_that_fails_to_load_is_brought_back() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        await use(scheduler, "a")
        backend.failure = BackendError("no such file")
        failing = asyncio.create_task(use(scheduler, "b"))
        await passed(1.4)
        assert backend.unloads == ["a"]
        with pytest.raises(BackendError, match="no such file"):
            await failing
        backend.failure = None
        await passed(1.1)
        assert state(scheduler.planner, "a") is Residency.READY
        async with scheduler.lease(A, "me") as lease:
            assert lease.waited_s == 0.0
    assert backend.loads == ["a", "b", "a"]


@virtual
async def test_who_made_way_is_not_brought_back_over_somebody_who_waits() -> None:
    backend = SlowBackend()
    plan = planner({"a": 6.0, "b": 6.0, "c": 8.0})
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a")
        backend.failure = BackendError("no such file")
        failing = asyncio.create_task(use(scheduler, "b"))
        await passed(1)
        waiting = asyncio.create_task(use(scheduler, "c"))
        await asyncio.wait([failing])
        backend.failure = None
        await waiting
    assert backend.loads == ["a", "b", "c"]


# freed memory counted before the driver shows it


@virtual
async def test_memory_is_used_again_only_when_the_device_shows_it_as_free() -> None:
    backend, dials, loop = SlowBackend(), Dials({"gpu0": 0}), asyncio.get_running_loop()
    backend.when_unloaded = lambda name: loop.call_later(3.0, dials.add, "gpu0", -gb(6))
    full: list[int] = []

    def load_shows(name: str) -> None:
        dials.add("gpu0", gb(6))
        full.append(dials.used_bytes["gpu0"] or 0)

    backend.when_loaded = load_shows
    async with scheduled(backend, planner(SWAPPING), dials) as scheduler:
        await use(scheduler, "a")
        await use(scheduler, "b")
    assert full == [gb(6), gb(6)], "never both at once"


@virtual
async def test_memory_that_never_shows_as_free_is_somebody_elses_and_not_promised_again() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    async with scheduled(backend, planner(SWAPPING), dials) as scheduler:
        await use(scheduler, "a")
        dials.add("gpu0", gb(6))
        began, error = now(), await refusal(scheduler, "b")
        assert now() - began < Limits().doubt_s + 2.0
        assert isinstance(error, InsufficientVram)
        assert "6.0 GB used by other programs" in error.message
        assert backend.loads == ["a"]
        dials.add("gpu0", -gb(6))
        await use(scheduler, "b")


# another process takes memory


@virtual
async def test_what_still_fits_beside_another_program_evicts_nobody() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner({"a": 4.0, "b": 2.0})) as scheduler:
        await use(scheduler, "a")
        scheduler.observe({"gpu0": Reading(gb(10), gb(8))})
        await use(scheduler, "b")
        assert backend.unloads == []


@virtual
async def test_an_eviction_that_would_not_help_against_another_program_is_not_done() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner({"a": 3.0, "b": 6.0})) as scheduler:
        await use(scheduler, "a")
        scheduler.observe({"gpu0": Reading(gb(10), gb(8))})
        error = await refusal(scheduler, "b")
        assert error.message.startswith(
            "b needs 6.0 GB and gpu0 has at most 5.0 GB for models (5.0 GB used by other programs)"
        )
        assert backend.unloads == []
        scheduler.observe({"gpu0": Reading(gb(10), gb(3))})
        await use(scheduler, "b")


@virtual
async def test_a_program_that_takes_what_an_unload_frees_hangs_nobody() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    async with scheduled(backend, planner({"a": 6.0, "b": 6.0, "c": 1.0}), dials) as scheduler:
        await use(scheduler, "a")
        dials.add("gpu0", gb(6))
        began = now()
        await scheduler.unload(A)
        assert now() - began < FREED_LIMIT_S + 1.0
        await use(scheduler, "c")


@virtual
async def test_an_unload_that_fails_frees_nothing_is_tried_again_and_then_frees_it() -> None:
    backend = SlowBackend()
    backend.unload_s, backend.staying["a"] = 10.0, BackendTimeout("it does not answer")
    plan = planner({"a": 6.0, "b": 6.0, "c": 3.0})
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a")
        waiter = asyncio.create_task(use(scheduler, "b"))
        await passed(11)
        assert (state(plan, "a"), plan.ledger.own("gpu0")) == (Residency.FAILED, gb(6))
        assert backend.loads == ["a"], "what nobody knows is not called free"
        await use(scheduler, "c")
        backend.staying.clear()
        await waiter
    assert (backend.loads, backend.unloads) == (["a", "c", "b"], ["a", "a"])


@virtual
async def test_an_unload_that_never_works_ends_the_wait_with_a_reason() -> None:
    backend = SlowBackend()
    backend.staying["a"] = BackendTimeout("it does not answer")
    plan = planner(SWAPPING, limits=Limits(wait_s=60.0))
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a")
        error = await refusal(scheduler, "b")
        assert isinstance(error, Unavailable)
        assert 2 < len(backend.unloads) < 8, "tried again, but not all the time"
        async with scheduler.lease(A, "me"):
            assert backend.loads == ["a", "a"]


# starving and swapping


@virtual
async def test_steady_traffic_to_the_resident_model_does_not_starve_the_waiter() -> None:
    plan = planner(SWAPPING, limits=Limits(patience_s=10.0))
    async with scheduled(SlowBackend(), plan) as scheduler:
        steady = asyncio.create_task(ask_all(scheduler, "a" * 200, every_s=0.5, seconds=2.0))
        await passed(3)
        began = now()
        await use(scheduler, "b")
        waited = now() - began
        await steady
    assert 10.0 < waited < 10.0 + 2.0 + 0.5 + 1.0 + 1.1, "patience, an answer, unload, load, a tick"


@pytest.mark.parametrize("slots", [None, 1])
@virtual
async def test_interleaved_requests_for_two_models_swap_once(slots: int | None) -> None:
    backend, manners = SlowBackend(), Conduct(slots=slots)
    plan = planner(SWAPPING, conduct={"a": manners, "b": manners})
    async with scheduled(backend, plan) as scheduler:
        await ask_all(scheduler, "ab" * 20, every_s=0.1)
    assert backend.loads == ["a", "b"]


@virtual
async def test_steady_interleaved_requests_are_served_in_batches() -> None:
    backend = SlowBackend(load_s=15.0)
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        await ask_all(scheduler, "ab" * 150, every_s=2.0, seconds=3.0)
    assert len(backend.loads) <= 300 / 8


async def one_after_another(scheduler: Scheduler, name: str, count: int) -> None:
    """A program that asks, waits for the answer, and asks again almost at once."""
    for _ in range(count):
        await use(scheduler, name, seconds=1.0)
        await passed(0.1)


@virtual
async def test_two_programs_that_each_wait_for_answers_swap_when_patience_ends() -> None:
    backend = SlowBackend(load_s=10.0)
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        await use(scheduler, "a")
        await asyncio.gather(
            one_after_another(scheduler, "a", 60), one_after_another(scheduler, "b", 60)
        )
    assert len(backend.loads) <= 12, "without an eye to what comes next it is one load a request"


@virtual
async def test_a_model_that_a_program_is_done_with_goes_within_a_moment() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        await one_after_another(scheduler, "a", 10)
        begun = asyncio.get_running_loop().time()
        await use(scheduler, "b")
        assert asyncio.get_running_loop().time() - begun < backend.load_s + backend.unload_s + 1.0
    assert backend.unloads == ["a"]


# background tasks with another context


@virtual
async def test_a_background_task_with_less_context_is_served_by_the_resident_model() -> None:
    backend = SlowBackend()
    backend.footprints["a"] = Footprint(gb(5), "reported", context=8000)
    async with scheduled(backend, planner({"a": by_context(2, 0.5)})) as scheduler:
        chat = asyncio.create_task(use(scheduler, "a", 20, context=8000))
        await passed(2)
        for _ in range(4):
            await use(scheduler, "a", context=1000)
        assert not chat.done()
        await chat
    assert backend.loads == ["a"]
    assert backend.placements[0].context == 8000


@virtual
async def test_more_context_reloads_once_for_all_and_under_nobody() -> None:
    backend = SlowBackend()
    backend.footprints["a"] = Footprint(gb(2), "reported", context=2000)
    async with scheduled(backend, planner({"a": by_context(2, 0.5)})) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 20, context=1000))
        await passed(2)
        larger = [
            asyncio.create_task(use(scheduler, "a", 1, caller=f"caller {context}", context=context))
            for context in (4000, 8000, 6000)
        ]
        await passed(1)
        small = asyncio.create_task(use(scheduler, "a", caller="small", context=1000))
        await passed(15)
        assert backend.loads == ["a"], "the reader is still reading"
        backend.footprints["a"] = Footprint(gb(5), "reported", context=8000)
        await asyncio.gather(reader, small, *larger)
    assert backend.loads == ["a", "a"]
    assert [one.context for one in backend.placements] == [1000, 8000]


# an embedding model evicted by a chat model, and back


def embedding(rules: Rules) -> Planner:
    """Room for the embedding model and one of two chat models."""
    return planner({"embed": 2.0, "a": 3.0, "b": 7.0}, rules=rules)


async def indexed_then_chatted(scheduler: Scheduler, backend: SlowBackend) -> None:
    """The embedding model is slow to load and was used before the chat model."""
    backend.load_s = 14.8
    await use(scheduler, "embed")
    backend.load_s = 2.0
    await use(scheduler, "a")
    await use(scheduler, "b")


@virtual
async def test_a_slow_embedding_model_is_spared_where_cost_decides() -> None:
    for strategy, goes in ((Strategy.LRU, "embed"), (Strategy.COST, "a")):
        backend = SlowBackend()
        async with scheduled(backend, embedding(Rules(strategy))) as scheduler:
            await indexed_then_chatted(scheduler, backend)
        assert backend.unloads == [goes]


@virtual
async def test_a_pinned_embedding_model_stays_whatever_the_strategy() -> None:
    backend = SlowBackend()
    async with scheduled(backend, embedding(Rules(Strategy.LRU))) as scheduler:
        await scheduler.pin(ref("embed"))
        await indexed_then_chatted(scheduler, backend)
        async with scheduler.lease(ref("embed"), "me") as lease:
            assert lease.waited_s == 0.0
    assert backend.unloads == ["a"]


# a client that hangs up


@virtual
async def test_a_client_that_hangs_up_before_the_load_causes_none() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 10))
        await passed(2)
        gone = asyncio.create_task(use(scheduler, "b"))
        await passed(1)
        gone.cancel()
        await asyncio.wait([reader, gone])
        await passed(60)
    assert (backend.loads, backend.unloads) == (["a"], [])


@virtual
async def test_a_client_that_hangs_up_while_room_is_made_causes_no_load() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        await use(scheduler, "a")
        gone = asyncio.create_task(use(scheduler, "b"))
        await passed(0.2)
        gone.cancel()
        await passed(60)
    assert (backend.loads, backend.unloads) == (["a"], ["a"])


@virtual
async def test_a_load_whose_client_hangs_up_is_finished_once_and_leaks_no_lease() -> None:
    backend = SlowBackend(load_s=5.0)
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        gone = asyncio.create_task(use(scheduler, "a", 100))
        await passed(2)
        gone.cancel()
        await passed(10)
        seat = scheduler.planner.seat(A)
        assert (seat.state, seat.leases) == (Residency.READY, 0)
        async with scheduler.lease(A, "me") as lease:
            assert lease.waited_s == 0.0
        await use(scheduler, "b")
    assert (backend.loads, backend.unloads) == (["a", "b"], ["a"])


# fairness


@virtual
async def test_eight_requests_of_an_agent_delay_a_person_by_one_service_at_most() -> None:
    plan = planner(SWAPPING, conduct={"a": Conduct(slots=1)})
    async with scheduled(SlowBackend(), plan) as scheduler:
        agent = [asyncio.create_task(use(scheduler, "a", 10, caller="agent")) for _ in range(8)]
        await passed(15)
        async with scheduler.lease(A, "person") as lease:
            assert lease.waited_s < 10
        await asyncio.gather(*agent)


@virtual
async def test_a_person_whose_model_loads_waits_for_no_more_than_one_of_an_agents_turns() -> None:
    served = list[str]()
    plan = planner(SWAPPING, conduct={"a": Conduct(slots=1)})
    async with scheduled(SlowBackend(load_s=5.0), plan) as scheduler:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(use(scheduler, "a", 10, caller="agent", served=served))
            await passed(1)
            group.create_task(use(scheduler, "a", 10, caller="person", served=served))
    assert "person" in served[:2]


@virtual
async def test_a_full_queue_is_overloaded_and_says_when_to_come_back() -> None:
    plan = planner(SWAPPING, limits=Limits(queue_size=2), conduct={"a": Conduct(slots=1)})
    async with scheduled(SlowBackend(), plan) as scheduler:
        await use(scheduler, "a", 30)
        waiting = [asyncio.create_task(use(scheduler, "a", 30)) for _ in range(3)]
        await passed(1)
        error = await refusal(scheduler, "a")
        assert isinstance(error, Overloaded)
        assert error.retry_after_s == pytest.approx(90.0, abs=1.0)
        await asyncio.gather(*waiting)


@virtual
async def test_whoever_waited_too_long_is_refused_and_the_others_go_on() -> None:
    plan = planner(SWAPPING, limits=Limits(wait_s=20.0))
    async with scheduled(SlowBackend(), plan) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 60))
        await passed(2)
        began, error = now(), await refusal(scheduler, "b")
        assert isinstance(error, Unavailable)
        assert "ROUTER_QUEUE_WAIT_S" in error.message
        assert error.retry_after_s is not None
        assert 20 < now() - began < 21.1
        await use(scheduler, "a")
        await reader
        await use(scheduler, "b")


# how long a model stays


@virtual
async def test_a_keep_alive_of_nothing_of_seconds_and_for_ever() -> None:
    backend = SlowBackend()
    manners = {name: Conduct(keep_alive_s=s) for name, s in (("a", 0.0), ("b", 30.0), ("c", -1.0))}
    async with scheduled(
        backend, planner({"a": 1.0, "b": 1.0, "c": 1.0}, conduct=manners)
    ) as scheduler:
        for name in "abc":
            await use(scheduler, name, 1)
        await passed(1)
        assert backend.unloads == ["a"]
        await passed(25)
        assert backend.unloads == ["a"]
        await passed(7)
        assert backend.unloads == ["a", "b"]
        await passed(600)
        assert backend.unloads == ["a", "b"]


@virtual
async def test_a_pinned_model_outlives_its_keep_alive() -> None:
    backend = SlowBackend()
    manners = {name: Conduct(keep_alive_s=s) for name, s in (("a", 0.0), ("b", 30.0))}
    async with scheduled(backend, planner({"a": 1.0, "b": 1.0}, conduct=manners)) as scheduler:
        await scheduler.pin(A)
        await scheduler.pin(B)
        await use(scheduler, "a", 1)
        await passed(600)
        assert backend.unloads == []
        scheduler.unpin(A)
        scheduler.unpin(B)
        await passed(2)
        assert backend.unloads == ["b"], "time alone ends a keep-alive of seconds"
        await use(scheduler, "a")
        await passed(1)
        assert backend.unloads == ["b", "a"]


@virtual
async def test_a_model_loaded_by_hand_stays_until_it_is_used_though_it_has_no_keep_alive() -> None:
    backend = SlowBackend()
    plan = planner(SWAPPING, conduct={"a": Conduct(keep_alive_s=0.0)})
    async with scheduled(backend, plan) as scheduler:
        await scheduler.load(A)
        await passed(600)
        assert backend.unloads == []
        await use(scheduler, "a")
        await passed(1)
        assert backend.unloads == ["a"]


# a model that spills into RAM


@virtual
async def test_a_model_that_spills_has_not_fitted_and_its_size_is_remembered() -> None:
    backend, takes = SlowBackend(), dict[str, Takes](a=6.0, b=4.0)
    backend.footprints["a"] = Footprint(gb(7), "reported", spilled_bytes=gb(2))

    def learn(model: object, context: int, seen: Held) -> None:
        takes["a"] = Demand(sum(seen.share.values()), seen.source, ("gpu0",))

    async with scheduled(backend, planner(takes), learn=learn) as scheduler:
        await use(scheduler, "b")
        error = await refusal(scheduler, "a")
        assert isinstance(error, InsufficientVram)
        assert error.message.startswith("a takes 9.0 GB, and slow put 2.0 GB of it into RAM.")
        assert backend.unloads == ["a"]
        assert scheduler.planner.ledger.own("gpu0") == gb(4)
        soon = await refusal(scheduler, "a")
        assert "is tried again in" in soon.message
        assert backend.loads == ["b", "a"], "not retried at once"
        backend.footprints["a"] = Footprint(gb(9), "reported")
        await passed(6)
        await use(scheduler, "a")
        assert backend.unloads == ["a", "b"], "now there is room for all of it"
        assert backend.placements[-1].share == share(9)


# what others load and unload


@virtual
async def test_a_model_that_others_loaded_is_adopted_with_its_bytes_and_noticed_when_gone() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        scheduler.seen(A, loaded=True, since=now(), held=Held(share(5), "reported", 4096, gb(5)))
        assert scheduler.planner.ledger.share_of(A) == share(5)
        async with scheduler.lease(A, "me") as lease:
            assert lease.waited_s == 0.0
        await passed(1)
        scheduler.seen(A, loaded=False, since=now())
        assert (state(scheduler.planner, "a"), scheduler.planner.ledger.own("gpu0")) == (
            Residency.UNLOADED,
            0,
        )
        await use(scheduler, "a")
    assert backend.loads == ["a"]


@virtual
async def test_an_adopted_model_makes_room_like_any_other() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SWAPPING)) as scheduler:
        scheduler.seen(A, loaded=True, since=now(), held=Held(share(5), "reported", None, gb(5)))
        await use(scheduler, "b")
    assert (backend.loads, backend.unloads) == (["b"], ["a"])


# by hand


@virtual
async def test_who_asks_by_hand_for_what_cannot_be_is_told_why() -> None:
    plan = planner({"a": 2.0, "b": 2.0, "c": 2.0, "cloud": None})
    told = {}
    async with scheduled(SlowBackend(load_s=5.0), plan) as scheduler:
        await scheduler.pin(C)
        reader = asyncio.create_task(use(scheduler, "a", 20))
        await passed(6)
        loader = asyncio.create_task(use(scheduler, "b"))
        await passed(1)
        for name in ("a", "b", "c", "cloud"):
            with pytest.raises(Conflict) as conflict:
                await scheduler.unload(ref(name))
            told[name] = conflict.value.message
        await asyncio.gather(reader, loader)
    assert told == {
        "a": "slow/a is answering 1 request(s). Try again after that.",
        "b": "slow/b is loading. Try again when it is loaded.",
        "c": "slow/c is pinned. Unpin it first: smarterrouter vram unpin slow/c.",
        "cloud": "slow/cloud manages its own memory: smarterrouter neither loads nor unloads it.",
    }


@virtual
async def test_where_nothing_is_to_be_unloaded_by_itself_a_person_makes_room() -> None:
    backend = SlowBackend()
    plan = planner(SWAPPING, rules=Rules(may_evict=False))
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a")
        error = await refusal(scheduler, "b")
        assert isinstance(error, InsufficientVram)
        assert "gpu0 has at most 4.0 GB for models (6.0 GB held by models that stay)" in (
            error.message
        )
        await scheduler.unload(A)
        await use(scheduler, "b")
    assert backend.unloads == ["a"]


# estimates and cards


@virtual
async def test_the_margin_of_an_estimate_is_waived_when_the_model_would_not_fit_with_it() -> None:
    estimate = Demand(gb(10.45), "estimated", ("gpu0",), least_bytes=gb(9.5))
    for card, reserved in ((10.0, 9.5), (12.0, 10.45)):
        backend = SlowBackend()
        async with scheduled(backend, planner({"a": estimate}, {"gpu0": card})) as scheduler:
            await use(scheduler, "a")
        assert backend.placements[0].share == share(reserved)


@virtual
async def test_of_two_cards_the_one_is_taken_that_is_left_with_least() -> None:
    backend = SlowBackend()
    plan = planner({"small": 6.0, "large": 20.0}, {"big": 24.0, "little": 8.0})
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "small")
        await use(scheduler, "large")
    assert [one.share for one in backend.placements] == [share(6, "little"), share(20, "big")]
    assert backend.unloads == []


@virtual
async def test_a_model_is_split_over_two_cards_before_anybody_is_evicted_for_it() -> None:
    backend = SlowBackend()
    plan = planner({"a": 4.0, "b": 7.0, "c": 8.0}, TWO_CARDS)
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "b")
        await use(scheduler, "c")
        await use(scheduler, "a")
        assert backend.unloads == []
    assert set(backend.placements[-1].share) == {"gpu0", "gpu1"}
    assert sum(backend.placements[-1].share.values()) == gb(4)


@virtual
async def test_no_card_is_emptied_for_a_model_that_another_one_holds() -> None:
    backend = SlowBackend()
    plan = planner({"a": 8.0, "b": 8.0, "c": 9.0}, TWO_CARDS)
    async with scheduled(backend, plan) as scheduler:
        reader = asyncio.create_task(use(scheduler, "a", 100))
        await passed(2)
        await use(scheduler, "b")
        await use(scheduler, "c")
        assert not reader.done()
        await reader
    assert backend.unloads == ["b"]


@virtual
async def test_nothing_new_goes_to_a_card_that_has_gone() -> None:
    backend = SlowBackend()
    plan = planner({"a": 8.0, "b": 9.0, "c": 12.0}, TWO_CARDS)
    async with scheduled(backend, plan) as scheduler:
        await use(scheduler, "a")
        plan.limit("gpu1", None)
        await use(scheduler, "b")
        assert backend.unloads == ["a"]
        error = await refusal(scheduler, "c")
        assert "gpu1 has gone" in error.message
    assert backend.placements[-1].share == share(9)
