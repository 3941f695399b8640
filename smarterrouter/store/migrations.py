"""The tables, one numbered step after another. A step that has been released never changes.

A step runs inside a transaction that it does not end, so it keeps to ``db.create_table``,
``create_index``, ``add_column`` and ``db.execute``: in sqlite-utils 3 much else commits by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

Step = Callable[["Database"], None]


def m0001_decisions_and_outcomes(db: Database) -> None:
    """What was decided, and what became of it. A decision may have several outcomes."""
    db.create_table(
        "decisions",
        {
            "id": str,
            "made_at": float,
            "virtual_model": str,
            "model": str,
            "backend": str,
            "category": str,
            "prompt_group": str,
            "difficulty": str,
            "difficulty_score": float,
            "prompt_tokens": int,
            "answer_tokens": int,
            "max_tokens": int,
            "needs": str,
            "quality_preference": float,
            "prompt_sha256": str,
            "prompt": str,
            "decision": str,
        },
        pk="id",
        not_null={"made_at", "prompt_sha256", "decision"},
    )
    db.create_table(
        "outcomes",
        {
            "id": int,
            "request_id": str,
            "decision_id": str,
            "started_at": float,
            "endpoint": str,
            "caller": str,
            "virtual_model": str,
            "model": str,
            "backend": str,
            "streamed": int,
            "status": str,
            "duration_s": float,
            "ttft_s": float,
            "queue_s": float,
            "load_s": float,
            "prompt_tokens": int,
            "completion_tokens": int,
            "error": str,
            "tried": str,
        },
        pk="id",
        not_null={"request_id", "started_at", "endpoint", "status", "duration_s", "tried"},
    )


def m0002_answers_have_ids(db: Database) -> None:
    """Feedback names an answer by the id in its body."""
    db.table("outcomes").add_column("response_id", str)


def m0003_indexes(db: Database) -> None:
    """What is looked up: by time, by decision, by any id that a client has seen."""
    db.table("decisions").create_index(["made_at"])
    db.table("outcomes").create_index(["started_at"])
    for column in ("decision_id", "request_id", "response_id"):
        db.table("outcomes").create_index([column])


def m0004_footprints(db: Database) -> None:
    """What loaded models were seen to hold."""
    db.table("footprints").create(
        {"name": str, "bytes": int, "source": str, "seen_at": float},
        pk="name",
        not_null={"bytes", "source", "seen_at"},
    )


def m0005_profiles(db: Database) -> None:
    """What profiling has found out: answers, figures, models, a judge's verdicts."""
    db.table("profile_answers").create(
        {
            "identity": str,
            "subject": str,
            "task": str,
            "task_id": str,
            "group": str,
            "level": str,
            "prompt": str,
            "score": float,
            "how": str,
            "why": str,
            "text": str,
            "prompt_tokens": int,
            "answer_tokens": int,
            "seconds": float,
            "at": float,
        },
        pk=("identity", "subject", "task"),
    )
    db.table("profile_figures").create(
        {"identity": str, "step": str, "body": str, "at": float}, pk=("identity", "step")
    )
    db.table("profile_models").create(
        {
            "identity": str,
            "model": str,
            "backend": str,
            "depth": str,
            "done": int,
            "failure": str,
            "at": float,
            "size_bytes": int,
            "parameters": int,
            "quantization": str,
            "context_length": int,
            "capabilities": str,
        },
        pk="identity",
    )
    db.table("profile_verdicts").create(
        {
            "judge": str,
            "key": str,
            "task": str,
            "first": str,
            "second": str,
            "verdict": str,
            "why": str,
            "at": float,
        },
        pk=("judge", "key"),
    )


def m0006_benchmarks(db: Database) -> None:
    """Imported benchmark tables, and which of their rows was chosen for a model by hand."""
    db.table("benchmark_tables").create(
        {"name": str, "place": str, "at": float, "rows": str},
        pk="name",
        not_null={"place", "at", "rows"},
    )
    db.table("benchmark_choices").create(
        {"model": str, "table": str, "row": str}, pk=("model", "table"), not_null={"row"}
    )


STEPS: tuple[Step, ...] = (
    m0001_decisions_and_outcomes,
    m0002_answers_have_ids,
    m0003_indexes,
    m0004_footprints,
    m0005_profiles,
    m0006_benchmarks,
)
LATEST = len(STEPS)


def version(connection: sqlite3.Connection) -> int:
    """How many steps this database has behind it."""
    [number] = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def migrate(connection: sqlite3.Connection, steps: tuple[Step, ...] = STEPS) -> None:
    """Bring a database up to date: all that is missing, in order, or nothing of it.

    Nobody sees a state in between. Another process may be doing the same: whoever comes second
    finds nothing left to do.
    """
    if version(connection) >= len(steps):
        return
    from sqlite_utils import Database  # a quarter of a second, and rarely needed

    connection.execute("BEGIN IMMEDIATE")
    try:
        db = Database(connection, execute_plugins=False)
        for step in steps[version(connection) :]:
            step(db)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
