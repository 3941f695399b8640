"""Numbers that are spelled: "forty-two", "a hundred and five", "a dozen", "vierzehn", "vingt-deux".

Decides which run of words is a number and what it comes to. Of German and French it knows those
below 100, but for words that mean something else in English ("seize", "null") or are articles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_GERMAN = (
    "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn"
    " sechzehn siebzehn achtzehn neunzehn"
)
_FRENCH = "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze"
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ZEHNER = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
_DIZAINES = ["vingt", "trente", "quarante", "cinquante", "soixante"]

_ONES = {word: float(value) for value, word in enumerate(_ENGLISH.split())}
_ONES |= {word: float(value) for value, word in enumerate(_GERMAN.split(), 1)}
_ONES |= {word: float(value) for value, word in enumerate(_FRENCH.split(), 2)}
for _tens in (_TENS, _ZEHNER, _DIZAINES):
    _ONES |= {word: 10.0 * place for place, word in enumerate(_tens, 2)}
_ONES |= {
    f"{one}und{ten}": 10.0 * place + value
    for place, ten in enumerate(_ZEHNER, 2)
    for value, one in enumerate(["ein", *_GERMAN.split()[1:9]], 1)
}
_ONES |= {
    f"{ten} et {one}": 10.0 * place + 1
    for place, ten in enumerate(_DIZAINES, 2)
    for one in ("un", "une")
}
_ONES |= {"soixante et onze": 71.0, "quatre-vingt": 80.0, "quatre-vingts": 80.0}
_ONES |= {
    word.translate({ord("ü"): "ue", ord("ö"): "oe", ord("ß"): "ss"}): value
    for word, value in _ONES.items()
}
_ONES["dozen"] = 12.0
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
WORD = "|".join(sorted([*_ONES, *_SCALES, "hundred"], key=len, reverse=True))
"""What finds one word of a number in a pattern."""

_ONE_WORD = re.compile(WORD)
_AND = "(?:,? and |, )"
_RUN = re.compile(
    rf"\b(?:(?P<minus>minus|negative) )?(?P<run>"
    rf"(?:an? (?=hundred|thousand|million|dozen))?(?:{WORD})"
    rf"(?:(?:[ -]|(?<=hundred){_AND}|(?<=thousand){_AND}|(?<=million){_AND})(?:{WORD})\b)*)\b",
    re.IGNORECASE,
)
_NOT_COUNTING = re.compile(
    r"\b(?:the|this|that|each|every|any|no|which|only|another|first|last|other|right|correct) \Z",
    re.IGNORECASE,
)
_HUNDREDS_BEFORE = re.compile(r"\b(?:cents?|mille)[ -]\Z", re.IGNORECASE)
_HUNDREDS_AFTER = re.compile(r"[ -](?:cents?|mille)\b", re.IGNORECASE)
_NEAR = 12


def spelled(text: str) -> Iterator[tuple[float, int, int]]:
    """Each number in words, with where it begins and ends. "The one" and "one of" are none."""
    for run in _RUN.finditer(text):
        if run["run"].lower() == "one" and _is_pronoun(text, run):
            continue
        if _is_part_of_hundreds(text, run):
            continue
        value = _value(_ONE_WORD.findall(run["run"].lower()))
        yield (-value if run["minus"] else value), run.start(), run.end()


def _is_pronoun(text: str, run: re.Match[str]) -> bool:
    before = text[max(0, run.start() - _NEAR) : run.start()]
    return bool(_NOT_COUNTING.search(before)) or text.startswith(" of", run.end())


def _is_part_of_hundreds(text: str, run: re.Match[str]) -> bool:
    """Whether it is of a French number that is not read, "deux cents" or "cent vingt"."""
    french = run["run"].lower() in {*_FRENCH.split()} - {*_ENGLISH.split()}
    before = text[max(0, run.start() - _NEAR) : run.start()]
    after = french and _HUNDREDS_AFTER.match(text, run.end())
    return bool(after or _HUNDREDS_BEFORE.search(before))


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
