"""An Ollama that somebody runs: its native API, since the one like OpenAI's takes no ``num_ctx``.

Loading and unloading are requests without a prompt. Every request names the context and keeps the
model for ever, so that it goes when ``residency`` says so and is never reloaded by chance. Ollama
has a scheduler of its own and may evict a model all the same: each listing tells what is resident.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import aiohttp
import msgspec

from smarterrouter.backends.control import Control, ServerOptions
from smarterrouter.backends.ollama import answer, asking, context, listing, telling
from smarterrouter.backends.wire import Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef
from smarterrouter.domain.ports import Blocks, Lost
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    ModelNotFound,
    SmarterRouterError,
)

log = logging.getLogger(__name__)
_T = TypeVar("_T")

POLL_S = 0.1
CARDS_AT_ONCE = 4
"""How many models are asked about at the same time: Ollama reads a file for each."""


@dataclass(frozen=True, slots=True)
class OllamaOptions(ServerOptions):
    """``context`` is the default; a request may need a longer one."""

    context: int = 8192
    load_timeout_s: float = 300.0


class OllamaBackend:
    """See ``ports.Backend``."""

    kind = "ollama"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})

    def __init__(self, options: OllamaOptions, timeouts: Timeouts) -> None:
        self.name = options.name
        self.node = options.node
        self.url = options.root("/v1", "/api")
        self._options = options
        self._timeouts = timeouts
        self._headers = options.headers
        self._control = Control(self.url, self.name, self._headers)
        self._wire = Wire(timeouts)
        self._loads = Wire(replace(timeouts, first_byte_s=options.load_timeout_s))
        self._cards: dict[str, listing.Card] = {}
        self._broken: set[str] = set()
        self._models: dict[str, Model] = {}
        self._contexts: dict[str, int] = {}
        self._in_use: Counter[str] = Counter()
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        tags = await self._list("/api/tags", listing.tags)
        running = await self._running()
        cards = await self._read_cards(tags)
        found = (
            listing.model(tag, card, self.name, self._options.prefix, resident=tag.name in running)
            for tag, card in zip(tags, cards, strict=True)
            if card is not None
        )
        self._models = {model.ref.name: model for model in found if model is not None}
        return tuple(self._models.values())

    async def load(self, name: str) -> Footprint | None:
        """Resident with whatever context it has, it stays as it is."""
        model = await self._known(name)
        await self._running()
        num_ctx = context.num_ctx(context.NOTHING, self._window(model))
        path = "/api/generate" if Capability.CHAT in model.capabilities else "/api/embed"
        await self._tell(name, path, keep_alive=asking.FOREVER, options={"num_ctx": num_ctx})
        resident = (await self._running()).get(name)
        return listing.footprint(resident) if resident else None

    async def unload(self, name: str) -> None:
        self._contexts.pop(name, None)
        try:
            await self._tell(name, "/api/generate", keep_alive=0)
        except ModelNotFound:
            return
        until = time.monotonic() + self._options.load_timeout_s
        while name in await self._running():
            if time.monotonic() > until:
                raise BackendTimeout(f"{self.name} did not unload {name}.")
            await asyncio.sleep(POLL_S)

    async def version(self) -> str | None:
        said = await self._control.get("/api/version")
        version = said.get("version") if isinstance(said, dict) else None
        return f"Ollama {version}" if version else None

    @asynccontextmanager
    async def stream(self, request: ChatRequest, model: Model) -> AsyncIterator[Blocks]:
        asked = asking.asked(request, model)
        if model.ref.name not in self._contexts:
            await self._running()
        need = context.need_of(request, asked.uncounted_bytes, asked.wished)
        num_ctx = context.num_ctx(need, self._window(model))
        with self._using(model.ref, num_ctx):
            url, data = f"{self.url}{asked.path}", asked.body(num_ctx)
            begin = partial(self._begin, request, model)
            async with self._wire.begun(url, data, self.name, self._headers, begin) as blocks:
                yield blocks

    @contextmanager
    def _using(self, ref: ModelRef, num_ctx: int) -> Iterator[None]:
        """From now on the model is taken to have this context; when that fails, nobody knows.

        A reload that was cut short leaves nothing loaded.
        """
        name, reloads = ref.name, self._contexts.get(ref.name) != num_ctx
        self._contexts[name] = num_ctx
        self._in_use[name] += 1
        try:
            yield
        except BaseException:
            self._contexts.pop(name, None)
            if reloads:
                self._lost(ref, "a reload for another context was cut short")
            raise
        finally:
            self._in_use[name] -= 1

    def watch(self, lost: Lost) -> None:
        """Ollama tells of no eviction: ``Model.resident`` of a listing does."""
        self._lost = lost

    async def aclose(self) -> None:
        await self._control.aclose()
        await self._loads.aclose()
        await self._wire.aclose()

    async def _begin(
        self, request: ChatRequest, model: Model, response: aiohttp.ClientResponse
    ) -> Blocks:
        """The answer, begun; see ``wire.Begin``."""
        await answer.check(response, self.name, model.ref.name)
        if request.endpoint is Endpoint.EMBEDDINGS:
            packed = asking.base64_wanted(request)
            raw = await answer.body(response, self.name)
            return _one(telling.embeddings(raw, model.id, self.name, packed=packed))
        teller = telling.Teller(
            request.endpoint,
            model.id,
            int(time.time()),
            self.name,
            usage=asking.usage_wanted(request),
        )
        telling_of = answer.Answer(response, teller, self.name, self._timeouts)
        return telling_of.blocks(await telling_of.opening())

    def _window(self, model: Model) -> context.Window:
        resident = self._contexts.get(model.ref.name)
        return context.Window(model.context_length, self._options.context, resident)

    async def _known(self, name: str) -> Model:
        if name not in self._models:
            await self.models()
        try:
            return self._models[name]
        except KeyError:
            raise ModelNotFound(f"{self.name} does not have {name}.", param="model") from None

    async def _tell(self, name: str, path: str, **wishes: object) -> None:
        """A load or an unload: a request without a prompt."""
        data = msgspec.json.encode({"model": name, "stream": False, **wishes})
        try:
            response = await self._loads.post(f"{self.url}{path}", data, self.name, self._headers)
            try:
                await answer.check(response, self.name, name)
                await answer.body(response, self.name)
            finally:
                response.close()
        except aiohttp.SocketTimeoutError:
            raise BackendTimeout(
                f"{self.name} was not done with {name} after {self._options.load_timeout_s:g} s. "
                "Raise ROUTER_TIMEOUT_LOAD_S if it needs longer."
            ) from None

    async def _running(self) -> dict[str, listing.Running]:
        """What is loaded. The contexts are remembered, since a request need not ask again.

        Of a model that is being asked something, the newest request knows better.
        """
        running = await self._list("/api/ps", listing.running)
        told = {
            name: length
            for name, one in running.items()
            if (length := one.context_length or self._contexts.get(name))
        }
        asked = {name: own for name, own in self._contexts.items() if self._in_use[name]}
        self._contexts = told | asked
        return running

    async def _read_cards(self, tags: list[listing.Tag]) -> list[listing.Card | None]:
        """What each model can do, asked once for each digest; ``None`` where Ollama cannot say."""
        turns = asyncio.Semaphore(CARDS_AT_ONCE)

        async def read(tag: listing.Tag) -> listing.Card | None:
            known = self._cards.get(tag.key)
            if known is not None:
                return known
            async with turns:
                card = await self._read_card(tag)
            if card is not None:
                self._cards[tag.key] = card  # at once: what comes after may run out of time
            return card

        cards = await asyncio.gather(*(read(tag) for tag in tags))
        self._cards = {
            tag.key: card for tag, card in zip(tags, cards, strict=True) if card is not None
        }
        self._broken &= {tag.key for tag in tags}
        return cards

    async def _read_card(self, tag: listing.Tag) -> listing.Card | None:
        try:
            shown = listing.card(await self._control.post("/api/show", {"model": tag.name}))
        except (SmarterRouterError, msgspec.ValidationError) as error:
            if tag.key not in self._broken:
                log.warning("%s: %s is left out: %s", self.name, tag.name, error)
            self._broken.add(tag.key)
            return None
        self._broken.discard(tag.key)
        return shown

    async def _list(self, path: str, read: Callable[[object], _T]) -> _T:
        said = await self._control.get(path)
        try:
            return read(said)
        except msgspec.ValidationError as error:
            raise BackendError(
                f"{self.name} at {self._control.shown}{path} does not answer as Ollama does. "
                "Is that its address?"
            ) from error


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
