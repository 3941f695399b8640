"""One llama.cpp server as a child process: started, watched, asked for its memory, ended.

Decides when a start has succeeded (its ``/health`` says so) or failed (it has exited, or time
is up). The last lines of its standard error are kept, since they say why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import smarterrouter
from smarterrouter.errors import BackendError, BackendTimeout

LINES_KEPT = 40
LINES_SHOWN = 3
POLL_S = 0.05
_STAMP = re.compile(r"^[\d.]+ (?=[IWE] )")


class Child:
    """A running server. Made by ``Child.start``; ``url`` is its OpenAI API."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, port: int, key: str) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/v1"
        self.headers = {"Authorization": f"Bearer {key}"}
        self.ending = False
        self._health = f"http://127.0.0.1:{port}/health"
        self._process = process
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self.exited = loop.create_task(self._wait())

    @classmethod
    async def start(
        cls, name: str, plan: Mapping[str, object], port: int, key: str, cwd: Path
    ) -> Child:
        """Start the process; it is not ready yet."""
        package = Path(smarterrouter.__file__).parent.parent
        paths = [str(package), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "LLAMA_API_KEY": key,
        }
        module = "smarterrouter.backends.managed.launch"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, json.dumps(plan), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        return cls(process, name, port, key)

    async def ready(self, timeout_s: float) -> None:
        """Return once it answers. Raises ``BackendError`` or ``BackendTimeout`` otherwise."""
        import httpx

        try:
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(trust_env=False, timeout=POLL_S * 40) as client,
            ):
                while not await self._healthy(client):
                    if self.exited.done():
                        await self._reader
                        raise BackendError(f"{self.name} failed to load. {self.last_words()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise BackendTimeout(
                f"{self.name} was not loaded after {timeout_s:g} s. {self.last_words()} "
                "Raise ROUTER_TIMEOUT_LOAD_S if it needs longer."
            ) from None

    def memory_bytes(self) -> int | None:
        """The resident set of the process and those below it; ``None`` once it is gone."""
        import psutil

        try:
            top = psutil.Process(self._process.pid)
            family = [top, *top.children(recursive=True)]
            return int(sum(process.memory_info().rss for process in family))
        except psutil.Error:
            return None

    async def end(self, timeout_s: float) -> None:
        """Ask it to stop, insist after ``timeout_s``, and return when it is gone."""
        self.ending = True
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self.exited}, timeout=timeout_s)
        if not done:
            self._signal(signal.SIGKILL)
            await self.exited
        await self._reader

    def last_words(self) -> str:
        """Why it ended, as far as its standard error says: a sentence with its last lines."""
        telling = [line for line in self._lines if " E " in f" {line} "] or list(self._lines)
        code = self._process.returncode
        state = "It is still running." if code is None else f"Its process ended with {_exit(code)}."
        said = " | ".join(_STAMP.sub("", line) for line in telling[-LINES_SHOWN:])
        return f"{state} Its last lines: {said}" if said else state

    async def _healthy(self, client: object) -> bool:
        import httpx

        assert isinstance(client, httpx.AsyncClient)
        try:
            return (await client.get(self._health)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line longer than the buffer: the rest of it follows
                continue
            if not line:
                return
            self._lines.append(line.decode(errors="replace").rstrip())

    async def _wait(self) -> int:
        return await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def when_gone(child: Child, then: Callable[[str], None]) -> None:
    """Call ``then`` with the reason if the child goes away without being asked to."""

    def gone(_: asyncio.Task[int]) -> None:
        if not child.ending:
            then(child.last_words())

    child.exited.add_done_callback(gone)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
