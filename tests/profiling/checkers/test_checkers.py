"""Every kind of checker is asked by its form, and no text makes one stumble or hang."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smarterrouter.profiling.checkers import check, parses
from smarterrouter.profiling.checkers.reading import answer_of, body, fences, prose, sentences
from smarterrouter.profiling.checkers.specs import (
    AnyChecker,
    Choice,
    Exact,
    Facts,
    Format,
    Json,
    Judged,
    Number,
    Pattern,
    Python,
    Rule,
    Shell,
    Sql,
)
from smarterrouter.profiling.checkers.verdict import How

MANY = (0, 10**9)
KINDS: list[AnyChecker] = [
    Number(5),
    Exact(["Paris", "[1, 2]", "O(n log n)", "not"], ["Lyon", "New Paris", "-5"]),
    Choice("B", {"A": "Lyon", "B": "Paris", "C": ""}),
    Json(schema={"type": "object"}, expect={"a": [1]}, unordered=["a"]),
    Json(bare=True, expect=1),
    Format(
        [
            Rule(words=MANY),
            Rule(lines=MANY),
            Rule(sentences=MANY),
            Rule(paragraphs=MANY),
            Rule(bullets=MANY),
            Rule(numbered=MANY),
            Rule(characters=MANY),
        ]
    ),
    Format([Rule(case="title")]),
    Format([Rule(table=(1, 2))]),
    Format([Rule(csv=(1, 2))]),
    Format([Rule(yaml_keys=["a"])]),
    Format([Rule(starts="a")]),
    Format([Rule(ends="a")]),
    Format([Rule(every_line="a"), Rule(in_order=["a", "b"])]),
    Facts(["a"], avoid=["b"], most_words=9),
    Sql("CREATE TABLE t (a)", [[1]]),
]
PIECES = [
    *"AB19 \n\t.,:;!?'\"`*_#-+=/\\|()[]{}<>$%^&~½é\u0301\x00\ud800\u2028",
    "answer",
    " is ",
    "not ",
    "because ",
    "Wait, ",
    "So ",
    "Paris",
    "Lyon",
    "one hundred",
    "```",
    "```sql\n",
    "SELECT 1;",
    "WITH ",
    "--",
    "/*",
    "**",
    "\\boxed{",
    "\\frac{1}{2}",
    "$$",
    '{"a": ',
    "[1]",
    "| - | - |\n",
    "- a\n",
    "1. ",
    "1e999",
    "10^999",
    "1,000",
    "<think>",
    "</think>",
    "<answer>",
    "####",
    "Explanation:\n",
    "Sure!\n\n",
    "\n\nLet me know",
    "a: b\n",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=200)


@settings(max_examples=400)
@given(st.sampled_from(KINDS), TEXTS)
@example(KINDS[0], "1e999 and 10^999 and 3/0")
@example(KINDS[0], "9" * 5000)
def test_whatever_the_answer_a_checker_says_right_or_wrong(spec: AnyChecker, text: str) -> None:
    verdict = check(spec, text)
    assert verdict.score in (0.0, 1.0)
    assert verdict.why


@settings(max_examples=15)
@given(TEXTS)
@example("`\\ud800\ud800+`")
def test_whatever_the_expression_it_is_right_or_wrong(text: str) -> None:
    assert check(Pattern(["a\ud800"], ["b"]), f"`{text}`").score in (0.0, 1.0)


@settings(max_examples=200)
@given(TEXTS)
def test_reading_never_stumbles_and_adds_nothing(text: str) -> None:
    answer = answer_of(text)
    assert len(answer) <= len(text)
    assert len(body(answer)) <= len(answer)
    assert sum(map(len, sentences(answer))) <= len(answer)
    assert sum(len(block.code) for block in fences(answer)) + len(prose(answer)) <= len(answer) + 1


LONG = [
    "[", '{"a":', "**a** ", "$", "\\boxed{", "\n", "1,", "1 ", "answer is ", "= 1 ", "not a ",
    "Wait, ", "A is ", "Paris or Lyon. ", "# a\n", "```\n", "SELECT ", "/*", "| - | - |\n", "](",
]  # fmt: skip


@pytest.mark.parametrize("unit", LONG)
def test_long_and_repetitive_answers_take_no_long_time(unit: str) -> None:
    text = unit * (200_000 // len(unit)) + "\n\nx 5"
    began = time.process_time()
    answer = answer_of(text) or text
    for spec in KINDS:
        check(spec, answer)
    assert time.process_time() - began < 30


@pytest.mark.parametrize("spec", [*KINDS, Python("f", 1, []), Shell({}, "x"), Judged()])
@pytest.mark.parametrize("answer", ["", " \n\t"])
def test_an_empty_answer_is_wrong_whatever_was_asked(spec: AnyChecker, answer: str) -> None:
    for verdict in (check(spec, answer), parses(spec, answer)):
        assert (verdict.score, verdict.why) == (0.0, "the answer is empty")


def test_what_needs_a_judge_has_no_score() -> None:
    verdict = check(Judged(), "A poem.")
    assert (verdict.score, verdict.how) == (None, How.JUDGED)


def test_code_is_not_run_here_but_it_is_read() -> None:
    spec = Python("f", 1, ["assert f(1) == 1"])
    assert check(spec, "def f(x): return x").score is None
    assert parses(spec, "```python\ndef f(x):\n    return x\n```").score == 1.0
    assert parses(spec, "```python\ndef f(x:\n```").score == 0.0


def test_kinds_that_are_not_run_are_checked_where_code_would_be_read() -> None:
    assert parses(Number(5), "5").score == 1.0
