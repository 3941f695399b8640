"""The scheduler with backends that are slow, fail and lose models, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from itertools import groupby

import pytest

from smarterrouter.domain.models import Footprint, ModelRef
from smarterrouter.errors import BackendError, BadRequest, Conflict, InsufficientVram, Unavailable
from smarterrouter.residency.demand import Conduct
from smarterrouter.residency.events import Held, Limits
from smarterrouter.residency.history import Kind
from smarterrouter.residency.scheduler import FREED_LIMIT_S, Scheduler
from smarterrouter.residency.states import Residency
from tests.fakes.backend import Dials, SlowBackend
from tests.support.residency import (
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
SIZES = {"a": 6.0, "b": 6.0, "c": 2.0}


def states(scheduler: Scheduler) -> dict[str, Residency]:
    return {model.name: state for model, state in scheduler.planner.resident().items()}


def leases(scheduler: Scheduler) -> int:
    return sum(seat.leases for seat in scheduler.planner.seats.values())


# leases


@virtual
async def test_fifty_waiters_cause_one_load() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        await asyncio.gather(*(use(scheduler, "a") for _ in range(50)))
    assert backend.loads == ["a"]


@virtual
async def test_a_lease_keeps_its_model_until_it_is_given_back() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 10))
        await passed(2)
        waiter = asyncio.create_task(use(scheduler, "b"))
        await passed(8)
        assert backend.unloads == []
        await asyncio.gather(holder, waiter)
    assert (backend.loads, backend.unloads) == (["a", "b"], ["a"])


@virtual
async def test_a_lease_tells_how_long_it_took_to_get_and_how_much_of_that_was_the_load() -> None:
    async with scheduled(SlowBackend(load_s=3.0), planner(SIZES)) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 7))
        await passed(1)
        async with scheduler.lease(A, "me") as joined:
            assert joined.model == A
            assert joined.waited_s == pytest.approx(2.0, abs=0.01)
            assert joined.loading_s == pytest.approx(2.0, abs=0.01)
        async with scheduler.lease(A, "me") as at_once:
            assert (at_once.waited_s, at_once.loading_s) == (0.0, 0.0)
        async with scheduler.lease(B, "me") as after_another:
            assert after_another.waited_s == pytest.approx(7 + 0.5 + 3.0, abs=0.01)
            assert after_another.loading_s == pytest.approx(3.0, abs=0.01)
        await holder


@virtual
async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 5))
        await passed(2)
        waiter = asyncio.create_task(use(scheduler, "b"))
        await passed(1)
        waiter.cancel()
        await asyncio.gather(holder, waiter, return_exceptions=True)
        await passed(5)
        assert backend.loads == ["a"]
        assert not scheduler.planner.line
        assert leases(scheduler) == 0


@virtual
async def test_a_waiter_cancelled_as_it_is_granted_gives_the_lease_back() -> None:
    backend, loop = SlowBackend(), asyncio.get_running_loop()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        waiter = asyncio.create_task(use(scheduler, "a", 10))
        backend.when_loaded = lambda name: loop.call_soon(waiter.cancel)
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert leases(scheduler) == 0
        assert states(scheduler) == {"a": Residency.READY}


@virtual
async def test_a_waiter_cancelled_just_before_it_is_granted_gives_the_lease_back() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        waiter = asyncio.create_task(use(scheduler, "a", 10))
        backend.when_loaded = lambda name: waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert leases(scheduler) == 0
        assert states(scheduler) == {"a": Residency.READY}


@virtual
async def test_an_error_in_the_block_gives_the_lease_back() -> None:
    async with scheduled(SlowBackend(), planner(SIZES)) as scheduler:
        with pytest.raises(ZeroDivisionError):
            async with scheduler.lease(A, "me"):
                raise ZeroDivisionError
        assert leases(scheduler) == 0


# loads that fail


@virtual
async def test_a_failed_load_gives_every_waiter_the_reason() -> None:
    backend = SlowBackend(failure=BackendError("no space left"))
    async with scheduled(backend, planner(SIZES)) as scheduler:
        results = await asyncio.gather(
            *(use(scheduler, "a") for _ in range(5)), return_exceptions=True
        )
        with pytest.raises(BackendError, match="no space left"):
            await use(scheduler, "a")
    assert [str(result) for result in results] == ["no space left"] * 5
    assert backend.loads == ["a"]


@virtual
async def test_a_crash_in_a_backend_is_an_error_and_not_the_end() -> None:
    backend = SlowBackend(failure=ZeroDivisionError("oops"))
    async with scheduled(backend, planner(SIZES)) as scheduler:
        with pytest.raises(BackendError, match="a failed to load: oops"):
            await use(scheduler, "a")
        backend.failure = None
        await use(scheduler, "b")


@virtual
async def test_a_backend_that_refuses_to_load_does_not_put_it_on_the_client() -> None:
    backend = SlowBackend(failure=BadRequest("no such model"))
    async with scheduled(backend, planner(SIZES)) as scheduler:
        with pytest.raises(BackendError, match="no such model"):
            await use(scheduler, "a")


@virtual
async def test_a_lost_model_is_loaded_again_for_the_next_request() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        await use(scheduler, "a")
        backend.lose("a")
        assert states(scheduler) == {}
        await use(scheduler, "a")
    assert backend.loads == ["a", "a"]


# the end


@virtual
async def test_closing_tells_those_who_wait() -> None:
    async with scheduled(SlowBackend(load_s=30.0), planner(SIZES)) as scheduler:
        waiter = asyncio.create_task(use(scheduler, "a"))
        await passed(1)
    with pytest.raises(Unavailable, match="shutting down"):
        await waiter
    with pytest.raises(Unavailable, match="shutting down"):
        await use(scheduler, "a")


@virtual
async def test_a_lease_that_ends_after_closing_grants_nobody_and_breaks_nothing() -> None:
    plan = planner(SIZES, conduct={"a": Conduct(slots=1)})
    async with scheduled(SlowBackend(), plan) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 20))
        await passed(3)
        waiter = asyncio.create_task(use(scheduler, "a", caller="other"))
        await passed(1)
    scheduler.lost(A, "closed")
    await holder
    assert isinstance(await asyncio.gather(waiter, return_exceptions=True), list)
    assert isinstance(waiter.exception(), Unavailable)


# what people ask for


@virtual
async def test_unloading_by_hand_spares_a_model_in_use_and_returns_when_it_has_gone() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 5))
        await passed(2)
        with pytest.raises(Conflict, match=r"slow/a is answering 1 request\(s\)"):
            await scheduler.unload(A)
        await holder
        began = now()
        await asyncio.gather(scheduler.unload(A), scheduler.unload(A))
        assert now() - began == pytest.approx(0.5, abs=0.01)
        assert (states(scheduler), backend.unloads) == ({}, ["a"])


@virtual
async def test_unloading_by_hand_says_that_it_failed_and_can_be_asked_for_again() -> None:
    backend = SlowBackend()
    backend.staying["a"] = BackendError("it does not answer")
    async with scheduled(backend, planner(SIZES)) as scheduler:
        await use(scheduler, "a")
        with pytest.raises(BackendError, match="slow/a could not be unloaded: the log says why"):
            await scheduler.unload(A)
        assert scheduler.planner.ledger.own("gpu0") == gb(6)
        backend.staying.clear()
        await scheduler.unload(A)
        assert scheduler.planner.ledger.own("gpu0") == 0


@virtual
async def test_unloading_by_hand_a_model_that_failed_to_load_is_no_error() -> None:
    backend = SlowBackend(failure=BackendError("no such file"))
    async with scheduled(backend, planner(SIZES)) as scheduler:
        with pytest.raises(BackendError):
            await use(scheduler, "a")
        await scheduler.unload(A)
        assert backend.unloads == []


@virtual
async def test_a_model_loaded_by_hand_is_there_and_in_nobodys_use() -> None:
    async with scheduled(SlowBackend(), planner(SIZES)) as scheduler:
        await scheduler.load(A)
        assert (states(scheduler), leases(scheduler)) == ({"a": Residency.READY}, 0)
        scheduler.planner.pin(A, True, now())
        with pytest.raises(InsufficientVram):
            await scheduler.load(B)


@virtual
async def test_a_pinned_model_is_loaded_and_stays_until_it_is_unpinned() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        await scheduler.pin(A)
        assert states(scheduler) == {"a": Residency.READY}
        with pytest.raises(InsufficientVram, match="held by models that stay"):
            await use(scheduler, "b")
        with pytest.raises(Conflict, match="vram unpin slow/a"):
            await scheduler.unload(A)
        scheduler.unpin(A)
        await use(scheduler, "b")
        assert backend.unloads == ["a"]


@virtual
async def test_a_model_that_cannot_be_loaded_is_not_pinned_either() -> None:
    backend = SlowBackend(failure=BackendError("broken"))
    async with scheduled(backend, planner(SIZES)) as scheduler:
        with pytest.raises(BackendError):
            await scheduler.pin(A)
        assert scheduler.planner.seat(A).pinned is False


@virtual
async def test_a_pin_given_up_while_the_model_loads_does_not_hold() -> None:
    async with scheduled(SlowBackend(load_s=5.0), planner(SIZES)) as scheduler:
        pinning = asyncio.create_task(scheduler.pin(A))
        await passed(1)
        pinning.cancel()
        await asyncio.wait([pinning])
        assert scheduler.planner.seat(A).pinned is False


# what is told


@virtual
async def test_history_tells_what_happened_and_why() -> None:
    backend = SlowBackend()
    async with scheduled(backend, planner(SIZES)) as scheduler:
        await use(scheduler, "a")
        await use(scheduler, "b")
        backend.lose("b")
        backend.failure = BackendError("no such file.")
        with pytest.raises(BackendError):
            await use(scheduler, "c")
        scheduler.seen(A, True, since=now() + 1)
        scheduler.seen(A, False, since=now() + 1)
        backend.failure = None
        backend.staying["b"] = BackendError("it does not answer")
        await use(scheduler, "b")
        with pytest.raises(BackendError):
            await scheduler.unload(B)
        told = [(one.kind, one.model, one.why, one.bytes) for one in scheduler.history.events]
    assert told == [
        (Kind.LOAD, A, "a request", gb(6)),
        (Kind.UNLOAD, A, "to make room for slow/b, a request", gb(6)),
        (Kind.LOAD, B, "a request, waiting for 0.5 s", gb(6)),
        (Kind.LOST, B, "it crashed", None),
        (Kind.LOAD_FAILED, C, "no such file", None),
        (Kind.ADOPTED, A, "its backend lists it as loaded", None),
        (Kind.LOST, A, "its backend no longer lists it as loaded", None),
        (Kind.LOAD, B, "a request", gb(6)),
        (Kind.UNLOAD_FAILED, B, "asked for; it does not answer", None),
    ]


@virtual
async def test_whoever_watches_hears_of_every_change_until_it_stops_watching() -> None:
    heard: list[int] = []
    async with scheduled(SlowBackend(), planner(SIZES)) as scheduler:
        stop = scheduler.watch(lambda: heard.append(leases(scheduler)))
        await use(scheduler, "a", 1)
        assert [count for count, _ in groupby(heard)] == [0, 1, 0], "loading, granted, released"
        stop()
        heard.clear()
        await use(scheduler, "b")
        assert heard == []


# what models hold


@virtual
async def test_what_a_models_own_processes_hold_is_what_it_holds() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    backend.pids["a"], dials.processes[7] = 7, share(5)
    backend.footprints["a"] = Footprint(gb(6), "reported", context=4096)
    learned: list[tuple[ModelRef, int, Held]] = []
    learn = lambda model, context, held: learned.append((model, context, held))  # noqa: E731
    async with scheduled(backend, planner(SIZES), dials, learn) as scheduler:
        await use(scheduler, "a")
        assert scheduler.planner.ledger.share_of(A) == share(5)
        seat = scheduler.planner.seat(A)
        assert (seat.source, seat.context, seat.reported) == ("measured", 4096, gb(6))
    assert learned == [(A, 0, Held(share(5), "measured", 4096, gb(6)))]


@virtual
async def test_what_the_devices_hold_more_corrects_what_a_backend_reports() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": gb(1)})
    backend.footprints["a"] = Footprint(gb(6), "reported")
    backend.when_loaded = lambda name: dials.add("gpu0", gb(7))
    learned: list[Held] = []
    learn = lambda model, context, held: learned.append(held)  # noqa: E731
    async with scheduled(backend, planner(SIZES), dials, learn) as scheduler:
        await use(scheduler, "a")
        assert scheduler.planner.ledger.own("gpu0") == gb(6), "a load is not held up for it"
        await passed(1)
        assert scheduler.planner.ledger.own("gpu0") == gb(7)
        assert scheduler.planner.seat(A).source == "measured"
    assert [(one.source, sum(one.share.values())) for one in learned] == [
        ("reported", gb(6)),
        ("measured", gb(7)),
    ]


@pytest.mark.parametrize(("sizes", "after_s"), [((5, 3), 1.5), ((5, 3), 0.5), ((3, 5), 0.5)])
@virtual
async def test_a_difference_is_not_believed_when_anything_else_came_meanwhile(
    sizes: tuple[int, int], after_s: float
) -> None:
    takes = dict(zip("ab", map(gb, sizes), strict=True))
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    dials.settling_s = 3.0
    backend.footprints = {name: Footprint(count, "reported") for name, count in takes.items()}
    backend.when_loaded = lambda name: dials.add("gpu0", takes[name])
    async with scheduled(backend, planner({"a": 5.0, "b": 5.0}), dials) as scheduler:
        first = asyncio.create_task(use(scheduler, "a"))
        await passed(after_s)
        await asyncio.gather(first, use(scheduler, "b"))
        await passed(5)
        books = scheduler.planner.ledger
        assert {model.name: count for model, count in books.holders("gpu0")} == takes


@virtual
async def test_a_difference_far_from_what_was_expected_is_somebody_elses() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    backend.when_loaded = lambda name: dials.add("gpu0", gb(10))
    async with scheduled(backend, planner(SIZES), dials) as scheduler:
        await use(scheduler, "a")
        await passed(2)
        assert scheduler.planner.ledger.own("gpu0") == gb(6)


# memory that is given back


@virtual
async def test_a_load_begins_when_the_devices_show_what_was_freed() -> None:
    backend, dials, loop = SlowBackend(), Dials({"gpu0": 0}), asyncio.get_running_loop()
    backend.when_unloaded = lambda name: loop.call_later(2.0, dials.add, "gpu0", -gb(6))
    async with scheduled(backend, planner(SIZES), dials) as scheduler:
        await use(scheduler, "a")
        dials.add("gpu0", gb(6))
        began = now()
        await use(scheduler, "b")
        assert now() - began == pytest.approx(0.5 + 2.0 + 1.0, abs=0.3)


@virtual
async def test_what_is_never_shown_as_free_is_waited_for_only_so_long() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    async with scheduled(backend, planner(SIZES), dials) as scheduler:
        await use(scheduler, "a")
        dials.add("gpu0", gb(6))
        began = now()
        await scheduler.unload(A)
        assert now() - began == pytest.approx(0.5 + FREED_LIMIT_S, abs=0.3)


@virtual
async def test_a_device_that_tells_nothing_is_not_waited_for() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": None})
    async with scheduled(backend, planner(SIZES), dials) as scheduler:
        await use(scheduler, "a")
        began = now()
        await scheduler.unload(A)
        assert now() - began == pytest.approx(0.5, abs=0.1)


# what goes wrong beside a load


@virtual
async def test_who_is_looking_at_the_devices_when_it_all_ends_is_told() -> None:
    dials = Dials({"gpu0": 0})
    looked = dials.used

    async def slowly(devices: Collection[str]) -> Mapping[str, int | None]:
        await passed(5)
        return await looked(devices)

    dials.used = slowly  # type: ignore[method-assign]
    async with scheduled(SlowBackend(), planner(SIZES), dials) as scheduler:
        waiter = asyncio.create_task(use(scheduler, "a"))
        await passed(1)
    with pytest.raises(Unavailable, match="shutting down"):
        await waiter


@virtual
async def test_a_spilled_model_that_stays_is_still_counted() -> None:
    backend = SlowBackend()
    backend.footprints["a"] = Footprint(gb(4), "reported", spilled_bytes=gb(3))
    backend.staying["a"] = BackendError("it does not go")
    suspected: list[ModelRef] = []
    async with scheduled(backend, planner(SIZES), suspect=suspected.append) as scheduler:
        with pytest.raises(InsufficientVram, match=r"put 3\.0 GB of it into RAM"):
            await use(scheduler, "a")
        assert scheduler.planner.ledger.share_of(A) == share(4)
        assert suspected == [A]


@virtual
async def test_a_model_that_dies_as_it_is_weighed_has_failed_to_load() -> None:
    backend, dials = SlowBackend(), Dials({"gpu0": 0})
    backend.pids = {"a": 7}
    backend.when_loaded = backend.lose
    async with scheduled(backend, planner(SIZES), dials) as scheduler:
        with pytest.raises(BackendError, match="a stopped as soon as it had loaded: it crashed"):
            await use(scheduler, "a")
        assert states(scheduler) == {}
        assert scheduler.planner.ledger.own("gpu0") == 0
        backend.when_loaded = lambda name: None
        await passed(10)
        await use(scheduler, "a")
        assert states(scheduler) == {"a": Residency.READY}


@virtual
async def test_a_load_whose_figures_cannot_be_seen_or_kept_is_a_load() -> None:
    def learn(model: ModelRef, context: int, held: Held) -> None:
        raise OSError("disk full")

    async with scheduled(SlowBackend(), planner(SIZES), learn=learn) as scheduler:
        await use(scheduler, "a")
        assert states(scheduler) == {"a": Residency.READY}
        assert scheduler.planner.ledger.share_of(A) == share(6)


@virtual
async def test_a_backend_that_is_cancelled_within_a_load_has_failed() -> None:
    backend = SlowBackend()

    def cancelled(name: str) -> None:
        raise asyncio.CancelledError

    backend.when_loaded = backend.when_unloaded = cancelled
    async with scheduled(backend, planner(SIZES)) as scheduler:
        with pytest.raises(BackendError, match="a failed to load: CancelledError"):
            await use(scheduler, "a")
        assert states(scheduler) == {}
        backend.when_loaded = lambda name: None
        await use(scheduler, "b")
        with pytest.raises(BackendError, match="could not be unloaded"):
            await scheduler.unload(B)


# time


@virtual
async def test_time_alone_ends_waits_and_keep_alives() -> None:
    plan = planner(SIZES, limits=Limits(wait_s=20.0), conduct={"a": Conduct(keep_alive_s=60.0)})
    backend = SlowBackend()
    async with scheduled(backend, plan) as scheduler:
        holder = asyncio.create_task(use(scheduler, "a", 100))
        await passed(2)
        with pytest.raises(Unavailable, match="There was no room for b for 2"):
            await use(scheduler, "b")
        await holder
        await passed(58)
        assert backend.unloads == []
        await passed(4)
        assert backend.unloads == ["a"]


@virtual
async def test_what_a_listing_tells_while_closing_changes_nothing() -> None:
    async with scheduled(SlowBackend(), planner(SIZES)) as scheduler:
        pass
    scheduler.seen(A, True, now() + 1, held(6))
    scheduler.observe({})
    scheduler.holds(A, share(6))
    assert states(scheduler) == {}
