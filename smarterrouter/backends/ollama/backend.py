"""An Ollama that somebody runs: its native API, since the one like OpenAI's takes no ``num_ctx``.

Loading and unloading are requests without a prompt. Every request names the context and keeps the
model for ever, so that it goes when ``residency`` says so and is never reloaded by chance. Ollama
has a scheduler of its own and may evict a model all the same: each listing tells what is resident.
On which cards a model lies Ollama decides, and tells nobody: only how much of it lies on any.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import aiohttp
import msgspec
from msgspec import structs

from smarterrouter.backends.control import Control, ServerOptions
from smarterrouter.backends.ollama import answer, asking, listing, shape, telling
from smarterrouter.backends.ollama.context import Need, Window, num_ctx, tokens_of
from smarterrouter.backends.wire import Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.devices import HOST, GpuDevice
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    Placement,
    Placing,
)
from smarterrouter.domain.ports import ANYWHERE, Blocks, Lost
from smarterrouter.domain.shape import Layout, Shape
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
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
    """``context`` is the default; a request may need a longer one.

    ``parallel`` and ``cache_type`` are what that Ollama was started with (its
    ``OLLAMA_NUM_PARALLEL`` and ``OLLAMA_KV_CACHE_TYPE``): nothing there tells them.
    """

    context: int = 8192
    load_timeout_s: float = 300.0
    parallel: int = 1
    cache_type: str = "f16"


class OllamaBackend:
    """See ``ports.Backend``."""

    kind = "ollama"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})
    placing = Placing.ROOMIEST

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
        self._has_cards = False
        self._broken: set[str] = set()
        self._models: dict[str, Model] = {}
        self._shapes: dict[str, Shape | None] = {}
        self._contexts: dict[str, int] = {}
        self._in_use: Counter[str] = Counter()
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        tags = await self._list("/api/tags", listing.tags)
        running = await self._running()
        cards = await self._read_cards(tags)
        shown = [(tag, card) for tag, card in zip(tags, cards, strict=True) if card is not None]
        here = (self.name, self._options.prefix)
        found = (
            listing.model(
                tag,
                card,
                *here,
                running.get(tag.name),
                self._options.parallel,
                cards=self._has_cards,
            )
            for tag, card in shown
        )
        self._models = {model.ref.name: model for model in found if model is not None}
        known = self._shapes
        self._shapes = {
            tag.key: known[tag.key] if tag.key in known else shape.shape(card, tag.size)
            for tag, card in shown
        }
        return tuple(self._models.values())

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        """Any card of its node; RAM where there is none."""
        here = [device for device in devices if device.node == self.node]
        cards = tuple(device.id for device in here if device.vendor != HOST)
        self._has_cards = bool(cards)
        return cards or tuple(device.id for device in here)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        """As of the last listing. A longer context that is resident already is kept."""
        model = self._models.get(name)
        known = self._shapes.get(model.digest or name) if model else None
        if model is None or known is None:
            return None
        length = self.context_for(name, context)
        chats = Capability.CHAT in model.capabilities
        return shape.layout(known, length, model.slots or 1, self._options.cache_type, chats=chats)

    def context_for(self, name: str, context: int) -> int:
        """A context that is resident and suffices is kept."""
        model = self._models.get(name)
        return num_ctx(Need(wished=context), self._window(model)) if model else 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        """The least context under which ``stream`` will not reload the model.

        0 for a request that ``stream`` will refuse: nothing is reloaded for that.
        """
        try:
            return tokens_of(asking.need(request), model.context_length)
        except BadRequest:
            return 0

    def processes(self, name: str) -> tuple[int, ...]:
        """Which of Ollama's runners has the model cannot be seen from outside."""
        return ()

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        """Resident with a context that suffices, it stays as it is; else this reloads it.

        Of the placement only the context can be told to Ollama.
        """
        model = await self._known(name)
        await self._running()
        length = self.context_for(name, placement.context)
        path = "/api/generate" if Capability.CHAT in model.capabilities else "/api/embed"
        with self._using(name, length):
            await self._tell(name, path, keep_alive=asking.FOREVER, options={"num_ctx": length})
        resident = (await self._running()).get(name)
        return listing.footprint(resident, cards=self._has_cards) if resident else None

    async def unload(self, name: str) -> None:
        """While others use the model at Ollama it stays; it goes when they are done."""
        self._contexts.pop(name, None)
        limit_s = self._options.load_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._send_away(name)
        except (TimeoutError, BackendTimeout):
            raise BackendTimeout(
                f"{self.name} did not unload {name} within {limit_s:g} s, so what it holds is "
                "unknown now. Somebody else may be using it there: see `ollama ps`."
            ) from None

    async def _send_away(self, name: str) -> None:
        try:
            await self._tell(name, "/api/generate", keep_alive=0)
        except ModelNotFound:
            if name in await self._running():
                raise BackendError(
                    f"{self.name} has {name} in memory but no longer on disk, and cannot be told "
                    "to unload it. Restart that Ollama to have its memory back."
                ) from None
            return
        while True:
            if name not in await self._running():
                return
            await asyncio.sleep(POLL_S)

    async def version(self) -> str | None:
        said = await self._control.get("/api/version")
        version = said.get("version") if isinstance(said, dict) else None
        return f"Ollama {version}" if version else None

    async def drop_cache(self, name: str) -> bool:
        return False

    @asynccontextmanager
    async def stream(self, request: ChatRequest, model: Model) -> AsyncIterator[Blocks]:
        asked = asking.asked(request, model)
        if model.ref.name not in self._contexts:
            await self._running()
        length = num_ctx(asking.need(request), self._window(model))
        reloads = self._contexts.get(model.ref.name) != length
        with self._using(model.ref.name, length):
            url, data = f"{self.url}{asked.path}", asked.body(length)
            begin = partial(self._begin, request, model)
            try:
                async with self._wire.begun(url, data, self.name, self._headers, begin) as blocks:
                    reloads = False
                    yield blocks
            except BaseException:
                if reloads:  # it was cut short, and leaves nothing loaded
                    self._lost(model.ref, "a reload for another context was cut short")
                raise

    @contextmanager
    def _using(self, name: str, length: int) -> Iterator[None]:
        """From now on the model is taken to have this context; when that fails, nobody knows."""
        self._contexts[name] = length
        self._in_use[name] += 1
        try:
            yield
        except BaseException:
            self._contexts.pop(name, None)
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

    def _window(self, model: Model) -> Window:
        resident = self._contexts.get(model.ref.name)
        return Window(model.context_length, self._options.context, resident)

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
        for name, one in running.items():
            if not one.context_length:  # an older server
                running[name] = structs.replace(one, context_length=self._contexts.get(name))
        told = {name: one.context_length for name, one in running.items() if one.context_length}
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
