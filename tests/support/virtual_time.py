"""Time that passes only when nobody has anything left to do. Decides how late it is, nothing else.

A ``VirtualLoop`` runs real asyncio tasks. When nothing is ready it jumps to the next timer at
once, so a minute of waiting costs microseconds and the same program runs the same way each time.
There are no threads, no sockets and no sleeping in it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

GRAIN_S = 1e-6
"""Each reading of the clock is later than the one before by at least this."""

Result = TypeVar("Result")


class _Jumps(selectors.SelectSelector):
    """Instead of waiting for something to happen, it makes it later.

    It is asked with a timeout of 0 as long as anything is ready. ``over`` is called instead of a
    jump beyond ``until``.
    """

    def __init__(self, over: Callable[[], None]) -> None:
        super().__init__()
        self.now = 0.0
        self.until: float | None = None
        self._over = over

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0.0:
            return []
        if self.until is not None and (timeout is None or self.now + timeout > self.until):
            self.now = max(self.now, self.until)
            self._over()
            return []
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is left that could wake anybody")
        self.now += timeout
        return []


class VirtualClock:
    """Implements ``ports.Clock``. No two readings are alike, as with a real clock."""

    def __init__(self, jumps: _Jumps) -> None:
        self._jumps = jumps

    def now(self) -> float:
        self._jumps.now += GRAIN_S
        return self._jumps.now


class VirtualLoop(asyncio.SelectorEventLoop):
    """See above. ``broken`` collects what tasks died of, whether or not anybody awaited them."""

    def __init__(self) -> None:
        self._jumps = _Jumps(self.stop)
        super().__init__(self._jumps)
        self.clock = VirtualClock(self._jumps)
        self.broken: list[BaseException] = []
        factory: Any = self._task
        self.set_task_factory(factory)

    def time(self) -> float:
        return self._jumps.now

    def let_pass(self, seconds: float) -> None:
        """Run everything that is due within so many seconds, and what follows from it at once."""
        self._jumps.until = self._jumps.now + seconds
        self.run_forever()
        self._jumps.until = None

    def settle(self) -> None:
        """Run everything that is due now, and what follows from it at once."""
        self.let_pass(0.0)

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **named)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(error)


def virtually(work: Coroutine[Any, Any, Result], loop: VirtualLoop | None = None) -> Result:
    """Run ``work`` to its end in virtual time, on a loop of its own unless one is given."""
    with asyncio.Runner(loop_factory=lambda: loop or VirtualLoop()) as runner:
        return runner.run(work)
