"""What a device is and what it held when somebody looked. Bytes throughout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One memory that models live in: a card, or the host's RAM where there is no card."""

    id: str
    node: str
    vendor: str
    name: str
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """A device's memory at one moment, as ``source`` reported it."""

    device: GpuDevice
    used_bytes: int | None
    free_bytes: int | None
    source: str
