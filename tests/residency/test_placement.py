"""Where a model would lie: within the room, all of it, on as few devices as possible."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.models import Placing
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.placement import placed, singles, split

CARDS = ("gpu0", "gpu1", "gpu2", "gpu3")

rooms = st.dictionaries(st.sampled_from(CARDS), st.integers(-20, 60), max_size=4)
demands = st.builds(
    Demand,
    bytes=st.integers(1, 120),
    source=st.just("measured"),
    devices=st.lists(st.sampled_from(CARDS), unique=True, min_size=1).map(tuple),
    placing=st.sampled_from(Placing),
    split_bytes=st.integers(0, 5),
)


def demand(count: int, placing: Placing = Placing.CHOSEN, split_bytes: int = 0) -> Demand:
    return Demand(count, "measured", CARDS[:3], placing, split_bytes)


def together(wanted: Demand, room: dict[str, int], cards: tuple[str, ...]) -> int:
    """What these cards hold of a model that lies on all of them."""
    within = [room.get(card, 0) - wanted.split_bytes for card in cards]
    return sum(within) if min(within) > 0 else 0


@given(demands, rooms)
def test_no_device_gets_more_than_its_room(wanted: Demand, room: dict[str, int]) -> None:
    for card, count in (placed(wanted, room) or {}).items():
        assert card in wanted.devices
        assert 0 <= count <= room[card]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(0, 9))
def test_a_split_that_takes_nearly_all_room_takes_no_byte_more_of_any_device(
    sizes: list[int], spared: int
) -> None:
    room = dict(zip(CARDS, sizes, strict=False))
    wanted = Demand(max(1, sum(sizes) - spared), "measured", tuple(room), Placing.SPREAD)
    share = split(wanted, room)
    assert share is not None
    assert sum(share.values()) == wanted.bytes
    assert all(0 <= count <= room[card] for card, count in share.items())


@given(demands, rooms)
def test_all_bytes_are_placed_and_what_a_split_takes_more(
    wanted: Demand, room: dict[str, int]
) -> None:
    share = placed(wanted, room)
    if share is not None:
        more = wanted.split_bytes * len(share) if len(share) > 1 else 0
        assert sum(share.values()) == wanted.bytes + more


@given(demands, rooms)
def test_a_model_lies_on_as_few_devices_as_hold_it(wanted: Demand, room: dict[str, int]) -> None:
    share = placed(wanted, room)
    spreads = wanted.placing is Placing.SPREAD and len(wanted.devices) > 1
    if spreads:
        assert share is None or set(share) == set(wanted.devices)
        return
    if share is None or len(share) > 1:
        assert all(room.get(card, 0) < wanted.bytes for card in wanted.devices)
    most = len(share) - 1 if share else len(wanted.devices)
    for count in range(2, most + 1):
        for cards in combinations(wanted.devices, count):
            assert together(wanted, room, cards) < wanted.bytes


@given(demands, rooms)
def test_of_several_devices_the_tightest_is_taken_unless_its_backend_takes_the_roomiest(
    wanted: Demand, room: dict[str, int]
) -> None:
    alone = singles(wanted, room)
    if alone and wanted.devices:
        left = [room[next(iter(share))] for share in alone]
        assert left == sorted(left, reverse=wanted.placing is Placing.ROOMIEST)
        assert placed(wanted, room) == alone[0]


@given(demands, rooms, st.sampled_from(CARDS), st.integers(0, 30))
def test_more_room_never_makes_a_model_fit_less(
    wanted: Demand, room: dict[str, int], card: str, more: int
) -> None:
    if placed(wanted, room) is not None:
        assert placed(wanted, {**room, card: room.get(card, 0) + more}) is not None


def test_a_large_card_stays_free_for_a_large_model() -> None:
    room = {"gpu0": 24, "gpu1": 12, "gpu2": 8}
    assert placed(demand(10), room) == {"gpu1": 10}
    assert placed(demand(10, Placing.ROOMIEST), room) == {"gpu0": 10}


def test_a_split_is_shared_out_as_the_room_is() -> None:
    room = {"gpu0": 24, "gpu1": 12, "gpu2": 4}
    assert placed(demand(30), room) == {"gpu0": 20, "gpu1": 10}
    assert placed(demand(30, split_bytes=2), room) == {"gpu0": 23, "gpu1": 11}


def test_a_backend_that_spreads_its_models_does_so_with_small_ones_too() -> None:
    room = {"gpu0": 24, "gpu1": 12, "gpu2": 12}
    share = placed(demand(4, Placing.SPREAD), room)
    assert share == {"gpu0": 2, "gpu1": 1, "gpu2": 1}
    assert placed(demand(4, Placing.SPREAD), {**room, "gpu2": 0}) is None


def test_a_backend_that_spreads_has_one_place_where_there_is_one_card() -> None:
    wanted = Demand(4, "measured", ("gpu0",), Placing.SPREAD, 1)
    assert placed(wanted, {"gpu0": 4}) == {"gpu0": 4}


def test_where_nobody_counts_devices_every_model_fits() -> None:
    wanted = Demand(4, "default")
    assert placed(wanted, {}) == {}
    assert split(wanted, {}) is None
