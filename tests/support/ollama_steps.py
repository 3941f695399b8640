"""What the Ollama double can be made to say, and how it goes wrong: the steps of its playbook.

Decides the chunks of an answer and their pace; which model is resident is decided elsewhere.
Steps with ``needs_model`` run with their model loaded and one of its slots taken.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Literal

from aiohttp import web

from tests.support import ollama_wire as wire
from tests.support.ollama_scheduler import OllamaModel, Runner
from tests.support.ollama_wire import Prompt, Refused
from tests.support.upstream import Exchange, Json, Received, encoded, forever

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"


# --- one request --------------------------------------------------------------------------------


class Turn(Exchange):
    """One request, its model and the means to answer in Ollama's shapes."""

    model: OllamaModel
    runner: Runner
    prompt: Prompt

    def __init__(self, request: web.Request, received: Received) -> None:
        super().__init__(request, received)
        self.loaded_s = time.monotonic()

    @property
    def streams(self) -> bool:
        """Unless told not to; embeddings never do."""
        wanted = self.received.body.get("stream") is not False
        return wanted and self.received.path in ("/api/chat", "/api/generate")

    @property
    def is_chat(self) -> bool:
        return self.received.path == "/api/chat"

    @property
    def thinks(self) -> bool:
        """A model that can think does, unless it is told not to."""
        return (
            "thinking" in self.model.capabilities and self.received.body.get("think") is not False
        )

    @property
    def token_limit(self) -> int | None:
        """How many tokens may be said: by request, or by what the window has left."""
        options = self.received.body.get("options") or {}
        asked = options.get("num_predict", -1)
        room = self.runner.num_ctx - self.prompt.tokens
        limits = [asked] * (asked > 0) + [room] * (self.received.body.get("shift") is False)
        return min(limits, default=None)

    async def send(self, data: bytes) -> None:
        if self.received.method != "HEAD":
            await super().send(data)

    async def reply(self, body: Json, status: int = 200) -> None:
        data = encoded(body)
        await self.open(status, JSON, length=len(data))
        await self.send(data)

    async def line(self, body: Json) -> None:
        """One line of the stream; the headers go out with the first."""
        if self.response is None:
            await self.open(content_type=NDJSON)
        await self.send(encoded(body) + b"\n")

    def chunk(self, said: Json | None = None, **ending: Any) -> Json:
        """``said`` (content, thinking, tool_calls) as this endpoint puts it."""
        said = said or {}
        head = {"model": self.received.model, "created_at": wire.stamp()}
        if self.is_chat:
            body: Json = {"message": {"role": "assistant", "content": "", **said}}
        else:
            rest = {name: value for name, value in said.items() if name != "content"}
            body = {"response": said.get("content", ""), **rest}
        return {**head, **body, "done": bool(ending), **ending}

    def counts(self, spoken: int, began_s: float) -> Json:
        """The figures of a last chunk, in nanoseconds; what is zero is left out."""
        now = time.monotonic()
        arrived = self.received.arrived_s
        figures = {
            "total_duration": ns(now - arrived),
            "load_duration": ns(self.loaded_s - arrived),
            "prompt_eval_count": self.prompt.tokens,
            "prompt_eval_duration": ns(began_s - self.loaded_s),
            "eval_count": spoken,
            "eval_duration": ns(now - began_s),
        }
        return {name: value for name, value in figures.items() if value}


def ns(seconds: float) -> int:
    return int(seconds * 1e9)


Step = Callable[[Any], Awaitable[None]]


# --- steps that answer --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; its arguments are an object. Old servers give no ``id``."""

    name: str = "get_weather"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"city": "Zürich"})
    id: str | None = "call_a1b2c3d4"

    def as_json(self, index: int) -> Json:
        function = {"index": index, "name": self.name, "arguments": dict(self.arguments)}
        return ({"id": self.id} if self.id else {}) | {"function": function}


@dataclass(frozen=True, slots=True)
class Says:
    """An answer in pieces: thinking, then content, then all tool calls in one chunk.

    ``content`` absent is the model's greeting, or JSON if a format was asked for. ``delay_s``
    passes before each piece, by the model's speed if absent.
    """

    content: Sequence[str] | None = None
    thinking: Sequence[str] = ()
    calls: Sequence[Call] = ()
    done_reason: Literal["stop", "length"] = "stop"
    start_delay_s: float = 0.0
    delay_s: float | None = None
    needs_model = True

    def words(self, turn: Turn) -> Iterator[str]:
        if self.content is not None:
            yield from self.content
            return
        text = f"Hello from {turn.model.name}."
        if turn.received.body.get("format"):
            text = json.dumps({"answer": text})
        yield from re.findall(r"\s*\S+", text)

    def pieces(self, turn: Turn) -> Iterator[Json]:
        if turn.thinks:
            yield from ({"thinking": text} for text in self.thinking)
        yield from ({"content": text} for text in self.words(turn))
        if self.calls:
            yield {"tool_calls": [call.as_json(at) for at, call in enumerate(self.calls)]}

    async def said(self, turn: Turn) -> AsyncIterator[tuple[Json, bool]]:
        """Each chunk in its time, and whether it is the last."""
        await asyncio.sleep(self.start_delay_s)
        began_s = time.monotonic()
        pause_s = 1 / turn.model.tokens_per_s if self.delay_s is None else self.delay_s
        spoken, limit, reason = 0, turn.token_limit, self.done_reason
        for piece in self.pieces(turn):
            if limit is not None and spoken >= limit:
                reason = "length"
                break
            await asyncio.sleep(pause_s)
            yield turn.chunk(piece), False
            spoken += 1
        yield turn.chunk(None, done_reason=reason, **turn.counts(spoken, began_s)), True

    async def __call__(self, turn: Turn) -> None:
        async with aclosing(self.said(turn)) as chunks:
            if turn.streams:
                async for chunk, _ in chunks:
                    await turn.line(chunk)
            else:
                await turn.reply(whole([chunk async for chunk, _ in chunks]))

    async def begin(self, turn: Turn, count: int) -> None:
        """Only so many chunks of a stream, and no end."""
        count = count if turn.streams else 0
        async with aclosing(self.said(turn)) as chunks:
            while count > 0:
                chunk, _ = await anext(chunks)
                await turn.line(chunk)
                count -= 1


def whole(chunks: Sequence[Json]) -> Json:
    """The chunks as one body: texts joined, the rest from the last."""
    body = dict(chunks[-1])
    if "message" not in body:
        thinking = "".join(chunk.get("thinking", "") for chunk in chunks)
        said = {"response": "".join(chunk["response"] for chunk in chunks)}
        return body | said | ({"thinking": thinking} if thinking else {})
    messages = [chunk["message"] for chunk in chunks]
    message: Json = {"role": "assistant", "content": "".join(m["content"] for m in messages)}
    thinking = "".join(m.get("thinking", "") for m in messages)
    calls = [call for m in messages for call in m.get("tool_calls", ())]
    message |= {"thinking": thinking} if thinking else {}
    return {**body, "message": message | ({"tool_calls": calls} if calls else {})}


@dataclass(frozen=True, slots=True)
class Endless(Says):
    """A model that never stops of itself."""

    content: Sequence[str] | None = ("and on ",)
    delay_s: float | None = 0.001

    def words(self, turn: Turn) -> Iterator[str]:
        yield from cycle(self.content or ("",))


# --- steps that go wrong, with the model loaded and one of its slots taken ----------------------
# ``after`` counts the chunks of the answer ``of`` that are sent first.


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing more comes: no first byte, or nothing after so many chunks."""

    after: int = 0
    of: Says = Says()
    needs_model = True

    async def __call__(self, turn: Turn) -> None:
        await self.of.begin(turn, self.after)
        await forever()


@dataclass(frozen=True, slots=True)
class BreakOff:
    """The connection closes in the middle of a line; without a byte if ``after`` is 0.

    A request for one JSON body never sees a byte.
    """

    after: int = 1
    reset: bool = False
    of: Says = Says()
    needs_model = True

    async def __call__(self, turn: Turn) -> None:
        if turn.streams and self.after:
            await self.of.begin(turn, self.after)
            await turn.send(b'{"model":"')
        turn.hang_up(reset=self.reset)


@dataclass(frozen=True, slots=True)
class ErrorInStream:
    """A line ``{"error": ..}`` that ends a stream of status 200; before any chunk, a status."""

    after: int = 1
    message: str = (
        "model runner has unexpectedly stopped, this may be due to resource limitations or an "
        "internal error, check ollama server logs for details"
    )
    status: int = 500
    of: Says = Says()
    needs_model = True

    async def __call__(self, turn: Turn) -> None:
        if not turn.streams or self.after == 0:
            raise Refused(self.status, self.message)
        await self.of.begin(turn, self.after)
        await turn.line({"error": self.message})
