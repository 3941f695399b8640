"""AMD's cards, as the amdgpu driver's files under /sys tell of them.

Decides which of a card's two memories models live in, and keeps a card's id while others go away
and come back.

An amdgpu device tells of two memories: VRAM, and GTT, the part of the host's RAM that it may
reach. Models live in

1. VRAM on a discrete card. It has at least one of the files ``board_info`` (newer kernels),
   ``mem_busy_percent`` and ``pcie_bw``, which the driver leaves out on an APU.
2. On an APU, GTT where it is larger than VRAM, else VRAM. VRAM is there a part of the RAM that
   the firmware has set aside, and this is the driver's own rule (since 2025; GTT before that) for
   where ROCm's memory goes. So 512 MB set aside of 32 GB are passed over, and 96 GB of 128 GB
   (Strix Halo) are used. The two are not added up: ROCm has only one of them, while Vulkan takes
   both, so that with Vulkan this is the careful figure.

GTT is RAM that others use too. So no more of it is free than the host has available, and what is
not free counts as used. The accelerator MI300A, an APU that has ``mem_busy_percent``, goes by 1.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot
from smarterrouter.gpu.drm import Card, Pids, cards, held_by, left, line, number, unseen

AMD = "amd"
VENDOR = "0x1002"
DRIVERS = ("amdgpu",)
SOURCES = {"vram": "sysfs amdgpu vram", "gtt": "sysfs amdgpu gtt"}
DISCRETE_ONLY = ("board_info", "mem_busy_percent", "pcie_bw")
NAMES = "usr/share/libdrm/amdgpu.ids"


@dataclass(frozen=True, slots=True)
class _Memory:
    """One of a card's two memories; ``shared`` says that it belongs to an APU."""

    region: str
    total: int | None
    used: int | None
    shared: bool = False


class AmdGpus:
    """See ``ports.GpuProbe``. Devices ``amd0``, ``amd1``, ... in the order of PCI addresses.

    ``root`` is /sys; /proc and /usr/share are looked for beside it. ``override_bytes`` states the
    total of an APU, where the user knows better. With ``pids``, what these processes hold is told.
    To be asked from one thread at a time.
    """

    def __init__(
        self,
        root: Path = Path("/sys"),
        node: str = "local",
        override_bytes: int | None = None,
        pids: Pids | None = None,
    ) -> None:
        self._root = root
        self._node = node
        self._override = override_bytes
        self._pids = pids
        self._known: dict[str, MemorySnapshot] = {}

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        present = {card.address: card for card in cards(self._root, VENDOR, DRIVERS)}
        for address, before in self._known.items():
            if address not in present:
                self._known[address] = unseen(before.device, before.source)
        for address, card in present.items():
            self._known[address] = self._snapshot(card, self._device(card))
        return tuple(self._known.values())

    def _device(self, card: Card) -> GpuDevice:
        """The card as known before, or a new one behind all others: ids stay."""
        if known := self._known.get(card.address):
            return known.device
        name = _name(card.device, self._root.parent / NAMES)
        return GpuDevice(f"{AMD}{len(self._known)}", self._node, AMD, name, None)

    def _snapshot(self, card: Card, device: GpuDevice) -> MemorySnapshot:
        memory = _memory(card.device)
        total = (self._override if memory.shared else None) or memory.total or None
        device = replace(device, total_bytes=total or device.total_bytes)
        used, free = memory.used, left(total, memory.used)
        if memory.region == "gtt" and total and used is not None and free is not None:
            free = min(free, _available(self._root.parent / "proc/meminfo", free))
            used = max(used, total - free)
        processes = held_by(self._root.parent / "proc", self._pids, card, memory.region)
        return MemorySnapshot(device, used, free, SOURCES[memory.region], processes)


def _memory(device: Path) -> _Memory:
    """Where models live on that card. The numbers are those of the module's docstring."""
    vram, gtt = (
        _Memory(
            region,
            number(device / f"mem_info_{region}_total"),
            number(device / f"mem_info_{region}_used"),
        )
        for region in ("vram", "gtt")
    )
    if any(os.path.exists(device / name) for name in DISCRETE_ONLY):  # 1
        return vram
    if vram.total is not None and gtt.total is not None and vram.total < gtt.total:  # 2
        return replace(gtt, shared=True)
    return replace(vram, shared=True)


def _available(meminfo: Path, unknown: int) -> int:
    """The host's RAM that programs can still have."""
    told = re.search(r"^MemAvailable:\s+(\d{1,18}) kB$", line(meminfo), re.MULTILINE)
    return int(told[1]) << 10 if told else unknown


def _name(device: Path, names: Path) -> str:
    """Its maker's name (server cards have it in a file), libdrm's for it, or its PCI id."""
    identity, revision = (
        line(device / name).removeprefix("0x").upper() for name in ("device", "revision")
    )
    for row in line(names).split("\n"):
        known = [part.strip() for part in row.split(",", 2)]
        if known[:2] == [identity, revision] and len(known) == 3:
            return line(device / "product_name") or known[2]
    return line(device / "product_name") or f"AMD GPU 1002:{identity.lower()}"
