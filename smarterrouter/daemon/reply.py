"""One response on its way to one client. Decides nothing; knows whether it has begun."""

from __future__ import annotations

import msgspec
from litestar.types import Send

from smarterrouter.domain import sse
from smarterrouter.errors import SmarterRouterError

Headers = list[tuple[bytes, bytes]]
_NO_CONTROLS = bytes(32 if code < 32 or code == 127 else code for code in range(256))


def header(name: str, value: str) -> tuple[bytes, bytes]:
    """A header whose value is safe to send, whatever a model is called."""
    return name.encode(), value.encode("ascii", "backslashreplace").translate(_NO_CONTROLS)


def waits(seconds: float) -> tuple[bytes, bytes]:
    """How long the wait for a model was expected to be."""
    return header("x-smarterrouter-expected-wait", f"{seconds:.1f}")


class Reply:
    """Either one JSON body, or a stream of SSE blocks."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.begun = False
        self.done = False
        self._send = send
        self.request_id = request_id
        self._base: Headers = [header("x-request-id", request_id)]

    async def json(self, status: int, body: bytes, headers: Headers) -> None:
        """The whole response at once."""
        length = (b"content-length", str(len(body)).encode())
        kind = (b"content-type", b"application/json")
        await self._start(status, [kind, length, *headers])
        self.done = True
        await self._body(body, more=False)

    async def error(self, error: SmarterRouterError, headers: Headers) -> None:
        """The error as a response; where a stream has begun, as its last event."""
        body = msgspec.json.encode(error.body())
        if self.begun:
            self.done = True
            await self._body(b"event: error\n" + sse.event(body), more=False)
            return
        if error.retry_after_s is not None:
            headers = [*headers, header("retry-after", str(max(1, round(error.retry_after_s))))]
        await self.json(error.status, body, headers)

    async def open_stream(self, headers: Headers) -> None:
        kind = (b"content-type", b"text/event-stream; charset=utf-8")
        quiet = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await self._start(200, [kind, *quiet, *headers])

    async def block(self, block: bytes) -> None:
        """One run of whole events; the one that says ``[DONE]`` ends the response."""
        self.done = sse.ends(block)
        await self._body(block, more=not self.done)

    async def close_stream(self) -> None:
        """End the response, if nothing that was sent has ended it."""
        if not self.done:
            self.done = True
            await self._body(b"", more=False)

    async def _start(self, status: int, headers: Headers) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self._base],
            }
        )
        self.begun = True

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
