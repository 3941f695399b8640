"""Graphics cards as the kernel lists them, whatever their vendor, and who holds memory on them.

Decides which entries of /sys/class/drm are cards and in what order, and how an opening of a card
that several descriptors share is counted: once. What a card's own files mean is the vendors' part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Pids = Callable[[], Iterable[int]]
"""Tells whose memory is asked for: the processes that we started."""


@dataclass(frozen=True, slots=True)
class Card:
    """One /sys/class/drm/cardN. ``address`` is its PCI address, ``device`` its PCI folder."""

    address: str
    folder: Path
    device: Path
    driver: str


def cards(root: Path, vendor: str, drivers: Collection[str]) -> list[Card]:
    """The vendor's cards in the order of their PCI addresses. Connectors are no cards."""
    try:
        names = os.listdir(root / "class/drm")
    except OSError:
        return []
    folders = [root / "class/drm" / name for name in names if re.fullmatch(r"card\d+", name)]
    found = [card for folder in folders if (card := _card(folder))]
    mine = [c for c in found if c.driver in drivers and line(c.device / "vendor") == vendor]
    return sorted(mine, key=lambda card: _place(card.address))


def _card(folder: Path) -> Card | None:
    try:
        driver = os.path.basename(os.readlink(folder / "device/driver"))
        device = Path(os.path.realpath(folder / "device", strict=True))
    except OSError:
        return None
    return Card(device.name, folder, device, driver) if _place(device.name) else None


def _place(address: str) -> tuple[int, ...]:
    """Domain, bus, slot and function as numbers; empty where it is no PCI address."""
    parts = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-7])", address)
    return tuple(int(part, 16) for part in parts.groups()) if parts else ()


def line(path: Path) -> str:
    """What stands in the file; nothing where it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The file's number; ``None`` where there is none."""
    return whole(line(path))


def whole(text: str) -> int | None:
    """``None`` for whatever is no plain number of at most 64 bits."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def left(total: int | None, used: int | None) -> int | None:
    return None if total is None or used is None else max(0, total - used)


def unseen(device: GpuDevice, source: str) -> MemorySnapshot:
    """A device that was seen before and has gone."""
    return MemorySnapshot(device, None, None, source, gone=True)


# --- who holds it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Client:
    """One opening of a card by a process; copies of its file share the ``id``.

    ``held`` is unknown where the kernel is too old to tell it.
    """

    id: str
    held: int | None


def clients(process: Path, address: str, region: str) -> list[Client] | None:
    """A process's openings of a card, each once; ``None`` where one may not look.

    ``region`` is a pattern for the driver's names of its memories, as in ``vram0``.
    """
    found: dict[str, Client] = {}
    try:
        for name in os.listdir(process / "fd"):
            if client := _client(process, name, address, region):
                found[client.id] = client
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
    except OSError:
        return None
    return list(found.values())


def _client(process: Path, fd: str, address: str, region: str) -> Client | None:
    try:  # looking where it leads is much cheaper than having the kernel write an fdinfo
        if not os.readlink(process / "fd" / fd).startswith("/dev/dri/"):
            return None
    except OSError:  # closed meanwhile
        return None
    rows = [row.partition(":") for row in line(process / "fdinfo" / fd).split("\n")]
    told = {key.strip(): value.strip() for key, _, value in rows}
    if told.get("drm-pdev") != address:
        return None
    identity = told.get("drm-client-id", f"{process.name}, {fd}")
    return Client(identity, _resident(told, region))


def _resident(told: Mapping[str, str], region: str) -> int | None:
    """Bytes in the memories named so. The same is told as up to three keys, the best last."""
    sizes: dict[str, int] = {}
    for kind in ("total", "memory", "resident"):
        for key, value in told.items():
            place = re.fullmatch(f"drm-{kind}-({region})", key)
            if place and (size := _size(value)) is not None:
                sizes[place[1]] = size
    return sum(sizes.values()) if sizes else None


def _size(text: str) -> int | None:
    figure, _, unit = text.partition(" ")
    count = whole(figure)
    return None if count is None or unit not in UNITS else count * UNITS[unit]


def held_by(proc: Path, pids: Pids | None, card: Card, region: str) -> dict[int, int] | None:
    """Bytes by pid on the card, for those of ``pids`` that can be seen to use it."""
    if pids is None:
        return None
    seen = {pid: clients(proc / str(pid), card.address, region) or () for pid in pids()}
    told = {pid: [c.held for c in own if c.held is not None] for pid, own in seen.items()}
    return {pid: sum(held) for pid, held in told.items() if held}
