"""Keeps a client company while it waits: SSE comments, or the wait as reasoning text.

Decides when to speak and what to say. Nothing said here is an answer, so the walk goes on
cascading; but the response has begun, so a later error comes as an event of the stream.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from smarterrouter.completion import Completions, Walk
from smarterrouter.daemon.reply import Reply, header, waits
from smarterrouter.domain import sse
from smarterrouter.domain.ids import new_id

FIRST_THOUGHT_S = 1.0
"""A person who watches is told sooner than a proxy needs to hear."""


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """Speak after ``comment_s`` and then as often; ``as_reasoning`` shows the wait to people."""

    comment_s: float = 5.0
    as_reasoning: bool = False


class Company:
    """Use as an async context manager around the wait; leaving it falls silent."""

    def __init__(
        self, reply: Reply, walk: Walk, completions: Completions, policy: WaitPolicy
    ) -> None:
        self._reply = reply
        self._walk = walk
        self._completions = completions
        self._policy = policy
        self._timer: asyncio.TimerHandle | None = None
        self._talk: asyncio.Task[None] | None = None
        self._shown: str | None = None

    def begin(self) -> None:
        every = self._policy.comment_s
        delay = min(FIRST_THOUGHT_S, every) if self._policy.as_reasoning else every
        self._timer = asyncio.get_running_loop().call_later(delay, self._start)

    async def end(self) -> None:
        """Fall silent; whatever was being said is said."""
        if self._timer is not None:
            self._timer.cancel()
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.gather(self._talk, return_exceptions=True)

    def _start(self) -> None:
        self._talk = asyncio.get_running_loop().create_task(self._speak())

    async def _speak(self) -> None:
        decision = self._walk.decision
        headers = [header("x-smarterrouter-decision", decision.id)] if decision else []
        if expected := self._completions.expected_wait_s(self._walk):
            headers.append(waits(expected))
        await self._reply.open_stream(headers)
        while True:
            await self._reply.block(self._say())
            await asyncio.sleep(self._policy.comment_s)

    def _say(self) -> bytes:
        outlook = self._completions.outlook(self._walk)
        trying = self._walk.trying
        fresh = trying is not None and trying.model != self._shown
        if not self._policy.as_reasoning or trying is None or not fresh:
            return sse.comment(outlook)
        self._shown = trying.model
        return sse.event(msgspec.json.encode(_reasoning(trying.model, outlook)))


def _reasoning(model: str, text: str) -> dict[str, object]:
    """A chunk that clients with a 'thinking' display show, and others pass over."""
    delta = {"role": "assistant", "reasoning_content": f"{text}\n"}
    return {
        "id": f"chatcmpl-{new_id()}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }
