"""Numbers that are spelled in English: "forty-two", "a hundred and five", "a dozen".

Decides which run of words is a number and what it comes to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ONES = {word: float(value) for value, word in enumerate(_SMALL)}
_ONES |= {word: 10.0 * (place + 2) for place, word in enumerate(_TENS)}
_ONES["dozen"] = 12.0
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
_WORD = "|".join(sorted([*_ONES, *_SCALES, "hundred"], key=len, reverse=True))
_AND = "(?:,? and |, )"
_RUN = re.compile(
    rf"\b(?:(?P<minus>minus|negative) )?(?P<run>"
    rf"(?:an? (?=hundred|thousand|million|dozen))?(?:{_WORD})"
    rf"(?:(?:[ -]|(?<=hundred){_AND}|(?<=thousand){_AND}|(?<=million){_AND})(?:{_WORD})\b)*)\b",
    re.IGNORECASE,
)
_NOT_COUNTING = re.compile(
    r"\b(?:the|this|that|each|every|any|no|which|only|another|first|last|other|right|correct) \Z",
    re.IGNORECASE,
)
_NEAR = 12


def spelled(text: str) -> Iterator[tuple[float, int, int]]:
    """Each number in words, with where it begins and ends. "The one" and "one of" are none."""
    for run in _RUN.finditer(text):
        if run["run"].lower() == "one" and _is_pronoun(text, run):
            continue
        value = _value(re.findall(r"[a-z]+", run["run"].lower()))
        yield (-value if run["minus"] else value), run.start(), run.end()


def _is_pronoun(text: str, run: re.Match[str]) -> bool:
    before = text[max(0, run.start() - _NEAR) : run.start()]
    return bool(_NOT_COUNTING.search(before)) or text.startswith(" of", run.end())


def _value(words: list[str]) -> float:
    total, below = 0.0, 0.0
    for word in words:
        if word == "hundred":
            below = (below or 1.0) * 100
        elif word == "dozen":
            below = (below or 1.0) * 12
        elif word in _SCALES:
            total += (below or 1.0) * _SCALES[word]
            below = 0.0
        else:
            below += _ONES.get(word, 0.0)
    return total + below
