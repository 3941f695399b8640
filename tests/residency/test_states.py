"""The table of a model's life: what it allows, and that nothing else is possible."""

import itertools

import pytest

from smarterrouter.residency.states import TABLE, IllegalMove, Move, Residency, advance

EVERY = list(itertools.product(Residency, Move))


@pytest.mark.parametrize(("state", "move"), [pair for pair in EVERY if pair in TABLE])
def test_a_legal_move_leads_where_the_table_says(state: Residency, move: Move) -> None:
    assert advance(state, move) is TABLE[state, move]


@pytest.mark.parametrize(("state", "move"), [pair for pair in EVERY if pair not in TABLE])
def test_a_move_the_table_lacks_is_refused(state: Residency, move: Move) -> None:
    with pytest.raises(IllegalMove, match=state.value):
        advance(state, move)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TABLE.values()) == set(Residency)
    assert {state for state, _ in TABLE} == set(Residency)


def test_a_model_is_never_ready_without_having_been_loaded_or_adopted() -> None:
    into_ready = {move for (_, move), state in TABLE.items() if state is Residency.READY}
    assert into_ready == {Move.LOADED, Move.ADOPT}
