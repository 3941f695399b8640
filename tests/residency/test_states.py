"""The table of a model's life: what it allows, and that nothing else is possible."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import TABLE, IllegalMove, Move, Residency, advance

EVERY = list(itertools.product(Residency, Move))


def reached(begin: Residency) -> set[Residency]:
    """All states that a model may come to."""
    found = {begin}
    while more := {TABLE[s, m] for s, m in TABLE if s in found} - found:
        found |= more
    return found


@pytest.mark.parametrize(("state", "move"), [pair for pair in EVERY if pair in TABLE])
def test_a_legal_move_leads_where_the_table_says(state: Residency, move: Move) -> None:
    assert advance(state, move) is TABLE[state, move]


@pytest.mark.parametrize(("state", "move"), [pair for pair in EVERY if pair not in TABLE])
def test_a_move_the_table_lacks_is_refused_and_changes_nothing(
    state: Residency, move: Move
) -> None:
    seat = Seat(state=state, since=1.0)
    with pytest.raises(IllegalMove, match=state.value):
        seat.move(move, 2.0)
    assert (seat.state, seat.since) == (state, 1.0)


@pytest.mark.parametrize("state", list(Residency))
def test_from_every_state_a_model_may_come_to_every_other(state: Residency) -> None:
    assert reached(state) == set(Residency)


def test_a_model_is_never_ready_without_having_been_loaded_or_adopted() -> None:
    into_ready = {move for (_, move), state in TABLE.items() if state is Residency.READY}
    assert into_ready == {Move.LOADED, Move.ADOPT}


def test_a_model_that_is_loading_or_unloading_waits_for_the_end_of_that() -> None:
    ends = {
        Residency.LOADING: {Move.LOADED, Move.LOAD_FAILED},
        Residency.UNLOADING: {Move.UNLOADED, Move.UNLOAD_FAILED},
    }
    for state, moves in ends.items():
        assert {move for one, move in TABLE if one is state} == moves


def test_what_is_already_so_is_no_move() -> None:
    assert all(state is not TABLE[state, move] for state, move in TABLE)


@given(st.lists(st.sampled_from(Move), max_size=30))
def test_whatever_is_tried_a_model_is_in_the_state_of_its_last_legal_move(
    moves: list[Move],
) -> None:
    seat, state = Seat(), Residency.UNLOADED
    for now, move in enumerate(moves, 1):
        if (state, move) in TABLE:
            seat.move(move, float(now))
            state = TABLE[state, move]
            assert seat.since == now
        else:
            with pytest.raises(IllegalMove):
                seat.move(move, float(now))
        assert seat.state is state
