"""A backend whose loads take as long as they are told to, and that can fail and lose models; and
devices that show what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext

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
    """Implements ``ports.Backend``. ``loads``, ``placements`` and ``unloads`` are what was asked.

    ``failure`` is what every load fails of, ``staying`` what an unload of that model fails of.
    ``footprints`` is what a load tells of a model; of others it tells nothing. ``pids`` are its
    processes. ``when_loaded`` and ``when_unloaded`` are called with a name when that is done.
    """

    name = "slow"
    kind = "fake"
    node = "local"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})
    placing = Placing.CHOSEN

    def __init__(self, load_s: float = 1.0, failure: Exception | None = None) -> None:
        self.load_s, self.unload_s = load_s, 0.5
        self.failure = failure
        self.staying: dict[str, Exception] = {}
        self.footprints: dict[str, Footprint] = {}
        self.pids: dict[str, int] = {}
        self.when_loaded: Callable[[str], object] = lambda name: None
        self.when_unloaded: Callable[[str], object] = lambda name: None
        self.loads: list[str] = []
        self.placements: list[Placement] = []
        self.unloads: list[str] = []
        self._lost: Lost = lambda model, reason: None

    async def models(self) -> tuple[Model, ...]:
        return ()

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        return tuple(device.id for device in devices)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        return None

    def context_for(self, name: str, context: int) -> int:
        return 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    def processes(self, name: str) -> tuple[int, ...]:
        return (self.pids[name],) if name in self.pids else ()

    async def version(self) -> str | None:
        return None

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        self.loads.append(name)
        self.placements.append(placement)
        await asyncio.sleep(self.load_s)
        if self.failure:
            raise self.failure
        self.when_loaded(name)
        return self.footprints.get(name)

    async def unload(self, name: str) -> None:
        self.unloads.append(name)
        await asyncio.sleep(self.unload_s)
        if error := self.staying.get(name):
            raise error
        self.when_unloaded(name)

    async def drop_cache(self, name: str) -> bool:
        return False

    def stream(self, request: ChatRequest, model: Model) -> AbstractAsyncContextManager[Blocks]:
        raise BackendError("a fake has nothing to say")

    def watch(self, lost: Lost) -> None:
        self._lost = lost

    async def aclose(self) -> None:
        return None

    def lose(self, name: str) -> None:
        """The model goes away by itself."""
        self._lost(ModelRef(self.name, name), "it crashed")


class Dials:
    """Implements ``weighing.Devices``: shows ``used_bytes`` and ``processes``, as they are set.

    ``processes`` is bytes by device and pid. Three samples take ``settling_s``.
    """

    def __init__(self, used_bytes: Mapping[str, int | None]) -> None:
        self.used_bytes = dict(used_bytes)
        self.processes: dict[int, dict[str, int]] = {}
        self.settling_s = 0.6

    def busy(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def used(self, devices: Collection[str]) -> Mapping[str, int | None]:
        return {device: self.used_bytes.get(device) for device in devices}

    async def settled(self, devices: Collection[str]) -> Mapping[str, int | None]:
        await asyncio.sleep(self.settling_s)
        return await self.used(devices)

    async def of_processes(self, pids: Collection[int], devices: Collection[str]) -> dict[str, int]:
        held: dict[str, int] = {}
        for pid in pids:
            for device, count in self.processes.get(pid, {}).items():
                held[device] = held.get(device, 0) + count
        return held

    def add(self, device: str, count: int) -> None:
        self.used_bytes[device] = (self.used_bytes.get(device) or 0) + count
