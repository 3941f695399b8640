"""Is the client still there? Decides when its going away ends the work that is done for it.

Most answers from memory are over before anybody could hang up, and watching takes a task of its
own, so it begins a moment late.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from litestar.types import Receive

from smarterrouter.daemon.reply import Reply

WATCH_AFTER_S = 0.05


class Attendance:
    """A context manager that cancels its block when the client goes before its response is done.

    The cancellation ends with the block; ``gone`` tells that there was one. A cancellation from
    elsewhere goes through.
    """

    def __init__(self, receive: Receive, reply: Reply) -> None:
        self.gone = False
        self._receive = receive
        self._reply = reply
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Attendance:
        loop = asyncio.get_running_loop()
        self._attended = asyncio.current_task(loop)
        self._timer = loop.call_later(WATCH_AFTER_S, self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if not self.gone or kind is not asyncio.CancelledError:
            return False
        return self._attended is not None and self._attended.uncancel() == 0

    def _begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._reply.done and self._attended is not None:
            self.gone = True
            self._attended.cancel()
