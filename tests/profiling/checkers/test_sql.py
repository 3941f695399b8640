"""Queries as models write them, run where they can do no harm."""

from __future__ import annotations

import time

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


HARMFUL = [
    "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT max(n), 1 FROM x",
    "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT n, n FROM x",
    "ATTACH DATABASE ':memory:' AS other",
    "SELECT hex(zeroblob(900000000)), 1",
    "SELECT load_extension('x'), 1",
    "WITH a AS (SELECT 1) DELETE FROM staff",
    "SELECT * FROM pragma_database_list",
    "SELECT count(*), 1 FROM staff a, staff b, staff c, staff d, staff e, staff f, staff g, "
    "staff h, staff i, staff j, staff k, staff l, staff m, staff n, staff o, staff p, staff q",
    "SELECT '\x00', 1",
    "SELECT '\ud800', 1",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
]


@pytest.mark.parametrize("query", HARMFUL, ids=lambda query: query[:30])
def test_a_harmful_or_endless_query_is_stopped_soon(query: str) -> None:
    began = time.monotonic()
    assert check(TEAMS, f"```sql\n{query}\n```").score == 0.0
    assert time.monotonic() - began < 20


def test_order_counts_where_it_was_asked_for_and_the_reason_says_so() -> None:
    assert "another order" in check(BY_PAY, "SELECT name FROM staff ORDER BY pay").why


def test_a_setup_that_fails_leaves_the_answer_unmeasured() -> None:
    assert check(Sql("CREATE TABEL x", [[1]]), "SELECT 1").score is None
