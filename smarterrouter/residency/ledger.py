"""Who holds how many bytes on which device. Decides what is free; never what to evict.

Free for us on a device = min(budget - own, total - buffer - foreign - own), where
own = residents + reservations and foreign = what others use. Bytes throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smarterrouter.domain.models import ModelRef

Share = Mapping[str, int]
"""Bytes by device id."""


@dataclass(frozen=True, slots=True)
class DeviceLimit:
    """What we may use of one device. ``budget_bytes`` is our own ceiling."""

    total_bytes: int
    budget_bytes: int
    buffer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Bytes set aside for one model."""

    model: ModelRef
    share: Share


class VramLedger:
    """Every byte we own or have promised, by device."""

    def __init__(self, limits: Mapping[str, DeviceLimit]) -> None:
        self.limits = dict(limits)
        self.foreign: dict[str, int] = dict.fromkeys(limits, 0)
        self._held: dict[ModelRef, Reservation] = {}

    def own(self, device: str) -> int:
        """Bytes of residents and reservations on the device."""
        return sum(held.share.get(device, 0) for held in self._held.values())

    def free(self, device: str) -> int:
        """Bytes a new reservation may take; negative when we hold more than allowed."""
        limit = self.limits[device]
        own = self.own(device)
        unused = limit.total_bytes - limit.buffer_bytes - self.foreign[device] - own
        return min(limit.budget_bytes - own, unused)

    def ceiling(self, device: str) -> int:
        """Bytes that would be free if we held nothing."""
        return self.free(device) + self.own(device)

    def share_of(self, model: ModelRef) -> Share:
        """What the model holds; empty when it holds nothing."""
        held = self._held.get(model)
        return held.share if held else {}

    def shortfall(self, share: Share) -> dict[str, int]:
        """Bytes missing by device before ``share`` could be reserved; empty when it fits."""
        missing = {device: need - self.free(device) for device, need in share.items()}
        return {device: lack for device, lack in missing.items() if lack > 0}

    def reserve(self, model: ModelRef, share: Share) -> None:
        """Set bytes aside before a load. Raises ``ValueError`` when they are not free."""
        if model in self._held:
            raise ValueError(f"{model} already holds memory")
        if lack := self.shortfall(share):
            raise ValueError(f"{model} lacks {lack} bytes")
        self._held[model] = Reservation(model, dict(share))

    def settle(self, model: ModelRef, share: Share) -> None:
        """Record what a loaded model really holds, even if that is more than was planned."""
        self._held[model] = Reservation(model, dict(share))

    def release(self, model: ModelRef) -> None:
        """The model holds nothing any more."""
        self._held.pop(model, None)
