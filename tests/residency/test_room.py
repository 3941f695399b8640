"""The ways in, in their order; who is in the way; and what a person is told when nothing helps."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from smarterrouter.domain.models import ModelRef, Placing
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.eviction import Resident, Strategy
from smarterrouter.residency.ledger import GONE, DeviceLimit, VramLedger
from smarterrouter.residency.room import TOLD_BYTES, Rooms, Rules, Way
from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import Residency
from tests.support.residency import gb, limit, ref

WANTED = ref("wanted")
ONE, TWO = ("gpu0",), ("gpu0", "gpu1")


class House:
    """Cards, and models that lie on them in a certain state."""

    def __init__(
        self, cards: Mapping[str, float | DeviceLimit], rules: Rules | None = None
    ) -> None:
        self.ledger = VramLedger(
            {
                card: one if isinstance(one, DeviceLimit) else limit(one)
                for card, one in cards.items()
            }
        )
        self.seats: dict[ModelRef, Seat] = {}
        self.rooms = Rooms(self.ledger, self.seats, rules)

    def put(
        self,
        name: str,
        state: Residency = Residency.READY,
        *,
        used: float = 0.0,
        leases: int = 0,
        pinned: bool = False,
        load_s: float | None = None,
        **gigabytes: float,
    ) -> ModelRef:
        model = ref(name)
        self.seats[model] = Seat(
            state=state, leases=leases, pinned=pinned, last_used=used, load_s=load_s
        )
        self.ledger.settle(model, {card: gb(count) for card, count in gigabytes.items()})
        return model

    def way(
        self, count: float, *closed: str, now: float = 100.0, **more: object
    ) -> tuple[dict[str, float], list[str], bool] | None:
        """The way in for so many gigabytes: where, who goes, and whether it waits."""
        way = self.rooms.way(WANTED, self.demand(count, **more), self.rooms.idle(now), closed)
        return None if way is None else told(way)

    def demand(self, count: float, **more: object) -> Demand:
        fields = {"source": "measured", "devices": tuple(self.ledger.limits), **more}
        return Demand(gb(count), **fields)  # type: ignore[arg-type]


def told(way: Way) -> tuple[dict[str, float], list[str], bool]:
    share = {device: round(count / 1e9, 3) for device, count in way.share.items()}
    return share, [model.name for model in way.going], way.waits


# the ways in


def test_what_fits_goes_in_at_once() -> None:
    house = House({"gpu0": 10})
    house.put("a", gpu0=4)
    assert house.way(6) == ({"gpu0": 6}, [], False)


def test_a_model_on_devices_that_nobody_counts_always_goes_in() -> None:
    assert House({"gpu0": 0}).way(50, devices=()) == ({}, [], False)


def test_of_the_cards_that_hold_it_the_one_is_taken_that_is_left_with_least() -> None:
    house = House({"gpu0": 24, "gpu1": 12})
    assert house.way(8) == ({"gpu1": 8}, [], False)
    assert house.way(16) == ({"gpu0": 16}, [], False)
    assert house.way(8, placing=Placing.ROOMIEST) == ({"gpu0": 8}, [], False)


def test_who_chooses_among_cards_by_itself_waits_for_a_load_that_it_cannot_see_yet() -> None:
    house = House({"gpu0": 24, "gpu1": 16})
    house.put("coming", Residency.LOADING, gpu0=20)
    assert house.way(8, placing=Placing.ROOMIEST) == ({"gpu0": 0, "gpu1": 0}, [], True)
    assert house.way(8) == ({"gpu1": 8}, [], False)
    assert house.way(4, placing=Placing.ROOMIEST, devices=ONE) == ({"gpu0": 4}, [], False)
    house.put("coming", Residency.READY, gpu0=20)
    assert house.way(8, placing=Placing.ROOMIEST) == ({"gpu1": 8}, [], False)


def test_no_more_go_for_a_split_than_it_takes() -> None:
    house = House({"gpu0": 10, "gpu1": 16})
    house.put("a", gpu0=6, used=2.0)
    house.put("b", gpu1=12, used=1.0)
    share, going, waits = house.way(14) or ({}, [], True)
    assert (going, waits, sum(share.values())) == (["b"], False, 14)


def test_an_excess_that_cannot_be_mended_on_one_card_is_still_mended_on_another() -> None:
    house = House({"gpu0": limit(10, 4), "gpu1": limit(10, 4)})
    house.put("busy", leases=1, gpu1=6)
    house.put("idle", gpu0=6)
    assert house.rooms.to_shed(house.rooms.idle(100.0)) == (ref("idle"),)


def test_what_fits_on_no_card_alone_is_split_in_proportion_to_their_room() -> None:
    house = House({"gpu0": 20, "gpu1": 10})
    assert house.way(24) == ({"gpu0": 16, "gpu1": 8}, [], False)
    share, _, _ = house.way(24, split_bytes=gb(1)) or ({}, [], False)
    assert sum(share.values()) == 26
    assert house.way(29, split_bytes=gb(1)) is None


def test_a_split_goes_before_an_eviction() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("a", gpu0=4)
    house.put("b", gpu1=4)
    assert house.way(8) == ({"gpu0": 4, "gpu1": 4}, [], False)


def test_what_unloads_under_way_will_free_is_waited_for() -> None:
    house = House({"gpu0": 10})
    house.put("going", Residency.UNLOADING, gpu0=6)
    house.put("idle", gpu0=4)
    assert house.way(6) == ({"gpu0": 6}, [], True)
    assert house.way(7) == ({"gpu0": 7}, ["idle"], False)


def test_all_who_have_to_go_are_named_together_and_nobody_else() -> None:
    house = House({"gpu0": 10})
    for used, name in enumerate(["a", "b", "c"]):
        house.put(name, used=used, gpu0=3)
    assert house.way(7) == ({"gpu0": 7}, ["a", "b"], False)


def test_nobody_goes_when_that_would_not_suffice() -> None:
    house = House({"gpu0": 10})
    house.put("busy", leases=1, gpu0=4)
    house.put("idle", gpu0=4)
    assert house.way(7) is None


def test_the_card_is_chosen_where_the_longest_unused_lie() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("recent", used=50, gpu0=8)
    house.put("old", used=1, gpu1=8)
    assert house.way(9) == ({"gpu1": 9}, ["old"], False)


def test_the_card_is_chosen_where_coming_back_costs_least() -> None:
    house = House({"gpu0": 10, "gpu1": 10}, Rules(Strategy.COST))
    house.put("quick", used=50, load_s=2, gpu0=8)
    house.put("slow", used=1, load_s=60, gpu1=8)
    assert house.way(9) == ({"gpu0": 9}, ["quick"], False)


def test_one_card_is_emptied_before_two_are_when_one_suffices() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("a", used=1, gpu0=9)
    house.put("b", used=2, gpu1=9)
    assert house.way(10) == ({"gpu0": 10}, ["a"], False)
    share, going, _ = house.way(16) or ({}, [], False)
    assert (share, going) == ({"gpu0": 8, "gpu1": 8}, ["a", "b"])


def test_a_model_that_is_split_frees_both_its_cards() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("wide", gpu0=8, gpu1=8)
    assert house.way(18) == ({"gpu0": 9, "gpu1": 9}, ["wide"], False)


def test_a_closed_card_is_left_alone() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("idle", gpu1=5)
    assert house.way(8, "gpu0") == ({"gpu1": 8}, ["idle"], False)
    assert house.way(8, "gpu0", "gpu1") is None
    assert house.way(15, "gpu0") is None


def test_a_card_that_has_gone_takes_nothing() -> None:
    house = House({"gpu0": 10, "gpu1": GONE})
    assert house.way(8) == ({"gpu0": 8}, [], False)
    assert house.way(11) is None


def test_what_a_model_holds_itself_counts_as_room_for_it() -> None:
    house = House({"gpu0": 10})
    house.put("wanted", gpu0=6)
    house.put("other", gpu0=2)
    assert house.way(8) == ({"gpu0": 8}, [], False)
    assert house.way(9) == ({"gpu0": 9}, ["other"], False)


def test_what_others_use_and_the_buffer_are_not_free() -> None:
    house = House({"gpu0": limit(10, 10, buffer=1)})
    house.ledger.foreign["gpu0"] = gb(3)
    assert house.way(6) == ({"gpu0": 6}, [], False)
    assert house.way(6.1) is None


def test_a_margin_is_waived_only_when_the_model_could_not_be_had_with_it() -> None:
    house = House({"gpu0": 10})
    house.put("idle", gpu0=4)
    assert house.way(6.6, least_bytes=gb(6)) == ({"gpu0": 6.6}, ["idle"], False)
    assert house.way(10.5, least_bytes=gb(9.5)) == ({"gpu0": 9.5}, ["idle"], False)
    house.seats[ref("idle")].pinned = True
    assert house.way(6.6, least_bytes=gb(6)) == ({"gpu0": 6}, [], False)


# who could go


def test_only_who_is_idle_counted_and_not_pinned_could_go() -> None:
    house = House({"gpu0": 50})
    house.put("idle", gpu0=1)
    house.put("busy", leases=1, gpu0=1)
    house.put("pinned", pinned=True, gpu0=1)
    house.put("loading", Residency.LOADING, gpu0=1)
    house.put("going", Residency.UNLOADING, gpu0=1)
    house.put("uncounted")
    doubtful = house.put("doubtful", Residency.FAILED, gpu0=1)
    house.seats[doubtful].doubted(90.0)
    assert [one.ref.name for one in house.rooms.idle(94.0)] == ["idle"]
    assert [one.ref.name for one in house.rooms.idle(95.0)] == ["idle", "doubtful"]


def test_nobody_could_go_where_that_is_not_allowed() -> None:
    house = House({"gpu0": 10}, Rules(may_evict=False))
    house.put("idle", gpu0=8)
    assert house.way(3) is None
    assert house.way(2) == ({"gpu0": 2}, [], False)


def test_what_is_over_the_budget_goes_and_what_is_going_already_counts() -> None:
    house = House({"gpu0": limit(20, 10)})
    house.put("a", used=1, gpu0=4)
    house.put("b", used=2, gpu0=4)
    house.put("busy", leases=1, gpu0=5)
    assert house.rooms.to_shed(house.rooms.idle(9.0)) == (ref("a"),)
    house.seats[ref("a")].state = Residency.UNLOADING
    assert house.rooms.to_shed(house.rooms.idle(9.0)) == ()
    house.put("busy", leases=1, gpu0=11)
    assert house.rooms.to_shed(house.rooms.idle(9.0)) == (), "that would not mend it"


# who is in the way


def in_the_way(house: House, count: float, *before: str, **more: object) -> list[str]:
    way = house.rooms.in_the_way(WANTED, house.demand(count, **more), [ref(one) for one in before])
    return [model.name for model in way.going]


def test_those_are_in_the_way_whom_it_disturbs_least() -> None:
    house = House({"gpu0": 10})
    house.put("busy", leases=3, used=1, gpu0=4)
    house.put("idle", used=50, gpu0=4)
    assert in_the_way(house, 6) == ["idle"]
    assert sorted(in_the_way(house, 7)) == ["busy", "idle"]


def test_the_card_with_the_fewest_readers_is_in_the_way() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("popular", leases=5, used=1, gpu0=8)
    house.put("quiet", leases=1, used=50, gpu1=8)
    assert in_the_way(house, 9) == ["quiet"]


def test_who_was_in_the_way_before_still_is() -> None:
    house = House({"gpu0": 10, "gpu1": 10})
    house.put("a", leases=2, used=1, gpu0=8)
    house.put("b", leases=1, used=50, gpu1=8)
    assert in_the_way(house, 9) == ["b"]
    assert in_the_way(house, 9, "a") == ["a"]


def test_of_two_on_one_card_the_one_that_was_in_the_way_before_still_is() -> None:
    house = House({"gpu0": 10})
    house.put("a", leases=1, used=1, gpu0=5)
    house.put("b", leases=1, used=2, gpu0=5)
    assert in_the_way(house, 5) == ["a"]
    assert in_the_way(house, 5, "b") == ["b"]


def test_a_loading_model_can_be_in_the_way_and_a_pinned_one_cannot() -> None:
    house = House({"gpu0": 10})
    house.put("loading", Residency.LOADING, gpu0=3)
    house.put("pinned", pinned=True, used=-5, gpu0=3)
    house.put("going", Residency.UNLOADING, gpu0=3)
    assert in_the_way(house, 5) == ["loading"]
    assert in_the_way(house, 4) == []


def test_when_nothing_helps_everybody_on_its_devices_is_in_the_way() -> None:
    house = House({"gpu0": 10})
    house.put("a", leases=1, gpu0=5)
    house.put("b", leases=1, gpu0=5)
    house.ledger.foreign["gpu0"] = gb(8)
    assert in_the_way(house, 5) == ["a", "b"]


def test_a_price_is_seconds_to_come_back_weighted_with_how_soon_that_will_be() -> None:
    house = House({"gpu0": 10}, Rules(Strategy.COST))
    often, seldom = house.put("often", load_s=10, gpu0=4), house.put("seldom", load_s=10, gpu0=4)
    house.seats[often].gap_s, house.seats[seldom].gap_s = 1.0, 5000.0
    house.put("never timed", gpu0=1)
    prices = {one.ref.name: one.regret_s for one in house.rooms.idle(0.0)}
    assert prices["often"] > 5 * prices["seldom"]
    assert prices["never timed"] == 2.5
    assert isinstance(house.rooms.idle(0.0)[0], Resident)


# what a person is told


def too_large(house: House, count: float, **more: object) -> str | None:
    return house.rooms.too_large(WANTED, house.demand(count, **more))


def test_a_model_that_fits_when_all_go_is_not_too_large() -> None:
    house = House({"gpu0": 10})
    house.put("idle", gpu0=8)
    house.put("busy", leases=3, gpu0=2)
    assert too_large(house, 10) is None
    assert too_large(house, 11, devices=()) is None


def test_who_is_told_that_a_model_is_too_large_hears_the_sizes() -> None:
    assert too_large(House({"gpu0": 10}), 12.34) == (
        "needs 12.3 GB and gpu0 has at most 10.0 GB for models"
    )


def test_it_is_told_what_other_programs_use_and_what_stays() -> None:
    house = House({"gpu0": 24})
    house.ledger.foreign["gpu0"] = gb(6)
    house.put("pinned", pinned=True, gpu0=5)
    house.put("idle", gpu0=5)
    assert too_large(house, 14) == (
        "needs 14.0 GB and gpu0 has at most 13.0 GB for models "
        "(6.0 GB used by other programs, 5.0 GB held by models that stay)"
    )


def test_it_is_told_for_each_card() -> None:
    house = House({"gpu0": 10, "gpu1": 8})
    house.ledger.foreign["gpu1"] = gb(2)
    assert too_large(house, 17) == (
        "needs 17.0 GB and gpu0 has at most 10.0 GB for models; "
        "gpu1 has at most 6.0 GB for models (2.0 GB used by other programs)"
    )
    assert too_large(house, 16) is None


def test_a_trifle_that_others_use_is_not_worth_a_word() -> None:
    house = House({"gpu0": 10})
    house.ledger.foreign["gpu0"] = int(TOLD_BYTES) - 1
    assert too_large(house, 12) == "needs 12.0 GB and gpu0 has at most 10.0 GB for models"


def test_less_than_a_gigabyte_is_told_in_megabytes() -> None:
    house = House({"gpu0": 0.5})
    assert too_large(house, 0.85) == "needs 850 MB and gpu0 has at most 500 MB for models"


def test_what_it_needs_is_told_without_the_margin() -> None:
    house = House({"gpu0": 10})
    assert too_large(house, 13.2, least_bytes=gb(12)) == (
        "needs 12.0 GB and gpu0 has at most 10.0 GB for models"
    )
    assert too_large(house, 10.5, least_bytes=gb(9.5)) is None


def test_where_nobody_may_be_evicted_all_that_is_loaded_stays_but_for_what_is_going() -> None:
    house = House({"gpu0": 10}, Rules(may_evict=False))
    house.put("idle", gpu0=6)
    house.put("going", Residency.UNLOADING, gpu0=2)
    assert too_large(house, 4) is None
    assert too_large(house, 5) == (
        "needs 5.0 GB and gpu0 has at most 4.0 GB for models (6.0 GB held by models that stay)"
    )


@pytest.mark.parametrize("placing", list(Placing))
def test_a_model_is_too_large_for_a_card_that_has_gone(placing: Placing) -> None:
    house = House({"gpu0": GONE})
    assert too_large(house, 1, placing=placing) == ("needs 1.0 GB and gpu0 has gone")
