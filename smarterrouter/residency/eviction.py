"""Which idle models go when room is needed. Pure: all victims at once, or none.

A resident that is in use, loading or pinned never reaches this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.ledger import Share


@dataclass(frozen=True, slots=True)
class Resident:
    """An idle loaded model: what it would free, and when it was last used (clock seconds)."""

    ref: ModelRef
    share: Share
    last_used: float


def victims(lack: Mapping[str, int], idle: Sequence[Resident]) -> tuple[ModelRef, ...] | None:
    """The least recently used models whose going frees ``lack`` bytes on each device.

    1. Walk from the least recently used, taking whoever frees something still lacking.
    2. Give back any taken model that the others make superfluous, most recently used first.
    ``None`` when even all of them would not suffice: then nothing is evicted.
    """
    taken: list[Resident] = []
    for resident in sorted(idle, key=lambda r: (r.last_used, r.ref)):
        missing = _missing(lack, taken)
        if not missing:
            break
        if any(resident.share.get(device, 0) > 0 for device in missing):
            taken.append(resident)
    if _missing(lack, taken):
        return None
    for resident in reversed(tuple(taken)):
        others = [other for other in taken if other is not resident]
        if not _missing(lack, others):
            taken = others
    return tuple(resident.ref for resident in taken)


def _missing(lack: Mapping[str, int], taken: Sequence[Resident]) -> set[str]:
    return {
        device
        for device, need in lack.items()
        if sum(resident.share.get(device, 0) for resident in taken) < need
    }
