"""A judge at any address that speaks OpenAI's protocol. Decides what its replies mean.

One JSON body each, not a stream: nobody reads along. Never asks twice; ``running`` does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from smarterrouter.domain.retrying import retry_after_s
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    Overloaded,
    SmarterRouterError,
    Unauthorized,
    Unavailable,
)
from smarterrouter.profiling.judge.question import Message
from smarterrouter.profiling.judge.running import Ask

if TYPE_CHECKING:
    import httpx

PATH = "/chat/completions"
CONNECT_S = 10.0
LONGEST_SENTENCE = 300
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@asynccontextmanager
async def http_ask(url: str, key: str | None, model: str, timeout_s: float) -> AsyncIterator[Ask]:
    """An ``ask`` for the endpoint below ``url`` (``https://host/v1``), open while in the block.

    ``timeout_s`` is for a whole answer. The ask raises ``Overloaded`` (429), ``Unavailable`` (503,
    or not reached), ``BackendTimeout``, ``BackendError`` (other 5xx, or no answer in what came),
    ``Unauthorized`` (401, 403) and ``BadRequest`` (other 4xx, or an address that is none).
    """
    import httpx

    address = _address(url)
    headers = {"Authorization": f"Bearer {_sendable(key)}"} if key else {}
    limit = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
    verify = not address.startswith("http://")
    async with httpx.AsyncClient(headers=headers, timeout=limit, verify=verify) as client:
        yield _Endpoint(client, address, model, timeout_s).ask


class _Endpoint:
    def __init__(
        self, client: httpx.AsyncClient, address: str, model: str, timeout_s: float
    ) -> None:
        self._client, self._address, self._timeout_s = client, address, timeout_s
        self._who = f"The judge at {urlsplit(address).hostname}"
        self._fields: dict[str, object] = {"model": model, "stream": False, "temperature": 0}

    async def ask(self, messages: Sequence[Message]) -> str:
        try:
            return await self._once(messages)
        except BadRequest as error:
            # Some models take no temperature but their own.
            if error.param != "temperature" or self._fields.pop("temperature", None) is None:
                raise
            return await self._once(messages)

    async def _once(self, messages: Sequence[Message]) -> str:
        said = [{"role": role, "content": text} for role, text in messages]
        reply = await self._post({**self._fields, "messages": said})
        if reply.status_code != 200:
            raise _refusal(reply.status_code, reply.headers, reply.content, self._who)
        return _answer(reply.content, self._who)

    async def _post(self, body: Mapping[str, object]) -> httpx.Response:
        import httpx

        content = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.post(self._address, content=content, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise BackendTimeout(f"{self._who} took over {self._timeout_s:g} s.") from None
        except httpx.DecodingError as error:
            raise BackendError(f"{self._who} sent what cannot be decoded: {error}.") from error
        except httpx.HTTPError as error:
            said = str(error).rstrip(".") or type(error).__name__
            raise Unavailable(f"{self._who} cannot be reached: {said}.") from error


def _address(url: str) -> str:
    """Where questions go. Raises ``BadRequest`` when the URL can be none."""
    whole = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(whole)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not whole.isprintable() or " " in whole:
        raise BadRequest(f"{url} is no address of a judge; https://host/v1 would be one.")
    path = parts.path.rstrip("/") or "/v1"
    path = path if path.endswith(PATH) else f"{path}{PATH}"
    return urlunsplit(parts._replace(path=path))


def _sendable(key: str) -> str:
    """Checked here: the errors of those who would send it show it."""
    if not (key.isascii() and key.isprintable()):
        raise Unauthorized("The judge's key has characters that cannot be sent.")
    return key.strip()


def _refusal(status: int, headers: Mapping[str, str], raw: bytes, who: str) -> SmarterRouterError:
    said, param = _sentence(raw)
    retry = retry_after_s(headers.get("Retry-After"), time.time())
    text = f"{who} answered {status}. {said}".strip()
    match status:
        case 401 | 403:
            return Unauthorized(text)
        case 408 | 504:
            return BackendTimeout(text, retry_after_s=retry)
        case 429:
            return Overloaded(text, retry_after_s=retry)
        case 503:
            return Unavailable(text, retry_after_s=retry)
        case _ if 400 <= status < 500:
            return BadRequest(text, param=param)
        case _:
            return BackendError(text, retry_after_s=retry)


def _answer(raw: bytes, who: str) -> str:
    """The text of the first choice, empty where it has none."""
    try:
        body = msgspec.json.decode(raw)
    except NOT_JSON:
        raise BackendError(f"{who} sent something that is not JSON.") from None
    try:
        content = body["choices"][0]["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise BackendError(f"{who} sent no answer. {_sentence(raw)[0]}".strip()) from None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _sentence(raw: bytes) -> tuple[str, str | None]:
    """What a refusal says, and the parameter that it blames; empty when it says nothing."""
    try:
        body: Any = msgspec.json.decode(raw)
    except NOT_JSON:
        return "", None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return str(error)[:LONGEST_SENTENCE], None
    said, param = error.get("message") or error.get("detail") or "", error.get("param")
    return str(said)[:LONGEST_SENTENCE], param if isinstance(param, str) else None
