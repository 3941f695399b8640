"""Regular expressions as models give them; those that never end are stopped."""

from __future__ import annotations

import time

import psutil
import pytest

from smarterrouter.profiling.checkers.pattern import check, expressions
from smarterrouter.profiling.checkers.specs import Pattern

DATE = Pattern(matches=["2024-01-31", "1999-12-01"], misses=["2024-1-31", "x", "12024-01-311"])
WORD = Pattern(matches=["a cat sat", "Cat"], misses=["category"], whole=False)
GOOD = r"^\d{4}-\d{2}-\d{2}$"

RIGHT = [
    (DATE, GOOD),
    (DATE, r"\d{4}-\d{2}-\d{2}"),
    (DATE, f"`{GOOD}`"),
    (DATE, f"```\n{GOOD}\n```"),
    (DATE, f"```regex\n{GOOD}\n```\nHere `\\d{{4}}` is the year and `-` the dash."),
    (DATE, f"/{GOOD}/"),
    (DATE, f"`/{GOOD}/g`"),
    (DATE, f"You can use `{GOOD}`: `\\d` is a digit, `^` the start."),
    (DATE, f"**Regex:** `{GOOD}`"),
    (DATE, f"Regex: {GOOD}"),
    (DATE, f'```python\nimport re\n\npattern = r"{GOOD}"\nre.match(pattern, "2024-01-31")\n```'),
    (DATE, f"```python\npattern = re.compile(r'{GOOD}')\n```"),
    (DATE, f"```javascript\nconst date = /{GOOD}/;\n```"),
    (DATE, '```java\nPattern.compile("^\\\\d{4}-\\\\d{2}-\\\\d{2}$");\n```'),
    (DATE, f"Sure! Here is the expression:\n\n{GOOD}\n\nLet me know if you need more!"),
    (DATE, f'"{GOOD}"'),
    (DATE, "```regex\n^\\d{4}-(?:0[1-9]|1[0-2])-(?:[0-2]\\d|3[01])$\n```"),
    (WORD, r"`/\bcat\b/i`"),
    (WORD, r"`(?i)\bcat\b`"),
    (WORD, r"`\b[cC]at\b`"),
]
WRONG = [
    (DATE, "I would look for digits."),
    (DATE, r"`\d+-\d+-\d+`"),
    (DATE, r"`^\d{4}/\d{2}/\d{2}$`"),
    (DATE, "`[`"),
    (DATE, "`.*`"),
    (DATE, "```regex\n(\\d{4}-\n```"),
    (WORD, "`cat`"),
    (WORD, r"`\bcat\b`"),
    (DATE, "`" + "(" * 900 + ")" * 900 + "`"),
    (DATE, "`a{99999999999}`"),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_a_right_expression_passes_wherever_it_stands(spec: Pattern, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


@pytest.mark.parametrize(("spec", "answer"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_expression_fails(spec: Pattern, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0, verdict.why


def test_a_pattern_that_never_ends_is_stopped() -> None:
    began = time.monotonic()
    verdict = check(Pattern(["a" * 40 + "!"], []), "`(a|a)*$`")
    assert (verdict.score, time.monotonic() - began < 15) == (0.0, True)
    assert verdict.why.startswith("(a|a)*$: it does not come to an end in ")
    assert psutil.Process().children() == []


def test_a_right_expression_passes_though_the_one_after_it_would_never_end() -> None:
    spec = Pattern(["a" * 40 + "!"], ["b"])
    assert check(spec, "```\n^a+!$\n(a|a)*$\n```").score == 1.0


def test_the_reason_shows_a_text_that_is_missed() -> None:
    assert "'2024-01-31'" in check(DATE, "`^x+$`").why


def test_what_is_too_long_is_no_expression() -> None:
    assert not list(expressions("`" + "a+" * 5000 + "`"))
