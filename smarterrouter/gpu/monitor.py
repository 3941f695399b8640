"""What every device holds, looked at again and again for as long as the daemon runs.

Decides how often to look, when figures have come to rest, and that a device which is not told of
is unknown: neither forgotten nor served with its last figures. What follows from the figures is
decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Generic, TypeVar

from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.domain.ports import Clock, GpuProbe

log = logging.getLogger(__name__)
_T = TypeVar("_T")

MIB = 1 << 20
PROBE_LIMIT_S = 3.0
FIRST_LIMIT_S = 15.0
"""For a probe's first answer: a driver that nobody uses takes seconds to wake its cards."""
MOST_KEPT = 10_000

Sample = Mapping[str, MemorySnapshot]
"""By device id: the probes in their order, and each one's devices as they first appeared."""

Told = tuple[MemorySnapshot, ...]


class Monitor:
    """All devices of all ``probes``. ``run`` samples for ever, ``sample`` does so once.

    ``keep_s`` is how far ``history`` reaches back. A probe has ``limit_s`` to answer.
    """

    def __init__(
        self,
        probes: Sequence[GpuProbe],
        *,
        clock: Clock,
        interval_s: float = 30.0,
        busy_interval_s: float = 0.5,
        keep_s: float = 3600.0,
        limit_s: float = PROBE_LIMIT_S,
    ) -> None:
        self.latest: Sample = {}
        self._sources = [_Source(probe, limit_s, clock) for probe in probes]
        self._clock = clock
        self._interval_s = interval_s
        self._busy_interval_s = busy_interval_s
        self._keep_s = keep_s
        self._history: deque[tuple[float, Mapping[str, int | None]]] = deque(maxlen=MOST_KEPT)
        self._watchers: list[Callable[[Sample], None]] = []
        self._dark: set[str] = set()
        self._pass = _Shared(self._look)
        self._busy = 0
        self._woken = asyncio.Event()

    @property
    def history(self) -> tuple[tuple[float, Mapping[str, int | None]], ...]:
        """Every sample of the last while: when, and the used bytes by device id."""
        return tuple(self._history)

    def watch(self, callback: Callable[[Sample], None]) -> None:
        """Have ``callback`` called in the event loop after every sample."""
        self._watchers.append(callback)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While inside, ``run`` looks often: memory is on the move. It begins at once."""
        self._busy += 1
        self._woken.set()
        try:
            yield
        finally:
            self._busy -= 1

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self._woken.clear()
            await self.sample()
            pause = self._busy_interval_s if self._busy else self._interval_s
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    async def sample(self) -> Sample:
        """Look at all devices from now on: a look that began before may miss what has changed.

        All who come while a look is under way share the one after it.
        """
        return await self._pass.next()

    async def look(self, devices: Collection[str]) -> Sample:
        """Look at these devices from now on; a probe that has others alone holds up nobody.

        For one that has never been seen, all probes are asked.
        """
        if self.latest.keys() >= set(devices):
            asked = [one for one in self._sources if not one.seen.keys().isdisjoint(devices)]
            async with asyncio.TaskGroup() as group:
                for source in asked:
                    group.create_task(source.ask())
            self._tell()
        else:
            await self.sample()
        return {name: self.latest[name] for name in devices if name in self.latest}

    async def settled(
        self,
        devices: Collection[str],
        *,
        tolerance_bytes: int = 32 * MIB,
        samples: int = 3,
        every_s: float = 0.2,
        limit_s: float = 5.0,
    ) -> Mapping[str, int | None]:
        """Used bytes by device, once ``samples`` in a row agree or ``limit_s`` is over.

        A device that stays unknown through all of them has settled too.
        """
        until = self._clock.now() + limit_s
        row: deque[dict[str, int | None]] = deque(maxlen=samples)
        while True:
            seen = await self.look(devices)
            row.append({name: _used(seen.get(name)) for name in devices})
            if len(row) == samples and _agree(row, tolerance_bytes):
                break
            if self._clock.now() + every_s > until:
                break
            await asyncio.sleep(every_s)
        return row[-1]

    async def _look(self) -> Sample:
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(source.ask())
        self._tell()
        return self.latest

    def _tell(self) -> None:
        """What all probes told last is what is known from now on."""
        sample = {name: seen for source in self._sources for name, seen in source.seen.items()}
        self._notice(sample)
        self.latest = sample
        self._remember(self.latest)
        for watcher in self._watchers:
            try:
                watcher(self.latest)
            except Exception:
                log.exception("somebody who watches the devices failed")

    def _notice(self, sample: Sample) -> None:
        """Say so, once, when a device's figures go away or come back."""
        for name, seen in sample.items():
            known = seen.used_bytes is not None
            if known and name in self._dark:
                self._dark.discard(name)
                log.info("%s (%s) is there again", name, seen.device.name)
            elif not known and _used(self.latest.get(name)) is not None:
                self._dark.add(name)
                log.warning("%s (%s) no longer tells what it holds", name, seen.device.name)

    def _remember(self, sample: Sample) -> None:
        now = self._clock.now()
        while self._history and self._history[0][0] < now - self._keep_s:
            self._history.popleft()
        self._history.append((now, {name: seen.used_bytes for name, seen in sample.items()}))


class _Shared(Generic[_T]):
    """Work that begins from now on for whoever asks: all who come while it is under way share the
    one after it. Nobody who gives up takes it from the others."""

    def __init__(self, work: Callable[[], Coroutine[object, None, _T]]) -> None:
        self._work = work
        self._task: asyncio.Task[_T] | None = None
        self._begun = False

    async def next(self) -> _T:
        while self._begun and self._task and not self._task.done():
            await asyncio.wait({self._task})
        if self._task is None or self._task.done():
            self._begun = False
            self._task = asyncio.create_task(self._begin())
        return await asyncio.shield(self._task)

    async def _begin(self) -> _T:
        self._begun = True
        return await self._work()


class _Source:
    """One probe, and what it told last: ``seen``, by device id, in the order of appearance."""

    def __init__(self, probe: GpuProbe, limit_s: float, clock: Clock) -> None:
        self.seen: Sample = {}
        self._probe = probe
        self._limit_s = limit_s
        self._clock = clock
        self._look = _Shared(self._asked)
        self._answer: asyncio.Future[Told | Exception] | None = None
        self._answered = False
        self._failing = False

    async def ask(self) -> None:
        """Bring ``seen`` up to date by a look that begins from now on."""
        await self._look.next()

    async def _asked(self) -> None:
        """What it does not tell of in time is unknown."""
        at = self._clock.now()
        answer = await self._told()
        told = {snapshot.device.id: replace(snapshot, at=at) for snapshot in answer}
        kept = {name: told.get(name) or _unknown(before) for name, before in self.seen.items()}
        self.seen = {**kept, **told}

    async def _told(self) -> Told:
        if self._answer and not self._answer.done():
            return ()  # asked by an earlier sample, and it hangs: nobody waits a second time
        self._answer = _in_thread(self._probe.snapshots)
        limit_s = self._limit_s if self._answered else max(self._limit_s, FIRST_LIMIT_S)
        await asyncio.wait({self._answer}, timeout=limit_s)
        if not self._answer.done():
            return self._failed(f"has not answered for {limit_s:g} s")
        answer = self._answer.result()
        if isinstance(answer, Exception):
            return self._failed("failed", answer)
        self._answered, self._failing = True, False
        return answer

    def _failed(self, how: str, error: Exception | None = None) -> Told:
        if not self._failing:
            log.warning("%s %s", type(self._probe).__name__, how, exc_info=error)
        self._failing = True
        return ()


def _in_thread(look: Callable[[], Told]) -> asyncio.Future[Told | Exception]:
    """Ask from a thread that may hang for ever: unlike a pool's, it holds up no exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Told | Exception] = loop.create_future()

    def tell(answer: Told | Exception) -> None:
        if not future.done():
            future.set_result(answer)

    def ask() -> None:
        answer: Told | Exception
        try:
            answer = look()
        except Exception as error:
            answer = error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(tell, answer)

    try:
        threading.Thread(target=ask, name="gpu-probe", daemon=True).start()
    except RuntimeError as error:  # the machine allows no more threads
        tell(error)
    return future


def _unknown(before: MemorySnapshot) -> MemorySnapshot:
    return replace(before, used_bytes=None, free_bytes=None, processes=None)


def _used(seen: MemorySnapshot | None) -> int | None:
    return seen.used_bytes if seen else None


def _agree(row: Collection[Mapping[str, int | None]], tolerance_bytes: int) -> bool:
    """Whether no device differs by more between any two of them."""
    for name in next(iter(row)):
        sizes = [used[name] for used in row]
        told = [size for size in sizes if size is not None]
        if told and (len(told) < len(sizes) or max(told) - min(told) > tolerance_bytes):
            return False
    return True
