"""The option that an answer picks, by its letter or by its words."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.choice import check
from smarterrouter.profiling.checkers.specs import Choice

CITY = Choice("B", {"A": "Lyon", "B": "Paris", "C": "Rome", "D": "A dog"})

RIGHT = [
    "B",
    "b",
    "(b)",
    "B.",
    "[B]",
    "B) Paris",
    "B: Paris",
    "b) Paris",
    "**B**",
    "Option B",
    "option b",
    "Paris",
    "\\boxed{B}",
    "$\\boxed{\\text{B}}$",
    "Answer: b) Paris",
    "The answer is Paris.",
    "The answer is (B).",
    "I would choose B.",
    "The correct answer is B because A is smaller.",
    "The correct option is B. A is wrong.",
    "The capital is Paris, so the answer is B.",
    "A) Lyon\nB) Paris\nC) Rome\n\nThe correct answer is **B) Paris**.",
    "B\n\nExplanation: A is wrong since Lyon is not it. C is in Italy.",
    "**B) Paris**\n\nLyon (A) is the third-largest city. Rome (C) is in Italy.",
    "Answer: **B**\n\nReasoning: A fails.",
    "A is wrong, C is wrong, so B.",
    "Option A is incorrect. Option C is incorrect. Option B is correct.",
    "A) Lyon - incorrect\nB) Paris - correct ✅\nC) Rome - incorrect",
    "It's B: Paris, not A.",
    "B is correct because A ends early.",
    "Let's see: A is a city. C is Italian. Therefore, the answer is (B).",
    "Hmm, A? No. Actually, B.",
    "The answer is A. Wait, that is Lyon. The answer is B.",
    "b. the others are too small.",
    "b. a has the wrong country, c too, d is no city",
    "b - the others are too small",
    "b, because the others are too small",
    "At 20 °C it's Paris.",
    "Lyon isn't large enough -> answer B. (Not A, it is no capital; not C; not D.)",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_the_right_option_passes_however_it_is_named(answer: str) -> None:
    verdict = check(CITY, answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    "",
    "A",
    "C) Rome",
    "Lyon",
    "A dog",
    "A B C",
    "A, B and C",
    "Not B.",
    "Not Paris.",
    "A good question!",
    "I can't tell: A, B or C?",
    "The answer is D: A dog",
    "The answer is A because B is wrong.",
    "B is wrong, so A",
    "B is incorrect; A.",
    "A) Lyon\nB) Paris\nC) Rome",
    "Answer: C\n\nB would be Paris.",
    "The answer is B. Wait, that is wrong. The answer is A.",
    "c. the others are too small.",
    "c. b has the wrong size, a too, d is no city",
    "c - the others are too small",
    "c, because the others are too small",
    "b. is wrong, so it is c",
    "b - wrong, c - right",
    "b. Paris\nc. Rome",
    "b, c and d are wrong",
    "Rome isn't large enough -> answer A. (Not B, it is no capital; not C; not D.)",
]


@pytest.mark.parametrize("answer", WRONG)
def test_another_option_or_none_fails(answer: str) -> None:
    verdict = check(CITY, answer)
    assert verdict.score == 0.0, verdict.why


@pytest.mark.parametrize("answer", ["A", "A.", "**A**", "A) yes", "The answer is A", "Answer: A"])
def test_the_letter_that_is_also_an_article_is_picked(answer: str) -> None:
    assert check(Choice("A", {"A": "yes", "B": "no"}), answer).score == 1.0


def test_an_option_that_denies_is_picked_by_its_words() -> None:
    spec = Choice("C", {"A": "red", "B": "blue", "C": "not enough is known"})
    assert check(spec, "There is not enough is known here: not enough is known").score == 1.0


def test_letters_of_any_case_are_one() -> None:
    assert check(Choice("b", {"a": "x", "b": "y"}), "B").score == 1.0
