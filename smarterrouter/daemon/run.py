"""Runs the daemon until it is told to stop. Decides how it is bound and how it logs."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

import msgspec
import uvicorn

from smarterrouter.assembly import Engine
from smarterrouter.config import Settings, unknown_variables
from smarterrouter.daemon.app import create_app
from smarterrouter.errors import ConfigError, SmarterRouterError
from smarterrouter.store.database import check

log = logging.getLogger(__name__)

BACKLOG = 2048
FAREWELL_S = 10
GC_YOUNG = 20_000
"""New objects between two looks for cycles: one in fifty requests, and not every other one."""

AfterStart = Callable[[str, Settings], Awaitable[None]]


def run(settings: Settings, after_start: AfterStart | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ``ConfigError`` when the port cannot be had."""
    set_up_logging(settings)
    for name in unknown_variables():
        log.warning("%s is not a setting of this version; it is ignored", name)
    engine = Engine(settings)
    check(engine.database)
    listener = bind(settings.host, settings.port)
    server = Server(
        uvicorn.Config(
            create_app(engine),
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=FAREWELL_S,
        )
    )
    # uvicorn raises the signal once more when it has finished: being told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = settings.address(listener.getsockname()[1])
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, listener, engine, address, after_start))


async def _serve(
    server: Server,
    listener: socket.socket,
    engine: Engine,
    address: str,
    after_start: AfterStart | None,
) -> None:
    async def begun() -> None:
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        gc.set_threshold(GC_YOUNG, *gc.get_threshold()[1:])
        count = len(engine.catalogue.models)
        log.info("serving %d model%s at %s/v1", count, "" if count == 1 else "s", address)
        if not count:
            log.warning("%s", engine.completions.nothing_to_answer())
        if after_start is not None:
            await after_start(address, engine.settings)

    server.begun = begun
    await server.serve(sockets=[listener])
    log.info("stopped")


class Server(uvicorn.Server):
    """uvicorn, which tells when it has begun."""

    begun: Callable[[], Awaitable[None]]

    async def main_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(self._begin())
            await super().main_loop()
            first.cancel()

    async def _begin(self) -> None:
        try:
            await self.begun()
        except SmarterRouterError as error:
            log.error("%s", error.message)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ``ConfigError`` saying who has the port, or what is wrong."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} is in use on {host}, perhaps by another smarterrouter. "
                "Stop it, or choose another with --port."
            ) from None
        raise ConfigError(f"{host}:{port} cannot be bound: {error.strerror or error}.") from None


def set_up_logging(settings: Settings) -> None:
    """Our own log lines on stderr, as text or as one JSON object a line."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        )
    for name, level in (("smarterrouter", settings.log_level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
