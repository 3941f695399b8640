"""llama-server as somebody runs it: with one model, or as a router over many.

In router mode its models can be loaded and unloaded, so memory can be managed; with one model
there is nothing to manage. Which of the two it is, each listing says anew. A router loads a model
by itself when somebody so much as asks for its ``/props``, unless told not to.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from smarterrouter.backends.control import Control, ServerOptions
from smarterrouter.backends.openai import capabilities
from smarterrouter.backends.wire import Target, Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef
from smarterrouter.domain.ports import Blocks, Lost
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


@dataclass(frozen=True, slots=True)
class LlamaCppOptions(ServerOptions):
    """``url`` may end in ``/v1`` or not."""

    load_timeout_s: float = 300.0


class LlamaCppBackend:
    """See ``ports.Backend``."""

    kind = "llamacpp"

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
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        listed = await self._list()
        routed = any("status" in item for item in listed)
        manages = {Capability.LOAD, Capability.UNLOAD} if routed else set()
        self.capabilities = frozenset(manages)
        loaded = {str(item["id"]) for item in listed if not routed or _status(item) in LOADED}
        await self._learn(loaded, routed)
        return tuple(self._model(item, routed) for item in listed)

    async def load(self, name: str) -> Footprint | None:
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
        size = (item.get("meta") or {}).get("size")
        return Footprint(int(size), "reported") if size else None

    async def unload(self, name: str) -> None:
        if Capability.UNLOAD not in self.capabilities:
            return
        await self._tell("unload", name)
        until = time.monotonic() + self._options.load_timeout_s
        while (item := await self._item(name)) is not None and _status(item) != "unloaded":
            if time.monotonic() > until:
                raise BackendTimeout(f"{self.name} did not unload {name}.")
            await asyncio.sleep(POLL_S)

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

    def _model(self, item: Mapping[str, Any], routed: bool) -> Model:
        name = str(item["id"])
        meta = item.get("meta") or {}
        props = self._props.get(name, {})
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
            served_context=props.get("default_generation_settings", {}).get("n_ctx")
            or meta.get("n_ctx"),
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


def _status(item: Mapping[str, Any]) -> str:
    status = item.get("status")
    return str(status.get("value")) if isinstance(status, dict) else "loaded"
