"""The daemon's routes. Decides nothing: each route reads, calls one thing below, and writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope, Send

from smarterrouter import __version__
from smarterrouter.assembly import Engine
from smarterrouter.assembly.profiler import Profiler
from smarterrouter.daemon import listing
from smarterrouter.daemon.admin import admin_routes
from smarterrouter.daemon.auth import Keys, from_another_site
from smarterrouter.daemon.company import WaitPolicy
from smarterrouter.daemon.events import Events, told_to_stop
from smarterrouter.daemon.openai_routes import ModelRoutes
from smarterrouter.daemon.profiling import profiling_routes
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.models import Capability
from smarterrouter.errors import SmarterRouterError, Unauthorized

log = logging.getLogger(__name__)

FAREWELL_S = 1.0
"""How long requests that were cut off have to say so and to be kept."""


def create_app(engine: Engine) -> ASGIApp:
    """The ASGI application around an engine, which lives as long as the application does.

    The routes to a model stand in front of Litestar: they are the hot path, and raw ASGI anyway.
    """
    settings = engine.settings
    admin = settings.admin_api_key
    keys = Keys(settings.keys, admin.get_secret_value() if admin else None)

    events, profiler = Events(engine), Profiler(engine)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with engine, profiling(engine, profiler):
            with told_to_stop(events.close):
                yield
            await to_models.finished(FAREWELL_S)

    def knock(request: Request[Any, Any, Any]) -> None:
        if request.url.path != "/health":
            keys.caller(request.scope)
        if request.method == "POST" and from_another_site(request.scope):
            raise Unauthorized("A page of another site may not do this.")

    rest = Litestar(
        route_handlers=[
            *_listing_routes(engine, profiler),
            *admin_routes(engine, events),
            *profiling_routes(engine, profiler),
        ],
        lifespan=[lifespan],
        before_request=knock,
        exception_handlers={
            SmarterRouterError: _ours,
            HTTPException: _litestars,
            Exception: _unforeseen,
        },
        logging_config=None,
        openapi_config=None,
    )
    to_models = _model_routes(engine, keys)
    endpoints = {f"/v1/{endpoint.value}": endpoint for endpoint in Endpoint}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = endpoints.get(scope.get("path", "").removesuffix("/"))
        if endpoint is None:
            await rest(scope, receive, send)
        else:
            await to_models.serve(endpoint, scope, receive, send)

    return app


def _model_routes(engine: Engine, keys: Keys) -> ModelRoutes:
    settings = engine.settings
    return ModelRoutes(
        engine.completions,
        keys,
        WaitPolicy(settings.wait.comment_s, settings.wait.as_reasoning),
        int(settings.max_body_mb * 1e6),
        lambda outcome, account: engine.keep(
            outcome, account.walk.decision, account.request.messages
        ),
    )


@asynccontextmanager
async def profiling(engine: Engine, profiler: Profiler) -> AsyncIterator[None]:
    """While inside, new models are profiled when nobody asks anything, if that is wanted."""
    by_itself = None
    if engine.settings.profile.on_start:
        by_itself = asyncio.create_task(profiler.run_by_itself())
    try:
        yield
    finally:
        if by_itself is not None:
            by_itself.cancel()
        await profiler.close()


def _listing_routes(engine: Engine, profiler: Profiler) -> list[Any]:
    started = int(time.time())

    @get("/health", sync_to_thread=False)
    def health() -> dict[str, object]:
        ready = any(Capability.CHAT in model.capabilities for model in engine.catalogue.models)
        return {
            "status": "ok",
            "ready": ready,
            "version": __version__,
            "profiling": profiler.now,
        }

    @get("/v1/models", sync_to_thread=False)
    def models() -> dict[str, object]:
        entries = listing.listing(engine.completions, engine.loaded(), started)
        return {"object": "list", "data": entries}

    @get("/v1/models/{model_id:path}", sync_to_thread=False)
    def model(model_id: FromPath[str]) -> dict[str, object]:
        return listing.find(
            engine.completions, model_id.removeprefix("/"), engine.loaded(), started
        )

    return [health, models, model]


def _ours(_: Request[Any, Any, Any], error: SmarterRouterError) -> Response[dict[str, object]]:
    return Response(error.body(), status_code=error.status, media_type=MediaType.JSON)


def _litestars(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, object]]:
    told = SmarterRouterError(error.detail, code=f"http_{error.status_code}")
    if error.status_code < 500:
        told.type = "invalid_request_error"
    return Response(told.body(), status_code=error.status_code, media_type=MediaType.JSON)


def _unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, object]]:
    log.error("%s failed in a way nobody foresaw", request.url.path, exc_info=error)
    told = SmarterRouterError(f"smarterrouter itself failed: {type(error).__name__}.")
    return Response(told.body(), status_code=500, media_type=MediaType.JSON)
