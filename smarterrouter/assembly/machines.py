"""The devices of every node: which there are, what we may take of each, what they hold now.

What may be taken of a node is a stated ceiling, shared out as the devices' sizes are, else 90 % of
each. It counts for cards; RAM beside cards has the 90 %. Where there is no card, RAM is the device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from smarterrouter.config import NodeSettings, Settings
from smarterrouter.domain.devices import HOST, GpuDevice, MemorySnapshot
from smarterrouter.domain.ports import Clock, GpuProbe
from smarterrouter.gpu.detect import probes
from smarterrouter.gpu.host import ProcessMemory, process_memory
from smarterrouter.gpu.monitor import Monitor
from smarterrouter.gpu.remote import RemoteNode
from smarterrouter.residency.events import Used
from smarterrouter.residency.ledger import DeviceLimit, Share

BUDGET_SHARE = 0.9
BUFFER_GB, HOST_BUFFER_GB = 1.5, 0.5
REMOTE_TIMEOUT_S = 2.5
"""Less than the monitor gives a probe."""

LOCAL, STATED = "local", "stated"
Of = TypeVar("Of", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model's processes hold by device, and what of that the device counts as used.

    They differ in RAM: pages of a mapped file are held, but count as free.
    """

    share: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)


class Machines:
    """See above; also ``weighing.Devices``. ``local`` and ``remote`` are the probes, the latter in
    the order of the nodes in the settings."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._vram = settings.vram
        self._nodes = {node.name: node for node in settings.node}
        self._pids: frozenset[int] = frozenset()
        self.local = local_probes(settings, lambda: self._pids)
        self.remote = [_remote(node) for node in settings.node]
        self.monitor = Monitor(
            [*self.local, *self.remote],
            interval_s=settings.vram.monitor_interval,
            clock=clock,
        )

    def close(self) -> None:
        """Let go of the connections to other machines."""
        for node in self.remote:
            node.close()

    @property
    def devices(self) -> tuple[GpuDevice, ...]:
        """All devices that were ever seen."""
        return tuple(snapshot.device for snapshot in self.monitor.latest.values())

    def of_node(self, node: str) -> tuple[GpuDevice, ...]:
        """The devices of one machine that models may lie on.

        A card that was seen takes the place of a stated one. One whose size nobody knows shares
        the machine's RAM, which is counted there.
        """
        return of_node(self.devices, node)

    def limits(self) -> dict[str, DeviceLimit | None]:
        """What we may use of each device; ``None`` for one that has gone."""
        found: dict[str, DeviceLimit | None] = {}
        for node in dict.fromkeys(device.node for device in self.devices):
            found |= node_limits(self.of_node(node), self._ceiling_gb(node), self._vram.buffer_gb)
        gone = [name for name, snapshot in self.monitor.latest.items() if snapshot.gone]
        return {**found, **dict.fromkeys(gone)}

    def used_bytes(self, device: str) -> int | None:
        """What the device held when it was last looked at."""
        snapshot = self.monitor.latest.get(device)
        return snapshot.used_bytes if snapshot else None

    async def sample(self) -> Mapping[str, MemorySnapshot]:
        """Look at all devices now."""
        return await self.monitor.sample()

    async def run(self) -> None:
        """Look at all devices for ever, more often while something comes or goes."""
        await self.monitor.run()

    def busy(self) -> AbstractContextManager[None]:
        return self.monitor.busy()

    async def used(self, devices: Collection[str]) -> Used:
        cards = self._cards(devices)
        if not cards:
            return {}
        latest = await self.monitor.look(cards)
        return {device: seen.used_bytes for device, seen in latest.items()}

    async def settled(self, devices: Collection[str]) -> Used:
        cards = self._cards(devices)
        return await self.monitor.settled(cards) if cards else {}

    async def of_processes(self, pids: Collection[int], devices: Collection[str]) -> Share:
        self._pids |= frozenset(pids)
        if cards := self._cards(devices):
            await self.monitor.look(cards)
        held = (await self._measured({"": tuple(pids)}))[""].share
        return {device: count for device, count in held.items() if device in devices}

    async def measure(self, pids: Mapping[Of, tuple[int, ...]]) -> dict[Of, Measured]:
        """What processes hold of this machine's devices, as far as that can be seen.

        Cards tell by process what they held when they were last looked at. From now on they are
        asked for these processes.
        """
        self._pids = frozenset(pid for own in pids.values() for pid in own)
        return await self._measured(pids) if pids else {}

    async def _measured(self, pids: Mapping[Of, tuple[int, ...]]) -> dict[Of, Measured]:
        in_ram = await asyncio.to_thread(_in_ram, pids)
        ram = next((d.id for d in self.of_node(LOCAL) if d.vendor == HOST), None)
        cards = [s for s in self.monitor.latest.values() if s.processes is not None]
        found: dict[Of, Measured] = {}
        for whose, own in pids.items():
            one = found[whose] = Measured()
            for snapshot in cards:
                held = sum((snapshot.processes or {}).get(pid, 0) for pid in own)
                if held:
                    one.share[snapshot.device.id] = one.used[snapshot.device.id] = held
            memory = in_ram.get(whose)
            if memory and ram and not one.share:
                one.share[ram], one.used[ram] = memory.rss_bytes, memory.private_bytes
        return found

    def _cards(self, devices: Collection[str]) -> list[str]:
        """Those whose readings show what a model holds: RAM's do not, for it maps its file."""
        latest = self.monitor.latest
        return [d for d in devices if d in latest and latest[d].device.vendor != HOST]

    def _ceiling_gb(self, node: str) -> float | None:
        stated = [self._nodes[node].max_total_gb] if node in self._nodes else []
        stated += [self._vram.max_total_gb] if node == LOCAL else []
        return min((one for one in stated if one is not None), default=None)


def local_probes(settings: Settings, pids: Callable[[], Iterable[int]]) -> tuple[GpuProbe, ...]:
    """Every way of seeing a device of this machine.

    ``pids`` tells whose memory is wanted where a driver has to be asked process by process.
    """
    vram = settings.vram
    apu = None if vram.amd_total_gb is None else int(vram.amd_total_gb * 1e9)
    return probes(vram.sysfs, pids=pids, apu_bytes=apu)


def of_node(devices: Iterable[GpuDevice], node: str) -> tuple[GpuDevice, ...]:
    """The devices of one machine; a stated card only where no card was seen."""
    there = [one for one in devices if one.node == node and one.total_bytes is not None]
    seen = any(device.vendor not in (HOST, STATED) for device in there)
    return tuple(device for device in there if not (seen and device.vendor == STATED))


def node_limits(
    devices: Collection[GpuDevice], ceiling_gb: float | None, buffer_gb: float | None
) -> dict[str, DeviceLimit | None]:
    """What models may take of one machine's devices; see above."""
    cards = [device for device in devices if device.vendor != HOST] or list(devices)
    together = sum(device.total_bytes or 0 for device in cards)
    found: dict[str, DeviceLimit | None] = {}
    for device in devices:
        total = device.total_bytes or 0
        budget = int(total * BUDGET_SHARE)
        if ceiling_gb is not None and device in cards:
            budget = int(ceiling_gb * 1e9 * total / together)
        usual = HOST_BUFFER_GB if device.vendor == HOST else BUFFER_GB
        kept = usual if buffer_gb is None else buffer_gb
        found[device.id] = DeviceLimit(total, budget, int(kept * 1e9))
    return found


def _remote(node: NodeSettings) -> RemoteNode:
    total = None if node.vram_total_gb is None else int(node.vram_total_gb * 1e9)
    key = node.api_key.get_secret_value() if node.api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return RemoteNode(node.name, node.metrics_url, total, headers, REMOTE_TIMEOUT_S)


def _in_ram(pids: Mapping[Of, tuple[int, ...]]) -> dict[Of, ProcessMemory | None]:
    return {whose: process_memory(own) for whose, own in pids.items()}
