"""What became of a request, told after its last byte. Decides nothing.

Unknown is ``None`` and stays ``None``; an answer's text is nowhere in it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from smarterrouter.domain.chat import Endpoint


class Status(StrEnum):
    """How a request ended: answered to the end, failed, or left by its client."""

    OK = "ok"
    ERROR = "error"
    HUNG_UP = "hung_up"


class Outcome(Struct, frozen=True, kw_only=True):
    """One request, from its arrival to its last byte.

    ``started_at`` is in Unix seconds; all other times are seconds since then, or lengths.
    ``model`` is the one that answered or was tried last, ``tried`` those that failed before
    it, first first. ``queue_s`` is the wait for room, ``load_s`` the part spent loading.
    ``error`` is a code of ``errors``, never a message: those may quote the prompt.
    ``response_id`` is the ``id`` in the answer's body.
    """

    request_id: str
    decision_id: str | None
    started_at: float
    endpoint: Endpoint
    caller: str
    virtual_model: str | None
    model: str | None
    backend: str | None
    streamed: bool
    status: Status
    duration_s: float
    ttft_s: float | None = None
    queue_s: float | None = None
    load_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    tried: tuple[str, ...] = ()
    response_id: str | None = None
