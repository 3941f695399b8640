"""What a server's refusal means: its status and body, as one of our own errors.

Decides whether the request or the server is at fault, and finds the sentence in the shapes
that servers use: OpenAI's ``error`` object, FastAPI's ``detail``, plain text, a web page.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time

import msgspec

from smarterrouter.domain.retrying import retry_after_s
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    SmarterRouterError,
    Unavailable,
)

LONGEST_SENTENCE = 500

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading bytes as JSON may raise."""


def refusal(
    status: int, headers: Mapping[str, str], raw: bytes, who: str, model: str
) -> SmarterRouterError:
    """The error that any status but 200 stands for."""
    said, code, param = sentence(raw)
    retry = retry_after_s(headers.get("Retry-After"), time())
    match status:
        case 400 | 415 | 422:
            return BadRequest(said or f"{who} refused the request.", param=param, code=code)
        case 401 | 403:
            return BackendError(f"{who} refused its API key ({status}): set the right one. {said}")
        case 404:
            return ModelNotFound(f"{who} does not have {model}. {said}".strip())
        case 408 | 504:
            return BackendTimeout(f"{who} timed out ({status}). {said}".strip())
        case 413:
            return PayloadTooLarge(said or f"{who} finds the request too large.")
        case 429:
            return Overloaded(f"{who} is overloaded (429). {said}".strip(), retry_after_s=retry)
        case 503:
            return Unavailable(f"{who} is not ready (503). {said}".strip(), retry_after_s=retry)
        case _ if status < 300:
            return BackendError(f"{who} accepted the request and answered nothing ({status}).")
        case _ if status < 400:
            where = _readable(headers.get("Location", "another address"))
            return BackendError(f"{who} redirects to {where}: use that address instead.")
        case _:
            return BackendError(f"{who} failed ({status}). {said}".strip(), retry_after_s=retry)


def error_in(data: bytes) -> str | None:
    """What an event or body says went wrong; ``None`` when it is not an error."""
    if b'"error"' not in data:
        return None
    try:
        fields = msgspec.json.decode(data)
    except NOT_JSON:
        return None
    if not isinstance(fields, dict) or not fields.get("error"):
        return None
    return sentence(data)[0] or "it gives no reason"


def sentence(raw: bytes) -> tuple[str, str | None, str | None]:
    """(what the body says, its code, its param); an empty sentence when it says nothing."""
    try:
        fields = msgspec.json.decode(raw)
    except NOT_JSON:
        text = raw.decode(errors="replace").strip()
        return ("" if text.startswith("<") else _short(text)), None, None
    if not isinstance(fields, dict):
        return _short(str(fields)), None, None
    error = fields.get("error", fields)
    if not isinstance(error, dict):
        return _short(str(error)), None, None
    said = error.get("message") or error.get("detail") or error.get("error") or ""
    code, param = error.get("code"), error.get("param")
    if not isinstance(code, str):
        code = error.get("type") if isinstance(error.get("type"), str) else None
    return _short(_plain(said)), code, param if isinstance(param, str) else None


def _readable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _plain(said: object) -> str:
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SENTENCE else text[: LONGEST_SENTENCE - 1] + "…"
