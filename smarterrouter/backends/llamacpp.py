"""llama-server as somebody runs it: with one model, or as a router over many.

In router mode its models can be loaded and unloaded, so memory can be managed; with one model
there is nothing to manage. Which of the two it is, each listing says anew. A router loads a model
by itself when somebody so much as asks for its ``/props``, unless told not to.

What no answer tells is looked up where the server is on this machine: a model's proportions in its
file, what it holds in RAM at its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smarterrouter.backends.control import Control, ServerOptions, count
from smarterrouter.backends.managed import cards, served
from smarterrouter.backends.managed import layout as layouts
from smarterrouter.backends.managed.child import resident_bytes
from smarterrouter.backends.managed.folder import Entry, from_file
from smarterrouter.backends.managed.presets import Preset, read_arguments
from smarterrouter.backends.openai import capabilities
from smarterrouter.backends.wire import Target, Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import HOST, GpuDevice
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
    BadRequest,
    ModelNotFound,
    Overloaded,
    SmarterRouterError,
    Unavailable,
)

POLL_S = 0.1
PROPS_TIMEOUT_S = 3.0
LIMIT_RETRY_S = 2.0
_GONE = re.compile(r"is not (loaded|running)")
LOADED = ("loaded", "sleeping")
"""A sleeping model wakes by itself at its next request."""

LAST = {"Connection": "close"}
"""A router closes a connection after what it handed on to a model, and does not say so."""

THIS_NODE = "local"
SILENT = Preset()


@dataclass(frozen=True, slots=True)
class LlamaCppOptions(ServerOptions):
    """``url`` may end in ``/v1`` or not."""

    load_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one model besides its listing: its flags, its file, its processes."""

    flags: Preset = SILENT
    entry: Entry | None = None
    pids: tuple[int, ...] = ()
    held: Footprint | None = None


class LlamaCppBackend:
    """See ``ports.Backend``.

    Where a model lies is the server's choice. It is laid out for the kind of devices that
    ``reach`` was last asked about, so that is to be asked first.
    """

    kind = "llamacpp"
    placing = Placing.SPREAD

    def __init__(self, options: LlamaCppOptions, timeouts: Timeouts) -> None:
        self.name = options.name
        self.node = options.node
        self.capabilities: frozenset[Capability] = frozenset()
        self._options = options
        root = options.root("/v1")
        self._headers = options.headers
        self._api = f"{root}/v1"
        self._control = Control(root, self.name, self._headers)
        self._wire = Wire(timeouts)
        self._props: dict[str, Mapping[str, Any]] = {}
        self._seen: dict[str, layouts.Seen] = {}
        self._meta: dict[str, Mapping[str, Any]] = {}
        self._found: dict[str, Found] = {}
        self._cards = False
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        listed = await self._list()
        routed = any("status" in item for item in listed)
        manages = {Capability.LOAD, Capability.UNLOAD} if routed else set()
        self.capabilities = frozenset(manages)
        loaded = {str(item["id"]) for item in listed if not routed or _status(item) in LOADED}
        await self._learn(loaded, routed)
        self._found = await self._look(listed, routed)
        return tuple(self._model(item, routed) for item in listed)

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        """The cards that its flags name, else all; RAM where there is none, or it may use none."""
        self._cards = any(device.vendor != HOST for device in devices)
        return cards.reach_unasked(self._known(name).flags, devices)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        known, seen = self._known(name), self._seen.get(name, layouts.Seen())
        if known.entry is not None:
            return layouts.served(known.entry, seen, cards=self._cards)
        meta = self._meta.get(name, {})
        if (size := count(meta.get("size"))) is None:
            return None
        return layouts.weighed(size, meta, known.flags, seen, cards=self._cards)

    def context_for(self, name: str, context: int) -> int:
        return 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    def processes(self, name: str) -> tuple[int, ...]:
        """As of the last listing, load or unload."""
        return self._known(name).pids

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        """The footprint of a model in RAM, where its process can be seen.

        Of one on a card that would be another figure: it is to be measured there.
        """
        if Capability.LOAD not in self.capabilities:
            return None
        if await self._item(name) is None:
            raise ModelNotFound(f"{self.name} does not have {name}.", param="model")
        until = time.monotonic() + self._options.load_timeout_s
        await self._tell("load", name)
        while (item := await self._item(name)) is not None and _status(item) not in LOADED:
            status = item["status"]
            if status.get("failed") or _status(item) == "unloaded":
                code = status.get("exit_code", "unknown")
                raise BackendError(
                    f"{name} failed to load: its process ended with exit code {code}. "
                    "The log of that llama-server says why."
                )
            if time.monotonic() > until:
                raise BackendTimeout(
                    f"{name} was not loaded after {self._options.load_timeout_s:g} s. "
                    "Raise ROUTER_TIMEOUT_LOAD_S if it needs longer."
                )
            await asyncio.sleep(POLL_S)
        if item is None:
            raise BackendError(f"{self.name} no longer lists {name}.")
        await self._ask(name, routed=True)  # its context may be of the server's choosing
        self._found |= await self._look([item], routed=True)
        return self._known(name).held

    async def unload(self, name: str) -> None:
        if Capability.UNLOAD not in self.capabilities:
            return
        await self._tell("unload", name)
        until = time.monotonic() + self._options.load_timeout_s
        while (item := await self._item(name)) is not None and _status(item) != "unloaded":
            if time.monotonic() > until:
                raise BackendTimeout(
                    f"{self.name} did not unload {name} within {self._options.load_timeout_s:g} s, "
                    "so it may hold its memory still. See the log of that llama-server."
                )
            await asyncio.sleep(POLL_S)
        self._found[name] = replace(self._known(name), pids=(), held=None)

    async def drop_cache(self, name: str) -> bool:
        return False

    @asynccontextmanager
    async def stream(self, request: ChatRequest, model: Model) -> AsyncIterator[Blocks]:
        target = Target(self._api, model.ref.name, model.id, self.name, self._headers)
        try:
            async with self._wire.stream(request, target) as blocks:
                yield blocks
        except BadRequest as error:
            if not _GONE.search(error.message):
                raise
            self._lost(model.ref, error.message)  # a router that loads nothing by itself
            raise Unavailable(f"{model.id} is no longer loaded.") from error

    def watch(self, lost: Lost) -> None:
        """Each listing says what is loaded; ``lost`` is called when a request finds out sooner."""
        self._lost = lost

    async def aclose(self) -> None:
        await self._control.aclose()
        await self._wire.aclose()

    async def version(self) -> str | None:
        try:
            build = (await self._control.get("/props")).get("build_info")
        except BackendError:  # switched off
            build = None
        return f"llama-server {build or 'of an unknown build'}"

    async def _list(self) -> list[Mapping[str, Any]]:
        answer = await self._control.get("/models")
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list) or not all(
            isinstance(item, dict) and "id" in item for item in listed
        ):
            raise BackendError(
                f"{self.name} at {self._control.shown}/models does not answer with a model list. "
                "Is that the address of a llama-server?"
            )
        return listed

    async def _item(self, name: str) -> Mapping[str, Any] | None:
        return next((item for item in await self._list() if item["id"] == name), None)

    async def _tell(self, what: str, name: str) -> None:
        """Ask for a load or an unload; that it is so already is no error."""
        try:
            await self._control.post(f"/models/{what}", {"model": name})
        except BadRequest as error:
            if "running" not in error.message:
                told = f"{self.name} would not {what} {name}: {error.message}"
                raise BackendError(told) from error
        except BackendError as error:
            if "limit reached" in error.message:
                raise Overloaded(error.message, retry_after_s=LIMIT_RETRY_S) from error
            raise

    async def _learn(self, loaded: set[str], routed: bool) -> None:
        """The properties of what is loaded, asked once for each load."""
        self._props = {name: props for name, props in self._props.items() if name in loaded}
        await asyncio.gather(*(self._ask(name, routed) for name in loaded - self._props.keys()))

    async def _ask(self, name: str, routed: bool) -> None:
        """A model's properties; it may have gone since, or hang, and is listed all the same."""
        params = {"model": name, "autoload": "false"} if routed else {}
        with contextlib.suppress(SmarterRouterError):
            self._props[name] = await self._control.ask(
                "GET", "/props", params=params, headers=LAST, timeout=PROPS_TIMEOUT_S
            )

    async def _look(self, listed: list[Mapping[str, Any]], routed: bool) -> dict[str, Found]:
        """What the listing leaves out, and can be found on this machine."""
        for item in listed:
            name, meta, props = str(item["id"]), item.get("meta"), self._props.get(str(item["id"]))
            if meta:
                self._meta[name] = meta
            if props:
                self._seen[name] = layouts.Seen(count(props.get("total_slots")), _n_ctx(props))
        return await asyncio.to_thread(self._finding, listed, routed)

    def _finding(self, listed: list[Mapping[str, Any]], routed: bool) -> dict[str, Found]:
        """Reads files and looks through processes: for a thread."""
        port = served.port_here(self._control.url)
        server = served.look(port) if port else None
        return {
            str(item["id"]): self._find(item, server) if routed else _alone(server)
            for item in listed
        }

    def _find(self, item: Mapping[str, Any], server: served.Served | None) -> Found:
        name, folder = str(item["id"]), server.folder if server else None
        words = (item.get("status") or {}).get("args") or ()
        flags = read_arguments([str(word) for word in words], folder)
        pids = server.models.get(name, ()) if server else ()
        held = resident_bytes(pids) if pids and served.lies_in_ram(pids) else None
        return Found(
            flags=flags,
            entry=self._entry(name, flags),
            pids=pids,
            held=None if held is None else Footprint(held, "measured"),
        )

    def _entry(self, name: str, flags: Preset) -> Entry | None:
        """The model's file, where it is on this machine."""
        told = self._props.get(name, {}).get("model_path")
        path = flags.model or (Path(told) if isinstance(told, str) else None)
        if path is None or not path.is_absolute() or self.node != THIS_NODE:
            return None
        return from_file(name, path, flags, [])

    def _known(self, name: str) -> Found:
        return self._found.get(name, Found())

    def _model(self, item: Mapping[str, Any], routed: bool) -> Model:
        name = str(item["id"])
        meta = item.get("meta") or {}
        props = self._props.get(name, {})
        known = self._known(name)
        has, uncertain = abilities(item, props)
        return Model(
            ref=ModelRef(self.name, name),
            id=self._options.prefix + name,
            capabilities=has,
            uncertain=uncertain,
            size_bytes=meta.get("size"),
            parameters=meta.get("n_params"),
            quantization=meta.get("ftype"),
            context_length=meta.get("n_ctx_train"),
            resident=_status(item) in LOADED if routed else None,
            held=known.held if routed and _status(item) in LOADED else None,
            slots=count(props.get("total_slots")) or known.flags.parallel,
            served_context=_n_ctx(props) or meta.get("n_ctx"),
        )


def abilities(
    item: Mapping[str, Any], props: Mapping[str, Any]
) -> tuple[frozenset[Capability], frozenset[Capability]]:
    """What a model can do and what nobody has said: its listing, completed by its ``/props``.

    A router lists how it starts a model; that is the only sign of one that embeds.
    """
    if "--embeddings" in (item.get("status") or {}).get("args", ()):
        return frozenset({Capability.EMBEDDING}), frozenset()
    has, uncertain = capabilities(item)
    template = props.get("chat_template_caps")
    if Capability.CHAT in has and isinstance(template, dict):
        uncertain -= {Capability.TOOLS}
        has |= {Capability.TOOLS} if template.get("supports_tools") else set()
    seen = props.get("modalities")
    if Capability.CHAT in has and isinstance(seen, dict):
        uncertain -= {Capability.VISION}
        has |= {Capability.VISION} if seen.get("vision") else set()
    return has, uncertain


def _alone(server: served.Served | None) -> Found:
    """What a server with one model holds, that model holds."""
    return Found(pids=(server.pid,) if server else ())


def _n_ctx(props: Mapping[str, Any]) -> int | None:
    settings = props.get("default_generation_settings")
    return count(settings.get("n_ctx")) if isinstance(settings, dict) else None


def _status(item: Mapping[str, Any]) -> str:
    status = item.get("status")
    return str(status.get("value")) if isinstance(status, dict) else "loaded"
