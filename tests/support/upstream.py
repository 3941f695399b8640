"""A scripted OpenAI-compatible upstream on a real socket, with the real world's bad habits.

Decides what an upstream sends and how the bytes fall on the wire; asserts nothing. Each POST
takes the next step of the playbook (the last one repeats), and every request is recorded:

    async with Upstream(Status(429, retry_after=2), Stream(["Hello", " world"])) as up:
        ...  # talk to up.base_url
    assert up.requests[0].body["model"] == "a"

A step is any ``async def step(exchange: Exchange)``; the dataclasses below are such steps.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Literal, Self

from aiohttp import web

Json = dict[str, Any]
Delta = Mapping[str, Any]
EVENT_STREAM = "text/event-stream"
CREATED = 1_750_000_000


# --- what came in -------------------------------------------------------------------------------


@dataclass(eq=False)
class Received:
    """One request as it came, and what became of its connection.

    ``disconnected`` is set when the peer hangs up before our answer is complete (with the
    monotonic time in ``disconnected_s``), ``ended`` when the step is over either way.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Json
    number: int
    arrived_s: float
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected_s: float | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    writes: int = 0

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def is_text(self) -> bool:
        """Whether this is the old text completion endpoint."""
        return self.path.endswith("/completions") and not self.path.endswith("/chat/completions")

    @property
    def is_embeddings(self) -> bool:
        return self.path.endswith("/embeddings")


class Exchange:
    """One request and the means to answer it: the only place here that touches the connection."""

    def __init__(self, request: web.Request, received: Received) -> None:
        self.received = received
        self._request = request
        self.response: web.StreamResponse | None = None

    async def open(
        self,
        status: int = 200,
        content_type: str = EVENT_STREAM,
        headers: Iterable[tuple[str, str]] = (),
        length: int | None = None,
    ) -> None:
        """Send status and headers; the body is chunked unless its ``length`` is announced."""
        self.response = web.StreamResponse(status=status)
        self.response.headers["Content-Type"] = content_type
        for name, value in headers:
            self.response.headers.add(name, value)
        if length is None:
            self.response.enable_chunked_encoding()
        else:
            self.response.content_length = length
        await self.response.prepare(self._request)

    async def send(self, data: bytes) -> None:
        """One write to the socket; the loop gets a turn afterwards."""
        assert self.response is not None, "open() comes first"
        await self.response.write(data)
        self.received.writes += 1
        await asyncio.sleep(0)

    async def send_json(
        self, body: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        data = encoded(body)
        await self.open(status, "application/json", headers, length=len(data))
        await self.send(data)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close under the peer: a plain FIN after what was written, or a TCP reset."""
        transport = self._request.transport
        if transport is None:
            return
        if reset:
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


Step = Callable[[Exchange], Awaitable[None]]


# --- how bytes fall on the wire -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire:
    """How events become writes.

    ``split`` cuts each write into pieces of that many bytes, through line ends and multibyte
    characters alike; ``together`` puts that many events in one write. ``keepalives`` comments
    come before the first event, ``keepalive_s`` seconds apart. ``done`` ends with ``[DONE]``.
    """

    newline: str = "\n"
    space: str = " "
    split: int | None = None
    together: int = 1
    keepalives: int = 0
    keepalive_s: float = 0.0
    keepalive: str = ": keep-alive"
    done: bool = True
    content_type: str = EVENT_STREAM
    headers: tuple[tuple[str, str], ...] = ()

    def event(self, data: Any, name: str | None = None, field_name: str = "data") -> bytes:
        """One event's bytes; ``data`` is JSON-encoded unless it is text already."""
        text = data if isinstance(data, str) else encoded(data).decode()
        head = f"event:{self.space}{name}{self.newline}" if name else ""
        return f"{head}{field_name}:{self.space}{text}{self.newline * 2}".encode()

    async def open(self, exchange: Exchange) -> None:
        await exchange.open(content_type=self.content_type, headers=self.headers)
        for _ in range(self.keepalives):
            await exchange.send(f"{self.keepalive}{self.newline * 2}".encode())
            await asyncio.sleep(self.keepalive_s)

    async def send(self, exchange: Exchange, frames: Iterable[bytes], delay_s: float) -> None:
        events = iter(frames)
        while batch := b"".join(islice(events, self.together)):
            size = self.split or len(batch)
            for start in range(0, len(batch), size):
                await exchange.send(batch[start : start + size])
            await asyncio.sleep(delay_s)


CRLF = Wire(newline="\r\n")
BYTE_BY_BYTE = Wire(split=1)
ONE_WRITE = Wire(together=1_000_000)
KEEPALIVES = Wire(keepalives=3)
NO_DONE = Wire(done=False)


def encoded(body: Any) -> bytes:
    """Compact JSON in UTF-8, multibyte characters left as they are."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


# --- what an answer says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """One choice's part of one chunk."""

    delta: Delta
    index: int = 0
    finish: str | None = None
    logprobs: Json | None = None
    extra: Delta = field(default_factory=dict)


def usage(ask: Received, pieces: int) -> Json:
    prompt = max(1, len(ask.raw) // 4)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": pieces,
        "total_tokens": prompt + pieces,
    }


def envelope(ask: Received, kind: str, model: str | None, choices: list[Json]) -> Json:
    """The part that chunks and whole bodies share; ``kind`` is the chat ``object``."""
    return {
        "id": f"{'cmpl' if ask.is_text else 'chatcmpl'}-{ask.number}",
        "object": "text_completion" if ask.is_text else kind,
        "created": CREATED,
        "model": model or ask.model,
        "system_fingerprint": "fp_scripted",
        "choices": choices,
    }


def streamed_choice(ask: Received, piece: Piece) -> Json:
    said: Json = (
        {"text": piece.delta.get("content") or ""} if ask.is_text else {"delta": piece.delta}
    )
    ending = {"logprobs": piece.logprobs, "finish_reason": piece.finish}
    return {"index": piece.index, **said, **ending, **piece.extra}


def whole(ask: Received, pieces: Iterable[Piece], model: str | None) -> Json:
    """The pieces as one JSON body: what the same answer is for a client that wants no stream."""
    messages: dict[int, Json] = {}
    finishes: dict[int, str | None] = {}
    logprobs: dict[int, list[Any]] = {}
    count = 0
    for piece in pieces:
        message = messages.setdefault(piece.index, {"role": "assistant", "content": None})
        fold(message, piece.delta)
        finishes[piece.index] = piece.finish
        logprobs.setdefault(piece.index, []).extend((piece.logprobs or {}).get("content", ()))
        count += bool(piece.delta)
    choices: list[Json] = []
    for index, message in sorted(messages.items()):
        said = {"text": message["content"] or ""} if ask.is_text else {"message": message}
        tokens = {"content": logprobs[index], "refusal": None} if logprobs[index] else None
        ending = {"logprobs": tokens, "finish_reason": finishes[index]}
        choices.append({"index": index, **said, **ending})
    return {**envelope(ask, "chat.completion", model, choices), "usage": usage(ask, count)}


def fold(message: Json, delta: Delta) -> None:
    """Add one delta to the message so far: texts are joined, tool calls merged by index."""
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value:
                fold_call(message.setdefault("tool_calls", []), call)
        elif name == "role":
            message["role"] = value
        elif isinstance(value, str):
            message[name] = (message.get(name) or "") + value


def fold_call(calls: list[Json], call: Delta) -> None:
    if call["index"] == len(calls):
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    held = calls[call["index"]]
    held["id"] = call.get("id") or held["id"]
    function = call.get("function", {})
    held["function"]["name"] += function.get("name", "")
    held["function"]["arguments"] += function.get("arguments", "")


def token_logprobs(text: str) -> Json:
    token = {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []}
    return {"content": [token], "refusal": None}


# --- steps that answer --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer in pieces: a stream if the request asks for one, else one JSON body.

    ``start_delay_s`` passes before the headers, ``delay_s`` after each write. ``model`` is the
    name to answer with, if not the one asked for. ``extra`` are unknown top-level fields on the
    last chunk (llama.cpp's ``timings``, Groq's ``x_groq``). ``ignores_stream`` answers JSON
    whatever was asked.
    """

    wire: Wire = Wire()
    model: str | None = None
    start_delay_s: float = 0.0
    delay_s: float = 0.0
    extra: Delta = field(default_factory=dict)
    ignores_stream: bool = False

    def pieces(self) -> Iterator[Piece]:
        raise NotImplementedError

    def chunks(self, ask: Received) -> Iterator[Json]:
        """Chunk bodies in order: the pieces, then usage with no choices if it was asked for."""
        count = 0
        for piece in self.pieces():
            count += 1
            choice = streamed_choice(ask, piece)
            chunk = envelope(ask, "chat.completion.chunk", self.model, [choice])
            if ask.wants_usage:
                chunk["usage"] = None
            yield chunk | (dict(self.extra) if piece.finish else {})
        if ask.wants_usage:
            last = envelope(ask, "chat.completion.chunk", self.model, [])
            yield {**last, "usage": usage(ask, count)}

    def frames(self, ask: Received) -> Iterator[bytes]:
        """The events' bytes in order, ``[DONE]`` included."""
        for chunk in self.chunks(ask):
            yield self.wire.event(chunk)
        if self.wire.done:
            yield self.wire.event("[DONE]")

    def body(self, ask: Received) -> Json:
        """The one JSON body of this answer, for whichever endpoint was asked."""
        if ask.is_embeddings:
            return embeddings(ask)
        return {**whole(ask, self.pieces(), self.model), **self.extra}

    async def __call__(self, exchange: Exchange) -> None:
        ask = exchange.received
        await asyncio.sleep(self.start_delay_s)
        if ask.is_embeddings or self.ignores_stream or not ask.wants_stream:
            await exchange.send_json(self.body(ask))
            return
        await self.wire.open(exchange)
        await self.wire.send(exchange, self.frames(ask), self.delay_s)


@dataclass(frozen=True, slots=True)
class Stream(Answer):
    """Text: a role chunk, ``reasoning`` then ``content`` deltas, ``refusal``, and the finish.

    ``n`` choices come interleaved. ``reasoning_field`` is ``reasoning_content`` (DeepSeek, vLLM,
    llama.cpp) or ``reasoning`` (OpenRouter, Groq, Ollama).
    """

    content: Sequence[str] = ("Hello", " world")
    finish: str = "stop"
    reasoning: Sequence[str] = ()
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    refusal: Sequence[str] = ()
    n: int = 1
    logprobs: bool = False

    def pieces(self) -> Iterator[Piece]:
        choices = range(self.n)
        yield from (Piece({"role": "assistant", "content": ""}, i) for i in choices)
        for text in self.reasoning:
            yield from (Piece({self.reasoning_field: text}, i) for i in choices)
        for text in self.content:
            tokens = token_logprobs(text) if self.logprobs else None
            yield from (Piece({"content": text}, i, logprobs=tokens) for i in choices)
        for text in self.refusal:
            yield from (Piece({"refusal": text}, i) for i in choices)
        yield from (Piece({}, i, finish=self.finish) for i in choices)


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; ``fragment`` is how many characters of arguments one chunk carries."""

    name: str
    arguments: str = "{}"
    id: str | None = None
    fragment: int = 5

    def fragments(self) -> list[str]:
        cuts = range(0, len(self.arguments), self.fragment)
        return [self.arguments[at : at + self.fragment] for at in cuts]


Vendor = Literal["openai", "vllm", "llamacpp", "ollama"]


@dataclass(frozen=True, slots=True)
class ToolCalls(Answer):
    """Tool calls one after the other, parallel ones told apart by index, as a vendor sends them.

    openai:   the first delta has role and null content; each call opens with id, name and "".
    vllm:     a role chunk first; a call opens with id and name, no arguments; ``stop_reason``.
    llamacpp: a role chunk first; a call opens with id, name and the first fragment; ``timings``.
    ollama:   each call whole in one delta.
    """

    calls: Sequence[Call] = (Call("get_weather", '{"city":"Zürich"}'),)
    vendor: Vendor = "openai"
    before: Sequence[str] = ()

    def pieces(self) -> Iterator[Piece]:
        if self.vendor != "openai" or self.before:
            yield Piece({"role": "assistant", "content": "" if self.vendor == "vllm" else None})
        yield from (Piece({"content": text}) for text in self.before)
        for index, call in enumerate(self.calls):
            for turn, part in enumerate(self.parts(index, call)):
                leads = self.vendor == "openai" and not (index or turn or self.before)
                role = {"role": "assistant", "content": None} if leads else {}
                yield Piece({**role, "tool_calls": [{"index": index, **part}]})
        ending: Json = {"stop_reason": None} if self.vendor == "vllm" else {}
        yield Piece({}, finish="tool_calls", extra=ending)

    def parts(self, index: int, call: Call) -> Iterator[Json]:
        """What one call's deltas hold beside the index: the opening, then arguments."""
        first: dict[Vendor, tuple[Json, int]] = {
            "openai": ({"arguments": ""}, 0),
            "vllm": ({}, 0),
            "llamacpp": ({"arguments": "".join(call.fragments()[:1])}, 1),
            "ollama": ({"arguments": call.arguments}, len(call.fragments())),
        }
        opening, used = first[self.vendor]
        identity = {"id": call.id or f"call_{index}", "type": "function"}
        yield {**identity, "function": {"name": call.name, **opening}}
        for text in call.fragments()[used:]:
            yield {"function": {"arguments": text}}

    def body(self, ask: Received) -> Json:
        timings = {"timings": {"predicted_per_second": 42.0}} if self.vendor == "llamacpp" else {}
        return {**whole(ask, self.pieces(), self.model), **timings, **self.extra}


@dataclass(frozen=True, slots=True)
class Pieces(Answer):
    """Any deltas at all, given one by one."""

    given: Sequence[Piece] = ()

    def pieces(self) -> Iterator[Piece]:
        yield from self.given


@dataclass(frozen=True, slots=True)
class Endless(Answer):
    """A model that never stops; without ``stream`` it never answers."""

    content: Sequence[str] = ("and on ",)

    def pieces(self) -> Iterator[Piece]:
        yield Piece({"role": "assistant", "content": ""})
        yield from (Piece({"content": text}) for text in cycle(self.content))

    def body(self, ask: Received) -> Json:
        raise AssertionError("an endless answer has no body")

    async def __call__(self, exchange: Exchange) -> None:
        if not exchange.received.wants_stream:
            await forever()
        await self.wire.open(exchange)
        await self.wire.send(exchange, self.frames(exchange.received), self.delay_s)


# --- steps that go wrong ------------------------------------------------------------------------
# ``after`` counts the events of the answer ``of`` that are sent first; the role chunk is one.


@dataclass(frozen=True, slots=True)
class BreakOff:
    """The connection closes with the answer unfinished and the chunked encoding not ended.

    ``mid_event`` sends half of the next event too. A request for JSON gets half of its body,
    with the full length announced. ``reset`` ends with a TCP reset.
    """

    after: int = 2
    mid_event: bool = False
    reset: bool = False
    of: Answer = Stream()

    async def __call__(self, exchange: Exchange) -> None:
        ask = exchange.received
        if ask.wants_stream:
            await self.of.wire.open(exchange)
            frames = self.of.frames(ask)
            await self.of.wire.send(exchange, islice(frames, self.after), self.of.delay_s)
            if self.mid_event:
                event = next(frames)
                await exchange.send(event[: len(event) // 2])
        else:
            data = encoded(self.of.body(ask))
            await exchange.open(content_type="application/json", length=len(data))
            await exchange.send(data[: len(data) // 2])
        exchange.hang_up(reset=self.reset)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is accepted and the request read, then it closes without one byte."""

    reset: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        exchange.hang_up(reset=self.reset)


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing more comes: from the start (no headers), or ``after`` so many events."""

    after: int | None = None
    of: Answer = Stream()

    async def __call__(self, exchange: Exchange) -> None:
        if self.after is not None and exchange.received.wants_stream:
            frames = islice(self.of.frames(exchange.received), self.after)
            await self.of.wire.open(exchange)
            await self.of.wire.send(exchange, frames, self.of.delay_s)
        await forever()


@dataclass(frozen=True, slots=True)
class ErrorInStream:
    """A 200 whose stream carries an error after ``after`` events; 500 for a request for JSON.

    ``shape``: ``data`` is ``data: {"error":..}``, ``event`` adds ``event: error``, ``field`` is
    old llama.cpp's ``error: {..}``. ``done`` ends with a ``[DONE]`` all the same, as vLLM does.
    """

    after: int = 0
    message: str = "the model ran out of memory"
    code: int | str | None = 500
    shape: Literal["data", "event", "field"] = "data"
    done: bool = False
    of: Answer = Stream()

    async def __call__(self, exchange: Exchange) -> None:
        ask, wire = exchange.received, self.of.wire
        error = {"message": self.message, "type": "server_error", "param": None, "code": self.code}
        if not ask.wants_stream:
            await exchange.send_json({"error": error}, status=500)
            return
        name = "error" if self.shape == "event" else None
        last = wire.event({"error": error}, name)
        if self.shape == "field":
            last = wire.event(error, field_name="error")
        ending = [last, wire.event("[DONE]")] if self.done else [last]
        await wire.open(exchange)
        frames = [*islice(self.of.frames(ask), self.after), *ending]
        await wire.send(exchange, frames, self.of.delay_s)


ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
ErrorShape = Literal["openai", "vllm", "ollama", "fastapi", "text", "html"]


@dataclass(frozen=True, slots=True)
class Status:
    """An error status with the body a server or a proxy in front of it would send."""

    status: int = 500
    shape: ErrorShape = "openai"
    message: str = "scripted failure"
    code: str | None = None
    retry_after: float | str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    async def __call__(self, exchange: Exchange) -> None:
        wait = self.retry_after
        headers = list(self.headers) + ([("Retry-After", str(wait))] if wait is not None else [])
        kind = ERROR_TYPES.get(self.status, "server_error")
        openai = {"message": self.message, "type": kind, "param": None, "code": self.code}
        bodies: dict[str, Json] = {
            "openai": {"error": openai},
            "vllm": {"object": "error", **openai, "code": self.status},
            "ollama": {"error": self.message},
            "fastapi": {"detail": self.message},
        }
        if self.shape in bodies:
            await exchange.send_json(bodies[self.shape], self.status, headers)
            return
        page = f"<html><head><title>{self.status}</title></head><body>{self.message}</body></html>"
        data = (page if self.shape == "html" else self.message).encode()
        content_type = "text/html" if self.shape == "html" else "text/plain; charset=utf-8"
        await exchange.open(self.status, content_type, headers, length=len(data))
        await exchange.send(data)


@dataclass(frozen=True, slots=True)
class Raw:
    """Exactly these writes, chunked; ``hang_up`` leaves the chunked encoding not ended."""

    writes: Sequence[bytes]
    content_type: str = EVENT_STREAM
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    hang_up: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open(self.status, self.content_type, self.headers)
        for data in self.writes:
            await exchange.send(data)
            await asyncio.sleep(self.delay_s)
        if self.hang_up:
            exchange.hang_up()


NOT_JSON = Raw([b"<html>It works!</html>"], content_type="application/json")


async def forever() -> None:
    await asyncio.Event().wait()


# --- models and embeddings ----------------------------------------------------------------------


def openai_model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}


def vllm_model(name: str, max_model_len: int | None = 8192) -> Json:
    length = {} if max_model_len is None else {"max_model_len": max_model_len}
    more: Json = {"root": name, "parent": None, **length, "permission": []}
    return {**openai_model(name), "owned_by": "vllm", **more}


def llamacpp_model(name: str, n_ctx_train: int = 8192, size: int = 98_000_000) -> Json:
    meta = {"n_ctx_train": n_ctx_train, "n_params": 135_000_000, "size": size}
    return {**openai_model(name), "owned_by": "llamacpp", "meta": meta}


def lmstudio_model(name: str, *, loaded: bool = True, kind: str = "llm") -> Json:
    """LM Studio's bare /v1 entry, plus what its /api/v0/models tells (kept under ``_native``)."""
    state = {"state": "loaded" if loaded else "not-loaded", "max_context_length": 32768}
    details = {"type": kind, "arch": "llama", "quantization": "Q4_K_M", **state}
    native = {"id": name, "object": "model", "publisher": "somebody", **details}
    return {"id": name, "object": "model", "owned_by": "organization_owner", "_native": native}


def listing(models: Sequence[Json], *, native: bool = False) -> Json:
    """The body of a model list; ``native`` is LM Studio's own, empty for everybody else."""
    if native:
        return {"object": "list", "data": [m["_native"] for m in models if "_native" in m]}
    data = [{k: v for k, v in model.items() if k != "_native"} for model in models]
    return {"object": "list", "data": data}


def vector(text: str, dimensions: int) -> list[float]:
    """The same unit vector for the same text, on every run."""
    digest = hashlib.shake_128(text.encode()).digest(dimensions)
    numbers = [byte - 127.5 for byte in digest]
    length = sum(x * x for x in numbers) ** 0.5
    return [x / length for x in numbers]


def embeddings(ask: Received, dimensions: int = 8) -> Json:
    """Vectors for a text, texts, tokens or lists of tokens, as floats or base64."""
    given = ask.body.get("input", "")
    one = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    data: list[Json] = []
    for index, item in enumerate([given] if one else given):
        numbers: list[float] | str = vector(str(item), ask.body.get("dimensions") or dimensions)
        if ask.body.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = max(1, len(ask.raw) // 4)
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": ask.model, "usage": counts}


# --- the server ---------------------------------------------------------------------------------


class Playbook:
    """Steps taken in order; the last one repeats."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = deque(steps)

    def take(self) -> Step:
        return self._steps.popleft() if len(self._steps) > 1 else self._steps[0]


class Upstream:
    """The server: an async context manager, or ``start`` and ``stop`` (again on the same port).

    ``models`` are names or entries made by ``vllm_model`` and its like, and may be changed while
    it runs. ``by_model`` gives a model a playbook of its own. ``list_step`` answers the model
    list in place of the list. With ``api_key`` every other key is a 401.
    """

    def __init__(
        self,
        *steps: Step,
        models: Sequence[str | Json] = ("a",),
        by_model: Mapping[str, Sequence[Step]] | None = None,
        list_step: Step | None = None,
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.models = list(models)
        self.list_step = list_step
        self.api_key = api_key
        self.port = port
        self.requests: list[Received] = []
        self.listings: list[Received] = []
        self.in_flight = 0
        self.peak_in_flight = 0
        self._arrived = asyncio.Condition()
        self._stopping = False
        self._runner: web.AppRunner | None = None
        self.play(*steps)
        self._by_model = {name: Playbook(own) for name, own in (by_model or {}).items()}

    def play(self, *steps: Step, model: str | None = None) -> None:
        """From now on follow these steps (for this model only, if one is named)."""
        if model is None:
            self._playbook = Playbook(steps or (Stream(),))
        else:
            self._by_model[model] = Playbook(steps)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.url}/v1"

    async def received(self, count: int = 1, timeout_s: float = 5.0) -> Received:
        """Wait until ``count`` POSTs have come in; answers the last of these."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/api/v0/models", self._list)
        for name in ("chat/completions", "completions", "embeddings"):
            app.router.add_post(f"/v1/{name}", self._answer)
        self._stopping = False
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _list(self, request: web.Request) -> web.StreamResponse:
        received = await self._record(request, self.listings)
        step = self._refusal(received) or self.list_step or self._list_models
        return await self._play(request, received, step)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        received = await self._record(request, self.requests)
        async with self._arrived:
            self._arrived.notify_all()
        step = self._refusal(received) or self._by_model.get(received.model, self._playbook).take()
        return await self._play(request, received, step)

    def _refusal(self, received: Received) -> Step | None:
        """What no script is asked about: a wrong key, and a POST that is no JSON object."""
        if self.api_key and received.headers.get("Authorization") != f"Bearer {self.api_key}":
            return Status(401, message="Incorrect API key provided", code="invalid_api_key")
        if received.method == "POST" and not received.body:
            return Status(400, message="not a JSON object")
        return None

    async def _list_models(self, exchange: Exchange) -> None:
        entries = [openai_model(m) if isinstance(m, str) else m for m in self.models]
        native = exchange.received.path.startswith("/api/")
        await exchange.send_json(listing(entries, native=native))

    async def _record(self, request: web.Request, into: list[Received]) -> Received:
        raw = await request.read()
        body: Any = None
        with suppress(ValueError):
            body = json.loads(raw)
        body = body if isinstance(body, dict) else {}
        head = (request.method, request.path, request.headers.copy())
        received = Received(*head, raw, body, len(into), time.monotonic())
        into.append(received)
        return received

    async def _play(
        self, request: web.Request, received: Received, step: Step
    ) -> web.StreamResponse:
        """Run the step, keep the books, and note whether the peer left before the end."""
        exchange = Exchange(request, received)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await step(exchange)
        except (asyncio.CancelledError, ConnectionError):
            if not self._stopping:
                received.disconnected_s = time.monotonic()
                received.disconnected.set()
            raise
        finally:
            self.in_flight -= 1
            received.ended.set()
        return exchange.response or web.Response()
