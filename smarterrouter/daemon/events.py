"""``/admin/events``: the report and every happening as server-sent events, to any number of people.

Decides when to speak. A listener is told where things stand at once, then after every change, four
times a second at most and every two seconds at least. The report is put together once for all of
them. Each takes the latest one when it is ready for it, so one that does not read holds nothing up
and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import msgspec

from smarterrouter.assembly import Engine
from smarterrouter.daemon import vram
from smarterrouter.domain import sse
from smarterrouter.residency.history import KEPT

LEAST_S = 0.25
MOST_S = 2.0
COMMENT_S = 15.0

Block = tuple[int, bytes]
"""Whole events, and their number among all of their kind."""


class Events:
    """What there is to tell. ``close`` ends every listener's stream within ``LEAST_S``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = True
        self._closed = False
        self._made_at = -math.inf
        self._report: Block = (0, b"")
        self._happened: deque[Block] = deque(maxlen=KEPT)
        self._last = vram.newest(engine)
        self._count = 0
        engine.scheduler.watch(self._note)
        engine.machines.monitor.watch(lambda _: self._note())

    def close(self) -> None:
        """The daemon is about to end. May be called from a signal handler."""
        self._closed = True

    async def listen(self) -> AsyncIterator[bytes]:
        """The stream of one listener. It ends when the daemon does."""
        clock = asyncio.get_running_loop().time
        self._look(clock(), afresh=True)
        heard, shown, quiet_since = self._count, 0, clock()
        while not self._closed:
            self._look(clock())
            for number, block in tuple(self._happened):
                if number > heard:
                    heard = number
                    yield block
            if self._report[0] != shown:
                shown, block = self._report
                yield block
            if clock() - quiet_since >= COMMENT_S:
                quiet_since = clock()
                yield sse.comment("smarterrouter")
            await asyncio.sleep(LEAST_S)

    def _note(self) -> None:
        self._changed = True

    def _look(self, now: float, *, afresh: bool = False) -> None:
        """Bring what is told up to date, if that is due. Whoever comes first does it for all."""
        for one in vram.since(self._engine, self._last):
            self._last, self._changed, self._count = one, True, self._count + 1
            block = _event("history", vram.told(self._engine, one))
            self._happened.append((self._count, block))
        age = now - self._made_at
        if age >= MOST_S or (age >= LEAST_S and (self._changed or afresh)):
            self._made_at, self._changed = now, False
            self._report = (self._report[0] + 1, _event("vram", vram.report(self._engine)))


def _event(name: str, data: vram.Report) -> bytes:
    return f"event: {name}\n".encode() + sse.event(msgspec.json.encode(data))


@contextmanager
def told_to_stop(then: Callable[[], None]) -> Iterator[None]:
    """Have ``then`` called when a signal stops the daemon, before whoever else handles it.

    uvicorn waits for open responses before it tells the application that all is over; without
    this, a listener that stays would hold that up until its patience ends.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: handler for number in numbers if callable(handler := signal.getsignal(number))
    }

    def heard(number: int, frame: FrameType | None) -> None:
        then()
        before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
