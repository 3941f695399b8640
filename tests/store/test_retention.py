"""What is forgotten, and what stays."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smarterrouter.store import database
from smarterrouter.store.decisions import Record
from smarterrouter.store.retention import DAY_S, Retention, forget
from smarterrouter.store.writer import Writer
from tests.store.records import ask, count, outcome, record, until

NOW = 1000 * DAY_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "smarterrouter.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.open_to_write(path)) as connection:
        yield connection


def fill(connection: sqlite3.Connection, number: int) -> None:
    """Requests of the last days, one a day, the first today."""
    connection.execute("BEGIN")
    for days in range(number):
        record(str(days), started_at=NOW - days * DAY_S).write(connection)
    connection.execute("COMMIT")


def forget_all(connection: sqlite3.Connection, retention: Retention, step: int = 7) -> int:
    steps = iter(lambda: forget(connection, retention, NOW, step), 0)
    return sum(steps)


def kept(path: Path) -> list[object]:
    rows = ask(path, "SELECT request_id FROM outcomes ORDER BY started_at DESC")
    return [name for [name] in rows]


def test_what_is_too_old_goes_with_its_decision(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection, 40)
    assert forget_all(connection, Retention(days=10, rows=None)) == 29
    assert kept(path) == [f"request-{days}" for days in range(11)]
    assert count(path, "decisions") == 11


def test_the_oldest_of_too_many_go(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection, 40)
    assert forget_all(connection, Retention(days=None, rows=5)) == 35
    assert kept(path) == [f"request-{days}" for days in range(5)]
    assert count(path, "decisions") == 5


def test_both_limits_hold_at_once(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection, 40)
    forget_all(connection, Retention(days=20, rows=5))
    assert count(path) == 5


def test_without_limits_everything_stays(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection, 40)
    assert forget_all(connection, Retention(days=None, rows=None)) == 0
    assert forget_all(connection, Retention(days=50, rows=50)) == 0
    assert count(path) == 40


def test_a_decision_stays_as_long_as_an_outcome_of_it(
    path: Path, connection: sqlite3.Connection
) -> None:
    fill(connection, 40)
    Record(outcome("late", decision_id="decision-39", started_at=NOW)).write(connection)
    forget_all(connection, Retention(days=10))
    rows = ask(path, "SELECT id FROM decisions WHERE made_at < 980 * 86400")
    assert rows == [("decision-39",)]


def test_the_file_becomes_smaller(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection, 2000)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = path.stat().st_size
    forget_all(connection, Retention(days=1), step=500)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size < before / 4


def test_the_writer_forgets_at_its_start_and_once_a_day(
    path: Path, connection: sqlite3.Connection
) -> None:
    fill(connection, 40)
    time = [0.0]
    writer = Writer(
        path,
        retention=Retention(days=10),
        gather_s=0.0,
        now=lambda: time[0],
        wall=lambda: NOW + time[0],
    )
    writer.start()
    until(lambda: count(path) == 11)
    time[0] = 5 * DAY_S
    writer.submit(record("new", started_at=NOW))
    until(lambda: count(path) == 7)
    assert writer.close()
    assert count(path) == 7
