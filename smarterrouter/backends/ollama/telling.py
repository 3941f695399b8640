"""From Ollama's lines to OpenAI's events. Decides what each line says in OpenAI's words.

A chat's first event has the role alone, and every line one event more: ``content``, ``thinking``
as ``reasoning_content``, whole tool calls. The last line gives the finish reason, then the usage
where it is wanted, then ``[DONE]``. Its figures go on the last event, under the names that
llama.cpp has for them (``timings``), and with ``load_ms`` besides.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
from msgspec import Raw, Struct

from smarterrouter.backends.ollama.faults import in_stream
from smarterrouter.domain import sse
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.ids import new_id
from smarterrouter.errors import BackendError

Json = dict[str, Any]


class _Function(Struct):
    name: str = ""
    arguments: Raw = Raw(b"{}")


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Likely(Struct):
    token: str = ""
    logprob: float = 0.0


class _Token(_Likely):
    top_logprobs: list[_Likely] | None = None


class _Line(Struct):
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    error: Any = None
    logprobs: list[Raw] | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    load_duration: int | None = None


class _Embedded(Struct):
    embeddings: list[Raw]
    prompt_eval_count: int | None = None


_line = msgspec.json.Decoder(_Line).decode
_token = msgspec.json.Decoder(_Token).decode
_vector = msgspec.json.Decoder(list[float]).decode
_encode = msgspec.json.Encoder().encode


class Teller:
    """Feed it each line of one answer. ``model`` is the id that clients see, ``created`` the time.

    ``usage``: end with a chunk that has it. ``done`` once the last line has been told.
    """

    def __init__(
        self, endpoint: Endpoint, model: str, created: int, who: str, *, usage: bool
    ) -> None:
        self.done = False
        self._chat = endpoint is Endpoint.CHAT
        kind, prefix = (
            ("chat.completion.chunk", "chatcmpl-")
            if self._chat
            else (
                "text_completion",
                "cmpl-",
            )
        )
        self._head: Json = {
            "id": prefix + new_id(),
            "object": kind,
            "created": created,
            "model": model,
        }
        self._who = who
        self._usage = usage
        self._begun = False
        self._calls = 0
        self._length = 0

    def tell(self, raw: bytes) -> bytes:
        """The events that a line stands for; none, where it says nothing.

        Raises ``BackendError`` or ``BadRequest`` for a line that is an error, or no line at all.
        """
        try:
            line = _line(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BackendError(f"{self._who} sent something that is not its protocol.") from None
        if line.error:
            raise in_stream(raw, self._who, self._begun)
        choice = self._chatted(line) if self._chat else self._completed(line)
        events = self._opening() if choice or line.done else b""
        if choice:
            events += self._event([choice | {"index": 0, "finish_reason": None}])
        return events + self._ending(line) if line.done else events

    def _opening(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        if not self._chat:
            return b""
        delta = {"role": "assistant", "content": ""}
        return self._event([{"index": 0, "delta": delta, "finish_reason": None}])

    def _chatted(self, line: _Line) -> Json:
        """The choice of a chat's line, as far as it says anything."""
        said = line.message or _Message()
        delta: Json = {}
        if said.thinking:
            delta["reasoning_content"] = said.thinking
        if said.content:
            delta["content"] = said.content
        if said.tool_calls:
            delta["tool_calls"] = [self._call(call) for call in said.tool_calls]
        if not line.logprobs:
            return {"delta": delta} if delta else {}
        return {"delta": delta, "logprobs": {"content": line.logprobs, "refusal": None}}

    def _completed(self, line: _Line) -> Json:
        """The choice of a text completion's line, as far as it says anything."""
        text = line.response or ""
        choice: Json = {"text": text} if text else {}
        if line.thinking:
            choice = {"text": text, "reasoning_content": line.thinking}
        if line.logprobs:
            choice = {"text": text, **choice, "logprobs": self._old_logprobs(line.logprobs)}
        return choice

    def _old_logprobs(self, tokens: list[Raw]) -> Json:
        """Tokens and their probabilities in the four lists of OpenAI's older API."""
        told: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in map(_token, tokens):
            told["tokens"].append(token.token)
            told["token_logprobs"].append(token.logprob)
            told["top_logprobs"].append({t.token: t.logprob for t in token.top_logprobs or ()})
            told["text_offset"].append(self._length)
            self._length += len(token.token)
        return told

    def _call(self, call: _Call) -> Json:
        index, self._calls = self._calls, self._calls + 1
        arguments = bytes(call.function.arguments).decode()
        return {
            "index": index,
            "id": call.id or f"call_{new_id()}",
            "type": "function",
            "function": {"name": call.function.name, "arguments": arguments},
        }

    def _ending(self, line: _Line) -> bytes:
        self.done = True
        reason = "length" if line.done_reason == "length" else "stop"
        nothing: Json = {"delta": {}} if self._chat else {"text": ""}
        choice = {**nothing, "index": 0, "finish_reason": "tool_calls" if self._calls else reason}
        figures = {"timings": timings(line)}
        if not self._usage:
            return self._event([choice], figures) + sse.DONE_EVENT
        finish, told = self._event([choice]), {"usage": usage(line), **figures}
        return finish + self._event([], told) + sse.DONE_EVENT

    def _event(self, choices: list[Json], more: Json | None = None) -> bytes:
        return sse.event(_encode({**self._head, "choices": choices, **(more or {})}))


def usage(line: _Line) -> dict[str, int]:
    """Tokens read and said. Old servers leave out what they had read before."""
    read, said = line.prompt_eval_count or 0, line.eval_count or 0
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def timings(line: _Line) -> dict[str, float]:
    """What is known of the speed. Tokens that were in the cache already were not read anew."""
    cached = line.prompt_eval_cached_count
    read = None if line.prompt_eval_count is None else line.prompt_eval_count - (cached or 0)
    told = {
        "cache_n": cached,
        **_pace("prompt", read, line.prompt_eval_duration),
        **_pace("predicted", line.eval_count, line.eval_duration),
        "load_ms": _ms(line.load_duration),
    }
    return {name: value for name, value in told.items() if value is not None}


def _pace(what: str, tokens: int | None, ns: int | None) -> dict[str, float | None]:
    rate = tokens * 1e9 / ns if tokens is not None and ns else None
    return {f"{what}_n": tokens, f"{what}_ms": _ms(ns), f"{what}_per_second": rate}


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6


def embeddings(raw: bytes, model: str, who: str, *, packed: bool) -> bytes:
    """OpenAI's body for Ollama's vectors; ``packed`` as base64 of little-endian 32-bit floats."""
    try:
        answer = msgspec.json.decode(raw, type=_Embedded)
        vectors = [_packed(v) if packed else v for v in answer.embeddings]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BackendError(f"{who} sent something that is not its protocol.") from None
    read = answer.prompt_eval_count or 0
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    told = {"prompt_tokens": read, "total_tokens": read}
    return _encode({"object": "list", "data": data, "model": model, "usage": told})


def _packed(raw: Raw) -> str:
    vector = _vector(raw)
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
