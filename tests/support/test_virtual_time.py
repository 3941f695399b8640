"""The virtual loop: it jumps, never sleeps, stops when all is quiet, and hides no failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.virtual_time import VirtualLoop, virtually


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        yield loop


def test_an_hour_passes_in_no_time() -> None:
    async def wait() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time() - began

    began = time.monotonic()
    assert virtually(wait()) == pytest.approx(3600.0)
    assert time.monotonic() - began < 5.0


def test_timers_go_off_in_their_order_and_limits_hold() -> None:
    async def wait() -> list[str]:
        seen: list[str] = []

        async def at(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append(name)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.gather(at(3.0, "late"), at(1.0, "first"), at(2.0, "second"))
        return seen

    assert virtually(wait()) == ["first", "second"]


def test_when_nobody_can_wake_anybody_that_is_said() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="everybody waits"):
        virtually(hang())


def test_no_two_readings_of_the_clock_are_alike(loop: VirtualLoop) -> None:
    row = [loop.clock.now() for _ in range(100)]
    assert sorted(set(row)) == row


def test_time_stops_when_all_that_follows_has_been_done(loop: VirtualLoop) -> None:
    done: list[float] = []

    async def many_steps() -> None:
        await asyncio.sleep(1.0)
        for _ in range(100):
            await asyncio.sleep(0)
        done.append(loop.time())
        await asyncio.sleep(1.0)
        done.append(loop.time())

    task = loop.create_task(many_steps())
    loop.let_pass(1.0)
    assert len(done) == 1
    loop.settle()
    assert len(done) == 1
    loop.let_pass(1.0)
    assert task.done()


def test_a_task_that_breaks_unnoticed_is_kept(loop: VirtualLoop) -> None:
    async def fall() -> None:
        raise ZeroDivisionError

    loop.create_task(fall())
    loop.settle()
    assert [type(error) for error in loop.broken] == [ZeroDivisionError]
