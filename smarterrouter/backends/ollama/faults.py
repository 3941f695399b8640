"""Whose fault it is, by Ollama's words: the request's or the server's.

Ollama's statuses say less than its sentences do: an option of the wrong kind is a 500, a full queue
a 503. A sentence may hold the error of the runner underneath, as JSON in a string.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from smarterrouter.backends.refusals import refusal, sentence
from smarterrouter.errors import BackendError, BadRequest, Overloaded, SmarterRouterError

TOO_LONG = (
    "exceeds the context length",
    "exceeds maximum context length",
    "exceeds the available context size",
)
AT_FAULT = (
    "does not support",
    "must be of type",
    "invalid format:",
    "invalid think value",
    "illegal base64",
)
BUSY = "maximum pending requests exceeded"


def refused(
    status: int, headers: Mapping[str, str], raw: bytes, who: str, model: str
) -> SmarterRouterError:
    """What any status but 200 means."""
    said = words(raw)
    if BUSY in said:
        return Overloaded(f"{who} is overloaded: {said}")
    at_fault = _at_fault(said) if status in (400, 413, 500) else None
    return at_fault or refusal(status, headers, _plain(raw), who, model)


def in_stream(raw: bytes, who: str, begun: bool) -> SmarterRouterError:
    """What an error line in a stream means; ``begun``: part of the answer has come before it."""
    said = words(raw) or "it gives no reason"
    if begun:
        return BackendError(f"{who} failed in the middle of its answer: {said}")
    return _at_fault(said) or BackendError(f"{who} failed: {said}")


def words(raw: bytes) -> str:
    """The innermost sentence."""
    return sentence(_plain(raw))[0]


def _at_fault(said: str) -> BadRequest | None:
    if any(sign in said for sign in TOO_LONG):
        return BadRequest(said, code="context_length_exceeded")
    return BadRequest(said) if any(sign in said for sign in AT_FAULT) else None


def _plain(raw: bytes) -> bytes:
    """The runner's own error, where that is what Ollama passes on."""
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    said = fields.get("error") if isinstance(fields, dict) else None
    return said.encode() if isinstance(said, str) and said.startswith("{") else raw
