"""A backend whose loads take as long as they are told to, and that can fail and lose models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

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
from smarterrouter.errors import BackendError


class SlowBackend:
    """Implements ``ports.Backend``; ``loads`` and ``unloads`` record what was asked of it."""

    name = "slow"
    kind = "fake"
    node = "local"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})
    placing = Placing.CHOSEN

    def __init__(
        self, size_bytes: int = 10, load_s: float = 0.01, failure: Exception | None = None
    ) -> None:
        self.size_bytes = size_bytes
        self.load_s = load_s
        self.failure = failure
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.loading = asyncio.Event()
        self.loaded = asyncio.Event()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        return ()

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        return tuple(device.id for device in devices)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        return None

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    def processes(self, name: str) -> tuple[int, ...]:
        return ()

    async def version(self) -> str | None:
        return None

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        self.loads.append(name)
        self.loading.set()
        await asyncio.sleep(self.load_s)
        if self.failure:
            raise self.failure
        self.loaded.set()
        if not self.finished.done():
            self.finished.set_result(None)
        return Footprint(self.size_bytes, "measured")

    async def unload(self, name: str) -> None:
        await asyncio.sleep(self.load_s)
        self.unloads.append(name)

    def stream(self, request: ChatRequest, model: Model) -> AbstractAsyncContextManager[Blocks]:
        raise BackendError("a fake has nothing to say")

    def watch(self, lost: Lost) -> None:
        self._lost = lost

    async def aclose(self) -> None:
        return None

    def lose(self, name: str) -> None:
        """The model goes away by itself."""
        self._lost(ModelRef(self.name, name), "it crashed")
