"""What a question to a model looks like, and what of its answer counts. Asks nobody.

Times are the clock's: from the moment the model was ready until the first and the last words came.
A backend's own counters, where it has some, go before them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest, Endpoint, Message
from smarterrouter.domain.collect import Collector
from smarterrouter.domain.models import Capability
from smarterrouter.domain.ports import Clock
from smarterrouter.errors import BackendError
from smarterrouter.profiling.task import Said

CALLER = "profile"
"""Who asks, for residency's queue."""
CHARACTERS_PER_TOKEN = 3.5
SEED = 7
_encode = msgspec.json.encode


class Reply(Struct, frozen=True, kw_only=True):
    """One answer. ``prefill_tokens`` were read anew, of ``prompt_tokens`` in all.

    ``prefill_s`` and ``decode_s`` are the backend's own figures, else ``None``; ``ttft_s`` and
    ``seconds`` the clock's. ``finish`` is ``length`` where the answer was cut off.
    """

    text: str
    reasoning: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    finish: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    prefill_tokens: int | None = None
    prefill_s: float | None = None
    decode_tokens: int | None = None
    decode_s: float | None = None
    ttft_s: float | None = None
    seconds: float = 0.0

    @property
    def cut_off(self) -> bool:
        return self.finish == "length"


def question(model: str, said: Sequence[Said], max_tokens: int, **more: object) -> ChatRequest:
    """A chat request as an app would send it; ``more`` are further fields of its body.

    Always the most likely words, so that what is asked twice is answered alike.
    """
    fields: dict[str, object] = {
        "messages": [{"role": one.role, "content": one.text} for one in said],
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": SEED,
        "stream_options": {"include_usage": True},
        **more,
    }
    messages = tuple(Message(one.role, one.text) for one in said)
    return _request(Endpoint.CHAT, model, messages, fields, max_tokens)


def embedding(model: str, texts: Sequence[str]) -> ChatRequest:
    """A request for the vectors of ``texts``."""
    messages = tuple(Message("user", text) for text in texts)
    return _request(Endpoint.EMBEDDINGS, model, messages, {"input": list(texts)}, None)


def _request(
    endpoint: Endpoint,
    model: str,
    messages: tuple[Message, ...],
    fields: Mapping[str, object],
    max_tokens: int | None,
) -> ChatRequest:
    embeds = endpoint is Endpoint.EMBEDDINGS
    return ChatRequest(
        endpoint=endpoint,
        model=model,
        stream=not embeds,
        messages=messages,
        needs=frozenset({Capability.EMBEDDING if embeds else Capability.CHAT}),
        fields={name: Raw(_encode(value)) for name, value in fields.items()},
        max_tokens=max_tokens,
        caller=CALLER,
        prompt_tokens=int(sum(len(one.text) for one in messages) / CHARACTERS_PER_TOKEN) + 16,
    )


def thinking(switch: bool | None) -> dict[str, object]:
    """Fields that have a model think or not; none where it cannot."""
    return {} if switch is None else {"chat_template_kwargs": {"enable_thinking": switch}}


GARBAGE = (
    msgspec.MsgspecError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What may come of reading what no backend should have sent."""


async def gathered(blocks: AsyncIterator[bytes], clock: Clock, began: float) -> Reply:
    """A stream as one reply. ``began`` is when the model was asked, in clock seconds.

    Raises ``BackendError`` for a stream that is no answer, and whatever reading it raises.
    """
    collector, first = Collector(), None
    async for block in blocks:
        for data in sse.datas(block):
            if data == sse.DONE:
                continue
            try:
                collector.add(data)
            except GARBAGE as error:
                raise BackendError("The answer is not a stream of chunks.") from error
            if first is None and _says_something(data):
                first = clock.now() - began
    try:
        body = msgspec.json.decode(collector.body())
        return reply(body, ttft_s=first, seconds=clock.now() - began)
    except GARBAGE as error:
        raise BackendError("The answer is not a chat completion.") from error


def reply(body: Mapping[str, Any], ttft_s: float | None, seconds: float) -> Reply:
    """What counts of a chat completion's body; fields of a strange kind count as missing."""
    choice: Mapping[str, Any] = next(iter(body.get("choices") or ()), {})
    message = choice.get("message") or {}
    usage, timings = body.get("usage") or {}, body.get("timings") or {}
    return Reply(
        text=_text(message.get("content")),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        calls=tuple(c for c in message.get("tool_calls") or () if isinstance(c, dict)),
        finish=choice.get("finish_reason"),
        prompt_tokens=_whole(usage.get("prompt_tokens")),
        answer_tokens=_whole(usage.get("completion_tokens")) or _whole(timings.get("predicted_n")),
        prefill_tokens=_whole(timings.get("prompt_n")),
        prefill_s=_seconds(timings.get("prompt_ms")),
        decode_tokens=_whole(timings.get("predicted_n")),
        decode_s=_seconds(timings.get("predicted_ms")),
        ttft_s=ttft_s,
        seconds=seconds,
    )


def _says_something(data: bytes) -> bool:
    """Whether a chunk has words; the first often has the role alone."""
    try:
        chunk = msgspec.json.decode(data)
        delta = chunk["choices"][0]["delta"]
    except GARBAGE:
        return False
    spoken = ("content", "reasoning_content", "reasoning", "tool_calls")
    return isinstance(delta, dict) and any(delta.get(name) for name in spoken)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


MOST = 1e12
"""A count or a time beyond is none."""


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < MOST else None


def _seconds(ms: object) -> float | None:
    return ms / 1e3 if isinstance(ms, int | float) and 0 < ms < MOST else None
