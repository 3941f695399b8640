"""Where is room for a model, and who would have to go for it? Pure questions; changes nothing.

The ways in, best first:

0. While something else is loading there, a backend that chooses among cards itself would see
   other room than we do: it is asked afterwards.
1. It fits now, on one device or split over several.
2. It will fit when the unloads under way are done.
3. It fits when enough idle models go: all of them together, those that cost least. One device
   before a split.
4. None of these: it waits for a lease to end.

A model is too large when it would not fit even if every other model that is not pinned went.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from smarterrouter.domain.models import ModelRef, Placing
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.eviction import (
    Resident,
    Strategy,
    chosen,
    in_turn,
    price,
    regret_s,
    victims,
)
from smarterrouter.residency.ledger import GONE, Share, VramLedger
from smarterrouter.residency.placement import placed, singles, split
from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import Residency

USUAL_LOAD_S = 5.0
TOLD_BYTES = 1_000_000
_BUSY = 1e12
"""Added to when a model was last used, to put those in use behind those that are idle."""


class Way(Struct, frozen=True):
    """Where the model would lie, who goes for it, and whether others are on their way out."""

    share: Share
    going: tuple[ModelRef, ...] = ()
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """``may_evict``: whether idle models are unloaded to make room at all."""

    strategy: Strategy = Strategy.LRU
    may_evict: bool = True


class Rooms:
    """The questions, over the ledger and the seats as they are."""

    def __init__(
        self, ledger: VramLedger, seats: Mapping[ModelRef, Seat], rules: Rules | None = None
    ) -> None:
        self._ledger = ledger
        self._seats = seats
        self._rules = rules or Rules()

    def way(
        self,
        model: ModelRef,
        demand: Demand,
        idle: Iterable[Resident],
        closed: Collection[str] = (),
    ) -> Way | None:
        """The best way in over devices that are not ``closed``; see above."""
        if not demand.devices:
            return Way({})
        demand = self._modest(model, demand)
        own = self._ledger.share_of(model)
        if self._unforeseeable(model, demand):
            return Way(dict.fromkeys(demand.devices, 0), waits=True)
        free = {d: self._ledger.free(d) + own.get(d, 0) for d in demand.devices if d not in closed}
        if (share := placed(demand, free)) is not None:  # 1
            return Way(share)
        coming = self._coming()
        soon = {d: count + coming.get(d, 0) for d, count in free.items()}
        if coming and (share := placed(demand, soon)) is not None:  # 2
            return Way(share, waits=True)
        return self._by_eviction(model, demand, soon, idle)  # 3

    def in_the_way(self, model: ModelRef, demand: Demand, before: Collection[ModelRef]) -> Way:
        """Who would have to go if those in use could: the way that disturbs fewest of them.

        Those that were in the way ``before`` still are, so that a choice once made stands.
        """
        demand = self._modest(model, demand)
        coming, own = self._coming(), self._ledger.share_of(model)
        soon = {d: self._ledger.free(d) + coming.get(d, 0) + own.get(d, 0) for d in demand.devices}
        holders = [
            Resident(ref, share, self._reluctance(ref, before))
            for ref, seat in self._seats.items()
            if seat.state is not Residency.UNLOADING and not seat.pinned and ref != model
            if (share := self._ledger.share_of(ref))
        ]
        found: list[tuple[int, Way]] = []
        most = self._most(model, demand)
        together = split(demand, most)
        for share in [*singles(demand, most), *([together] if together else [])]:
            lack = {d: count - soon[d] for d, count in share.items()}
            going = victims(lack, holders)
            if going is not None:
                leases = sum(self._seats[ref].leases for ref in going if ref not in before)
                found.append((leases, Way(share, going)))
        if not found:
            return Way(dict.fromkeys(demand.devices, 0), tuple(one.ref for one in holders))
        return min(found, key=lambda pair: pair[0])[1]

    def too_large(self, model: ModelRef, demand: Demand) -> str | None:
        """Why the model does not fit, whoever went; ``None`` when it would."""
        if not demand.devices:
            return None
        most = self._most(model, demand)
        if placed(_least(demand), most) is not None:
            return None
        return f"needs {gb(demand.least)} and {self._told(demand, most)}"

    def never_fits(self, model: ModelRef, demand: Demand) -> bool:
        """Whether it would not fit either if others used nothing: that may pass."""
        lasting = self._most(model, demand, self._ledger.lasting)
        return bool(demand.devices) and placed(_least(demand), lasting) is None

    def advice(self, model: ModelRef, demand: Demand) -> str:
        """What would make room for a model that is too large as things stand."""
        if all(self._ledger.limits.get(device) == GONE for device in demand.devices):
            return "See `smarterrouter vram`."
        ceilings = {d: self._ledger.ceiling(d) for d in demand.devices}
        if placed(_least(demand), ceilings) is not None:
            staying = [
                (str(ref), seat.pinned)
                for ref, seat in self._seats.items()
                if ref != model and self._stays(seat) and self._ledger.share_of(ref)
            ]
            verb = "Unpin and unload" if any(pinned for _, pinned in staying) else "Unload"
            return f"{verb} {', '.join(sorted(name for name, _ in staying))} first."
        budgets = {
            d: self._ledger.limits[d].budget_bytes for d in ceilings if d in self._ledger.limits
        }
        if placed(_least(demand), budgets) is not None:
            return "End what else uses that memory, or use a smaller quantisation or context."
        return "Use a smaller quantisation or context, or raise ROUTER_VRAM_MAX_TOTAL_GB."

    def idle(self, now: float) -> list[Resident]:
        """Whoever could go at once; one whose unload failed is tried again after a while."""
        if not self._rules.may_evict:
            return []
        priced = self._rules.strategy is Strategy.COST
        held = self._ledger.held
        return [
            Resident(
                ref,
                share,
                seat.last_used,
                _regret(seat, now) if priced else 0.0,
            )
            for ref, seat in self._seats.items()
            if not seat.leases
            if seat.state is Residency.READY
            or (seat.state is Residency.FAILED and now >= seat.retry_at)
            if not seat.pinned
            if (share := held.get(ref))
        ]

    def to_shed(self, idle: Iterable[Resident]) -> tuple[ModelRef, ...]:
        """Who goes because we hold more than our budget; on a device where all that are idle do not
        suffice, none goes for it."""
        going: dict[ModelRef, Resident] = {}
        coming, free = self._coming(), list(idle)
        for device in self._ledger.limits:
            freed = sum(one.share.get(device, 0) for one in going.values())
            lack = self._ledger.over_budget(device) - coming.get(device, 0) - freed
            rest = [one for one in free if one.ref not in going]
            found = chosen({device: lack}, rest, self._rules.strategy) if lack > 0 else None
            going |= {one.ref: one for one in found or ()}
        return tuple(going)

    def _by_eviction(
        self, model: ModelRef, demand: Demand, soon: Mapping[str, int], idle: Iterable[Resident]
    ) -> Way | None:
        others = [one for one in idle if one.ref != model]
        if not others:
            return None
        ways: list[tuple[float, Way]] = []
        for share in singles(demand, dict.fromkeys(soon, demand.bytes)):
            self._add_way(ways, share, soon, others)
        if not ways and len(demand.devices) > 1:
            return self._split_by_eviction(demand, soon, others)
        return min(ways, key=_price_of)[1] if ways else None

    def _split_by_eviction(
        self, demand: Demand, soon: Mapping[str, int], idle: list[Resident]
    ) -> Way | None:
        """The first in turn go until a split fits; then whoever it fits without stays."""
        lack = dict.fromkeys(soon, demand.bytes)
        going: list[Resident] = []
        for one in in_turn(lack, idle, self._rules.strategy):
            going.append(one)
            if split(demand, _freed(soon, going)) is not None:
                break
        else:
            return None
        for one in reversed(going[:-1]):
            rest = [other for other in going if other is not one]
            if split(demand, _freed(soon, rest)) is not None:
                going = rest
        share = split(demand, _freed(soon, going))
        return Way(share or {}, tuple([one.ref for one in going]))

    def _add_way(
        self,
        ways: list[tuple[float, Way]],
        share: Share,
        soon: Mapping[str, int],
        idle: list[Resident],
    ) -> None:
        """The way to that share and what it costs, if idle models can make it."""
        lack = {d: count - soon[d] for d, count in share.items()}
        going = chosen(lack, idle, self._rules.strategy)
        if going:
            way = Way(share, tuple([one.ref for one in going]))
            ways.append((price(going, self._rules.strategy), way))

    def _unforeseeable(self, model: ModelRef, demand: Demand) -> bool:
        """Whether its backend would choose a card by what is not there yet (0)."""
        if demand.placing is not Placing.ROOMIEST or len(demand.devices) < 2:
            return False
        return any(
            seat.state is Residency.LOADING
            and ref != model
            and not self._ledger.share_of(ref).keys().isdisjoint(demand.devices)
            for ref, seat in self._seats.items()
        )

    def _coming(self) -> dict[str, int]:
        """Bytes that unloads under way will free, by device."""
        coming: dict[str, int] = {}
        for ref, seat in self._seats.items():
            if seat.state is Residency.UNLOADING:
                for device, count in self._ledger.share_of(ref).items():
                    coming[device] = coming.get(device, 0) + count
        return coming

    def _most(
        self, model: ModelRef, demand: Demand, ceiling: Callable[[str], int] | None = None
    ) -> dict[str, int]:
        """Room by device if everybody went who ever will."""
        below = ceiling or self._ledger.ceiling
        may_evict = self._rules.may_evict
        staying = [
            self._ledger.share_of(ref)
            for ref, seat in self._seats.items()
            if (seat.pinned or not may_evict) and self._stays(seat) and ref != model
        ]
        return {
            d: max(0, below(d) - sum(share.get(d, 0) for share in staying)) for d in demand.devices
        }

    def _stays(self, seat: Seat) -> bool:
        return seat.pinned or (not self._rules.may_evict and seat.state is not Residency.UNLOADING)

    def _modest(self, model: ModelRef, demand: Demand) -> Demand:
        """Without its margin, where the model could not be had with it."""
        if demand.least == demand.bytes or placed(demand, self._most(model, demand)) is not None:
            return demand
        return _least(demand)

    def _reluctance(self, ref: ModelRef, before: Collection[ModelRef]) -> float:
        seat = self._seats[ref]
        busy = seat.leases or not seat.ready
        return seat.last_used + (_BUSY if busy else 0.0) + (0.0 if ref in before else _BUSY / 2)

    def _told(self, demand: Demand, most: Mapping[str, int]) -> str:
        """What there is, device by device, and who has the rest."""
        return "; ".join(self._share_told(d, most[d]) for d in demand.devices)

    def _share_told(self, device: str, most: int) -> str:
        if self._ledger.limits.get(device) == GONE:
            return f"{device} has gone"
        foreign = self._ledger.foreign.get(device, 0)
        staying = max(0, self._ledger.ceiling(device) - most)
        limit = self._ledger.limits[device]
        binds = limit.total_bytes - limit.buffer_bytes - foreign < limit.budget_bytes
        told_of = binds and foreign >= TOLD_BYTES
        beside = [f"{gb(foreign)} used by other programs"] if told_of else []
        beside += [f"{gb(staying)} held by models that stay"] if staying >= TOLD_BYTES else []
        told = f" ({', '.join(beside)})" if beside else ""
        return f"{device} has at most {gb(most)} for models{told}"


def _freed(soon: Mapping[str, int], going: Iterable[Resident]) -> dict[str, int]:
    """Room by device once these have gone."""
    freed = dict(soon)
    for one in going:
        for device, count in one.share.items():
            if device in freed:
                freed[device] += count
    return freed


def _regret(seat: Seat, now: float) -> float:
    return regret_s(seat.load_s or USUAL_LOAD_S, now - seat.last_used, seat.gap_s)


def _price_of(way: tuple[float, Way]) -> float:
    return way[0]


def _least(demand: Demand) -> Demand:
    return replace(demand, bytes=demand.least)


def gb(count: int) -> str:
    """As a person reads it: 7.2 GB, 850 MB."""
    return f"{count / 1e9:.1f} GB" if abs(count) >= 1e9 else f"{count / 1e6:.0f} MB"
