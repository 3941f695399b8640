"""Which idle models go: least recently used, all at once, or none."""

from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.eviction import Resident, victims


def idle(name: str, size: int, used: float, device: str = "gpu0") -> Resident:
    return Resident(ModelRef("x", name), {device: size}, used)


def names(chosen: tuple[ModelRef, ...] | None) -> list[str] | None:
    return None if chosen is None else [ref.name for ref in chosen]


def test_the_least_recently_used_model_goes_first() -> None:
    pool = [idle("old", 10, used=1), idle("new", 10, used=5), idle("middle", 10, used=3)]
    assert names(victims({"gpu0": 10}, pool)) == ["old"]


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


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.booleans()), max_size=8),
    st.integers(1, 90),
    st.integers(0, 90),
)
def test_victims_suffice_and_none_of_them_is_superfluous(
    pool: list[tuple[int, int, bool]], need: int, other: int
) -> None:
    residents = [
        idle(str(number), size, used, "gpu0" if first else "gpu1")
        for number, (size, used, first) in enumerate(pool)
    ]
    lack = {"gpu0": need, "gpu1": other}
    chosen = victims(lack, residents)
    by_ref = {resident.ref: resident for resident in residents}

    def freed(refs: list[ModelRef]) -> bool:
        return all(
            sum(by_ref[ref].share.get(device, 0) for ref in refs) >= bytes_needed
            for device, bytes_needed in lack.items()
        )

    if chosen is None:
        assert not freed(list(by_ref))
        return
    assert freed(list(chosen))
    for spared in chosen:
        assert not freed([ref for ref in chosen if ref != spared])
