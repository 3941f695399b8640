"""The ledger's arithmetic, per device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.ledger import GONE, DeviceLimit, Share, VramLedger

A, B = ModelRef("x", "a"), ModelRef("x", "b")
DEVICES = ("gpu0", "gpu1", "gpu2")


def ledger(total: int = 100, budget: int = 90, buffer: int = 10) -> VramLedger:
    return VramLedger({"gpu0": DeviceLimit(total, budget, buffer)})


def test_free_is_the_lower_of_budget_and_what_the_device_has_left() -> None:
    books = ledger(total=100, budget=90, buffer=5)
    assert books.free("gpu0") == 90
    books.foreign["gpu0"] = 40
    assert books.free("gpu0") == 55


def test_a_reservation_counts_before_the_load_begins() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 60})
    assert books.free("gpu0") == 30


def test_what_is_not_free_is_lacking() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 60})
    assert books.shortfall({"gpu0": 30}) == {}
    assert books.shortfall({"gpu0": 31}) == {"gpu0": 1}
    assert books.own("gpu0") == 60


def test_a_model_holds_memory_once() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 10})
    books.settle(A, {"gpu0": 10})
    assert books.own("gpu0") == 10


def test_a_measured_size_replaces_the_reserved_one_even_when_it_is_larger() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 60})
    books.settle(A, {"gpu0": 95})
    assert books.free("gpu0") == -5
    assert books.over_budget("gpu0") == 5
    assert books.share_of(A) == {"gpu0": 95}


def test_releasing_gives_everything_back() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 60})
    books.release(A)
    books.release(A)
    assert books.free("gpu0") == books.ceiling("gpu0") == 90


def test_nothing_new_goes_on_a_device_that_has_gone_or_was_never_there() -> None:
    books = ledger()
    books.settle(A, {"gpu0": 60})
    books.limits["gpu0"] = GONE
    assert books.free("gpu0") == -60
    assert books.over_budget("gpu0") == 60
    assert books.shortfall({"gpu7": 1}) == {"gpu7": 1}
    assert books.over_budget("gpu7") == 0


def test_what_the_books_hold_is_not_changed_by_whoever_handed_it_in() -> None:
    books, share = ledger(), {"gpu0": 60}
    books.settle(A, share)
    share["gpu0"] = 5
    books.release(A)
    assert books.own("gpu0") == 0


shares = st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 80))
models = st.sampled_from([ModelRef("x", name) for name in "abcd"])
entries = st.tuples(st.sampled_from(["settle", "release"]), models, shares)


@given(st.lists(entries, max_size=30))
def test_what_is_ours_is_always_the_sum_of_what_each_model_holds(
    written: list[tuple[str, ModelRef, Share]],
) -> None:
    books = VramLedger({device: DeviceLimit(200, 180, 10) for device in DEVICES})
    held: dict[ModelRef, Share] = {}
    for what, model, share in written:
        if what == "release":
            books.release(model)
            held.pop(model, None)
        else:
            books.settle(model, share)
            held[model] = share
    for device in DEVICES:
        of_each = {m: share[device] for m, share in held.items() if share.get(device)}
        assert books.own(device) == sum(of_each.values())
        assert dict(books.holders(device)) == of_each


@given(st.lists(st.integers(1, 80), max_size=12), st.integers(0, 100))
def test_reservations_never_pass_budget_nor_device(sizes: list[int], foreign: int) -> None:
    books = ledger()
    books.foreign["gpu0"] = foreign
    for number, size in enumerate(sizes):
        share = {"gpu0": size}
        if not books.shortfall(share):
            books.settle(ModelRef("x", str(number)), share)
    assert books.own("gpu0") <= 90
    assert books.own("gpu0") == 0 or books.own("gpu0") + foreign + 10 <= 100


sizes = st.integers(0, 120)


@given(before=sizes, used=sizes, ours=sizes, perhaps=sizes)
def test_what_is_foreign_stays_as_it_was_unless_the_device_proves_otherwise(
    before: int, used: int, ours: int, perhaps: int
) -> None:
    books = ledger()
    books.foreign["gpu0"] = before
    books.observe("gpu0", used, ours, perhaps)
    foreign = books.foreign["gpu0"]
    assert max(0, used - ours - perhaps) <= foreign <= max(0, used - ours)
    if max(0, used - ours - perhaps) <= before <= max(0, used - ours):
        assert foreign == before
    if perhaps == 0:
        assert foreign == max(0, used - ours)
    books.observe("gpu0", used, ours, perhaps)
    assert books.foreign["gpu0"] == foreign, "the same look says nothing new"
