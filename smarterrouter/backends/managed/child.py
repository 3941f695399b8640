"""One llama.cpp server as a child process: started, watched, asked for its memory, ended.

Decides when a start has succeeded (its ``/health`` says so) or failed (it has exited, or time
is up), and that only an exit is an end. The last lines of its standard error are kept, since they
say why.
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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import smarterrouter
from smarterrouter.errors import BackendError, BackendTimeout

if TYPE_CHECKING:
    import httpx

LINES_KEPT = 40
LINES_SHOWN = 3
POLL_S = 0.05
KILLED_S = 10.0
"""How long the kernel may take to end what was killed: the driver of a card may hold it back."""
DRAIN_S = 1.0
"""How long its standard error is read after its end: whoever it started may hold that open."""

_COMPLAINT = re.compile(r"(^| )E |\b[Ee]rror\b|\w(Error|Exception)\b|_ASSERT\b|terminate called")
_STAMP = re.compile(r"^[\d.]+ (?=[IWE] )")


class Child:
    """A running server. Made by ``Child.start``; ``url`` is its OpenAI API.

    ``pids`` are its processes, all of them once it is ready.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str, port: int, key: str) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/v1"
        self.headers = {"Authorization": f"Bearer {key}"}
        self.ending = False
        self.pids: tuple[int, ...] = (process.pid,)
        self._health = f"http://127.0.0.1:{port}/health"
        self._process = process
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self.exited = loop.create_task(self._wait())

    @classmethod
    async def start(
        cls,
        name: str,
        plan: Mapping[str, object],
        port: int,
        key: str,
        cwd: Path,
        more: Mapping[str, str] | None = None,
    ) -> Child:
        """Start the process; it is not ready yet. ``more`` goes into its environment."""
        package = Path(smarterrouter.__file__).parent.parent
        paths = [str(package), os.environ.get("PYTHONPATH", "")]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        environment = {
            **ours,
            **(more or {}),
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
                # Plain HTTP: reading the machine's certificates would hold up the loop for 50 ms.
                httpx.AsyncClient(trust_env=False, verify=False, timeout=POLL_S * 40) as client,  # noqa: S501
            ):
                while not self.exited.done():
                    if await self._healthy(client):
                        if sys.platform != "linux":
                            self.pids = await asyncio.to_thread(self._family)
                        return
                    await asyncio.wait({self.exited}, timeout=POLL_S)
                raise BackendError(f"{self.name} failed to load. {self.last_words()}")
        except TimeoutError:
            raise BackendTimeout(
                f"{self.name} was not loaded after {timeout_s:g} s. {self.last_words()} "
                "Raise ROUTER_TIMEOUT_LOAD_S if it needs longer."
            ) from None

    def memory_bytes(self) -> int | None:
        """The resident set of its processes; ``None`` once it is gone."""
        return resident_bytes(self.pids)

    async def end(self, timeout_s: float, killed_s: float = KILLED_S) -> None:
        """Ask it to stop, insist after ``timeout_s``, and return when it is gone.

        Whoever is cancelled while waiting insists at once. Raises ``BackendTimeout`` if it is
        there even ``killed_s`` after that; to be asked again then.
        """
        self.ending = True
        try:
            if timeout_s > 0:
                self._signal(signal.SIGTERM)
                await asyncio.wait({self.exited}, timeout=timeout_s)
        finally:
            if not self.exited.done():
                self._signal(signal.SIGKILL)
        done, _ = await asyncio.wait({self.exited}, timeout=killed_s)
        if not done:
            raise BackendTimeout(
                f"{self.name} was killed and has not ended after {killed_s:g} s, so it may still "
                f"hold its memory. Look in the system's log for what holds up its process "
                f"{self._process.pid}; mostly that is the driver of a card."
            )

    def last_words(self) -> str:
        """Why it ended, as far as its standard error says.

        Of several complaints the first names the cause, and the last ones what came of it.
        """
        spoken = list(dict.fromkeys(_STAMP.sub("", line) for line in self._lines if line.strip()))
        complaints = [line for line in spoken if _COMPLAINT.search(line)]
        shown = complaints[:1] + complaints[1:][1 - LINES_SHOWN :] or spoken[-LINES_SHOWN:]
        code = self._process.returncode
        state = "It is still running." if code is None else f"Its process ended with {_exit(code)}."
        return f"{state} It said: {' | '.join(shown)}" if shown else state

    async def _healthy(self, client: httpx.AsyncClient) -> bool:
        import httpx

        try:
            return (await client.get(self._health)).status_code == 200
        except httpx.HTTPError:
            return False

    def _family(self) -> tuple[int, ...]:
        """Its process and those below it; on Linux it becomes the server, and is alone.

        Looks through all processes of the machine: milliseconds, so not for the event loop.
        """
        import psutil

        try:
            below = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return self.pids
        return (self._process.pid, *(process.pid for process in below))

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
        """Its exit code, when its last words have been read too."""
        code = await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait({self._reader}, timeout=DRAIN_S)
        self._reader.cancel()
        return code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def when_gone(child: Child, then: Callable[[str], None]) -> None:
    """Call ``then`` with the reason if the child goes away without being asked to."""

    def gone(_: asyncio.Task[int]) -> None:
        if not child.ending:
            then(child.last_words())

    child.exited.add_done_callback(gone)


def resident_bytes(pids: Iterable[int]) -> int | None:
    """What those processes hold in RAM together; ``None`` if one of them is gone."""
    import psutil

    try:
        return sum(int(psutil.Process(pid).memory_info().rss) for pid in pids)
    except psutil.Error:
        return None


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
