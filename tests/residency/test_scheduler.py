"""The scheduler with backends that are slow, fail, and lose models; no clock but the loop's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import BackendError, Unavailable
from smarterrouter.residency.ledger import DeviceLimit, VramLedger
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.scheduler import Scheduler
from smarterrouter.residency.states import Residency
from tests.fakes.backend import SlowBackend

A, B = ModelRef("slow", "a"), ModelRef("slow", "b")


class WallClock:
    def now(self) -> float:
        return time.monotonic()


@asynccontextmanager
async def scheduled(backend: SlowBackend, budget: int = 100) -> AsyncIterator[Scheduler]:
    planner = Planner(
        VramLedger({"ram": DeviceLimit(budget, budget)}), lambda ref: {"ram": backend.size_bytes}
    )
    place = lambda ref, footprint: {"ram": footprint.bytes}  # noqa: E731
    async with Scheduler(planner, {"slow": backend}, place, WallClock()) as scheduler:
        yield scheduler


async def use(scheduler: Scheduler, model: ModelRef, until: asyncio.Event | None = None) -> None:
    async with scheduler.lease(model, "me"):
        if until:
            await until.wait()


async def test_fifty_waiters_cause_one_load() -> None:
    backend = SlowBackend()
    async with scheduled(backend) as scheduler:
        await asyncio.gather(*(use(scheduler, A) for _ in range(50)))
    assert backend.loads == ["a"]


async def test_a_lease_keeps_its_model_until_it_is_given_back() -> None:
    backend, done = SlowBackend(size_bytes=60), asyncio.Event()
    async with scheduled(backend) as scheduler:
        holder = asyncio.create_task(use(scheduler, A, done))
        await backend.loaded.wait()
        waiter = asyncio.create_task(use(scheduler, B))
        await asyncio.sleep(0.05)
        assert backend.unloads == []
        done.set()
        await asyncio.gather(holder, waiter)
    assert (backend.loads, backend.unloads) == (["a", "b"], ["a"])


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    backend, done = SlowBackend(size_bytes=60), asyncio.Event()
    async with scheduled(backend) as scheduler:
        holder = asyncio.create_task(use(scheduler, A, done))
        await backend.loaded.wait()
        waiter = asyncio.create_task(use(scheduler, B))
        await asyncio.sleep(0.01)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        done.set()
        await holder
        await asyncio.sleep(0.05)
        assert backend.loads == ["a"]
        assert scheduler.planner.waiting == []
        assert all(seat.leases == 0 for seat in scheduler.planner.seats.values())


async def test_a_waiter_cancelled_as_it_is_granted_gives_the_lease_back() -> None:
    backend = SlowBackend()
    async with scheduled(backend) as scheduler:
        waiter = asyncio.create_task(use(scheduler, A, asyncio.Event()))
        await backend.loading.wait()
        backend.finished.add_done_callback(lambda _: waiter.cancel())
        await asyncio.gather(waiter, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert scheduler.planner.seats[A].leases == 0


async def test_a_failed_load_gives_every_waiter_the_reason() -> None:
    backend = SlowBackend(failure=BackendError("no space left"))
    async with scheduled(backend) as scheduler:
        results = await asyncio.gather(
            *(use(scheduler, A) for _ in range(5)), return_exceptions=True
        )
        with pytest.raises(BackendError, match="no space left"):
            await use(scheduler, A)
    assert [str(result) for result in results] == ["no space left"] * 5
    assert backend.loads == ["a"]


async def test_a_crash_in_a_backend_is_an_error_and_not_the_end() -> None:
    backend = SlowBackend(failure=ZeroDivisionError("oops"))
    async with scheduled(backend) as scheduler:
        with pytest.raises(BackendError, match="oops"):
            await use(scheduler, A)
        backend.failure = None
        await use(scheduler, B)


async def test_a_lost_model_is_loaded_again_for_the_next_request() -> None:
    backend = SlowBackend()
    async with scheduled(backend) as scheduler:
        await use(scheduler, A)
        backend.lose("a")
        assert scheduler.planner.state(A) is Residency.UNLOADED
        await use(scheduler, A)
    assert backend.loads == ["a", "a"]


async def test_closing_tells_those_who_wait() -> None:
    backend = SlowBackend(load_s=30.0)
    async with scheduled(backend) as scheduler:
        waiter = asyncio.create_task(use(scheduler, A))
        await backend.loading.wait()
    with pytest.raises(Unavailable, match="shutting down"):
        await waiter


async def test_unloading_by_hand_spares_a_model_in_use() -> None:
    backend, done = SlowBackend(), asyncio.Event()
    async with scheduled(backend) as scheduler:
        holder = asyncio.create_task(use(scheduler, A, done))
        await backend.loaded.wait()
        await asyncio.sleep(0)
        assert scheduler.unload(A) is False
        done.set()
        await holder
        assert scheduler.unload(A) is True
