"""The ledger's arithmetic, per device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.ledger import DeviceLimit, VramLedger

A, B = ModelRef("x", "a"), ModelRef("x", "b")


def ledger(total: int = 100, budget: int = 90, buffer: int = 10) -> VramLedger:
    return VramLedger({"gpu0": DeviceLimit(total, budget, buffer)})


def test_free_is_the_lower_of_budget_and_what_the_device_has_left() -> None:
    books = ledger(total=100, budget=90, buffer=5)
    assert books.free("gpu0") == 90
    books.foreign["gpu0"] = 40
    assert books.free("gpu0") == 55


def test_a_reservation_counts_before_the_load_begins() -> None:
    books = ledger()
    books.reserve(A, {"gpu0": 60})
    assert books.free("gpu0") == 30


def test_what_is_not_free_cannot_be_reserved() -> None:
    books = ledger()
    books.reserve(A, {"gpu0": 60})
    with pytest.raises(ValueError, match="lacks"):
        books.reserve(B, {"gpu0": 31})
    assert books.own("gpu0") == 60


def test_a_model_cannot_hold_memory_twice() -> None:
    books = ledger()
    books.reserve(A, {"gpu0": 10})
    with pytest.raises(ValueError, match="already"):
        books.reserve(A, {"gpu0": 10})


def test_a_measured_size_replaces_the_reserved_one_even_when_it_is_larger() -> None:
    books = ledger()
    books.reserve(A, {"gpu0": 60})
    books.settle(A, {"gpu0": 95})
    assert books.free("gpu0") == -5
    assert books.share_of(A) == {"gpu0": 95}


def test_releasing_gives_everything_back() -> None:
    books = ledger()
    books.reserve(A, {"gpu0": 60})
    books.release(A)
    books.release(A)
    assert books.free("gpu0") == books.ceiling("gpu0") == 90


@given(st.lists(st.integers(1, 80), max_size=12), st.integers(0, 100))
def test_reservations_never_pass_budget_nor_device(sizes: list[int], foreign: int) -> None:
    books = ledger()
    books.foreign["gpu0"] = foreign
    for number, size in enumerate(sizes):
        share = {"gpu0": size}
        if not books.shortfall(share):
            books.reserve(ModelRef("x", str(number)), share)
    assert books.own("gpu0") <= 90
    assert books.own("gpu0") == 0 or books.own("gpu0") + foreign + 10 <= 100
