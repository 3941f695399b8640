"""Facts that an answer must have, and those it must not."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.facts import check
from smarterrouter.profiling.checkers.specs import Facts

MEETING = Facts([r"\bfriday\b", r"\b(9|nine)( ?am| o'clock|:00)"], avoid=[r"\bmonday\b"])

RIGHT = [
    (MEETING, "The meeting is on **Friday** at 9 am."),
    (MEETING, "- Day: Friday\n- Time: 9:00"),
    (MEETING, "FRIDAY, nine o\u2019clock"),
    (MEETING, "It is on *Friday*, at **nine**\n**o'clock**."),
    (Facts([r"10 \$ per"]), "It is 10 $ per day."),
    (Facts([r"\$45"]), "It costs $45."),
    (Facts(["alpha", "beta", "gamma"], least=2), "Gamma and alpha."),
    (Facts([], most_words=3), "one two three"),
    (Facts(["x"], most_words=3), "Sure! Here you go:\n\nx y z\n\nLet me know if you need more."),
]
WRONG = [
    (MEETING, "The meeting is on Friday."),
    (MEETING, "It moved from Monday to Friday, 9 am."),
    (MEETING, "Fridays at 19:00"),
    (Facts(["alpha", "beta", "gamma"], least=2), "Only beta."),
    (Facts(["x"], most_words=3), "x and three more"),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_facts_are_found_in_any_dress(spec: Facts, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


@pytest.mark.parametrize(("spec", "answer"), WRONG)
def test_missing_or_wrong_facts_fail(spec: Facts, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0, verdict.why


def test_the_reason_names_what_was_not_found() -> None:
    assert check(Facts(["alpha", "beta"]), "alpha").why == "1 of 2 needed facts; not found: beta"


def test_a_pattern_that_cannot_be_used_leaves_the_answer_unmeasured() -> None:
    assert check(Facts(["("]), "any").score is None
