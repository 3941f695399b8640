"""What can be asked of the database. Reads only, on a connection of its own for each question.

Each question may take a while: ask it in a thread. While nothing has been written yet, answers
are empty. A database that cannot be read is ``Unavailable``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from smarterrouter.domain.chat import Endpoint, Message
from smarterrouter.domain.outcomes import Outcome, Status
from smarterrouter.store import footprints
from smarterrouter.store.database import open_to_read, unreadable
from smarterrouter.store.decisions import OUTCOME


class StoredDecision(Struct, frozen=True):
    """A decision as it was printed when it was made, and what became of it, oldest first.

    ``made_at`` is in Unix seconds; ``prompt`` is there only where prompts are stored.
    """

    made_at: float
    prompt_sha256: str
    prompt: tuple[Message, ...] | None
    decision: msgspec.Raw
    outcomes: tuple[Outcome, ...]


class Spread(Struct, frozen=True):
    """Seconds, over the answers that came to their end. A percentile is a value that occurred:
    the smallest that at least so many of them do not exceed."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """Requests in numbers. Tokens are those that backends told of, of all requests.

    ``tokens_per_second`` are tokens of answers by the seconds from first to last, over the
    answers that came to their end and of which both are known.
    """

    requests: int = 0
    errors: int = 0
    hung_up: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_second: float | None = None
    ttft_s: Spread = Spread()
    duration_s: Spread = Spread()


class ModelFigures(Figures, frozen=True, kw_only=True):
    """One model's; ``None`` stands for the requests that came to no model.

    ``passed_over`` is how often it failed and another model was tried next.
    """

    model: str | None
    passed_over: int = 0


class Stats(Struct, frozen=True):
    """Since a moment in Unix seconds. ``cascades``: requests that went past their first model.

    Models are in the order of their requests, most first.
    """

    since: float
    totals: Figures
    cascades: int
    models: tuple[ModelFigures, ...]


class Queries:
    """The reading side of the database at ``path``. May be used from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def decision(self, name: str) -> StoredDecision | None:
        """The decision of that id, or the one behind the request or the answer of that id."""
        with reading(self._path) as connection:
            if connection is None:
                return None
            row = connection.execute(_BY_ANY_ID, {"id": name}).fetchone()
            return None if row is None else _stored(connection, row)

    def decisions(self, limit: int, model: str | None = None) -> tuple[StoredDecision, ...]:
        """The latest first; of one model only those with an outcome of that model."""
        with reading(self._path) as connection:
            if connection is None:
                return ()
            asked = {"limit": max(0, limit), "model": model}
            rows = connection.execute(_LATEST, asked).fetchall()
            return tuple(_stored(connection, row) for row in rows)

    def footprints(self) -> tuple[footprints.FootprintRecord, ...]:
        """What models were seen to hold, at any time."""
        with reading(self._path) as connection:
            return () if connection is None else footprints.read(connection)

    def stats(self, since: float = 0.0) -> Stats:
        """What happened to the requests that began at ``since`` or later."""
        with reading(self._path) as connection:
            if connection is None:
                return Stats(since, Figures(), 0, ())
            asked = {"since": since}
            total = connection.execute(_figures("NULL"), asked).fetchone()
            [cascades] = connection.execute(_CASCADES, asked).fetchone()
            passed = dict(connection.execute(_PASSED, asked).fetchall())
            rows = connection.execute(_figures("model"), asked)
            models = [_model(row, passed) for row in rows]
            seen = {one.model for one in models}
            models += [
                ModelFigures(model=name, passed_over=times)
                for name, times in passed.items()
                if name not in seen
            ]
            return Stats(since, _totals(total), cascades, tuple(models))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """One state of the database for all of a question; ``None`` when there is none yet."""
    try:
        connection = open_to_read(path)
    except FileNotFoundError:
        yield None
        return
    try:
        connection.execute("BEGIN")
        yield connection
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    finally:
        connection.close()


_BY_ANY_ID = """
SELECT * FROM decisions WHERE id = coalesce(
    (SELECT id FROM decisions WHERE id = :id),
    (SELECT decision_id FROM outcomes WHERE request_id = :id ORDER BY id DESC LIMIT 1),
    (SELECT decision_id FROM outcomes WHERE response_id = :id ORDER BY id DESC LIMIT 1)
)"""

_LATEST = """
SELECT * FROM decisions WHERE :model IS NULL OR EXISTS (
    SELECT 1 FROM outcomes WHERE decision_id = decisions.id AND outcomes.model = :model
) ORDER BY made_at DESC, rowid DESC LIMIT :limit"""

_OUTCOMES = f"""
SELECT {", ".join(OUTCOME)} FROM outcomes WHERE decision_id = ? ORDER BY started_at, id"""  # noqa: S608

_CASCADES = "SELECT count(*) FROM outcomes WHERE started_at >= :since AND tried != '[]'"

_PASSED = """
SELECT one.value, count(*) FROM outcomes, json_each(tried) AS one
WHERE started_at >= :since GROUP BY one.value ORDER BY one.value"""


def _figures(model: str) -> str:
    """The question for ``Figures``, one row for each value of a column.

    Ranks count only finished answers whose value is known: ``status = 'ok'`` and not NULL.
    """
    return f"""
WITH chosen AS (
    SELECT {model} AS model, status, prompt_tokens, completion_tokens,
        CASE WHEN status = 'ok' THEN ttft_s END AS ttft,
        CASE WHEN status = 'ok' THEN duration_s END AS whole,
        CASE WHEN status = 'ok' AND completion_tokens IS NOT NULL AND duration_s > ttft_s
            THEN duration_s - ttft_s END AS writing
    FROM outcomes WHERE started_at >= :since
), ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY model, ttft IS NULL ORDER BY ttft) AS ttft_rank,
        count(ttft) OVER (PARTITION BY model) AS ttft_count,
        row_number() OVER (PARTITION BY model, whole IS NULL ORDER BY whole) AS whole_rank,
        count(whole) OVER (PARTITION BY model) AS whole_count
    FROM chosen
)
SELECT model,
    count(*) AS requests,
    sum(status = 'error') AS errors,
    sum(status = 'hung_up') AS hung_up,
    coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
    coalesce(sum(completion_tokens), 0) AS completion_tokens,
    sum(CASE WHEN writing IS NOT NULL THEN completion_tokens END) / sum(writing)
        AS tokens_per_second,
    avg(ttft) AS ttft_mean,
    max(CASE WHEN ttft_rank = (ttft_count * 50 + 99) / 100 THEN ttft END) AS ttft_p50,
    max(CASE WHEN ttft_rank = (ttft_count * 95 + 99) / 100 THEN ttft END) AS ttft_p95,
    avg(whole) AS whole_mean,
    max(CASE WHEN whole_rank = (whole_count * 50 + 99) / 100 THEN whole END) AS whole_p50,
    max(CASE WHEN whole_rank = (whole_count * 95 + 99) / 100 THEN whole END) AS whole_p95
FROM ranked GROUP BY model ORDER BY requests DESC, model"""  # noqa: S608


def _totals(row: sqlite3.Row | None) -> Figures:
    return Figures() if row is None else Figures(**_columns(row))


def _model(row: sqlite3.Row, passed: dict[str, int]) -> ModelFigures:
    name = row["model"]
    return ModelFigures(model=name, passed_over=passed.get(name, 0), **_columns(row))


def _columns(row: sqlite3.Row) -> dict[str, Any]:
    """What ``Figures`` is made of."""
    columns = ("requests", "errors", "hung_up", "prompt_tokens", "completion_tokens")
    return {
        **{name: row[name] for name in (*columns, "tokens_per_second")},
        "ttft_s": Spread(row["ttft_mean"], row["ttft_p50"], row["ttft_p95"]),
        "duration_s": Spread(row["whole_mean"], row["whole_p50"], row["whole_p95"]),
    }


def _stored(connection: sqlite3.Connection, row: sqlite3.Row) -> StoredDecision:
    prompt = row["prompt"]
    return StoredDecision(
        made_at=row["made_at"],
        prompt_sha256=row["prompt_sha256"],
        prompt=None if prompt is None else msgspec.json.decode(prompt, type=tuple[Message, ...]),
        decision=msgspec.Raw(row["decision"].encode()),
        outcomes=tuple(map(_outcome, connection.execute(_OUTCOMES, [row["id"]]))),
    )


def _outcome(row: sqlite3.Row) -> Outcome:
    found: dict[str, Any] = dict(row)
    return Outcome(
        **found
        | {
            "endpoint": Endpoint(found["endpoint"]),
            "status": Status(found["status"]),
            "streamed": bool(found["streamed"]),
            "tried": msgspec.json.decode(found["tried"], type=tuple[str, ...]),
        }
    )
