"""The fastest OpenAI-compatible upstream that plain Python can be: the bench's other end.

Decides nothing: the same bytes for every request, made at start. Any POST is answered at once,
with a minimal SSE stream in one write if the body asks for ``"stream":true``, else with JSON.
A streamed request for the model ``chunks-100`` gets 100 chunks, each a TCP send of its own.

``--models`` only says what GET /v1/models lists.

    python tests/benchmarks/bare_upstream.py --port 9001 --models bench-a,bench-b
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
from contextlib import suppress
from typing import Any, cast

import httptools
import uvloop

CHUNKED_MODEL = "chunks-100"
STREAMED = re.compile(rb'"stream"\s*:\s*true')
CHUNKED = re.compile(rb'"model"\s*:\s*"chunks-100"')
MANY = 100


def answered(content_type: str, body: bytes | None) -> bytes:
    """A whole response with its length, or the head of a chunked one."""
    framing = "Transfer-Encoding: chunked" if body is None else f"Content-Length: {len(body)}"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
    return head.encode() + (body or b"")


def packed(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def event(model: str, delta: Any, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1750000000}
    return b"data: " + packed({**chunk, "model": model, "choices": [choice]}) + b"\n\n"


def transfer(data: bytes) -> bytes:
    """One chunk of the chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def short_stream() -> bytes:
    events = [
        event("bench", {"role": "assistant", "content": "Hello"}),
        event("bench", {"content": " world"}),
        event("bench", {}, "stop"),
        b"data: [DONE]\n\n",
    ]
    body = b"".join(transfer(data) for data in events)
    return answered("text/event-stream", None) + body + b"0\r\n\r\n"


def long_stream() -> list[bytes]:
    """The writes of a 100-chunk stream: 99 of content, the finish, then the end."""
    word = transfer(event(CHUNKED_MODEL, {"content": " word"}))
    first = transfer(event(CHUNKED_MODEL, {"role": "assistant", "content": "A"}))
    last = transfer(event(CHUNKED_MODEL, {}, "stop"))
    head = answered("text/event-stream", None)
    return [head + first, *[word] * (MANY - 2), last, transfer(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def plain_body() -> bytes:
    message = {"role": "assistant", "content": "Hello world"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    counts = {"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92}
    body = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1750000000}
    return packed({**body, "model": "bench", "choices": [choice], "usage": counts})


def model_list(names: list[str]) -> bytes:
    entries = [{"id": m, "object": "model", "created": 1, "owned_by": "bench"} for m in names]
    return answered("application/json", packed({"object": "list", "data": entries}))


SHORT = short_stream()
LONG = long_stream()
PLAIN = answered("application/json", plain_body())
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Bare(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, listing: bytes) -> None:
        self.listing = listing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""
        self.path = b""
        self.sending: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sending is not None:
            self.sending.cancel()

    def on_message_begin(self) -> None:
        self.body = b""

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"GET":
            self.transport.write(self.listing if self.path == b"/v1/models" else MISSING)
        elif not STREAMED.search(self.body):
            self.transport.write(PLAIN)
        elif CHUNKED.search(self.body):
            self.sending = asyncio.get_running_loop().create_task(self.send_long())
        else:
            self.transport.write(SHORT)

    async def send_long(self) -> None:
        """Each write gets a turn of the loop, so that it leaves as a TCP send of its own."""
        for data in LONG:
            self.transport.write(data)
            await asyncio.sleep(0)


async def serve(port: int, models: list[str]) -> None:
    listing = model_list(models)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Bare(listing), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", default="bench,chunks-100")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(options.port, options.models.split(",")))


if __name__ == "__main__":
    main()
