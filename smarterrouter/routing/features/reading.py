"""Reads one text for cues and adds them up per group; decides how strongly each group speaks.

A linear model without training data: a score is the sum of ``strength * weight`` over the
named cues that were found. Only the first 1,500 and last 700 characters are read, so the
cost is bounded. It does not judge difficulty and knows nothing of conversations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from smarterrouter.domain.groups import GROUPS
from smarterrouter.routing.features.cues import BIAS, FOREIGN, LEXICON, OPENING, Cue
from smarterrouter.routing.features.shapes import (
    ASKING,
    BULLETS,
    CODE_ENDS,
    CODE_LINE_WEIGHTS,
    CODE_SIGNS,
    CODE_STARTS,
    MOST_CODE_LINES,
    MOST_NUMBERS,
    NUMBER,
    NUMBER_WEIGHT,
    SHAPES,
    TECHNICAL,
    Shape,
)

HEAD_CHARS = 1500
TAIL_CHARS = 700

# Instructions stand first or last; what lies between is mostly the material they speak of.
OPENING_ZONE_CHARS = 260
CLOSING_ZONE_CHARS = 180
BODY_WEIGHT = 0.35

REPEAT_WEIGHT = 0.4
STRONGEST = 2.6

_WORD = re.compile(r"\w+")
_SPELT = {"c++": "cplusplus", "c#": "csharp", "f#": "fsharp"}
_SIGNED = re.compile(r"c\+\+|[cf]#", re.IGNORECASE)
# ASCII text is cut by one look into this table: what is in no word is a space.
_LOWERED = bytes(ord(c.lower()) if c.isalnum() or c == "_" else 32 for c in map(chr, range(256)))
_LONGEST_OPENING = 12
_BIASED = {group: BIAS.get(group, 0.0) for group in GROUPS}
_FILLERS = (
    "please can could would will you i id im we want need like to me us help hi hello hey "
    "so ok okay and now just kindly pls the a an my this bitte kannst du mir könntest peux "
    "tu pouvez vous puedes podrías por favor sil te plaît quickly also then good morning"
)
_FILLER = frozenset(_FILLERS.split())


class Reading(Struct, frozen=True):
    """What was found in one text: the part that was read, its words, the cues by name."""

    text: str
    length: int
    words: list[str]
    numbers: int
    bullets: int
    found: Mapping[str, float]
    scores: Mapping[str, float]

    @property
    def group(self) -> str:
        return strongest(self.scores)


def strongest(scores: Mapping[str, float]) -> str:
    """The group with the highest score; of equals, the one listed first in ``GROUPS``."""
    return max(GROUPS, key=lambda group: scores[group])


def words_of(text: str) -> list[str]:
    """Lower-case words; an apostrophe joins ("what's" is one word), so do ``c++`` and ``c#``."""
    if "#" in text or "++" in text:
        text = _SIGNED.sub(lambda found: _SPELT[found[0].lower()], text)
    if text.isascii():
        return text.encode().translate(_LOWERED, b"'").decode().split()
    return _WORD.findall(text.lower().replace("'", "").replace("’", ""))  # noqa: RUF001


def excerpt(text: str) -> str:
    """The part of a text that is read at all."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def read(text: str) -> Reading:
    seen = excerpt(text)
    found: dict[str, float] = {}
    scores = _BIASED.copy()
    words = _add_lexicon(seen, found, scores)
    lines = seen.strip().split("\n")
    _add_opening(lines[0], found, scores)
    if len(lines) > 1:
        _add_opening(lines[-1], found, scores)
    bullets = _add_lines(seen, lines, found, scores)
    distinct = set(words)
    for shape in SHAPES:
        if times := _times(shape, seen, distinct):
            _add(shape.name, times, shape.weights, found, scores)
    numbers = len(NUMBER.findall(seen))
    if numbers:
        _add("number", min(numbers, MOST_NUMBERS), {"math": NUMBER_WEIGHT}, found, scores)
    if not seen.isascii():
        _add_foreign(seen.lower(), found, scores)
    _add_conjunctions(len(words), seen, found, scores)
    scores["roleplay"] = max(scores["roleplay"], 0.0)
    return Reading(seen, len(text), words, numbers, bullets, found, scores)


def _add(
    name: str,
    strength: float,
    weights: Mapping[str, float],
    found: dict[str, float],
    scores: dict[str, float],
) -> None:
    found[name] = found.get(name, 0.0) + strength
    for group, weight in weights.items():
        scores[group] += strength * weight


@dataclass(slots=True)
class _Entry:
    """The cues that start with one word: on its own, or with what must follow it."""

    alone: list[Cue]
    followed: dict[str, list[tuple[list[str], Cue]]]


def _index(cues: Iterable[Cue]) -> dict[str, _Entry]:
    """First word -> what it may begin; the plain plurals of single words come for free."""
    index: dict[str, _Entry] = {}
    for cue in cues:
        for phrase in cue.phrases:
            first, *rest = words_of(phrase)
            entry = index.setdefault(first, _Entry([], {}))
            if rest:
                entry.followed.setdefault(rest[0], []).append((rest, cue))
                continue
            entry.alone.append(cue)
            if len(first) > 3 and first[-1] != "s":
                plural = index.setdefault(f"{first}s", _Entry([], {}))
                if cue not in plural.alone:
                    plural.alone.append(cue)
    return index


_LEXICON = _index(LEXICON)
_OPENING = _index(OPENING)
_CUE = {cue.name: cue for cue in LEXICON}


def _phrases_at(words: Sequence[str], at: int, entry: _Entry) -> list[Cue]:
    """The cues of several words that start at ``at``."""
    if not entry.followed or at + 1 >= len(words):
        return []
    return [
        cue
        for rest, cue in entry.followed.get(words[at + 1], ())
        if len(rest) == 1 or words[at + 1 : at + 1 + len(rest)] == rest
    ]


def _zones(text: str) -> tuple[tuple[str, float], ...]:
    if len(text) <= OPENING_ZONE_CHARS + CLOSING_ZONE_CHARS:
        return ((text, 1.0),)
    return (
        (text[:OPENING_ZONE_CHARS], 1.0),
        (text[OPENING_ZONE_CHARS:-CLOSING_ZONE_CHARS], BODY_WEIGHT),
        (text[-CLOSING_ZONE_CHARS:], 1.0),
    )


def _add_lexicon(text: str, found: dict[str, float], scores: dict[str, float]) -> list[str]:
    """Counts every lexicon cue, weighted by zone, and returns the words."""
    counts: dict[str, float] = {}
    all_words: list[str] = []
    for zone, weight in _zones(text):
        words = words_of(zone)
        all_words += words
        following = [*words[1:], ""]
        for at, word in enumerate(words):
            if word not in _LEXICON:
                continue
            entry = _LEXICON[word]
            for cue in entry.alone:
                counts[cue.name] = counts.get(cue.name, 0.0) + weight
            if following[at] in entry.followed:
                for cue in _phrases_at(words, at, entry):
                    counts[cue.name] = counts.get(cue.name, 0.0) + weight
    for name, count in counts.items():
        strength = min(1 + REPEAT_WEIGHT * (count - 1), STRONGEST) if count > 1 else count
        _add(name, strength, _CUE[name].weights, found, scores)
    return all_words


def _add_opening(line: str, found: dict[str, float], scores: dict[str, float]) -> None:
    words = words_of(line[:80])[:_LONGEST_OPENING]
    for at, word in enumerate(words):
        entry = _OPENING.get(word)
        cues = (_phrases_at(words, at, entry) or entry.alone) if entry is not None else ()
        for cue in cues:
            _add(f"opening: {cue.name}", 1.0, cue.weights, found, scores)
        if cues or word not in _FILLER:
            return


def _add_lines(
    text: str, lines: Sequence[str], found: dict[str, float], scores: dict[str, float]
) -> int:
    """Counts lines that look like code, and returns how many are bullets."""
    times = sum([text.count(sign) for rare, sign in CODE_SIGNS if rare in text])
    bullets = 0
    for line in lines:
        bare = line.strip()
        if bare.endswith(CODE_ENDS) or bare.startswith(CODE_STARTS):
            times += 1
        elif bare.startswith(BULLETS):
            bullets += 1
    if times:
        _add("code line", min(times, MOST_CODE_LINES), CODE_LINE_WEIGHTS, found, scores)
    return bullets


def _times(shape: Shape, text: str, words: set[str]) -> int:
    for sign, hint in shape.hints:
        if sign in text and hint in text:
            break
    else:
        if shape.words.isdisjoint(words):
            return 0
    if shape.most == 1:
        return int(shape.pattern.search(text) is not None)
    times = 0
    for _ in shape.pattern.finditer(text):
        times += 1
        if times == shape.most:
            break
    return times


def _add_foreign(lowered: str, found: dict[str, float], scores: dict[str, float]) -> None:
    for cue in FOREIGN:
        hits = sum(phrase in lowered for phrase in cue.phrases)
        if hits:
            _add(f"foreign: {cue.name}", 1 + REPEAT_WEIGHT * (hits - 1), cue.weights, found, scores)


def _add_conjunctions(
    words: int, text: str, found: dict[str, float], scores: dict[str, float]
) -> None:
    """What only means something together: code with a question, a language pair, a question."""
    code_shown = "fence" in found or found.get("code line", 0) >= 2
    if code_shown and found.keys() & ASKING:
        _add("asks about code", 1.0, {"code_read": 1.5, "knowledge": -0.7}, found, scores)
    if found.get("number", 0) >= 2 and found.keys() & {"quantity", "opening: ask a fact"}:
        _add("asks about numbers", 1.0, {"knowledge": -0.8, "math": 0.3}, found, scores)
    if TECHNICAL & found.keys():
        _add("technical matter", 1.0, {"advice": -0.9, "knowledge": -0.2}, found, scores)
    if "translation" in found and "human language" not in found:
        if code_shown or "language" in found:
            _add("ports code", 1.0, {"code_write": 2.0, "translation": -3.0}, found, scores)
    elif found.keys() & ASKING and "translation" not in found and "human language" in found:
        _add("speaks of a language", 1.0, {"translation": -0.6}, found, scores)
    if words <= 14 and text.rstrip().endswith(("?", "？")):  # noqa: RUF001
        _add("short question", 1.0, {"knowledge": 0.4}, found, scores)
