"""Does an answer's query give the wanted rows?

Decides which of an answer's statements is the query, and whether the rows are the same. It runs
in an SQLite database in memory that lets it read and nothing else, within limits of time and size.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.reading import fences
from smarterrouter.profiling.checkers.verdict import Verdict

LONGEST_QUERY = 20_000
LARGEST_VALUE = 1_000_000
STEPS_AT_ONCE = 10_000
MOST_STEPS = 20_000_000
MOST_TRIED = 5
NEARLY = 1e-6
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LARGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: LONGEST_QUERY,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
Row = Sequence[object]


def check(spec: specs.Sql, answer: str) -> Verdict:
    """1 if the last query of the answer that runs gives the rows; ``None`` if the setup fails."""
    problem = "the answer has no query"
    for query in queries(answer)[:MOST_TRIED]:
        with closing(sqlite3.connect(":memory:")) as database:
            try:
                database.executescript(spec.setup)
            except (sqlite3.Error, sqlite3.Warning) as error:
                return Verdict(None, f"the task's setup fails: {error}")
            rows = _rows(database, query, len(spec.rows) + 1)
        if not isinstance(rows, str):
            return _compared(rows, spec)
        problem = problem if problem.startswith("the query") else f"the query fails: {rows}"
    return Verdict(0.0, problem)


def _rows(database: sqlite3.Connection, query: str, most: int) -> list[Row] | str:
    """What the query gives, at most so many rows; or why it fails."""
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += STEPS_AT_ONCE
        return steps > MOST_STEPS

    for kind, most_of_it in _LIMITS.items():
        database.setlimit(kind, most_of_it)
    database.set_authorizer(_allow)
    database.set_progress_handler(stop, STEPS_AT_ONCE)
    try:
        return database.execute(query).fetchmany(most)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        return "it takes too long" if steps > MOST_STEPS else str(error)[:200]


def _allow(action: int, first: str | None, second: str | None, *_: object) -> int:
    loads = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension"
    return sqlite3.SQLITE_OK if action in _READING and not loads else sqlite3.SQLITE_DENY


_BEGINS = re.compile(r"(?im)^[ \t>]{0,20}(?:select|with)\b[^\n]*")
_INLINE = re.compile(r"(?i)`((?:select|with)\b[^`\n]+)`")
_COMMENTS = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:.*?\*/|.*))*+", re.DOTALL)
_PIECE = re.compile(
    r"'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|--[^\n]*|/\*(?:.*?\*/|.*)|(?P<end>;)", re.DOTALL
)
_EMPTY_LINE = re.compile(r"\n[ \t]*\n")


def queries(answer: str) -> list[str]:
    """The queries of an answer, the last one first: of its fences, or else of its text."""
    blocks = fences(answer)
    labelled = [b.code for b in blocks if "sql" in b.language]
    for texts in (labelled, [b.code for b in blocks], _INLINE.findall(answer), _spoken(answer)):
        found = [query for text in texts for query in _statements(text)]
        if found:
            return found[::-1]
    return []


def _spoken(answer: str) -> Iterator[str]:
    """Queries that stand in the text: from a line that begins one to its end, or an empty line."""
    for begins in list(_BEGINS.finditer(answer))[-MOST_TRIED:]:
        text = answer[begins.start() : begins.start() + LONGEST_QUERY].lstrip(" \t>")
        first = next(_statements(text), None)
        if first is None:
            continue
        ends = [len(text), *(gap.start() for gap in _EMPTY_LINE.finditer(text))]
        closed = len(first) < len(text)
        yield first if closed else text[: min(ends)]


def _statements(text: str) -> Iterator[str]:
    """The statements of the text that begin with SELECT or WITH."""
    start = 0
    ends = [piece.start() for piece in _PIECE.finditer(text) if piece["end"]]
    for end in (*ends, len(text)):
        statement = text[start:end].strip()
        start = end + 1
        ahead = _COMMENTS.match(statement)
        begins = statement[ahead.end() if ahead else 0 :][:6].lower().lstrip("(")
        if begins.startswith(("select", "with", "value", "selec")):
            yield statement


def _compared(rows: list[Row], spec: specs.Sql) -> Verdict:
    if len(rows) != len(spec.rows):
        more = "more" if len(rows) > len(spec.rows) else str(len(rows))
        return Verdict(0.0, f"the query gives {more} rows, not {len(spec.rows)}")
    wanted = [tuple(row) for row in spec.rows]
    if spec.ordered:
        odd = [r for r, w in zip(rows, wanted, strict=True) if not _same_row(r, w)]
        first = odd[0] if odd else None
    else:
        first = _unmatched(rows, wanted)
    if first is not None:
        sorted_ones = Counter(map(repr, rows)) == Counter(map(repr, wanted))
        order = "in another order" if sorted_ones else f"such as {tuple(first)!r:.80}"
        return Verdict(0.0, f"the query gives other rows, {order}")
    return Verdict(1.0, "the query gives the wanted rows")


def _unmatched(rows: list[Row], wanted: list[tuple[object, ...]]) -> Row | None:
    left = list(wanted)
    for row in rows:
        place = next((i for i, want in enumerate(left) if _same_row(row, want)), None)
        if place is None:
            return row
        del left[place]
    return None


def _same_row(row: Row, wanted: Row) -> bool:
    return len(row) == len(wanted) and all(map(_same, row, wanted))


def _same(value: object, wanted: object) -> bool:
    """Numbers as numbers, also where one is spelled as text; NULL is also "NULL"."""
    if value is None or wanted is None:
        return value is None and wanted in (None, "NULL")
    a, b = _number(value), _number(wanted)
    if a is not None and b is not None:
        return math.isclose(a, b, rel_tol=NEARLY, abs_tol=NEARLY)
    return str(value).strip() == str(wanted).strip()


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
