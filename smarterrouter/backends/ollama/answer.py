"""One answer off the wire, line by line. Decides when it has begun, and when it has broken off.

Begun: at the first line that says something, or that it is done. Broken off: when the connection
ends, or is silent for too long, before a line has said that it is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from smarterrouter.backends.ollama.faults import refused
from smarterrouter.backends.ollama.telling import Teller
from smarterrouter.backends.wire import (
    LONGEST_ERROR_BYTES,
    LONGEST_EVENT_BYTES,
    Timeouts,
    at_most,
    free_connection,
    limit_silence,
)
from smarterrouter.errors import BackendError, BackendTimeout, SmarterRouterError


class Answer:
    """A response being read and told. Whoever sent the request closes the response."""

    def __init__(
        self, response: aiohttp.ClientResponse, teller: Teller, who: str, timeouts: Timeouts
    ) -> None:
        self._response = response
        self._teller = teller
        self._who = who
        self._timeouts = timeouts
        self._begun = False
        self._rest = b""
        self._problem: SmarterRouterError | None = None

    async def opening(self) -> bytes:
        """The first events; ``Wire.begun`` bounds a server that says nothing."""
        while not (block := await self._block()):
            pass
        self._begun = True
        limit_silence(self._response, self._timeouts.stall_s)
        return block

    async def blocks(self, first: bytes) -> AsyncIterator[bytes]:
        """All events, ``first`` before the others."""
        yield first
        while not self._teller.done:
            if block := await self._block():
                yield block
        await free_connection(self._response)

    async def _block(self) -> bytes:
        """The events of what has been read next; perhaps none."""
        if self._problem is not None:
            raise self._problem
        data = await self._read()
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop() if data else b""
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise BackendError(f"{self._who} sent no line in 16 MiB.")
        block = self._told(lines)
        if not data and not self._teller.done and self._problem is None:
            self._problem = self._broken()
        if self._problem is not None and not block:
            raise self._problem
        return block

    def _told(self, lines: list[bytes]) -> bytes:
        """The events of these lines, up to the one that is an error or the last."""
        block = b""
        try:
            for line in lines:
                if line.strip() and not self._teller.done:
                    block += self._teller.tell(line)
        except SmarterRouterError as error:
            self._problem = error
        return block

    async def _read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except aiohttp.SocketTimeoutError:
            raise self._late() from None
        except (aiohttp.ClientError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            raise self._broken() from error

    def _late(self) -> BackendTimeout:
        limits = self._timeouts
        limit_s = limits.stall_s if self._begun else limits.first_byte_s
        return BackendTimeout(f"{self._who} sent nothing for {limit_s:g} s.")

    def _broken(self) -> BackendError:
        when = "in the middle of its answer" if self._begun else "before its answer began"
        return BackendError(f"{self._who} broke off {when}.")


async def body(response: aiohttp.ClientResponse, who: str) -> bytes:
    """An answer that is one JSON body. Raises ``BackendError`` when it breaks off."""
    try:
        return await response.read()
    except aiohttp.SocketTimeoutError:
        raise
    except aiohttp.ClientError as error:
        raise BackendError(f"{who} broke off before its answer began.") from error


async def check(response: aiohttp.ClientResponse, who: str, model: str) -> None:
    """Raises what any status but 200 means, and ``BackendError`` for a web page."""
    if response.status != 200:
        try:
            raw = await at_most(response.content, LONGEST_ERROR_BYTES)
        except aiohttp.SocketTimeoutError:
            raise
        except aiohttp.ClientError:
            raw = b""
        raise refused(response.status, response.headers, raw, who, model)
    if response.content_type == "text/html":
        raise BackendError(f"{who} answered with a web page. Is that the address of an Ollama?")
