"""llama-server's router mode, in front of real llama.cpp children that ``ManagedBackend`` runs.

Behaves as the binary does (b11434); ``test_llama_router`` holds both to the same tests:

    async with LlamaRouter(models, presets, models_max=2) as router:
        ...  # talk to router.url
        await router.crash("tiny-5m")

Success of a load or an unload is told before the work is done. Whoever asks for a model that is
not loaded has it loaded, and the least recently used idle one goes when there are too many.

What it leaves out: aliases, tags and presets in the listing, downloads, and the queue's order.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import httpx
import psutil
from aiohttp import web

from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.managed.child import Child
from smarterrouter.backends.managed.recipe import server_command
from smarterrouter.backends.wire import Timeouts
from smarterrouter.errors import SmarterRouterError
from tests.support.children import key_of

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
POLL_S = 0.01
PUBLIC = ("/health", "/v1/health")
ASKED = ("/slots", "/metrics")
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
MISSING = "File Not Found"
PROXY_ERROR = b"proxy error: Failed to read connection"


class Router(ABC):
    """A router over a folder of models, and how it is watched and broken from outside.

    ``models_max`` counts models, 0 is no limit. Without ``autoload`` nothing loads by itself.
    The ``port`` is kept, so that it may be stopped and started again at the same ``url``.
    """

    def __init__(
        self,
        models: Path,
        presets: Path | None = None,
        *,
        models_max: int = 4,
        api_key: str | None = None,
        autoload: bool = True,
        port: int = 0,
    ) -> None:
        self.models = models
        self.presets = presets
        self.models_max = models_max
        self.api_key = api_key
        self.autoload = autoload
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def client(self) -> httpx.AsyncClient:
        """A client that shows the key. It uses no connection twice, since after an answer of a
        model the router closes it without saying so."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={**self.headers, "Connection": "close"},
            trust_env=False,
            verify=False,
            timeout=20.0,
        )

    async def loaded(self) -> set[str]:
        """The models that are ready for requests."""
        async with self.client() as client:
            listed = (await client.get("/models")).raise_for_status().json()["data"]
        return {item["id"] for item in listed if item["status"]["value"] == "loaded"}

    async def crash(self, name: str) -> None:
        """Kill the model's process, and wait until the router has noticed."""
        self.process(name).kill()
        async with asyncio.timeout(5):
            while name in await self.loaded():
                await asyncio.sleep(POLL_S)

    @abstractmethod
    def process(self, name: str) -> psutil.Process:
        """The process that serves a model which is loaded or being loaded."""

    @abstractmethod
    async def start(self) -> None:
        """Listen; no model is loaded."""

    @abstractmethod
    async def stop(self) -> None:
        """Go away without farewell, and leave no process behind."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        error = {"message": message, "type": TYPES.get(status, "server_error"), "code": status}
        self.answer = status, {"error": error}


@dataclass(eq=False)
class Served:
    """One model: its state as the listing tells it, and what the router knows besides."""

    name: str
    args: list[str]
    state: str = "unloaded"
    exit_code: int = 0
    meta: Json | None = None
    requests: int = 0
    used_s: float = 0.0
    stopping: bool = False
    loading: asyncio.Future[None] = field(default_factory=asyncio.Future)

    @property
    def idle(self) -> bool:
        return self.state == "loaded" and not self.requests and not self.stopping

    def down(self, exit_code: int) -> None:
        self.state, self.exit_code, self.meta, self.stopping = "unloaded", exit_code, None, False

    def item(self) -> Json:
        status: Json = {"value": self.state, "args": self.args}
        if self.state == "unloaded" and self.exit_code:
            status |= {"exit_code": self.exit_code, "failed": True}
        text = {"input_modalities": ["text"], "output_modalities": ["text"]}
        about: Json = {"id": self.name, "object": "model", "owned_by": "llamacpp"}
        about |= {"created": int(time.time()), "status": status, "architecture": text}
        return about | ({"meta": self.meta} if self.meta else {})


class LlamaRouter(Router):
    """The double."""

    async def start(self) -> None:
        options = ManagedOptions("router", self.models, self.presets)
        self._managed = ManagedBackend(options, Timeouts())
        self._managed.watch(lambda ref, reason: self._served[ref.name].down(1))
        found = sorted(model.ref.name for model in await self._managed.models())
        self._served = {name: Served(name, self._args(name)) for name in found}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),  # idle ones delay its end
        )
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 28)
        app.router.add_get("/props", self._props)
        app.router.add_post("/models/load", self._load)
        app.router.add_post("/models/unload", self._unload)
        for path in PUBLIC:
            app.router.add_get(path, self._health)
        for path in ("/models", "/v1/models"):
            app.router.add_get(path, self._list)
        for path in ASKED:
            app.router.add_get(path, self._get)
        app.router.add_post("/v1/{path:.+}", self._post)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await self._managed.aclose()

    def process(self, name: str) -> psutil.Process:
        shown = self._child(name).headers["Authorization"]
        [process] = [
            process
            for process in psutil.Process().children()
            if process.status() != psutil.STATUS_ZOMBIE and shown.endswith(key_of(process))
        ]
        return process

    # --- what it answers itself

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        shown = request.headers.get("Authorization") or request.headers.get("X-Api-Key", "")
        try:
            known = not self.api_key or shown.removeprefix("Bearer ") == self.api_key
            if not known and request.path not in PUBLIC:
                raise Refused(401, "Invalid API Key")
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            status, body = Refused(404, MISSING).answer
        except json.JSONDecodeError as error:
            status, body = Refused(400, f"parse error: {error}").answer
        except Refused as refused:
            status, body = refused.answer
        return web.json_response(body, status=status)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _list(self, request: web.Request) -> web.Response:
        data = [served.item() for served in self._served.values()]
        return web.json_response({"data": data, "object": "list"})

    async def _props(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("model"):
            return await self._get(request)
        settings = {"params": None, "n_ctx": 0}
        about: Json = {"role": "router", "max_instances": self.models_max}
        about |= {"models_autoload": self.autoload, "model_alias": "llama-server"}
        about |= {"model_path": "none", "default_generation_settings": settings}
        return web.json_response({**about, "ui_settings": {}, "build_info": "b0-double"})

    async def _load(self, request: web.Request) -> web.Response:
        served = self._served.get(_model_in(await request.read()))
        if served is None:
            raise Refused(404, MISSING)
        if served.state != "unloaded":
            raise Refused(400, "model is already running")
        if not await self._admit(served):
            raise Refused(500, "model limit reached, try again later")
        return web.json_response({"success": True})

    async def _unload(self, request: web.Request) -> web.Response:
        served = self._served.get(_model_in(await request.read()))
        if served is None:
            raise Refused(400, "model is not found")
        if served.state == "unloaded":
            raise Refused(400, "model is not running")
        self._end(served)
        return web.json_response({"success": True})

    # --- what it hands on

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return await self._hand_on(request, request.query.get("model", ""))

    async def _post(self, request: web.Request) -> web.StreamResponse:
        return await self._hand_on(request, _model_in(await request.read()))

    async def _hand_on(self, request: web.Request, name: str) -> web.StreamResponse:
        if not name:
            raise Refused(400, "model name is missing from the request")
        served = self._served.get(name)
        if served is None:
            raise Refused(400, f"model '{name}' not found")
        said = request.query.get("autoload")
        if said in ("true", "1") if said else self.autoload:
            await self._ready(served)
        elif served.state == "unloaded":
            raise Refused(400, "model is not loaded")
        if served.state == "unloaded":
            raise Refused(400, f"model name={name} is not running")
        served.requests += 1
        if request.method == "POST":
            served.used_s = time.monotonic()
        try:
            return await self._proxied(request, served)
        finally:
            served.requests -= 1

    async def _proxied(self, request: web.Request, served: Served) -> web.StreamResponse:
        """The child's answer as it comes; a child that breaks off has it end with a remark.

        Who hangs up has this cancelled, and the child is hung up on. After the answer the
        connection is closed, of which no header warns.
        """
        out = web.StreamResponse(status=500, headers={"X-Accel-Buffering": "no"})
        out.content_type = "application/json"
        body = await request.read()
        try:
            async with self._asked(served.name, request.method, request.path_qs, body) as answer:
                out.set_status(answer.status)
                out.headers["Content-Type"] = answer.headers["Content-Type"]
                await out.prepare(request)
                async for part in answer.content.iter_any():
                    await out.write(part)
        except aiohttp.ClientConnectionResetError:
            raise  # by the client, who has left
        except (aiohttp.ClientError, KeyError):
            asked_to_end = out.prepared and served.stopping
            if not out.prepared:
                await out.prepare(request)
            if not asked_to_end:
                await out.write(PROXY_ERROR)
        await out.write_eof()
        request.protocol.close()
        return out

    def _asked(self, name: str, method: str, path: str, body: bytes = b"") -> Any:
        child = self._child(name)
        url = child.url.removesuffix("/v1") + path
        headers = {**child.headers, "Content-Type": "application/json"}
        return self._session.request(method, url, data=body or None, headers=headers)

    # --- loading and unloading

    async def _ready(self, served: Served) -> None:
        """Have the model loaded, waiting for its turn."""
        tried = False
        while served.stopping or served.state != "loaded":
            if served.state == "unloaded" and tried:
                if served.exit_code:
                    raise Refused(500, f"model name={served.name} failed to load")
                return
            if served.state == "loading" and not served.stopping:
                tried = True
            elif served.state == "unloaded":
                tried = await self._admit(served)
            await asyncio.sleep(POLL_S)

    async def _admit(self, served: Served) -> bool:
        """Begin to load the model, after an idle one has gone if need be; whether there is room."""
        if self._full():
            idle = [other for other in self._served.values() if other.idle]
            if not idle:
                return False
            victim = min(idle, key=lambda other: other.used_s)
            self._end(victim)
            while victim.state != "unloaded":
                await asyncio.sleep(POLL_S)
        if served.state != "unloaded":
            return True
        if self._full():
            return False
        served.state, served.used_s = "loading", time.monotonic()
        served.loading = self._do(self._come_up(served))
        return True

    def _full(self) -> bool:
        running = [other for other in self._served.values() if other.state != "unloaded"]
        return 0 < self.models_max <= len(running)

    async def _come_up(self, served: Served) -> None:
        try:
            await self._managed.load(served.name)
            async with self._asked(served.name, "GET", "/v1/models") as answer:
                served.meta = (await answer.json())["data"][0]["meta"]
            served.state = "loaded"
        except (SmarterRouterError, aiohttp.ClientError, KeyError):
            served.down(1)

    def _end(self, served: Served) -> None:
        if not served.stopping:
            served.stopping = True
            self._do(self._go_down(served))

    async def _go_down(self, served: Served) -> None:
        """A model that is still loading is killed, which counts as a failure."""
        served.loading.cancel()
        await asyncio.wait({served.loading})
        await self._managed.unload(served.name)
        served.down(0 if served.state == "loaded" else 1)

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _child(self, name: str) -> Child:
        """The one look into ``ManagedBackend``: where its child is and which key that takes."""
        return self._managed._children[name]

    def _args(self, name: str) -> list[str]:
        made = self._managed.recipe(name)
        assert made is not None
        return server_command(Path("llama-server"), made, 0)


def _model_in(body: bytes) -> str:
    fields = json.loads(body)
    name = fields.get("model") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else ""
