"""Which idle models go when room is needed. Pure: all victims at once, or none.

A resident that is in use, loading or pinned never reaches this module. The strategies, each an
order in which models are taken:

- ``lru``: the least recently used first.
- ``largest``: the one that frees the most of what is lacking first.
- ``cost``: the one with the fewest seconds to bring back, weighted with how soon it will be asked
  for, for each byte that it frees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

from msgspec import Struct

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.ledger import Share

HORIZON_S = 600.0
"""A model that is asked for this seldom is half as dear as one in constant use."""


class Strategy(StrEnum):
    LRU = "lru"
    LARGEST = "largest"
    COST = "cost"


class Resident(Struct, frozen=True):
    """An idle loaded model: what it would free, and when it was last used (clock seconds).

    ``regret_s`` is what its going is expected to cost: seconds to bring it back, weighted with
    how soon it will be asked for.
    """

    ref: ModelRef
    share: Share
    last_used: float
    regret_s: float = 0.0


def regret_s(load_s: float, idle_s: float, gap_s: float | None) -> float:
    """The seconds that a model's going is expected to cost.

    ``gap_s`` is how long it usually is from one request for it to the next. A model that has been
    idle for longer than that is less likely to be asked for soon.
    """
    usual = HORIZON_S if gap_s is None else gap_s
    return load_s * HORIZON_S / (HORIZON_S + max(usual, idle_s))


def victims(
    lack: Mapping[str, int], idle: Sequence[Resident], strategy: Strategy = Strategy.LRU
) -> tuple[ModelRef, ...] | None:
    """The models of ``chosen``."""
    going = chosen(lack, idle, strategy)
    return None if going is None else tuple([one.ref for one in going])


def chosen(
    lack: Mapping[str, int], idle: Sequence[Resident], strategy: Strategy = Strategy.LRU
) -> list[Resident] | None:
    """Those whose going frees ``lack`` bytes on each device.

    1. Walk in the strategy's order, taking whoever frees something still lacking.
    2. Give back any taken model that the others make superfluous, last in the order first.
    ``None`` when even all of them would not suffice: then nothing is evicted. Of two that stand
    alike in the order, the first in ``idle`` goes first.
    """
    missing = {device: need for device, need in lack.items() if need > 0}
    if not missing:
        return []
    taken: list[Resident] = []
    for resident in in_turn(missing, idle, strategy):
        if not missing.keys().isdisjoint(resident.share):
            taken.append(resident)
            missing = _less(missing, resident.share)
            if not missing:
                return _needed(lack, taken)
    return None


def in_turn(
    lack: Mapping[str, int], idle: Sequence[Resident], strategy: Strategy
) -> list[Resident]:
    """Those that hold something on these devices, in the order in which they would go."""
    return sorted(_helpful(lack, idle), key=_ORDERS[strategy](lack))


def price(going: Sequence[Resident], strategy: Strategy) -> float:
    """What their going costs, to choose between devices."""
    if strategy is Strategy.LRU:
        return max([one.last_used for one in going])
    if strategy is Strategy.LARGEST:
        return len(going)
    return sum([one.regret_s for one in going])


def _helpful(missing: Mapping[str, int], idle: Sequence[Resident]) -> list[Resident]:
    if len(missing) == 1:  # by far the most frequent
        [only] = missing
        return [one for one in idle if only in one.share]
    return [one for one in idle if not missing.keys().isdisjoint(one.share)]


def _less(missing: Mapping[str, int], share: Share) -> dict[str, int]:
    return {d: left for d, need in missing.items() if (left := need - share.get(d, 0)) > 0}


def _needed(lack: Mapping[str, int], taken: list[Resident]) -> list[Resident]:
    if len(taken) == 1:
        return taken
    spare = {
        device: sum([one.share.get(device, 0) for one in taken]) - need
        for device, need in lack.items()
    }
    needed = list(taken)
    for one in reversed(taken):
        if all(one.share.get(device, 0) <= left for device, left in spare.items()):
            needed.remove(one)
            spare = {device: left - one.share.get(device, 0) for device, left in spare.items()}
    return needed


_Key = Callable[[Resident], float]


def _lru(_: Mapping[str, int]) -> _Key:
    return attrgetter("last_used")


def _largest(lack: Mapping[str, int]) -> _Key:
    return lambda one: -sum([one.share.get(device, 0) for device in lack])


def _cost(lack: Mapping[str, int]) -> _Key:
    if len(lack) == 1:
        [(only, need)] = lack.items()
        return lambda one: one.regret_s / (min(one.share[only], need) or 1)
    return lambda one: (
        one.regret_s / (sum([min(one.share.get(d, 0), need) for d, need in lack.items()]) or 1)
    )


_ORDERS: Mapping[Strategy, Callable[[Mapping[str, int]], _Key]] = {
    Strategy.LRU: _lru,
    Strategy.LARGEST: _largest,
    Strategy.COST: _cost,
}
