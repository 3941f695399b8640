"""Does an answer's query give the wanted rows?

Decides which of an answer's statements is the query, and whether the rows are the same. It is run
``apart``, in an SQLite database in memory that lets it read and nothing else: SQLite looks whether
to stop only between its steps, and one step can take minutes.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from smarterrouter.errors import Unavailable
from smarterrouter.profiling.checkers import apart, specs
from smarterrouter.profiling.checkers.reading import fences
from smarterrouter.profiling.checkers.verdict import Verdict

LONGEST_QUERY = 20_000
LARGEST_VALUE = 10_000
LARGEST_RESULT = 1_000_000
MOST_ROWS = 5_000
MOST_TRIED = 5
NEARLY = 1e-6
_HEAP = 64 * 1024 * 1024
_KEPT_SMALL = f"PRAGMA temp_store=MEMORY; PRAGMA hard_heap_limit={_HEAP};"
_LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: LONGEST_QUERY,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_READING = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
_FOREIGN_CODE = ("load_extension", "fts3_tokenizer")
"""Functions that call what a file or an address holds."""

Row = Sequence[object]


def check(spec: specs.Sql, answer: str) -> Verdict:
    """1 if the last query of the answer that runs gives the rows; ``None`` if the setup fails."""
    tried = queries(answer)[:MOST_TRIED]
    if not tried:
        return Verdict(0.0, "the answer has no query")
    if len(spec.rows) >= MOST_ROWS:
        return Verdict(None, f"the task wants more rows than are taken: {len(spec.rows)}")
    try:
        ran = apart.run(_results, _task(spec, tried))
    except Unavailable as error:
        return Verdict(None, error.message)
    fails, *results = ran.found or [ran.stopped]
    if fails:
        return Verdict(None, f"the task's setup fails: {fails}")
    if results and not isinstance(results[-1], str):
        return _compared([tuple(row) for row in results[-1]], spec)
    if ran.stopped:
        return Verdict(0.0, f"the query is stopped: {ran.stopped}")
    return Verdict(0.0, f"the query fails: {results[0][:200]}")


def _task(spec: specs.Sql, tried: list[str]) -> dict[str, object]:
    """Values may be as long as the setup, which may have a long one."""
    largest = max(LARGEST_VALUE, len(spec.setup.encode(errors="replace")))
    return {
        "setup": _KEPT_SMALL + spec.setup,
        "limits": [*_LIMITS.items(), (sqlite3.SQLITE_LIMIT_LENGTH, largest)],
        "allowed": _READING,
        "denied": _FOREIGN_CODE,
        "queries": tried,
        "most": len(spec.rows) + 1,
        "room": LARGEST_RESULT,
    }


def _results(task: Any) -> Iterator[str | list[list[object]]]:
    """Run apart: why the setup fails, or "". Then of each query why it fails, or its rows: the end.

    A result for which there is no room is no better than one for which there is no memory.
    """
    import sqlite3

    def allow(action: int, first: str | None, second: str | None, *_: object) -> int:
        loads = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in task["denied"]
        fine = action in task["allowed"] and not loads
        return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY

    failures = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError)
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(task["setup"])
    except failures as error:
        yield str(error) or type(error).__name__
        return
    yield ""
    for kind, most in task["limits"]:
        database.setlimit(kind, most)
    database.set_authorizer(allow)
    for query in task["queries"]:
        rows: list[list[object]] = []
        room = task["room"]
        try:
            for row in database.execute(query):
                rows.append([str(one) if isinstance(one, bytes) else one for one in row])
                room -= sum(len(str(one)) for one in row)
                if room < 0:
                    raise MemoryError
                if len(rows) == task["most"]:
                    break
        except failures as error:
            yield str(error)
            continue
        yield rows
        return


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
