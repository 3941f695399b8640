"""Which idle models go: enough of them, none in vain, in the order of the strategy."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.eviction import HORIZON_S, Resident, Strategy, regret_s, victims

every_strategy = pytest.mark.parametrize("strategy", list(Strategy))


def idle(
    name: str, size: int, used: float = 0.0, device: str = "gpu0", regret: float = 1.0
) -> Resident:
    return Resident(ModelRef("x", name), {device: size}, used, regret)


def names(chosen: tuple[ModelRef, ...] | None) -> list[str] | None:
    return None if chosen is None else [ref.name for ref in chosen]


def test_the_least_recently_used_model_goes_first() -> None:
    pool = [idle("old", 10, used=1), idle("new", 10, used=5), idle("middle", 10, used=3)]
    assert names(victims({"gpu0": 10}, pool)) == ["old"]


def test_the_largest_goes_where_that_is_the_strategy() -> None:
    pool = [idle("small", 5, used=1), idle("large", 30, used=9), idle("middle", 10, used=3)]
    assert names(victims({"gpu0": 5}, pool, Strategy.LARGEST)) == ["large"]


def test_the_largest_is_the_one_that_holds_most_where_room_is_lacking() -> None:
    elsewhere = Resident(ModelRef("x", "elsewhere"), {"gpu0": 5, "gpu1": 50}, 0.0)
    pool = [elsewhere, idle("here", 10)]
    assert names(victims({"gpu0": 5, "gpu1": 0}, pool, Strategy.LARGEST)) == ["here"]


def test_the_model_that_is_quickly_back_goes_where_cost_is_the_strategy() -> None:
    pool = [idle("dear", 10, used=1, regret=40.0), idle("cheap", 10, used=9, regret=2.0)]
    assert names(victims({"gpu0": 10}, pool, Strategy.COST)) == ["cheap"]


def test_cost_is_counted_for_each_byte_that_is_freed() -> None:
    pool = [idle("large", 40, regret=8.0), idle("small", 10, regret=4.0)]
    assert names(victims({"gpu0": 40}, [*pool, idle("other", 40, regret=9.0)], Strategy.COST)) == [
        "large"
    ]
    assert names(victims({"gpu0": 10}, pool, Strategy.COST)) == ["small"], "the rest is no use"


def test_nobody_goes_when_all_together_would_not_suffice() -> None:
    assert victims({"gpu0": 25}, [idle("a", 10, 1), idle("b", 10, 2)]) is None


def test_a_small_old_model_stays_when_a_larger_one_has_to_go_anyway() -> None:
    pool = [idle("small", 2, used=1), idle("large", 20, used=2)]
    assert names(victims({"gpu0": 20}, pool)) == ["large"]


def test_models_on_another_device_are_left_alone() -> None:
    pool = [idle("other", 50, used=1, device="gpu1"), idle("here", 10, used=9)]
    assert names(victims({"gpu0": 5}, pool)) == ["here"]


def test_nothing_lacking_means_nobody_goes() -> None:
    assert victims({}, [idle("a", 10, 1)]) == ()
    assert victims({"gpu0": 0, "gpu1": -5}, [idle("a", 10, 1)]) == ()


residents = st.lists(
    st.builds(
        Resident,
        ref=st.just(ModelRef("x", "")),
        share=st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(0, 30)),
        last_used=st.integers(0, 9).map(float),
        regret_s=st.integers(1, 50).map(float),
    ),
    max_size=7,
).map(lambda pool: [_named(number, one) for number, one in enumerate(pool)])
lacks = st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(-10, 60))


def _named(number: int, one: Resident) -> Resident:
    return Resident(ModelRef("x", str(number)), one.share, one.last_used, one.regret_s)


def suffices(lack: dict[str, int], pool: list[Resident]) -> bool:
    return all(sum(one.share.get(d, 0) for one in pool) >= need for d, need in lack.items())


@every_strategy
@given(pool=residents, lack=lacks)
def test_victims_suffice_and_none_of_them_is_superfluous(
    strategy: Strategy, pool: list[Resident], lack: dict[str, int]
) -> None:
    chosen = victims(lack, pool, strategy)
    lacking = {device: need for device, need in lack.items() if need > 0}
    if chosen is None:
        assert not suffices(lacking, pool)
        return
    going = [one for one in pool if one.ref in chosen]
    assert len(going) == len(chosen) == len(set(chosen))
    assert suffices(lacking, going)
    for spared in going:
        assert not suffices(lacking, [one for one in going if one != spared])


@every_strategy
@given(pool=residents, need=st.integers(1, 60))
def test_whoever_is_spared_before_a_victim_would_not_have_been_enough_in_its_place(
    strategy: Strategy, pool: list[Resident], need: int
) -> None:
    """The last in the order that goes cannot be exchanged for one that comes before it."""
    chosen = victims({"gpu0": need}, pool, strategy)
    if not chosen:
        return
    order = _in_order(strategy, [one for one in pool if one.share.get("gpu0")], need)
    going = [one for one in order if one.ref in chosen]
    before = order[: order.index(going[-1])]
    assert not suffices({"gpu0": need}, before)


def _in_order(strategy: Strategy, pool: list[Resident], need: int) -> list[Resident]:
    match strategy:
        case Strategy.LRU:
            return sorted(pool, key=lambda one: one.last_used)
        case Strategy.LARGEST:
            return sorted(pool, key=lambda one: -one.share["gpu0"])
        case Strategy.COST:
            return sorted(pool, key=lambda one: one.regret_s / min(one.share["gpu0"], need))


@given(pool=residents, need=st.integers(1, 60))
def test_taking_the_largest_disturbs_as_few_as_possible(pool: list[Resident], need: int) -> None:
    lack = {"gpu0": need}
    chosen = victims(lack, pool, Strategy.LARGEST)
    if chosen is None:
        return
    for count in range(len(chosen)):
        assert not any(suffices(lack, list(some)) for some in combinations(pool, count))
    assert max(pool, key=lambda one: one.share.get("gpu0", 0)).share["gpu0"] == max(
        one.share["gpu0"] for one in pool if one.ref in chosen
    )


@given(
    load_s=st.floats(0.1, 100),
    idle_s=st.floats(0, 1e5),
    later_s=st.floats(0, 1e5),
    gap_s=st.none() | st.floats(0, 1e5),
)
def test_the_longer_a_model_has_been_idle_the_less_it_is_missed(
    load_s: float, idle_s: float, later_s: float, gap_s: float | None
) -> None:
    now = regret_s(load_s, idle_s, gap_s)
    assert 0.0 < now <= load_s
    assert regret_s(load_s, idle_s + later_s, gap_s) <= now
    assert regret_s(2 * load_s, idle_s, gap_s) == pytest.approx(2 * now)


def test_a_model_in_constant_use_is_missed_for_as_long_as_it_loads() -> None:
    assert regret_s(10.0, idle_s=0.0, gap_s=0.0) == 10.0
    assert regret_s(10.0, idle_s=HORIZON_S, gap_s=0.0) == 5.0
