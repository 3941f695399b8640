"""What is forgotten: outcomes that are too old, then the oldest of too many.

A decision goes with its last outcome. Done in small steps, so that nobody waits long.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

STEP = 500
PAGES_GIVEN_BACK = 2000
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long outcomes are kept, and how many at most; ``None`` is without end."""

    days: float | None = 90.0
    rows: int | None = 100_000


KEPT = Retention()


def forget(
    connection: sqlite3.Connection, retention: Retention, now: float, step: int = STEP
) -> int:
    """One step; returns how many outcomes were forgotten: 0 when nothing is left to do.

    ``now`` is in Unix seconds.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        doomed = _doomed(connection, retention, now, step)
        connection.executemany("DELETE FROM outcomes WHERE id = ?", [(one,) for one, _ in doomed])
        connection.executemany(
            "DELETE FROM decisions WHERE id = ?1 "
            "AND NOT EXISTS (SELECT 1 FROM outcomes WHERE decision_id = ?1)",
            [(decision,) for _, decision in doomed if decision is not None],
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if doomed:
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})")  # to its end
    return len(doomed)


def _doomed(
    connection: sqlite3.Connection, retention: Retention, now: float, step: int
) -> list[tuple[int, str | None]]:
    """The oldest outcomes that are over the limits, with their decisions' ids."""
    found: list[tuple[int, str | None]] = []
    if retention.days is not None:
        found = connection.execute(
            "SELECT id, decision_id FROM outcomes WHERE started_at < ? "
            "ORDER BY started_at, id LIMIT ?",
            (now - retention.days * DAY_S, step),
        ).fetchall()
    if not found and retention.rows is not None:
        [count] = connection.execute("SELECT count(*) FROM outcomes").fetchone()
        found = connection.execute(
            "SELECT id, decision_id FROM outcomes ORDER BY started_at, id LIMIT ?",
            (max(0, min(step, count - retention.rows)),),
        ).fetchall()
    return found
