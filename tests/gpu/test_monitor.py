"""The devices over time: slow, failing and vanishing probes, and figures that come to rest."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot
from smarterrouter.gpu.monitor import Monitor

MIB = 1 << 20
GIB = 1 << 30


# A daemon whose only probe never answers, stopped a while later.
HANGING = """
import asyncio, contextlib, time
from smarterrouter.gpu.monitor import Monitor
class Probe:
    def snapshots(self):
        time.sleep(3600)
class Clock:
    def now(self):
        return time.monotonic()
async def main():
    monitor = Monitor([Probe()], clock=Clock())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(monitor.run(), 0.1)
    print(monitor.latest)
asyncio.run(main())
"""


class HandClock:
    """See ``ports.Clock``. Stands still unless it is moved."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class WallClock:
    def now(self) -> float:
        return time.monotonic()


class Cards:
    """A probe whose cards a test writes: used bytes by device id."""

    def __init__(self, **used: int | None) -> None:
        self.used = used
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.asked = 0

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        self.asked += 1
        self.open.wait(10)
        if self.error:
            raise self.error
        return tuple(snapshot(name, used) for name, used in self.used.items())


def snapshot(name: str, used: int | None) -> MemorySnapshot:
    device = GpuDevice(name, "local", "test", f"card {name}", GIB)
    free = None if used is None else GIB - used
    return MemorySnapshot(device, used, free, "test", {1: used or 0})


def monitor(*probes: Cards, **options: Any) -> Monitor:
    return Monitor(probes, **{"clock": WallClock(), **options})


def used(sample: Mapping[str, MemorySnapshot]) -> dict[str, int | None]:
    return {name: seen.used_bytes for name, seen in sample.items()}


async def until(true: Callable[[], object], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
def stuck() -> Iterator[Cards]:
    """A probe that answers once, and then hangs until it is opened."""
    cards = Cards(a0=1)
    yield cards
    cards.open.set()


@asynccontextmanager
async def running(of: Monitor) -> AsyncIterator[None]:
    task = asyncio.create_task(of.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --- one sample ---------------------------------------------------------------------------------


async def test_devices_are_listed_in_the_order_of_their_probes() -> None:
    first, second = Cards(n0=1), Cards(ram=2)
    watched = monitor(first, second)
    assert watched.latest == {}
    assert used(await watched.sample()) == {"n0": 1, "ram": 2}
    first.used = {"n0": 3, "n1": 4}
    await watched.sample()
    assert list(watched.latest) == ["n0", "n1", "ram"]
    assert used(watched.latest) == {"n0": 3, "n1": 4, "ram": 2}


async def test_a_probe_that_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    broken, fine = Cards(n0=1), Cards(ram=2)
    watched = monitor(broken, fine)
    await watched.sample()
    broken.error = OSError("the driver is confused")
    for _ in range(3):
        assert used(await watched.sample()) == {"n0": None, "ram": 2}
    assert caplog.text.count("OSError: the driver is confused") == 1
    broken.error = None
    assert used(await watched.sample()) == {"n0": 1, "ram": 2}


async def test_a_slow_probe_is_unknown_and_not_served_stale(stuck: Cards) -> None:
    fine = Cards(ram=2)
    watched = monitor(stuck, fine, limit_s=0.2)
    await watched.sample()
    stuck.open.clear()
    assert used(await watched.sample()) == {"a0": None, "ram": 2}
    seen = watched.latest["a0"]
    assert (seen.free_bytes, seen.processes, seen.device.total_bytes) == (None, None, GIB)


async def test_a_probe_that_hangs_is_waited_for_once(stuck: Cards) -> None:
    watched = monitor(stuck, Cards(ram=2), limit_s=0.2)
    await watched.sample()
    stuck.open.clear()
    await watched.sample()
    began = time.monotonic()
    for _ in range(5):
        await watched.sample()
    assert time.monotonic() - began < 0.8
    assert stuck.asked == 2
    stuck.used = {"a0": 7}
    stuck.open.set()
    await asyncio.sleep(0.05)
    assert used(await watched.sample()) == {"a0": 7, "ram": 2}


async def test_a_first_answer_may_take_longer(stuck: Cards) -> None:
    watched = monitor(stuck, limit_s=0.05)
    stuck.open.clear()
    first = asyncio.create_task(watched.sample())
    await asyncio.sleep(0.2)
    stuck.open.set()
    assert used(await first) == {"a0": 1}


def test_a_probe_that_hangs_holds_up_no_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGING], capture_output=True, text=True, timeout=10
    )
    assert (done.stdout, done.stderr, done.returncode) == ("{}\n", "", 0)


async def test_a_device_that_vanishes_stays_listed_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cards = Cards(n0=1, n1=2)
    watched = monitor(cards)
    await watched.sample()
    cards.used = {"n1": 2}
    for _ in range(3):
        assert used(await watched.sample()) == {"n0": None, "n1": 2}
    cards.used = {"n0": 5, "n1": 2}
    for _ in range(3):
        assert used(await watched.sample()) == {"n0": 5, "n1": 2}
    said = [record.getMessage() for record in caplog.records]
    assert said == ["n0 (card n0) no longer tells what it holds", "n0 (card n0) is there again"]


async def test_a_device_that_never_told_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    watched = monitor(Cards(n0=None))
    for _ in range(2):
        await watched.sample()
    assert not caplog.records


async def test_samples_at_the_same_time_are_one() -> None:
    cards = Cards(n0=1)
    watched = monitor(cards)
    samples = await asyncio.gather(*(watched.sample() for _ in range(5)))
    assert cards.asked == 1
    assert all(sample is watched.latest for sample in samples)
    await watched.sample()
    assert cards.asked == 2


async def test_a_look_that_had_begun_before_is_no_answer(stuck: Cards) -> None:
    watched = monitor(stuck)
    await watched.sample()
    stuck.open.clear()
    early = asyncio.create_task(watched.sample())
    await until(lambda: stuck.asked == 2)
    late = [asyncio.create_task(watched.sample()) for _ in range(3)]
    await asyncio.sleep(0.02)
    stuck.open.set()
    assert used(await early) == {"a0": 1}
    samples = await asyncio.gather(*late)
    assert all(sample is samples[0] for sample in samples)
    assert samples[0] is not await early
    assert stuck.asked == 3


async def test_a_slow_probe_holds_up_nobody_who_looks_at_other_devices(stuck: Cards) -> None:
    here = Cards(n0=1)
    watched = monitor(here, stuck)
    await watched.sample()
    stuck.open.clear()
    everything = asyncio.create_task(watched.sample())
    await until(lambda: stuck.asked == 2)
    here.used = {"n0": 5}
    async with asyncio.timeout(1.0):
        assert used(await watched.look(["n0"])) == {"n0": 5}
    assert not everything.done()
    assert used(watched.latest) == {"n0": 5, "a0": 1}
    stuck.open.set()
    await everything


async def test_a_snapshot_says_when_its_probe_was_asked(stuck: Cards) -> None:
    clock = HandClock()
    watched = monitor(Cards(n0=1), stuck, clock=clock)
    await watched.sample()
    stuck.open.clear()
    clock.time = 10.0
    looking = asyncio.create_task(watched.sample())
    await until(lambda: stuck.asked == 2)
    clock.time = 12.0
    stuck.open.set()
    assert {seen.at for seen in (await looking).values()} == {10.0}


async def test_whoever_gives_up_takes_the_sample_from_nobody(stuck: Cards) -> None:
    watched = monitor(stuck)
    stuck.open.clear()
    first, second = (asyncio.create_task(watched.sample()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    stuck.open.set()
    assert used(await second) == {"a0": 1}


# --- over time ----------------------------------------------------------------------------------


async def test_history_reaches_back_as_far_as_it_should() -> None:
    clock, cards = HandClock(), Cards(n0=0)
    watched = monitor(cards, clock=clock, keep_s=60.0)
    for minute in range(4):
        clock.time = minute * 30.0
        cards.used = {"n0": minute}
        await watched.sample()
    assert watched.history == ((30.0, {"n0": 1}), (60.0, {"n0": 2}), (90.0, {"n0": 3}))


async def test_watchers_are_told_of_every_sample(caplog: pytest.LogCaptureFixture) -> None:
    told: list[dict[str, int | None]] = []
    watched = monitor(Cards(n0=1))
    watched.watch(lambda _: [][0])
    watched.watch(lambda sample: told.append(used(sample)))
    await watched.sample()
    await watched.sample()
    assert told == [{"n0": 1}] * 2
    assert "IndexError" in caplog.text


async def test_it_looks_often_while_anybody_is_busy() -> None:
    cards = Cards(n0=1)
    watched = monitor(cards, interval_s=3600.0, busy_interval_s=0.01)
    async with running(watched):
        await until(lambda: watched.latest)
        await asyncio.sleep(0.05)
        assert cards.asked == 1
        with watched.busy():
            with watched.busy():
                await until(lambda: cards.asked > 3)
            before = cards.asked
            await until(lambda: cards.asked > before + 2)
        await asyncio.sleep(0.05)
        before = cards.asked
        await asyncio.sleep(0.05)
        assert cards.asked == before


async def test_becoming_busy_is_noticed_at_once() -> None:
    cards = Cards(n0=1)
    watched = monitor(cards, interval_s=3600.0, busy_interval_s=3600.0)
    async with running(watched):
        await until(lambda: watched.latest)
        with watched.busy():
            await until(lambda: cards.asked == 2, 1.0)


# --- coming to rest -----------------------------------------------------------------------------


async def test_figures_have_settled_once_three_agree() -> None:
    cards = Cards(n0=0, n1=0)
    falling = iter([800, 400, 100, 90, 80])
    watched = monitor(cards)
    watched.watch(lambda _: cards.used.update(n0=next(falling, 0) * MIB, n1=cards.asked * GIB))
    assert await watched.settled(["n0"], every_s=0.001) == {"n0": 80 * MIB}
    assert cards.asked == 6


async def test_figures_that_never_rest_are_told_at_the_limit() -> None:
    cards = Cards(n0=0)
    watched = monitor(cards)
    watched.watch(lambda _: cards.used.update(n0=cards.asked * GIB))
    began = time.monotonic()
    settled = await watched.settled(["n0"], every_s=0.01, limit_s=0.1)
    assert time.monotonic() - began < 1.0
    assert settled == {"n0": (cards.asked - 1) * GIB}


async def test_a_device_that_stays_unknown_is_not_waited_for() -> None:
    cards = Cards(n0=None)
    settled = await monitor(cards).settled(["n0", "elsewhere"], every_s=0.001)
    assert settled == {"n0": None, "elsewhere": None}
    assert cards.asked == 3


async def test_a_device_that_goes_away_meanwhile_has_not_settled() -> None:
    cards = Cards(n0=5)
    watched = monitor(cards)
    watched.watch(lambda _: cards.used.update(n0=None if cards.asked == 2 else 5))
    assert await watched.settled(["n0"], every_s=0.001) == {"n0": 5}
    assert cards.asked == 6
