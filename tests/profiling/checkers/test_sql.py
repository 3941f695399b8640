"""Queries as models write them, run where they can do no harm."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import psutil
import pytest

from smarterrouter.profiling.checkers.specs import Sql
from smarterrouter.profiling.checkers.sql import check

SETUP = """
CREATE TABLE staff (name TEXT, team TEXT, pay REAL);
INSERT INTO staff VALUES ('Ada', 'red', 10.0), ('Bob', 'blue', 20.5), ('Cy', 'red', 30);
"""
TEAMS = Sql(SETUP, [["red", 40], ["blue", 20.5]])
BY_PAY = Sql(SETUP, [["Cy"], ["Bob"], ["Ada"]], ordered=True)
QUERY = "SELECT team, SUM(pay) FROM staff GROUP BY team"

RIGHT = [
    (TEAMS, QUERY),
    (TEAMS, QUERY + ";"),
    (TEAMS, QUERY.lower()),
    (TEAMS, f"```sql\n{QUERY};\n```"),
    (TEAMS, f"```SQL\n{QUERY}\n```\nThis groups the staff by team."),
    (TEAMS, f"```sqlite\n{QUERY}\n```"),
    (TEAMS, f"```\n{QUERY}\n```"),
    (TEAMS, f"Sure! Use `{QUERY}` for this."),
    (TEAMS, f"Here is the query:\n\n{QUERY}\n\nIt groups by team."),
    (TEAMS, "SELECT team,\n       SUM(pay) AS total\nFROM staff\nGROUP BY team;\n\nEnjoy!"),
    (
        TEAMS,
        "```sql\nWITH t AS (SELECT * FROM staff)\nSELECT team, sum(pay) FROM t GROUP BY 1\n```",
    ),
    (TEAMS, f"```sql\n-- totals; by team\n/* a; b */\n{QUERY}; -- done\n```"),
    (TEAMS, f"```sql\nSELECT 1;\n{QUERY};\n```"),
    (TEAMS, f"First look:\n```sql\nSELECT * FROM staff\n```\nThen:\n```sql\n{QUERY}\n```"),
    (TEAMS, f"```sql\n{QUERY}\n```\nIn another dialect:\n```sql\nSELECT TOP 1 x FROM staff\n```"),
    (TEAMS, f"```sql\n{QUERY}\n```\nResult:\n```\nred | 40\n```"),
    (TEAMS, "SELECT team, printf('%.2f', SUM(pay)) FROM staff GROUP BY team"),
    (TEAMS, QUERY + " ORDER BY team"),
    (BY_PAY, "SELECT name FROM staff ORDER BY pay DESC"),
    (Sql(SETUP, [["NULL"]]), "SELECT max(pay) FROM staff WHERE team = 'green'"),
    (Sql(SETUP, [["a;b"]]), "```sql\nSELECT 'a;b'\n```"),
    (Sql(SETUP, []), "SELECT name FROM staff WHERE pay > 100"),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_a_query_that_gives_the_rows_passes(spec: Sql, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    (TEAMS, "I would group the rows by team."),
    (TEAMS, "SELECT team, AVG(pay) FROM staff GROUP BY team"),
    (TEAMS, "SELECT team FROM staff GROUP BY team"),
    (TEAMS, "SELECT SUM(pay), team FROM staff GROUP BY team"),
    (TEAMS, QUERY + " LIMIT 1"),
    (TEAMS, QUERY + " UNION ALL SELECT 'x', 1"),
    (TEAMS, "```sql\nSELECT team, SUM(salary) FROM staff GROUP BY team\n```"),
    (TEAMS, "```sql\nSELEC team FROM staff\n```"),
    (TEAMS, f"```sql\n{QUERY};\nSELECT 1;\n```"),
    (TEAMS, "```python\nprint('red', 40)\n```"),
    (TEAMS, "```sql\nDELETE FROM staff\n```"),
    (BY_PAY, "SELECT name FROM staff ORDER BY pay"),
    (BY_PAY, "SELECT name FROM staff"),
]


@pytest.mark.parametrize(("spec", "answer"), WRONG)
def test_another_query_fails(spec: Sql, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0, verdict.why


GROWING = "WITH RECURSIVE a(x) AS (SELECT zeroblob({}) UNION ALL SELECT x FROM a) "
COUNTING = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) "
LONG_SEARCH = "max(instr(printf('%.{0}c', 'a'), printf('%.{1}c', 'a') || 'b'))"
IN_TIME = "it does not come to an end in "
IN_MEMORY = "it takes too much memory"
STOPPED = [
    (GROWING.format(9_000) + "SELECT * FROM a ORDER BY 1", IN_MEMORY),
    (GROWING.format(4_000) + "SELECT count(*) OVER (PARTITION BY x), x FROM a", IN_MEMORY),
    (COUNTING + f"SELECT {LONG_SEARCH.format(9_000, 4_500)}, 1 FROM x", IN_TIME),
    (COUNTING + f"SELECT {LONG_SEARCH.format(900_000, 450_000)}, 1 FROM x", IN_TIME),
    (COUNTING + "SELECT max(n), 1 FROM x", IN_TIME),
    (COUNTING + "SELECT n, sum(n) OVER (ORDER BY n) FROM x", IN_MEMORY),
    ("SELECT count(*), 1 FROM " + ", ".join(f"staff s{i}" for i in range(40)), IN_TIME),
    ("SELECT " + ", ".join(["hex(zeroblob(4900))"] * 190) + " FROM staff", IN_MEMORY),
]


@pytest.mark.parametrize(("query", "why"), STOPPED, ids=lambda value: value[-40:])
def test_a_query_that_never_ends_is_stopped_soon_and_nothing_is_left(query: str, why: str) -> None:
    before, began = written(), time.monotonic()
    verdict = check(TEAMS, f"```sql\n{QUERY};\n{query}\n```")
    assert time.monotonic() - began < 15
    assert verdict.score == 0.0
    assert verdict.why.startswith(f"the query is stopped: {why}")
    assert written() == before
    assert psutil.Process().children() == []


def written() -> int:
    """Blocks that the processes which were waited for wrote to disks."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock


REFUSED = [
    GROWING.format(900_000) + "SELECT * FROM a ORDER BY 1",
    GROWING.format(900_000) + "SELECT instr(x, x || 'b'), 1 FROM a",
    COUNTING + "SELECT n, n FROM x",
    COUNTING + "SELECT n, n FROM x LIMIT 10000000",
    "SELECT hex(zeroblob(900000000)), 1",
    "SELECT " + ", ".join("1" * 300),
    "SELECT load_extension('x'), 1",
    "SELECT Load_Extension('libm.so.6'), 1",
    "SELECT fts3_tokenizer('simple', x'4141414141414141'), 1",
    "WITH a AS (SELECT 1) DELETE FROM staff",
    "WITH a AS (SELECT 1) INSERT INTO staff SELECT 'x', 'y', 1",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_hard_heap_limit(0)",
    "PRAGMA temp_store = FILE",
    "PRAGMA hard_heap_limit = 0",
    "SELECT 1, 1; PRAGMA writable_schema = ON",
    "SELECT '\x00', 1",
    "SELECT '\ud800', 1",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
]


@pytest.mark.parametrize("query", REFUSED, ids=lambda query: query[:90])
def test_a_query_that_does_more_than_read_a_little_is_refused_at_once(query: str) -> None:
    began = time.monotonic()
    assert check(TEAMS, f"```sql\n{query}\n```").score == 0.0
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH DATABASE '{}' AS other",
        "SELECT 1, 1; ATTACH DATABASE '{}' AS other",
        "WITH a AS (SELECT 1) ATTACH DATABASE '{}' AS other",
        "SELECT [;], 1; VACUUM INTO '{}'",
        "SELECT writefile('{}', 'x'), 1",
    ],
)
def test_no_file_is_made(query: str, tmp_path: Path) -> None:
    path = tmp_path / "made"
    assert check(TEAMS, f"```sql\n{query.format(path)}\n```").score == 0.0
    assert list(tmp_path.iterdir()) == []


def test_values_are_compared_as_the_database_has_them() -> None:
    values: list[list[object]] = [[None, 2**62, 0.1, "é\x01\n", 1e999]]
    query = "SELECT NULL, 4611686018427387904, 0.1, 'é' || char(1, 10), 1e999"
    assert check(Sql(SETUP, values), query).score == 1.0
    assert "such as (b'a',)" in check(Sql(SETUP, [["a"]]), "SELECT x'61'").why.replace('"', "")


def test_a_value_may_be_as_long_as_the_setup_has_one() -> None:
    long = "word " * 10_000
    spec = Sql(f"CREATE TABLE texts (text); INSERT INTO texts VALUES ('{long}')", [[long]])
    assert check(spec, "SELECT text FROM texts").score == 1.0


def test_the_reason_names_what_the_last_query_fails_for() -> None:
    why = check(TEAMS, "```sql\nSELECT x FROM staff;\nSELECT y FROM staff\n```").why
    assert why == "the query fails: no such column: y"


def test_order_counts_where_it_was_asked_for_and_the_reason_says_so() -> None:
    assert "another order" in check(BY_PAY, "SELECT name FROM staff ORDER BY pay").why


def test_a_setup_that_fails_leaves_the_answer_unmeasured() -> None:
    assert check(Sql("CREATE TABEL x", [[1]]), "SELECT 1").score is None


def test_a_setup_that_never_ends_leaves_the_answer_unmeasured() -> None:
    setup = f"CREATE TABLE t AS {COUNTING} SELECT max(n) FROM x"
    verdict = check(Sql(setup, [[1]]), "SELECT 1")
    assert verdict.score is None
    assert IN_TIME in verdict.why
