"""What a device is and what it held when somebody looked. Bytes throughout, unknown is ``None``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

HOST = "host"
"""The vendor of a device that is plain RAM."""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One memory that models live in: a card, or the host's RAM where there is no card.

    ``id`` is unique over all nodes: ``nvidia0``, ``amd1``, ``ram``; of another node
    ``desk/nvidia0``. Cards of one vendor are numbered in the order of their PCI addresses.
    """

    id: str
    node: str
    vendor: str
    name: str
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """A device's memory at one moment, as ``source`` reported it.

    ``processes`` is what each process (by pid, of this machine) holds there, where that can be
    seen. ``gone``: the device was there before and is not any more; that its figures are unknown
    alone does not say so. ``at`` is when its probe was asked, in clock seconds.
    """

    device: GpuDevice
    used_bytes: int | None
    free_bytes: int | None
    source: str
    processes: Mapping[int, int] | None = None
    gone: bool = False
    at: float = math.inf
