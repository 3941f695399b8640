"""Format, facts, JSON, SQL and patterns: right in any style, and wrong where it counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarterrouter.profiling.checkers import check
from smarterrouter.profiling.checkers.specs import (
    AnyChecker,
    Facts,
    Format,
    Json,
    Pattern,
    Rule,
    Sql,
)

PERSON = Json(
    schema={
        "type": "object",
        "required": ["name", "age"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    },
    expect={"name": "Ada", "age": 36},
)
TAGS = Json(expect={"tags": ["a", "b"]}, unordered=["tags"])
BARE = Json(expect=[1, 2], bare=True)
BULLETS = Format([Rule(bullets=(3, 3)), Rule(words=(3, 12)), Rule(lacks=r"\bpear\b")])
UPPER = Format([Rule(case="upper"), Rule(lines=(2, 2))])
TABLE = Format([Rule(table=(2, 3))])
CSV = Format([Rule(csv=(3, 2))])
FACTS = Facts([r"\bfriday\b", r"\b(9|nine) ?(am|o'clock)"], avoid=[r"\bmonday\b"], most_words=30)
SOME = Facts(["alpha", "beta", "gamma"], least=2)
ROWS = Sql(
    setup="CREATE TABLE t (name, n); INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 2)",
    rows=[["b", 2], ["c", 2]],
)
DATES = Pattern(matches=["2024-01-31", "1999-12-01"], misses=["2024-1-31", "2024-13-01", "x"])

RIGHT: list[tuple[AnyChecker, str]] = [
    (PERSON, '{"name": "Ada", "age": 36}'),
    (PERSON, 'Sure! Here it is:\n```json\n{"name": "ada ", "age": 36, "city": "London"}\n```\nOK?'),
    (PERSON, 'The record is {"name": "Ada", "age": 36}.'),
    (TAGS, '{"tags": ["b", "a"]}'),
    (BARE, "```json\n[1, 2]\n```"),
    (BARE, "[1,2]"),
    (BULLETS, "Here are three:\n\n- apple\n- plum\n- fig"),
    (BULLETS, "* **apple**\n* plum\n* fig\n\nLet me know if you need more!"),
    (UPPER, "HELLO\nWORLD"),
    (TABLE, "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |"),
    (CSV, "```csv\nname,n\na,1\nb,2\n```"),
    (FACTS, "The meeting is on **Friday** at 9 am."),
    (FACTS, "It was moved to Friday, nine o'clock."),
    (SOME, "Gamma and alpha."),
    (ROWS, "```sql\nSELECT name, n FROM t WHERE n = 2;\n```\nThis returns both."),
    (ROWS, "SELECT * FROM t WHERE n > 1 ORDER BY name DESC"),
    (ROWS, "Use this:\n\n```\nWITH x AS (SELECT * FROM t) SELECT name, n FROM x WHERE n=2\n```"),
    (DATES, r"`\d{4}-(0[1-9]|1[0-2])-\d{2}`"),
    (DATES, "```regex\n^\\d{4}-(?:0[1-9]|1[0-2])-(?:[0-2]\\d|3[01])$\n```"),
]
WRONG: list[tuple[AnyChecker, str]] = [
    (PERSON, '{"name": "Ada", "age": "36"}'),
    (PERSON, '{"name": "Eve", "age": 36}'),
    (PERSON, "name: Ada, age: 36"),
    (PERSON, '{"name": "Ada", "age": 36'),
    (TAGS, '{"tags": ["a"]}'),
    (BARE, "Here you are: [1, 2]"),
    (BULLETS, "- apple\n- plum"),
    (BULLETS, "- apple\n- pear\n- fig"),
    (UPPER, "HELLO\nWorld"),
    (TABLE, "| a | b |\n|---|---|\n| 1 | 2 |"),
    (CSV, "name,n\na,1"),
    (FACTS, "The meeting is on Friday."),
    (FACTS, "It moved from Monday to Friday, 9 am."),
    (FACTS, "Friday 9 am. " + "word " * 40),
    (SOME, "Only beta."),
    (ROWS, "SELECT name, n FROM t"),
    (ROWS, "```sql\nDELETE FROM t\n```"),
    (ROWS, "```sql\nSELEC name FROM t\n```"),
    (DATES, r"`\d+-\d+-\d+`"),
    (DATES, "`[`"),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_a_right_answer_passes_in_its_own_style(spec: AnyChecker, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


@pytest.mark.parametrize(("spec", "answer"), WRONG)
def test_a_wrong_answer_fails_and_says_why(spec: AnyChecker, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0
    assert verdict.why


@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT n, n FROM x",
        "ATTACH DATABASE ':memory:' AS other",
        "SELECT hex(randomblob(900000000)), 2",
    ],
)
def test_a_query_that_does_harm_is_stopped(query: str) -> None:
    assert check(ROWS, f"```sql\n{query}\n```").score == 0.0


def test_a_pattern_that_never_ends_is_stopped() -> None:
    slow = Pattern(matches=["a" * 40 + "!"], misses=[], whole=True)
    assert check(slow, "`(a|a)*$`").score == 0.0


ALL = [PERSON, TAGS, BARE, BULLETS, UPPER, TABLE, CSV, FACTS, SOME, ROWS]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL), st.text(max_size=300))
def test_no_text_makes_a_checker_stumble(spec: AnyChecker, answer: str) -> None:
    assert check(spec, answer).score in (0.0, 1.0)
