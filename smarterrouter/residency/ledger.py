"""Who holds how many bytes on which device. Decides what is free; never what to evict.

Free for us on a device = min(budget - own, total - buffer - foreign - own), where
own = residents + reservations and foreign = what others use. Bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


GONE = DeviceLimit(0, 0)
"""The limit of a device that has disappeared: nothing new may go there."""


class VramLedger:
    """Every byte we own or have promised, by device."""

    def __init__(self, limits: Mapping[str, DeviceLimit]) -> None:
        self.limits = dict(limits)
        self.foreign: dict[str, int] = dict.fromkeys(limits, 0)
        self.held: dict[ModelRef, Share] = {}  # to be read only
        self._own: dict[str, int] = {}

    def own(self, device: str) -> int:
        """Bytes of residents and reservations on the device."""
        return self._own.get(device, 0)

    def free(self, device: str) -> int:
        """Bytes a new reservation may take; negative when we hold more than allowed."""
        return self.ceiling(device) - self._own.get(device, 0)

    def ceiling(self, device: str) -> int:
        """Bytes that would be free if we held nothing."""
        limit = self.limits.get(device, GONE)
        unused = limit.total_bytes - limit.buffer_bytes - self.foreign.get(device, 0)
        return min(limit.budget_bytes, unused)

    def lasting(self, device: str) -> int:
        """Bytes that would be free if we held nothing, and nobody else did either."""
        limit = self.limits.get(device, GONE)
        return min(limit.budget_bytes, limit.total_bytes - limit.buffer_bytes)

    def over_budget(self, device: str) -> int:
        """Bytes that we ourselves hold too much there, whatever others do."""
        limit = self.limits.get(device)
        return max(0, self.own(device) - limit.budget_bytes) if limit else 0

    def share_of(self, model: ModelRef) -> Share:
        """What the model holds; empty when it holds nothing."""
        return self.held.get(model, {})

    def holders(self, device: str) -> Iterator[tuple[ModelRef, int]]:
        """Everyone with bytes on the device."""
        for model, share in self.held.items():
            if held := share.get(device):
                yield model, held

    def shortfall(self, share: Share) -> dict[str, int]:
        """Bytes missing by device before ``share`` could be reserved; empty when it fits."""
        missing = {device: need - self.free(device) for device, need in share.items()}
        return {device: lack for device, lack in missing.items() if lack > 0}

    def settle(self, model: ModelRef, share: Share) -> None:
        """Record what a model really holds, even if that is more than was planned."""
        self.release(model)
        self.held[model] = dict(share)
        for device, count in share.items():
            self._own[device] = self._own.get(device, 0) + count

    def release(self, model: ModelRef) -> None:
        """The model holds nothing any more."""
        for device, count in self.held.pop(model, {}).items():
            self._own[device] -= count

    def observe(self, device: str, used: int, ours: int, perhaps_ours: int) -> None:
        """What the device says is used, of which ``ours`` is ours for certain.

        ``perhaps_ours`` belongs to models on their way in or out, so only bounds for what is
        foreign follow from it: within them the last known figure stands.
        """
        low, high = max(0, used - ours - perhaps_ours), max(0, used - ours)
        self.foreign[device] = min(max(self.foreign.get(device, 0), low), high)
