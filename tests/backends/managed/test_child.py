"""What cannot be had of a real process: one that does not end even when it is killed."""

from __future__ import annotations

import asyncio
import signal
from typing import cast

import pytest

from smarterrouter.backends.managed.child import Child
from smarterrouter.errors import BackendTimeout


class Pipe:
    def close(self) -> None:
        return None

    async def readline(self) -> bytes:
        return b""


class Stuck:
    """A process that a driver holds back. Implements what ``Child`` uses of asyncio's."""

    pid = 4_000_000
    stdin = stderr = Pipe()
    returncode: int | None = None

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.let_go = asyncio.Event()

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    async def wait(self) -> int:
        await self.let_go.wait()
        return -signal.SIGKILL


async def test_a_child_that_outlives_its_killing_is_told_and_may_be_asked_again() -> None:
    process = Stuck()
    child = Child(cast("asyncio.subprocess.Process", process), "m", 1, "key")
    for _ in range(2):
        with pytest.raises(BackendTimeout, match=r"m was killed and has not ended .*4000000"):
            await child.end(0.01, killed_s=0.01)
    assert process.signals == [signal.SIGTERM, signal.SIGKILL] * 2
    assert child.memory_bytes() is None
    process.let_go.set()
    await child.end(1.0)
