"""Is the number that an answer comes to the right one?

Decides which of its numbers the answer concludes with, and which value that is. In the part of the
answer that ``conclusion`` finds most conclusive:

1. The number after the last "=", "is", "gives" and the like is the conclusion; so are other numbers
   of the sentence that restate it (rounded, or as a percentage).
2. Of a sentence that goes on ", so ..." that end counts, and what a list after a colon is told for
   counts more than the list. Of clauses alike, "the ball costs 5 and the bat costs 105", the first
   one does: nothing tells which was asked for, and who answers begins with it.
3. Where nothing points to one number, any number of the sentence may be it: "3 people pay $45".
   A number that the question gave is no good answer to ask for.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.conclusion import asserted, conclusions, main_clause
from smarterrouter.profiling.checkers.number_words import spelled
from smarterrouter.profiling.checkers.reading import fenced
from smarterrouter.profiling.checkers.verdict import Verdict

NEARLY = 1e-9
RESTATED = 0.01
LONGEST = 60
MOST_PARTS = 80


@dataclass(frozen=True, slots=True)
class Read:
    """A number of a text: what it may mean ("75%" is 75 or 0.75), and where it stands."""

    values: tuple[float, ...]
    start: int
    end: int


def check(spec: specs.Number, answer: str) -> Verdict:
    """1 if the number that the answer concludes with is within the tolerance.

    What stands in a block of code counts where nothing else has a number.
    """
    parts = itertools.chain(conclusions(answer), reversed(fenced(answer)))
    for part in itertools.islice(parts, MOST_PARTS):
        if found := concluded(part):
            if _leaves_open(part, found):
                return Verdict(0.0, "it leaves open which of two numbers it is")
            if any(_is_near(value, spec) for read in found for value in read.values):
                return Verdict(1.0, f"it says {spec.answer:g}")
            said = " or ".join(f"{read.values[0]:g}" for read in found[:3])
            return Verdict(0.0, f"it says {said}, not {spec.answer:g}")
    return Verdict(0.0, "the answer has no number")


def _is_near(value: float, spec: specs.Number) -> bool:
    return abs(value - spec.answer) <= spec.tolerance + NEARLY * max(1.0, abs(spec.answer))


_CLUE = re.compile(
    r"[=≈≃→⇒:]|->|\b(?:is|are|was|were|be|equals?|costs?|has|have|had|gets?|needs?|takes?|makes?"
    r"|pays?|gives?|leaves?|yields?|becomes?|totals?|totaling|remains?|rounds?(?: (?:up|down))? to"
    r"|rounded(?: (?:up|down))? to|comes? (?:out )?to|adds? up to|earns?|spends?|saves?"
    r"|approximately|prints?|outputs?|returns?|affiche|ergibt)\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\b(?:for|per|after|in|from|among|between|by|of)\b|[.;]", re.IGNORECASE)
_A_TOTAL_OF = re.compile(
    r"\b(?:total|sum|average|mean|maximum|minimum|value|rate|speed) of\b", re.I
)
_WHICH = re.compile(r",? which (?:is|means|are|was)\b[^;.\n]{0,120}", re.IGNORECASE)
_BRACKETS = re.compile(r"\([^()\n]{0,200}\)")
_STEPS = re.compile(r"(?i)\b(?:step|part|option|method|case|question|problem|example) #?\d{1,3}\b")
_ITEM = re.compile(r"^\(?\d{1,2}[.)]\s+(?=\D{0,3}[A-Za-z]{2}|[^A-Za-z=]{3,60}=)")
WORDS_BETWEEN = 6
LONGEST_LINK = 30


def concluded(part: str) -> list[Read]:
    """The numbers that may be the conclusion of this part of an answer; empty if there are none."""
    part = _MONEY.sub(_in_one, _ITEM.sub("", _STEPS.sub(" ", part)))
    said = asserted(part)
    if any(True for _ in read(main_clause(part))):
        said = main_clause(part)
    said = _without_list(_first_alike(_consequence(_without_place(said))))
    aside = _WHICH.sub(" ", said)
    if aside != said and (before := _pointed_at(aside)):
        return [*before, *(_pointed_at(said) or [])]
    return _pointed_at(said) or list(read(said))


_PLACE = re.compile(r",\s(?:at|for|with)\s[A-Za-z]\w{0,3}\s?=\s?-?\d[\d.,/]{0,15}\s?\w{0,7}")


def _without_place(said: str) -> str:
    """Without the place of a value, ", at t = 4 h", where it has another number."""
    kept = _PLACE.sub(" ", said)
    return kept if any(True for _ in read(kept)) else said


def _leaves_open(part: str, found: list[Read]) -> bool:
    """Whether one of those is told with another that is as good: "it is 3162 or 6123"."""
    numbers = list(read(part))
    times = Counter(number.values for number in numbers)
    told = {number.values for number in found if times[number.values] == 1}
    return any(
        part[one.end : other.start].strip() == "or"
        and told & {one.values, other.values}
        and not any(_says_the_same(value, one.values[0], False) for value in other.values)
        for one, other in itertools.pairwise(numbers)
    )


_SO = re.compile(
    r"(?:[,;]|(?<=[\d€%]))\s+(?:and\s+)?(?:so|thus|hence|therefore)\b,?\s+"
    r"(?!far\b|that\b(?!'s\b| (?:is|makes)\b))"
    r"(?![^A-Za-z]{1,20}[^.;]{0,40}\b(?:each|per|apiece|left|over)\b)",
    re.IGNORECASE,
)
_DENIES = re.compile(r"\b(?:not|no|never|cannot)\b|n't\b", re.IGNORECASE)


def _consequence(said: str) -> str:
    """What follows the last ", so", where it has a number and denies nothing; else all of it."""
    tail = _SO.split(said)[-1]
    return tail if any(True for _ in read(tail)) and not _DENIES.search(tail) else said


_CLAUSE_ENDS = re.compile(r"[,;]\s+(?:and\s+|while\s+)?|\s+(?:and|while|whereas|but)\s+")
_VERB = re.compile(
    r"\b(cost|ha(?=s|ve)|get|need|take|pay|make|earn|spend|save|weigh|is|are)(?:s|ve|d)?\b", re.I
)
_UNLIKE = re.compile(
    r"\b(?:together|total|altogether|all|both|sum|left|remain\w*|finally|then|now|end|after\w*|later"
    r"|before|first|initial\w*|original\w*|each|every|per|half|one|twice)\b",
    re.IGNORECASE,
)


def _first_alike(said: str) -> str:
    """The first of clauses with numbers that are built alike, by their verb; else all of it."""
    clauses = [one for one in _CLAUSE_ENDS.split(said) if any(True for _ in read(one))]
    verbs = {_verb(one) for one in clauses}
    alike = len(clauses) > 1 and len(verbs) == 1 and None not in verbs
    return clauses[0] if alike and not _UNLIKE.search(" ".join(clauses)) else said


def _verb(clause: str) -> str | None:
    """Its one verb; "is" only where the number comes before it: "80 % is 68" is a step."""
    found = list(_VERB.finditer(clause))
    if len(found) != 1:
        return None
    verb = found[0][1].lower()
    if verb in ("is", "are") and any(True for _ in read(clause[found[0].end() :])):
        return None
    return verb


def _without_list(said: str) -> str:
    """Without the list after a colon, where the words before it point to a number."""
    head, _, tail = said.partition(": ")
    if len(list(read(tail))) < 2 or _CLUE.search(tail) or not _CLUE.search(head):
        return said
    return head if _after_last_clue(head, list(read(head))) else said


def _pointed_at(said: str) -> list[Read]:
    bare = _BRACKETS.sub(" ", said)
    numbers = list(read(bare))
    if not numbers:
        bare, numbers = said, list(read(said))
    if not numbers:
        return []
    first = _in_words_first(bare) or numbers[0]
    if len(numbers) == 1 or _stands_first(bare, first):
        chosen: Read | None = first
    else:
        chosen = _after_last_clue(bare, numbers)
    return [chosen, *_restating(chosen, said)] if chosen else []


_THEN_ENDS = re.compile(
    r"\s{0,3}(?:[.,;(]|\Z"
    r"|[A-Za-z%°]{1,20}(?: [A-Za-z]{1,20})?\s{0,3}(?<!each)(?<!together)(?<!total)(?:[.,;!(]|\Z))"
)


def _stands_first(said: str, number: Read) -> bool:
    """ "391. (17 · 20 = ...)": nothing before it, and with it something ends."""
    return not said[: number.start].strip(" $€£~*(") and bool(_THEN_ENDS.match(said, number.end))


def _in_words_first(said: str) -> Read | None:
    """The number in words that it begins with, though there are figures: "nine, 90 cents left"."""
    if _CLUE.search(said):
        return None
    words = next((Read((value,), start, end) for value, start, end in spelled(said)), None)
    return words if words and _stands_first(said, words) else None


def _after_last_clue(said: str, numbers: list[Read]) -> Read | None:
    clues = [found.end() for found in _CLUE.finditer(said)]
    for clue in reversed(clues):
        after = next((n for n in numbers if n.start >= clue), None)
        if after is None:
            continue
        between = _A_TOTAL_OF.sub(" ", said[clue : after.start])
        if _BETWEEN.search(between):
            return None
        if len(between.split()) <= WORDS_BETWEEN:
            return after
    return None


_LOOSELY = re.compile(r"(?i)[≈≃~]|\b(?:about|approximately|approx|roughly|around|round\w*)\b")
_EXACTLY = re.compile(r"(?i)=|\(|\b(?:or|i\.e|that is|equivalently|which is)\b")


def _restating(chosen: Read, said: str) -> Iterator[Read]:
    """Other numbers of the sentence that are linked to the chosen one, and say the same."""
    base = chosen.values[0]
    for other in read(said):
        first, second = sorted((other, chosen), key=lambda number: number.start)
        link = said[first.end : second.start]
        if len(link) > LONGEST_LINK:
            continue
        loosely = bool(_LOOSELY.search(link))
        if not loosely and not _EXACTLY.search(link):
            continue
        if any(_says_the_same(value, base, loosely) for value in other.values):
            yield other


def _says_the_same(value: float, base: float, loosely: bool) -> bool:
    """Within what rounding does; 2023 does not restate 2024."""
    if any(math.isclose(value * 100, base * s, rel_tol=RESTATED) for s in (1, 10_000)):
        return True
    rounded = loosely or not (value.is_integer() and base.is_integer())
    return math.isclose(value, base, rel_tol=RESTATED if rounded else NEARLY)


_GROUPED = (
    r"\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])|\d{1,3}(?:[ '_]\d{3})+(?!\d)"
)
_DIGITS = rf"\d{{1,{LONGEST}}}"
_EUROPEAN = (
    r"\d{1,3}(?:\.\d{3})+,\d{1,9}|\d{1,3}(?:\.\d{3}){2,9}(?![\d.,])"
    r"|\d{1,3}(?:[ ]\d{3})+,\d{1,2}(?!\d)"
)
_COMMA = r"\d{1,15},(?:\d{1,2}|\d{4,15})(?![\d,]|\.\d)"
_NUMBER = re.compile(
    rf"""
    (?<![\w.])
    (?P<word>(?<!\d\s)(?i:minus|negative)\s)?(?P<sign>(?<![\w)\]]\s)(?<![\w)\]])[-+]\s?)?(?:[$€£¥]\s?)?(?P<minus>-)?
    (?:(?P<mixed>\d{{1,6}})\s(?=\d{{1,6}}/\d))?
    (?:(?P<european>{_EUROPEAN})|(?P<comma>{_COMMA})
    |(?P<plain>(?:{_GROUPED}|{_DIGITS})(?:\.{_DIGITS})?|\.{_DIGITS}))
    (?P<vulgar>[½¼¾⅓⅔⅛])?
    (?:\s?/\s?(?P<below>\d{{1,9}})(?![\d/]))?
    (?:[eE](?P<exp>[-+]?\d{{1,3}})\b
    |\s?[x\u00d7·*]\s?10\s?(?:\^|\*\*)\s?[({{]?(?P<power>-?\d{{1,3}})[)}}]?)?
    \s?(?:(?P<percent>%|percent\b|per[ ]cent\b)
    |(?P<scale>thousand|million|billion|trillion)\b|(?P<kilo>[kK])\b)?
    |(?<!\w)(?P<lone>-?[½¼¾⅓⅔⅛])
    """,
    re.VERBOSE,
)
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_VULGAR = {"½": 1 / 2, "¼": 1 / 4, "¾": 3 / 4, "⅓": 1 / 3, "⅔": 2 / 3, "⅛": 1 / 8}


_MONEY = re.compile(
    r"(?<![\d.,])(\d{1,6}) ?(euros?|EUR|€|dollars?|USD|\$|pounds?|£|francs?|CHF) "
    r"(?:(?:(?:and|und|et) )?(\d{1,2}) ?(?:cents?|ct|pence|centimes?|Rappen)\b"
    r"|(\d\d)(?=\s{0,3}(?:[.!;)]?\Z|[.!;)]\s)))",
    re.IGNORECASE,
)


def _in_one(found: re.Match[str]) -> str:
    """ "30 euros and 5 cents" is "30.05 euros", as is "30 EUR 05"."""
    return f"{found[1]}.{found[3] or found[4]:0>2} {found[2]}"


def read(text: str) -> Iterator[Read]:
    """The numbers in figures, from left to right; those in words where there are no figures."""
    none = True
    for found in _NUMBER.finditer(text):
        values = tuple(value for value in _values(found) if math.isfinite(value))
        if values:
            none = False
            yield Read(values, found.start(), found.end())
    if none:
        for value, start, end in spelled(text):
            yield Read((value,), start, end)


def _values(found: re.Match[str]) -> Iterator[float]:
    if found["lone"]:
        yield _VULGAR[found["lone"][-1]] * (-1 if found["lone"][0] == "-" else 1)
        return
    value = _size(found)
    if "-" in (found["sign"] or "") or found["minus"] or found["word"]:
        value = -value
    yield value
    if _THOUSANDS.fullmatch(found["plain"] or ""):
        yield value * 1000
    if found["percent"]:
        yield value / 100
    if found["kilo"]:
        yield value * 1000


def _size(found: re.Match[str]) -> float:
    if found["european"]:
        digits = re.sub(r"[ .]", "", found["european"]).replace(",", ".")
    elif found["comma"]:
        digits = found["comma"].replace(",", ".")
    else:
        digits = re.sub(r"[ ,'_]", "", found["plain"])
    value = float(digits) + _VULGAR.get(found["vulgar"] or "", 0.0)
    if found["below"]:
        value = value / float(found["below"]) if float(found["below"]) else math.nan
    value += float(found["mixed"] or 0)
    value *= _SCALES.get(found["scale"] or "", 1.0)
    return value * float(f"1e{found['exp'] or found['power'] or 0}")
