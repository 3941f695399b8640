"""Which of several figures is believed for what a loaded model holds."""

from __future__ import annotations

import pytest

from smarterrouter.domain.models import Footprint
from smarterrouter.residency.events import Held
from smarterrouter.residency.weighing import at_once, difference, spread, unexplained
from tests.support.residency import gb

PLANNED = {"gpu0": gb(4), "gpu1": gb(2)}


def test_what_its_own_processes_hold_beats_what_the_backend_reports() -> None:
    reported = Footprint(gb(7), "reported", context=4096)
    own = {"gpu0": gb(5), "gpu1": gb(3)}
    assert at_once(PLANNED, "estimated", reported, own) == Held(own, "measured", 4096, gb(7))


def test_what_the_backend_reports_beats_the_plan_and_lies_as_planned() -> None:
    reported = Footprint(gb(9), "reported", context=4096)
    assert at_once(PLANNED, "estimated", reported, {}) == Held(
        {"gpu0": gb(6), "gpu1": gb(3)}, "reported", 4096, gb(9)
    )


def test_without_anything_better_it_holds_what_was_planned_and_says_how_that_was_known() -> None:
    assert at_once(PLANNED, "default", None, {}) == Held(PLANNED, "default")


def test_a_figure_that_is_no_report_is_not_compared_with_listings() -> None:
    held = at_once(PLANNED, "default", Footprint(gb(6), "estimated", context=512), {})
    assert held == Held(PLANNED, "estimated", 512, None)


def test_a_model_on_devices_that_nobody_counts_holds_nothing_there() -> None:
    assert at_once({}, "default", Footprint(gb(6), "reported"), {}).share == {}


def test_the_difference_is_by_device_and_only_where_it_grew() -> None:
    before = {"gpu0": gb(1), "gpu1": gb(5), "gpu2": gb(2)}
    after = {"gpu0": gb(5), "gpu1": gb(7), "gpu2": gb(2)}
    assert difference(before, after, gb(6)) == {"gpu0": gb(4), "gpu1": gb(2)}


@pytest.mark.parametrize(
    ("grown", "believed"), [(2.9, False), (3.0, True), (6.0, True), (9.6, True), (9.7, False)]
)
def test_a_difference_is_believed_between_half_and_eight_fifths_of_the_expected(
    grown: float, believed: bool
) -> None:
    found = difference({"gpu0": gb(1)}, {"gpu0": gb(1 + grown)}, gb(6))
    assert found == ({"gpu0": gb(grown)} if believed else None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"gpu0": None}, {"gpu0": gb(6)}),
        ({"gpu0": gb(0)}, {"gpu0": None}),
        ({"gpu0": gb(0)}, {}),
        ({"gpu0": gb(0), "gpu1": None}, {"gpu0": gb(6), "gpu1": gb(1)}),
    ],
)
def test_a_reading_that_is_missing_makes_no_difference(
    before: dict[str, int | None], after: dict[str, int | None]
) -> None:
    assert difference(before, after, gb(6)) is None


def test_nothing_grown_is_no_measurement_even_of_a_model_expected_to_take_nothing() -> None:
    assert difference({"gpu0": gb(3)}, {"gpu0": gb(3)}, 0) is None
    assert difference({}, {}, 0) is None


@pytest.mark.parametrize("count", [0, 1, 7, gb(5), gb(5) + 1])
def test_spreading_loses_no_byte_and_keeps_the_proportions(count: int) -> None:
    shares = spread(count, PLANNED)
    assert sum(shares.values()) == count
    assert abs(shares["gpu0"] - 2 * shares["gpu1"]) <= 3


def test_what_was_planned_with_no_bytes_lies_on_the_first_device() -> None:
    assert spread(gb(3), {"gpu0": 0, "gpu1": 0}) == {"gpu0": gb(3)}
    assert spread(gb(3), {}) == {}


def test_a_model_that_others_loaded_lies_where_most_bytes_have_no_owner() -> None:
    spare = {"gpu0": gb(2), "gpu1": gb(9)}.__getitem__
    assert unexplained(gb(5), ("gpu0", "gpu1"), spare) == {"gpu1": gb(5)}


def test_a_model_that_no_device_explains_alone_is_shared_out() -> None:
    spare = {"gpu0": gb(2), "gpu1": gb(4)}.__getitem__
    assert unexplained(gb(6), ("gpu0", "gpu1"), spare) == {"gpu0": gb(2), "gpu1": gb(4)}


def test_a_model_that_nothing_explains_is_still_counted() -> None:
    nothing = {"gpu0": 0, "gpu1": 0}.__getitem__
    assert sum(unexplained(gb(6), ("gpu0", "gpu1"), nothing).values()) == gb(6)
    assert unexplained(gb(6), ("gpu0",), nothing) == {"gpu0": gb(6)}
    assert unexplained(gb(6), (), nothing) == {}


def test_less_than_was_reported_means_that_something_else_went() -> None:
    before, after = {"gpu0": gb(4)}, {"gpu0": gb(10)}
    assert difference(before, after, gb(10)) == {"gpu0": gb(6)}
    assert difference(before, after, gb(10), reported=True) is None
    assert difference(before, {"gpu0": gb(14.2)}, gb(10), reported=True) == {"gpu0": gb(10.2)}


def test_a_card_that_grew_by_next_to_nothing_holds_nothing_of_the_model() -> None:
    before = {"gpu0": 0, "gpu1": gb(1)}
    after = {"gpu0": gb(10), "gpu1": gb(1.05)}
    assert difference(before, after, gb(10)) == {"gpu0": gb(10)}
