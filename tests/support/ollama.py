"""An Ollama server on a real socket: its native API, its scheduler's habits, scripted mischief.

Decides what is answered and when; asserts nothing. A model answers "Hello from NAME." word by
word unless a step is played, and the scheduler behaves as its own module says:

    async with Ollama(OllamaModel(name="a"), vram_total=(24 * GIB, 8 * GIB)) as ollama:
        ollama.play(ErrorInStream(after=2), model="a:latest")
        ...  # talk to ollama.url
    assert ollama.loads == [Load("a:latest", 4096)]

Each chat, generation or embedding takes the next step of the playbook (the last one repeats);
loading and unloading take none. A step is any ``async def step(turn: Turn)``. One that has
``needs_model`` runs in one of the model's slots; all others (``upstream.Status``, ``Raw``,
``Refuse``) answer at the door, as a proxy would, and load nothing. ``door`` is such a step for
every request there is, lookups and loads among them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self

from aiohttp import web

from tests.support import ollama_wire as wire
from tests.support.ollama_scheduler import (
    GIB,
    Eviction,
    Load,
    LoadFailed,
    OllamaModel,
    Runner,
    Scheduler,
    ServerBusy,
)
from tests.support.ollama_steps import (
    BreakOff,
    Call,
    Endless,
    ErrorInStream,
    Hang,
    Says,
    Step,
    Turn,
    ns,
)
from tests.support.ollama_wire import Prompt, Refused
from tests.support.upstream import Json, Playbook, Received, vector

__all__ = [
    "GIB",
    "BreakOff",
    "Call",
    "Endless",
    "ErrorInStream",
    "Eviction",
    "Hang",
    "Load",
    "Ollama",
    "OllamaModel",
    "Prompt",
    "Says",
    "Scheduler",
    "Turn",
]


class Ollama:
    """The server: an async context manager, or ``start`` and ``stop`` (again on the same port).

    ``settings`` are those of the ``Scheduler``, which is ``scheduler`` afterwards. ``models`` may
    be changed while it runs. ``requests`` are the chats, generations (loads and unloads among
    them) and embeddings; ``lookups`` everything else.
    """

    def __init__(self, *models: OllamaModel, port: int = 0, **settings: Any) -> None:
        self.models = {model.name: model for model in models or (OllamaModel(name="a"),)}
        self.scheduler = Scheduler(**settings)
        self.version = "0.31.0"
        self.port = port
        self.door: Step | None = None
        self.requests: list[Received] = []
        self.lookups: list[Received] = []
        self.prompts: list[Prompt] = []
        self._speaking: list[str] = []
        self._by_model: dict[str, Playbook] = {}
        self._arrived = asyncio.Condition()
        self._stopping = False
        self._runner: web.AppRunner | None = None
        self.play()

    # what a test sets

    def play(self, *steps: Step, model: str | None = None) -> None:
        """From now on follow these steps (for this model only, if one is named)."""
        playbook = Playbook(steps or (Says(),))
        if model is None:
            self._playbook = playbook
        else:
            self._by_model[wire.full_name(model)] = playbook

    def add(self, model: OllamaModel) -> None:
        self.models[model.name] = model

    def remove(self, name: str) -> None:
        """As ``ollama rm``: what is resident stays so."""
        del self.models[wire.full_name(name)]

    # what a test looks at

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def loaded(self) -> dict[str, int]:
        """The context of each resident model."""
        return {r.model.name: r.num_ctx for r in self.scheduler.runners.values()}

    @property
    def loads(self) -> list[Load]:
        return self.scheduler.loads

    @property
    def evictions(self) -> list[Eviction]:
        return self.scheduler.evictions

    @property
    def aborted(self) -> list[Load]:
        """Loads given up because the client had left."""
        return self.scheduler.aborted

    @property
    def vram_used(self) -> int:
        return self.scheduler.vram_used

    @property
    def cards_used(self) -> tuple[int, ...]:
        """What Ollama holds on each card."""
        return self.scheduler.cards_used

    def loads_of(self, name: str) -> int:
        return sum(load.name == wire.full_name(name) for load in self.loads)

    def generating(self) -> set[str]:
        return set(self._speaking)

    async def received(self, count: int = 1, timeout_s: float = 5.0) -> Received:
        """Wait until ``count`` requests have come in; answers the last of these."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    # running

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        for path, work in (
            ("/api/chat", self._chat),
            ("/api/generate", self._generate),
            ("/api/embed", self._embed),
            ("/api/embeddings", self._old_embedding),
        ):
            app.router.add_post(path, self._handler(work, self.requests))
        app.router.add_post("/api/show", self._handler(self._show, self.lookups))
        for path, look in (
            ("/", self._root),
            ("/api/version", self._version),
            ("/api/tags", self._tags),
            ("/api/ps", self._ps),
        ):
            app.router.add_get(path, self._handler(look, self.lookups))
        app.router.add_route("*", "/{rest:.*}", self._handler(self._nothing, self.lookups))
        self._stopping = False
        self.scheduler.start()
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Kill it: connections break, and no model is resident any more."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
        await self.scheduler.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # every request

    def _handler(
        self, work: Callable[[Turn], Awaitable[None]], into: list[Received]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            received = await self._record(request, into)
            turn = Turn(request, received)
            try:
                await self._worked(turn, self.door or work)
            except (asyncio.CancelledError, ConnectionError):
                if not self._stopping:
                    received.disconnected_s = time.monotonic()
                    received.disconnected.set()
                raise
            finally:
                received.ended.set()
            return turn.response or web.Response()

        return handle

    async def _worked(self, turn: Turn, work: Callable[[Turn], Awaitable[None]]) -> None:
        try:
            await work(turn)
        except Refused as refused:
            await turn.reply({"error": str(refused)}, refused.status)
        except ServerBusy as busy:
            await turn.reply({"error": str(busy)}, 503)
        except LoadFailed as failed:
            await turn.reply({"error": str(failed)}, 500)

    async def _record(self, request: web.Request, into: list[Received]) -> Received:
        raw = await request.read()
        body: Any = None
        with suppress(ValueError):
            body = json.loads(raw)
        body = body if isinstance(body, dict) else {}
        head = (request.method, request.path, request.headers.copy())
        received = Received(*head, raw, body, len(into), time.monotonic())
        async with self._arrived:
            into.append(received)
            self._arrived.notify_all()
        return received

    # lookups

    async def _root(self, turn: Turn) -> None:
        await self._text(turn, "Ollama is running")

    async def _nothing(self, turn: Turn) -> None:
        await self._text(turn, "404 page not found", 404)

    async def _text(self, turn: Turn, text: str, status: int = 200) -> None:
        await turn.open(status, "text/plain; charset=utf-8", length=len(text))
        await turn.send(text.encode())

    async def _version(self, turn: Turn) -> None:
        await turn.reply({"version": self.version})

    async def _tags(self, turn: Turn) -> None:
        await turn.reply(wire.tags(self.models.values()))

    async def _ps(self, turn: Turn) -> None:
        await turn.reply(wire.ps(self.scheduler.runners.values()))

    async def _show(self, turn: Turn) -> None:
        body = wire.parsed(turn.received.raw)
        asked = body.get("model") or body.get("name")
        if not asked:
            raise Refused(400, "model is required")
        await turn.reply(wire.show(wire.found(self.models, asked, "model '{}' not found")))

    # generation

    async def _chat(self, turn: Turn) -> None:
        body = wire.parsed(turn.received.raw)
        if not body.get("model"):
            raise Refused(400, "model is required")
        await self._converse(turn, body, body.get("messages") or [], "chat")

    async def _generate(self, turn: Turn) -> None:
        body = wire.parsed(turn.received.raw)
        said = {"role": "user", "content": body.get("prompt"), "images": body.get("images")}
        system = {"role": "system", "content": body.get("system")}
        messages = [m for m in (system, said) if m["content"]] if body.get("prompt") else []
        await self._converse(turn, body, messages, "generate")

    async def _converse(self, turn: Turn, body: Json, messages: list[Json], verb: str) -> None:
        """Unload, load, or answer."""
        keep_alive_s = wire.seconds(body.get("keep_alive"))
        model = wire.found(self.models, body.get("model") or "", "model '{}' not found")
        turn.model = model
        if not messages and keep_alive_s == 0:
            self.scheduler.expire(model)
            await turn.reply(turn.chunk(done_reason="unload"))
            return
        wire.check_capabilities(model, body, verb)
        if not messages:
            async with self._held(turn, body, keep_alive_s):
                await turn.reply(turn.chunk(done_reason="load"))
            return
        step = self._step(model)
        if not getattr(step, "needs_model", False):
            await step(turn)
            return
        async with self._held(turn, body, keep_alive_s) as runner:
            truncate = body.get("truncate") is not False
            turn.prompt = wire.seen(runner, messages, truncate=truncate)
            wire.check_sight(model, messages)
            wire.check_format(body)
            self.prompts.append(turn.prompt)
            async with runner.slots:
                with self._speaks(model):
                    await step(turn)

    # embeddings

    async def _embed(self, turn: Turn) -> None:
        body = wire.parsed(turn.received.raw)
        texts = wire.texts(body.get("input"))
        async with self._embedding(turn, body) as runner:
            if runner is None:
                return
            limit = min(runner.num_ctx, runner.model.context_length)
            counts = [wire.words(text) for text in texts]
            if body.get("truncate") is False and max(counts, default=0) > limit:
                raise Refused(400, "the input length exceeds the context length")
            size = body.get("dimensions") or runner.model.dimensions
            kept = [" ".join(text.split()[:limit]) for text in texts]
            figures = {
                "total_duration": ns(time.monotonic() - turn.received.arrived_s),
                "load_duration": ns(turn.loaded_s - turn.received.arrived_s),
                "prompt_eval_count": sum(min(count, limit) for count in counts),
            }
            answer = {"model": body["model"], "embeddings": [vector(text, size) for text in kept]}
            await turn.reply(answer | (figures if texts else {}))

    async def _old_embedding(self, turn: Turn) -> None:
        body = wire.parsed(turn.received.raw)
        async with self._embedding(turn, body) as runner:
            if runner is not None:
                text = body.get("prompt")
                numbers = vector(text, runner.model.dimensions) if text else []
                await turn.reply({"embedding": numbers})

    @asynccontextmanager
    async def _embedding(self, turn: Turn, body: Json) -> AsyncIterator[Runner | None]:
        """The runner with a slot taken; None if a step has given the answer already.

        Any model may embed. ``keep_alive`` 0 with nothing to embed loads first, then unloads.
        """
        keep_alive_s = wire.seconds(body.get("keep_alive"))
        missing = 'model "{}" not found, try pulling it first'
        turn.model = wire.found(self.models, body.get("model") or "", missing)
        step = self._step(turn.model) if body.get("input") or body.get("prompt") else Says()
        if not getattr(step, "needs_model", False):
            await step(turn)
            yield None
            return
        async with self._held(turn, body, keep_alive_s) as runner, runner.slots:
            with self._speaks(turn.model):
                if isinstance(step, Says):
                    yield runner
                else:
                    await step(turn)
                    yield None

    # the parts of an answer

    def _step(self, model: OllamaModel) -> Step:
        return self._by_model.get(model.name, self._playbook).take()

    @asynccontextmanager
    async def _held(
        self, turn: Turn, body: Json, keep_alive_s: float | None
    ) -> AsyncIterator[Runner]:
        options = wire.checked_options(body)
        async with self.scheduler.runner(turn.model, options, keep_alive_s) as runner:
            turn.runner = runner
            turn.loaded_s = time.monotonic()
            yield runner

    @contextmanager
    def _speaks(self, model: OllamaModel) -> Iterator[None]:
        self._speaking.append(model.name)
        try:
            yield
        finally:
            self._speaking.remove(model.name)
