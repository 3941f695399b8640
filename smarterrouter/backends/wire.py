"""The data path to a server that speaks OpenAI's protocol: one request out, SSE blocks back.

Decides what counts as an answer, as a refusal and as a break; never which model to try next.
Bytes pass through untouched unless the model's name must change. Always asks for a stream:
a server asked for one JSON body goes on generating for a client that has hung up.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from smarterrouter.backends.refusals import NOT_JSON, error_in, refusal
from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.ports import Blocks
from smarterrouter.errors import BackendError, BackendTimeout, Unavailable

LONGEST_ERROR_BYTES = 64 * 1024
LONGEST_EVENT_BYTES = 16 * 1024 * 1024
KEEPALIVE_S = 3.0
"""Shorter than any common server's own (5 s), so that it never closes a connection as we send."""

STALE_S = 0.5
"""A connection that is closed this soon after a request went out had been closed before it."""

LINGER_S = 0.25
"""How long to wait, after the last event, for the connection to be free for the next request."""

_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_TRUE = msgspec.Raw(b"true")
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, until the first event, and between two reads after it."""

    connect_s: float = 5.0
    first_byte_s: float = 300.0
    stall_s: float = 120.0


class Target(Struct, frozen=True):
    """Where a request goes: ``model`` is the server's name for it, ``shown_as`` ours."""

    url: str
    model: str
    shown_as: str
    who: str
    headers: Mapping[str, str]


Begin = Callable[[aiohttp.ClientResponse], Awaitable[Blocks]]
"""Reads a response until its answer has begun. Raises whatever the server says instead."""


class Wire:
    """One connection pool. Opened on first use, closed with ``aclose``."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()

    def stream(self, request: ChatRequest, target: Target) -> AbstractAsyncContextManager[Blocks]:
        """An answer whose first event has come; see ``ports.Backend.stream``."""

        async def begin(response: aiohttp.ClientResponse) -> Blocks:
            first = await _opening(response, request, target)
            return _blocks(response, first, target, self._timeouts.stall_s)

        url, data = f"{target.url}/{request.endpoint.value}", body(request, target.model)
        return self.begun(url, data, target.who, target.headers, begin)

    @asynccontextmanager
    async def begun(
        self, url: str, data: bytes, who: str, headers: Mapping[str, str], begin: Begin
    ) -> AsyncIterator[Blocks]:
        """What ``begin`` makes of the response; until then no more than ``first_byte_s`` may pass.

        Leaving closes the response. Raises as ``post`` and ``begin`` do, and ``BackendTimeout``.
        """
        response: aiohttp.ClientResponse | None = None
        limit_s = self._timeouts.first_byte_s
        try:
            try:
                async with asyncio.timeout(limit_s):
                    response = await self.post(url, data, who, headers)
                    blocks = await begin(response)
            except TimeoutError:
                raise BackendTimeout(f"{who} sent nothing for {limit_s:g} s.") from None
            yield blocks
        finally:
            if response is not None:
                response.close()

    async def post(
        self, url: str, data: bytes, who: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a body; once more when its connection turns out to be closed already.

        Raises ``Unavailable`` or ``BackendError``, and aiohttp's ``SocketTimeoutError`` when
        nothing has come within ``first_byte_s``. The caller closes what is returned.

        llama.cpp closes its connections right after a stream, though its ``Keep-Alive`` header
        says otherwise, so a request may go out on one at that very moment.
        """
        sent = time.monotonic()
        try:
            try:
                return await self._send(url, data, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                at_once = time.monotonic() - sent < STALE_S
                if isinstance(error, aiohttp.ClientConnectorError) or not at_once:
                    raise
                return await self._send(url, data, headers)
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{who} cannot be reached: {error.strerror}.") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Unavailable(f"{who} did not accept a connection in time.") from error
        except aiohttp.SocketTimeoutError:
            raise
        except aiohttp.ClientError as error:
            raise BackendError(f"{who} closed the connection without an answer.") from error

    async def _send(
        self, url: str, data: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        return await self._open().post(
            self._parsed(url), data=data, headers=headers, allow_redirects=False
        )

    def _parsed(self, url: str) -> URL:
        """Parsed once: that is the dearest part of a small request."""
        parsed = self._urls.get(url)
        if parsed is None:
            parsed = self._urls[url] = URL(url)
        return parsed

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self._timeouts
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect_s, sock_read=limits.first_byte_s
                ),
                headers={"Content-Type": "application/json"},
                auto_decompress=True,
                read_bufsize=2**18,
            )
        return self._session


def body(request: ChatRequest, model: str) -> bytes:
    """The client's fields as they came, with the server's model name and a stream asked for."""
    fields = dict(request.fields)
    fields["model"] = msgspec.Raw(_encode(model))
    if request.endpoint is not Endpoint.EMBEDDINGS:
        fields["stream"] = _TRUE
        if not request.stream:
            fields["stream_options"] = _WITH_USAGE
    return _encode(fields)


@dataclass(slots=True)
class _Opening:
    """The first whole events, and where the stream goes on; no ``splitter``: that was all."""

    first: bytes
    splitter: sse.Splitter | None = None


async def _opening(
    response: aiohttp.ClientResponse, request: ChatRequest, target: Target
) -> _Opening:
    """Read until the first data. Raises whatever the server says instead of an answer."""
    try:
        if response.status != 200:
            raw = await at_most(response.content, LONGEST_ERROR_BYTES)
            raise refusal(response.status, response.headers, raw, target.who, target.model)
        if response.content_type == "application/json":
            return _from_json(await response.read(), request, target)
        if response.content_type == "text/html":
            raise BackendError(
                f"{target.who} answered with a web page. Is its address that of an API?"
            )
        return await _first_events(response.content, target)
    except aiohttp.SocketTimeoutError:
        raise
    except aiohttp.ClientError as error:
        raise BackendError(f"{target.who} broke off before its answer began.") from error


async def at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    """The body, or as much of it as a sentence could be in."""
    parts: list[bytes] = []
    while limit > 0 and (data := await content.read(limit)):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)


async def _first_events(content: aiohttp.StreamReader, target: Target) -> _Opening:
    splitter, blocks, size = sse.Splitter(), [], 0
    while data := await content.readany():
        block = splitter.feed(data)
        blocks.append(block)
        size += len(data)
        if (opening := next(sse.datas(block), None)) is not None:
            _check_opening(opening, target)
            return _Opening(b"".join(blocks), splitter)
        if size > LONGEST_EVENT_BYTES:
            raise BackendError(f"{target.who} sent no event in 16 MiB.")
    raise BackendError(f"{target.who} ended its answer before it began.")


def _check_opening(data: bytes, target: Target) -> None:
    if data == sse.DONE:
        raise BackendError(f"{target.who} sent an empty answer.")
    if (problem := error_in(data)) is not None:
        raise BackendError(f"{target.who} failed: {problem}")
    try:
        _decode(data)
    except NOT_JSON:
        raise BackendError(f"{target.who} sent something that is not JSON.") from None


def _from_json(raw: bytes, request: ChatRequest, target: Target) -> _Opening:
    """An answer that is one JSON body: an embedding, or a server that does not stream."""
    try:
        answer = msgspec.json.decode(raw, type=dict[str, object])
    except NOT_JSON:
        raise BackendError(f"{target.who} sent something that is not JSON.") from None
    if (problem := error_in(raw)) is not None:
        raise BackendError(f"{target.who} failed: {problem}")
    if target.shown_as != target.model:
        answer["model"] = target.shown_as
        raw = _encode(answer)
    if request.endpoint is Endpoint.EMBEDDINGS:
        return _Opening(raw)
    if request.endpoint is Endpoint.CHAT:
        try:
            raw = _encode(as_chunk(answer))
        except (AttributeError, TypeError, ValueError):
            raise BackendError(f"{target.who} sent an answer that makes no sense.") from None
    return _Opening(sse.event(raw) + sse.DONE_EVENT)


def as_chunk(answer: dict[str, object]) -> dict[str, object]:
    """A ``chat.completion`` as one ``chat.completion.chunk`` with everything in it."""
    choices: list[dict[str, object]] = []
    given = answer.get("choices")
    for choice in given if isinstance(given, list) else []:
        message = dict(choice.get("message") or {})
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        rest = {key: value for key, value in choice.items() if key != "message"}
        choices.append({**rest, "delta": message})
    return {**answer, "object": "chat.completion.chunk", "choices": choices}


async def _blocks(
    response: aiohttp.ClientResponse, opening: _Opening, target: Target, stall_s: float
) -> AsyncIterator[bytes]:
    """The blocks from the first on. Raises ``BackendError`` when the stream breaks off."""
    if opening.splitter is None:
        yield opening.first
        return
    same_name = target.shown_as == target.model
    recent: deque[bytes] = deque(maxlen=4)
    async for block in _whole_events(response, opening, target, stall_s):
        problem = None
        if b'"error"' in block:
            block, problem = _until_error(block)
        if block:
            recent.append(block)
            yield block if same_name else _renamed(block, target)
        if problem is not None:
            raise BackendError(f"{target.who} failed in the middle of its answer: {problem}")
    ending = b"".join(recent)
    if sse.ends(ending) or sse.DONE in sse.datas(ending):
        return
    if not sse.ends(opening.splitter.rest) and not _FINISHED.search(ending):
        raise BackendError(f"{target.who} broke off in the middle of its answer.")
    yield sse.DONE_EVENT


async def _whole_events(
    response: aiohttp.ClientResponse, opening: _Opening, target: Target, stall_s: float
) -> AsyncIterator[bytes]:
    """Runs of whole events, until the last one or the connection's end."""
    assert opening.splitter is not None
    splitter, block, read = opening.splitter, opening.first, response.content.readany
    limited = False
    try:
        while True:
            if block:
                yield block
                if sse.ends(block) or (sse.DONE in block and sse.DONE in sse.datas(block)):
                    break
            if len(splitter.rest) > LONGEST_EVENT_BYTES:
                raise BackendError(f"{target.who} sent an event of over 16 MiB.")
            if not limited:
                limited = limit_silence(response, stall_s)
            data = await read()
            if not data:
                return
            block = splitter.feed(data)
    except aiohttp.SocketTimeoutError:
        raise BackendTimeout(f"{target.who} sent nothing for {stall_s:g} s.") from None
    except (aiohttp.ClientError, RuntimeError) as error:  # RuntimeError: we were closed meanwhile
        raise BackendError(f"{target.who} broke off in the middle of its answer.") from error
    await free_connection(response)


def limit_silence(response: aiohttp.ClientResponse, stall_s: float) -> bool:
    """From now on no read may take longer than ``stall_s``."""
    connection = response.connection
    if connection is not None and connection.protocol is not None:
        connection.protocol.read_timeout = stall_s
        connection.protocol.start_timeout()
    return True


async def free_connection(response: aiohttp.ClientResponse) -> None:
    """Read what follows the last event, so that the connection serves the next request too."""
    if response.content.at_eof():
        return
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(LINGER_S):
            while not response.content.at_eof():
                await response.content.readany()


def _until_error(block: bytes) -> tuple[bytes, str | None]:
    """What comes before the first error event, and what that one says."""
    before = b""
    for event in sse.split(block):
        problem = error_in(sse.data_of(event) or b"")
        if problem is not None:
            return before, problem
        before += event
    return block, None


def _renamed(block: bytes, target: Target) -> bytes:
    try:
        return renamed(block, target.shown_as)
    except NOT_JSON:
        raise BackendError(f"{target.who} sent a chunk that is not JSON.") from None


def renamed(block: bytes, model: str) -> bytes:
    """The same events with ``model`` as the model's name."""
    name = msgspec.Raw(_encode(model))
    out = b""
    for event in sse.split(block):
        data = sse.data_of(event)
        if data is None or data.strip() == sse.DONE:
            out += event
            continue
        fields = _decode(data)
        fields["model"] = name
        out += sse.event(_encode(fields))
    return out
