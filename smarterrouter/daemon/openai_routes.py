"""The routes that reach a model: chat completions, completions, embeddings.

Raw ASGI, since these are the hot path. Decides only form: how a request is read and how its
answer is written. A client that hangs up cancels its walk, in both modes, at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from litestar.types import Receive, Scope, Send

from smarterrouter.completion import Answer, Completions, Walk
from smarterrouter.daemon.account import Account
from smarterrouter.daemon.attendance import Attendance
from smarterrouter.daemon.auth import Keys
from smarterrouter.daemon.company import Company, WaitPolicy
from smarterrouter.daemon.decode import decode
from smarterrouter.daemon.reply import Headers, Reply, header, waits
from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.collect import Collector
from smarterrouter.domain.ids import new_id
from smarterrouter.domain.outcomes import Outcome
from smarterrouter.errors import (
    BackendError,
    BadRequest,
    PayloadTooLarge,
    SmarterRouterError,
    Unavailable,
)

log = logging.getLogger(__name__)


SENSELESS = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""What adding up chunks may raise that are not as OpenAI's are."""


class HungUp(Exception):
    """The client has gone before its request was whole."""


class MethodNotAllowed(BadRequest):
    status = 405
    code = "method_not_allowed"


class ModelRoutes:
    """What the three routes share."""

    def __init__(
        self,
        completions: Completions,
        keys: Keys,
        wait: WaitPolicy,
        max_body_bytes: int,
        keep: Callable[[Outcome, Account], None],
    ) -> None:
        """``keep`` is told of every request that could be read, after its last byte."""
        self._completions = completions
        self._keep = keep
        self._keys = keys
        self._wait = wait
        self._max_body_bytes = max_body_bytes
        self._under_way = 0

    async def serve(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        reply = Reply(send, new_id())
        try:
            request = await self._read(endpoint, scope, receive)
        except HungUp:
            return
        except SmarterRouterError as error:
            await reply.error(error, [])
            return
        account = Account(request)
        self._under_way += 1
        try:
            gone = await self._attended(account, receive, reply)
        finally:
            self._under_way -= 1
        self._keep(account.outcome(reply.request_id, gone), account)

    async def _attended(self, account: Account, receive: Receive, reply: Reply) -> bool:
        """Answer for as long as the client is there; whether it left before the end."""
        try:
            with Attendance(receive, reply) as client:
                await self._answer(account, reply)
        except asyncio.CancelledError:
            account.error = Unavailable.code
            if not reply.done:
                await reply.error(Unavailable("smarterrouter is shutting down."), [])
        if client.gone:
            log.info("%s hung up", account.request.caller)
        return client.gone

    async def finished(self, within_s: float) -> None:
        """Wait until no request is under way, so that each is kept; at most that long."""
        until = asyncio.get_running_loop().time() + within_s
        while self._under_way and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # an event would have to be kept by every request

    async def _read(self, endpoint: Endpoint, scope: Scope, receive: Receive) -> ChatRequest:
        caller = self._keys.caller(scope)
        if scope.get("method") != "POST":
            raise MethodNotAllowed(f"Send a POST to /v1/{endpoint.value}.")
        return decode(await self._body(scope, receive), endpoint, caller)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise HungUp
            size += len(message["body"])
            if size > self._max_body_bytes:
                raise PayloadTooLarge(
                    f"The request is longer than {self._max_body_bytes / 1e6:g} MB. Send less, "
                    "or raise ROUTER_MAX_BODY_MB."
                )
            parts.append(message["body"])
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _answer(self, account: Account, reply: Reply) -> None:
        request, walk = account.request, account.walk
        chat = request.endpoint is Endpoint.CHAT
        wait = self._wait if chat else replace(self._wait, as_reasoning=False)
        company = Company(reply, walk, self._completions, wait)
        if request.stream:
            company.begin()
        try:
            async with self._completions.complete(request, walk) as answer:
                account.answered()
                await company.end()
                if request.stream:
                    await _stream(answer, reply, account)
                else:
                    await _collect(answer, reply, account)
        except Exception as error:
            await company.end()
            told = _told(error)
            account.error = told.code
            await reply.error(told, _decided(walk))
        finally:
            await company.end()


def _told(error: Exception) -> SmarterRouterError:
    """What the client hears of a failure."""
    if isinstance(error, SmarterRouterError):
        return error
    log.error("a request failed in a way nobody foresaw", exc_info=error)
    return SmarterRouterError(f"smarterrouter itself failed: {type(error).__name__}.")


async def _stream(answer: Answer, reply: Reply, account: Account) -> None:
    if not reply.begun:
        await reply.open_stream(_headers(answer, account.walk))
    async for block in answer.blocks:
        account.saw(block)
        await reply.block(block)
    await reply.close_stream()


async def _collect(answer: Answer, reply: Reply, account: Account) -> None:
    if account.request.endpoint is Endpoint.EMBEDDINGS:
        body = b"".join([block async for block in answer.blocks])
    else:
        body = await _collected(answer)
    account.saw(body)
    await reply.json(200, body, _headers(answer, account.walk))


async def _collected(answer: Answer) -> bytes:
    """Raises ``BackendError`` when the chunks do not add up to an answer."""
    collector = Collector()
    async for block in answer.blocks:
        try:
            for data in sse.datas(block):
                if data != sse.DONE:
                    collector.add(data)
        except SENSELESS:
            raise BackendError(f"{answer.candidate.model} sent a senseless chunk.") from None
    try:
        return collector.body()
    except SENSELESS:
        raise BackendError(f"{answer.candidate.model} sent chunks that do not add up.") from None


def _headers(answer: Answer, walk: Walk) -> Headers:
    expected = [waits(walk.expected_wait_s)] if walk.expected_wait_s else []
    return [
        *expected,
        header("x-smarterrouter-model", answer.candidate.model),
        header("x-smarterrouter-backend", answer.candidate.ref.backend),
        header("x-smarterrouter-decision", answer.decision.id),
        header("x-smarterrouter-cache", "bypass"),
    ]


def _decided(walk: Walk) -> Headers:
    return [header("x-smarterrouter-decision", walk.decision.id)] if walk.decision else []
