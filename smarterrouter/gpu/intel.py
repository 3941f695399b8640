"""Intel's cards, as far as their drivers tell of them.

Decides which of them have memory of their own, how large it is, and when "used" can be known.

An integrated GPU is left out: its memory is the host's RAM, which is a device already. It is what
sits at slot 02 of bus 00 and has no local memory to show.

A card's total comes from the first of these that is there. ``source`` names it.

1. "sysfs xe": ``device/tileN/physical_vram_size_bytes``, summed. In the first versions of the xe
   driver and in Intel's own packages of it; Linux of today has no such file.
2. "sysfs i915": ``lmem_total_bytes`` beside ``device`` (or in it). In Intel's own packages of the
   i915 driver, with ``lmem_avail_bytes``; Linux itself has never had them.
3. "pci bar": what the card's name promises, held against the size of its memory window (BAR 2).
   A window is a power of two: 16 GiB for the 12 GB of a B580. So for a card that is not in
   ``BOARDS`` it is an upper bound, and without a resizable BAR (256 MiB) it tells nothing.

Used is told by Intel's own i915 only. Elsewhere it is the sum of what /proc/*/fdinfo tells of
every process, where we may see them all: as root, outside a container. (What the driver holds for
itself is not in it.) Otherwise it is ``None``: a sum over some of the processes would pass for the
whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot
from smarterrouter.gpu.drm import (
    Card,
    Pids,
    cards,
    clients,
    held_by,
    left,
    line,
    number,
    unseen,
    whole,
)

INTEL = "intel"
VENDOR = "0x8086"
DRIVERS = ("i915", "xe")
XE = "sysfs xe"
I915 = "sysfs i915"
BAR = "pci bar"
FDINFO = " + fdinfo"
LOCAL = r"(?:local|vram)\d+"
"""The drivers' names for the memory on the card, in fdinfo."""

SMALL_BAR = 256 << 20
FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed name for the one that holds every process."""

BOARDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "0x56a0": ("Intel Arc A770", (8, 16)),
    "0x56a1": ("Intel Arc A750", (8,)),
    "0x56a2": ("Intel Arc A580", (8,)),
    "0x56a5": ("Intel Arc A380", (6,)),
    "0x56a6": ("Intel Arc A310", (4,)),
    "0x56b1": ("Intel Arc Pro A40/A50", (6,)),
    "0x56c0": ("Intel Data Center GPU Flex 170", (16,)),
    "0x56c1": ("Intel Data Center GPU Flex 140", (6,)),
    "0xe20b": ("Intel Arc B580", (12,)),
    "0xe20c": ("Intel Arc B570", (10,)),
    "0xe211": ("Intel Arc Pro B60", (24,)),
    "0xe212": ("Intel Arc Pro B50", (16,)),
}
"""Name and sizes in GiB, by PCI device id."""


@dataclass(frozen=True, slots=True)
class _Memory:
    total: int | None
    used: int | None
    source: str


class IntelGpus:
    """See ``ports.GpuProbe``. Devices ``intel0``, ``intel1``, ... in the order of PCI addresses.

    ``root`` is /sys; /proc is looked for beside it. With ``pids``, what these processes hold is
    told. To be asked from one thread at a time.
    """

    def __init__(
        self, root: Path = Path("/sys"), node: str = "local", pids: Pids | None = None
    ) -> None:
        self._root = root
        self._proc = root.parent / "proc"
        self._node = node
        self._pids = pids
        self._known: dict[str, MemorySnapshot] = {}

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        present = {c.address: c for c in cards(self._root, VENDOR, DRIVERS) if self._counts(c)}
        for address, before in self._known.items():
            if address not in present:
                self._known[address] = unseen(before.device, before.source)
        for address, card in present.items():
            self._known[address] = self._snapshot(card, self._device(card))
        return tuple(self._known.values())

    def _counts(self, card: Card) -> bool:
        return card.address in self._known or _discrete(card)

    def _device(self, card: Card) -> GpuDevice:
        """The card as known before, or a new one behind all others: ids stay."""
        if known := self._known.get(card.address):
            return known.device
        identity = line(card.device / "device")
        name, _ = BOARDS.get(identity, (f"Intel GPU 8086:{identity.removeprefix('0x')}", ()))
        return GpuDevice(f"{INTEL}{len(self._known)}", self._node, INTEL, name, None)

    def _snapshot(self, card: Card, device: GpuDevice) -> MemorySnapshot:
        memory = _memory(card)
        if memory.used is None and (used := _used(self._proc, card)) is not None:
            memory = replace(memory, used=used, source=memory.source + FDINFO)
        device = replace(device, total_bytes=memory.total or device.total_bytes)
        free = left(memory.total, memory.used)
        processes = held_by(self._proc, self._pids, card, LOCAL)
        return MemorySnapshot(device, memory.used, free, memory.source, processes)


def _discrete(card: Card) -> bool:
    """Whether it has memory of its own; in doubt, a card that is not where integrated ones sit."""
    bus, slot = card.address.split(":")[1:]
    elsewhere = (bus, slot[:2]) != ("00", "02")
    return elsewhere or _told(card) is not None or _window(card.device) > SMALL_BAR


def _memory(card: Card) -> _Memory:
    return _told(card) or _Memory(_promised(card.device), None, BAR)


def _told(card: Card) -> _Memory | None:
    """1 and 2 of the module's docstring."""
    tiles = [number(tile) for tile in card.device.glob("tile*/physical_vram_size_bytes")]
    if total := sum(tile or 0 for tile in tiles):
        return _Memory(total, None, XE)
    for folder in (card.folder, card.device):
        if total := number(folder / "lmem_total_bytes") or 0:
            return _Memory(total, left(total, number(folder / "lmem_avail_bytes")), I915)
    return None


def _promised(device: Path) -> int | None:
    """3 of the module's docstring."""
    window = _window(device)
    _, promised = BOARDS.get(line(device / "device"), ("", ()))
    sizes = [gib << 30 for gib in promised]
    fitting = [size for size in sizes if size <= window]
    if fitting or (window > SMALL_BAR and not sizes):
        return max(fitting, default=window)
    return sizes[0] if len(sizes) == 1 else None


def _window(device: Path) -> int:
    """Bytes of BAR 2; 0 where it has none. A line is its first and last address and its flags."""
    rows = line(device / "resource").split("\n")
    ends = [_hexadecimal(word) for word in rows[2].split()[:2]] if len(rows) > 2 else []
    if len(ends) < 2 or not ends[1]:
        return 0
    return max(0, ends[1] - ends[0] + 1)


def _hexadecimal(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0


def _used(proc: Path, card: Card) -> int | None:
    """Bytes that all processes together hold on the card, each opening of it once."""
    try:  # says both that we are allowed to look and that nothing is hidden from us
        if os.readlink(proc / "1/ns/pid") != FIRST_PID_NAMESPACE:
            return None
        pids = [name for name in os.listdir(proc) if whole(name) is not None]
    except OSError:
        return None
    held: dict[str, int] = {}
    for pid in pids:
        found = clients(proc / pid, card.address, LOCAL)
        if found is None:
            return None
        for client in found:
            if client.held is None:
                return None
            held[client.id] = client.held
    return sum(held.values())
