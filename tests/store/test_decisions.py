"""What is kept of a request, and what is not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.chat import Message
from smarterrouter.store import database
from smarterrouter.store.decisions import Record, prompt_hash
from smarterrouter.store.queries import Queries
from tests.store.records import FEATURES, ask, count, decision, outcome, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "smarterrouter.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.open_to_write(path)) as connection:
        yield connection


def test_a_prompt_is_not_in_the_file_unless_that_is_asked_for(path: Path) -> None:
    for keep in (False, True):
        with closing(database.open_to_write(path)) as connection:
            record(f"{keep}", text="xyzzy plugh", keep=keep).write(connection)
        files = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert (b"xyzzy" in files) is keep


def test_a_decision_comes_back_as_it_was_printed(
    path: Path, connection: sqlite3.Connection
) -> None:
    told = outcome(tried=("big", "bigger"), error=None, queue_s=0.25, load_s=None)
    made = decision("decision-1")
    Record(told, made, (Message("user", "Hello"),), True).write(connection)
    found = Queries(path).decision("decision-1")
    assert found is not None
    assert msgspec.json.decode(found.decision) == made.as_json()
    assert found.outcomes == (told,)
    assert found.prompt == (Message("user", "Hello"),)
    assert found.prompt_sha256 == prompt_hash([Message("user", "Hello")])
    assert found.made_at == told.started_at


def test_the_features_have_columns_of_their_own(path: Path, connection: sqlite3.Connection) -> None:
    record().write(connection)
    row = ask(
        path,
        "SELECT category, prompt_group, difficulty, difficulty_score, prompt_tokens, "
        "answer_tokens, max_tokens, needs, prompt FROM decisions",
    )
    assert row == [("coding", "code_write", "easy", 0.1, 10, 200, 300, '["chat","tools"]', None)]
    assert FEATURES.max_tokens == 300


def test_a_second_outcome_of_a_decision_leaves_the_decision_as_it_was(
    path: Path, connection: sqlite3.Connection
) -> None:
    record("1", text="first", started_at=1.0).write(connection)
    Record(outcome("2", decision_id="decision-1"), None).write(connection)
    Record(
        outcome("3", decision_id="decision-1"), decision("decision-1"), (Message("user", "x"),)
    ).write(connection)
    found = Queries(path).decision("decision-1")
    assert found is not None
    assert found.prompt_sha256 == prompt_hash([Message("user", "first")])
    assert [one.request_id for one in found.outcomes] == ["request-1", "request-2", "request-3"]


def test_a_request_that_came_to_no_decision_is_kept(
    path: Path, connection: sqlite3.Connection
) -> None:
    Record(outcome(decision_id=None, model=None, error="model_not_found")).write(connection)
    assert (count(path, "outcomes"), count(path, "decisions")) == (1, 0)


def test_numbers_that_no_database_holds_do_no_harm(
    path: Path, connection: sqlite3.Connection
) -> None:
    for name in "ab":
        record(name, completion_tokens=10**30, prompt_tokens=-(10**30)).write(connection)
    assert Queries(path).stats().totals.completion_tokens > 10**12


def test_the_hash_is_that_of_roles_and_words() -> None:
    said = [Message("system", "Be  brief."), Message("user", "\n 1 +\t1 \n")]
    same = [Message("system", "Be brief.\n"), Message("user", "1 + 1")]
    assert prompt_hash(said) == prompt_hash(same)
    assert prompt_hash(same) == sha256(b"system\x1fBe brief.\x1euser\x1f1 + 1\x1e").hexdigest()


def test_the_hash_knows_who_spoke_and_where_a_message_ends() -> None:
    hashes = {
        prompt_hash(messages)
        for messages in (
            [Message("user", "a b")],
            [Message("system", "a b")],
            [Message("user", "a"), Message("user", "b")],
            [Message("user", "ab")],
            [],
        )
    }
    assert len(hashes) == 5


@given(st.text(alphabet="ab \n\t\u3000é"), st.integers(1, 9))
def test_a_long_text_has_the_same_hash_in_pieces(text: str, size: int) -> None:
    whole = sha256(f"user\x1f{' '.join(text.split())}\x1e".encode()).hexdigest()
    assert prompt_hash([Message("user", text)], size) == whole


def test_the_weight_is_the_length_of_all_texts() -> None:
    assert record(text="12345").weight() == 5
    both = Record(outcome(), None, (Message("user", "123"), Message("user", "45")))
    assert both.weight() == 5
    assert Record(outcome()).weight() == 0
