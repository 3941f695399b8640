"""On which devices a model would lie, given the room on each. Pure; evicts nobody.

1. One device: of those that hold it, the one that is left with the least room (so that a large
   card stays free for a large model); where its backend chooses, the one with the most.
2. A split over as few devices as possible, in proportion to their room.

A backend that always spreads its models gets 2 only, over all devices.
"""

from __future__ import annotations

from collections.abc import Mapping

from smarterrouter.domain.models import Placing
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.ledger import Share

Room = Mapping[str, int]
"""Bytes that may be taken, by device id."""


def placed(demand: Demand, room: Room) -> Share | None:
    """Where the model would lie within ``room``; ``None`` when it does not fit there."""
    alone = singles(demand, room)
    return alone[0] if alone else split(demand, room)


def singles(demand: Demand, room: Room) -> list[Share]:
    """Each device that holds the model alone, best first (1)."""
    if not demand.devices:
        return [{}]
    if demand.placing is Placing.SPREAD and len(demand.devices) > 1:
        return []
    holding = [d for d in demand.devices if room.get(d, 0) >= demand.bytes]
    sign = -1 if demand.placing is Placing.ROOMIEST else 1
    return [{d: demand.bytes} for d in sorted(holding, key=lambda d: sign * room[d])]


def split(demand: Demand, room: Room) -> Share | None:
    """The fewest devices that hold the model together (2)."""
    if len(demand.devices) < 2:
        return None
    roomiest = sorted(demand.devices, key=lambda d: -room.get(d, 0))
    fewest = len(roomiest) if demand.placing is Placing.SPREAD else 2
    for count in range(fewest, len(roomiest) + 1):
        chosen = roomiest[:count]
        within = {d: room.get(d, 0) - demand.split_bytes for d in chosen}
        together = sum(within.values())
        if min(within.values()) > 0 and together >= demand.bytes:
            return _shared_out(demand, within, together)
    return None


def _shared_out(demand: Demand, within: Room, together: int) -> Share:
    share = {d: demand.bytes * room // together for d, room in within.items()}
    rest = demand.bytes - sum(share.values())  # what rounding has left: a few bytes
    for d, room in within.items():
        more = min(rest, room - share[d])
        share[d] += more + demand.split_bytes
        rest -= more
    return share
