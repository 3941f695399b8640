"""Which option does an answer pick?

Decides that by the letters it names, or by the options' own words, in the most conclusive part that
names any. An answer that names several and picks none is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.conclusion import (
    asserted,
    declared,
    implied,
    main_clause,
    since_correction,
)
from smarterrouter.profiling.checkers.exact import Names, folded
from smarterrouter.profiling.checkers.plain import plain
from smarterrouter.profiling.checkers.verdict import Verdict

MOST_PARTS = 80


def check(spec: specs.Choice, answer: str) -> Verdict:
    """1 if the answer picks the option ``spec.answer``."""
    options = {letter.upper(): text for letter, text in spec.options.items()}
    wanted = spec.answer.upper()
    options.setdefault(wanted, "")
    for part in islice(_parts(answer), MOST_PARTS):
        if picked := picks(part, options):
            right = picked == wanted
            return Verdict(
                float(right), f"it picks {picked}" + ("" if right else f", not {wanted}")
            )
    return Verdict(0.0, "it picks none of the options")


def _parts(answer: str) -> Iterator[str]:
    for source in since_correction(answer):
        yield from declared(source)
        yield from _ticked(plain(source))
        yield from _begun_with(plain(source).strip())
        yield from implied(source)


_RIGHT = re.compile(r"(?i)(?<!not )(?<!in)\b(?:correct|right|true)\b|[✓✔✅]")
_WRONG = re.compile(r"(?i)\b(?:incorrect|wrong|false|not (?:correct|right|true))\b|[✗✘❌]")


def _ticked(text: str) -> Iterator[str]:
    """The one line that is marked as the correct one."""
    lines = [line for line in text.split("\n") if len(line) < 500]
    right = [line for line in lines if _RIGHT.search(line) and not _WRONG.search(line)]
    if len(right) == 1:
        yield right[0]


_SMALL = re.compile(
    r"([a-z])(?:[.:]\s|\s?[-\u2013—]\s|,\s(?!(?:and|or|[a-z])\b))"
    r"(?!(?:is|was|not?|wrong|false|out)\b)"
)
_NEXT_SMALL = re.compile(r"\s\W{0,3}[a-z](?:[.):]|\s[-\u2013—])\s")


def _begun_with(text: str) -> Iterator[str]:
    """The small letter that all begins with ("c. the pane is last"), unless it begins a list."""
    if (small := _SMALL.match(text)) and not _NEXT_SMALL.search(text):
        yield small[1].upper()


_DISMISSED = re.compile(
    r"\(?(?<!\w)[A-Z](?!\w)\)?[^.;\n]{0,40}?\b(?:is|are|was)(?: \w+)?"
    r" (?:wrong|incorrect|false|not)\b[^.;,\n]{0,80}"
)
_CALLED = re.compile(
    r"(?i)(?:\b(?:option|choice|letter)s? ?|\()\(?([a-z])(?!\w)(?!')|(?<!\w)([a-z])\)"
)
_LONE = re.compile(r"(?<![\w'+#°])(?<!° )([A-Z])(?![\w'+#]|\.\w)")
_SURELY_A_LETTER = re.compile(
    r"\s?(?:[).:,;!?\]\n]|$|-|\u2013|—|(?:is|because|since|as|would|seems)\b)"
)
_LEADS = re.compile(
    r"(?i)\W{0,4}(?:(?:option|choice|letter|it's|is|it is) )?\W{0,3}([a-z])(?!\w)(?!')"
)


_DENIES = re.compile(r"(?i)\b(?:not|none|except|unlike)\b|n't\b")


def picks(part: str, options: dict[str, str]) -> str | None:
    """The letter of the option that this part picks; ``None`` if none, or more than one."""
    part = part.strip()
    for said in dict.fromkeys((_DISMISSED.sub(" ", asserted(part)), main_clause(part))):
        if lead := _leading(said, options):
            return lead
        named = set(_letters(said, options))
        if len(named) == 1:
            return named.pop()
        if not named and (told := _by_text(said, options)):
            return told
    denying = {letter: text for letter, text in options.items() if _DENIES.search(text)}
    return _by_text(part, denying)


def _leading(said: str, options: dict[str, str]) -> str | None:
    lead = _LEADS.match(said)
    if not lead or lead[1].upper() not in options:
        return None
    alone = not said[lead.end() :].strip(" .*)!:]")
    sure = bool(_SURELY_A_LETTER.match(said, lead.end()))
    return lead[1].upper() if alone or (sure and lead[1].isupper()) else None


def _letters(said: str, options: dict[str, str]) -> Iterator[str]:
    for called in _CALLED.finditer(said):
        letter = (called[1] or called[2]).upper()
        if letter in options:
            yield letter
    for lone in _LONE.finditer(said):
        unsure = lone[1] in "AI" and not _SURELY_A_LETTER.match(said, lone.end())
        if lone[1] in options and not unsure:
            yield lone[1]


def _by_text(said: str, options: dict[str, str]) -> str | None:
    text = folded(said)
    found = [
        letter
        for letter, words in options.items()
        if words and Names([words], [o for o in options.values() if o != words]).right(text)
    ]
    return found[0] if len(found) == 1 else None
