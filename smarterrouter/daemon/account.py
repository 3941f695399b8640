"""What becomes of one request, noted as it happens and put together after its last byte.

Decides what counts: the first event as the time to the first token, the backend's own figures as
the tokens. While bytes are on their way it only keeps the blocks that may hold those figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from smarterrouter.completion import Walk
from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.outcomes import Outcome, Status


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(Struct):
    """llama.cpp's figures, which it sends without being asked."""

    prompt_n: int | None = None
    cache_n: int | None = None
    predicted_n: int | None = None


class _Told(Struct):
    id: str | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None


_told = msgspec.json.Decoder(_Told).decode


class Account:
    """Made when a request has been read; ``outcome`` when all is over."""

    __slots__ = ("_began", "_first", "_head", "_started_at", "_tail", "error", "request", "walk")

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.walk = Walk()
        self.error: str | None = None
        self._started_at = time.time()
        self._began = time.monotonic()
        self._first: float | None = None
        self._head = self._tail = b""

    def answered(self) -> None:
        """The first event has come."""
        self._first = time.monotonic()

    def saw(self, block: bytes) -> None:
        """A block of the answer has gone by; a JSON body counts as one."""
        if not self._head:
            self._head = block
        if b'"usage"' in block or b'"timings"' in block:
            self._tail = block

    def outcome(self, request_id: str, gone: bool) -> Outcome:
        """``gone``: the client left before the end."""
        request, walk = self.request, self.walk
        told = self._figures()
        last = walk.trying
        virtual = walk.decision.virtual_model if walk.decision else None
        status = Status.HUNG_UP if gone else Status.ERROR if self.error else Status.OK
        return Outcome(
            request_id=request_id,
            decision_id=walk.decision.id if walk.decision else None,
            started_at=self._started_at,
            endpoint=request.endpoint,
            caller=request.caller,
            virtual_model=virtual,
            model=last.model if last else None,
            backend=last.ref.backend if last else None,
            streamed=request.stream,
            status=status,
            duration_s=time.monotonic() - self._began,
            ttft_s=None if self._first is None else self._first - self._began,
            queue_s=max(0.0, walk.waited_s - walk.loading_s),
            load_s=walk.loading_s,
            prompt_tokens=_prompt_tokens(told),
            completion_tokens=_completion_tokens(told),
            error=self.error,
            tried=tuple([failed.model for failed, _ in walk.failures if failed is not last]),
            response_id=told.id,
        )

    def _figures(self) -> _Told:
        """What the last block with figures says; without any, the first event's id."""
        found = _Told()
        for data in self._datas():
            try:
                said = _told(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if not self._tail:
                return said
            found = _Told(
                said.id or found.id, said.usage or found.usage, said.timings or found.timings
            )
        return found

    def _datas(self) -> Iterable[bytes]:
        block = self._tail or self._head
        return sse.datas(block) if self.request.stream else (block,)


def _prompt_tokens(told: _Told) -> int | None:
    if told.usage is not None and told.usage.prompt_tokens is not None:
        return told.usage.prompt_tokens
    if told.timings is None or told.timings.prompt_n is None:
        return None
    return told.timings.prompt_n + (told.timings.cache_n or 0)


def _completion_tokens(told: _Told) -> int | None:
    if told.usage is not None and told.usage.completion_tokens is not None:
        return told.usage.completion_tokens
    return told.timings.predicted_n if told.timings else None
