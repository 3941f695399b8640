"""The daemon on a real socket: in this process and loop, or as the command a user types."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from smarterrouter.assembly import Engine
from smarterrouter.config import Settings
from smarterrouter.daemon.app import create_app
from smarterrouter.daemon.run import bind

START_S = 30.0
CLEAN = {
    **{key: value for key, value in os.environ.items() if not key.startswith("ROUTER_")},
    "OLLAMA_HOST": "127.0.0.1:9",
    "LLAMA_ARG_PORT": "9",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that serves; ``url`` has no path."""

    url: str
    engine: Engine

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.url}/v1"

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False, **options)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    """A daemon with these settings (and no others) in the running loop."""
    engine = Engine(Settings(**settings))
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(engine),
            log_config=None,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
    )
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if serving.done():
            raise RuntimeError("the daemon did not start") from serving.exception()
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", engine)
    finally:
        server.should_exit = True
        await serving
        listener.close()


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


def backend_of(url: str, name: str = "up", **more: Any) -> dict[str, Any]:
    """One ``[[backend]]`` table of kind openai."""
    return {"name": name, "kind": "openai", "url": url, **more}


@dataclass(slots=True)
class Process:
    """``smarterrouter serve`` as a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False, **options)

    def kill(self) -> None:
        """As hard as it gets: no farewell."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def served(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, start_s: float = START_S
) -> Iterator[Process]:
    """Run ``serve --port 0 ARGUMENTS`` in ``folder`` until the block ends."""
    log = folder / "serve.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "smarterrouter", "serve", "--port", "0", *arguments],
            cwd=folder,
            env={**CLEAN, "XDG_DATA_HOME": str(folder / "data"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield Process(process, _address(process, log, start_s), log)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _address(process: subprocess.Popen[str], log: Path, start_s: float) -> str:
    """Where it says it serves."""
    until = time.monotonic() + start_s
    while time.monotonic() < until:
        if found := re.search(r"serving \d+ models? at (http://\S+)/v1", log.read_text()):
            return found.group(1)
        if process.poll() is not None:
            raise RuntimeError(f"serve ended with {process.returncode}: {log.read_text()}")
        time.sleep(0.05)
    raise RuntimeError(f"serve did not start in {start_s} s: {log.read_text()}")
