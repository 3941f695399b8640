"""Reads one text for cues and adds them up per group; decides how strongly each group speaks.

A linear model without training data: a score is the sum of ``strength * weight`` over the
named cues that were found. Only the first 2,000 and last 1,000 characters are read, so the
cost is bounded. It does not judge difficulty and knows nothing of conversations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smarterrouter.routing.features.cues import BIAS, FOREIGN, GROUPS, LEXICON, OPENING, Cue

HEAD_CHARS = 2000
TAIL_CHARS = 1000

# Instructions stand first or last; what lies between is mostly the material they speak of.
OPENING_ZONE_CHARS = 260
CLOSING_ZONE_CHARS = 180
BODY_WEIGHT = 0.35

REPEAT_WEIGHT = 0.4
STRONGEST = 2.6

_WORD = re.compile(r"c\+\+|[cf]#|\w+(?:['’]\w+)?")
_LONGEST_OPENING = 12
_FILLER = frozenset(
    "please can could would will you i i'd i'm we want need like to me us help hi hello hey so ok"
    " okay and now just kindly pls the a an my this bitte kannst du mir könntest peux tu pouvez"
    " vous puedes podrías por favor s'il te vous plaît quickly also then good morning".split()
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A structural cue: how often a pattern matches, up to ``most``, times the weights."""

    name: str
    pattern: re.Pattern[str]
    weights: Mapping[str, float]
    most: int = 1


def _shape(name: str, pattern: str, most: int = 1, **weights: float) -> Shape:
    return Shape(name, re.compile(pattern, re.MULTILINE), weights, most)


SHAPES: tuple[Shape, ...] = (
    _shape("fence", "```", code_read=0.7, code_write=0.3),
    _shape(
        "code line",
        r"^[ \t]*(?:def |class \w+[:({ ]|import \w|from [\w.]+ import|#include|public |private |fn "
        r"|func |function |const |let |var |return\b|@\w+\.?\w*\(|elif |while ?\(|for ?\(|if ?\()"
        r"|[;{}]\r?$|=>|</[a-z]+\d?>|\w\(\)",
        4,
        code_read=0.45,
        code_write=0.2,
    ),
    _shape(
        "stack trace",
        r"Traceback \(most|\w(?:Error|Exception)\b|\berror\[?[A-Z]*\d|^[ \t]+at [\w.$]+\(|\w: error:",
        2,
        code_read=0.9,
    ),
    _shape(
        "sql statement",
        r"\bSELECT\b[^?]{1,300}?\bFROM\b|select \* from|CREATE TABLE",
        data_query=1.8,
    ),
    _shape(
        "shell prompt",
        r"^[ \t]*\$ \w|\| ?(?:grep|awk|sed|xargs|sort|head)\b| --[a-z]{2,}",
        data_query=0.9,
    ),
    _shape(
        "arithmetic", r"\d ?[-+*/^×÷=] ?\(?\d|\b\d*[xyzn] ?[-+^=²] ?\d|\^\d|\d[xy]\b", 2, math=0.8
    ),
    _shape(
        "latex",
        r"\\(?:frac|int|sum|sqrt|lim|mathbb|begin|le|ge)\b|\$[^$\n]{0,60}[\\^_=<][^$\n]{0,60}\$",
        math=1.5,
    ),
    _shape("number", r"\b\d+(?:[.,]\d+)?\b(?!\))", 7, math=0.13),
    _shape("money", r"[$€£]\d|\d ?[€£%]", 2, math=0.3),
    _shape(
        "closing quantity",
        r"(?i:how (?:many|much|long|far|old|fast|tall)|what (?:is|are) the (?:total|probability|sum))"
        r"\b[^?]{0,200}\?\s*\Z",
        math=0.9,
    ),
    _shape("analogy", r"::|\bis to \w+ as\b", logic=1.8),
    _shape(
        "named role",
        r"\A\W*(?:You are|you are|You're|Du bist|Tu es|Eres) (?:now )?[A-Z]",
        roleplay=1.6,
    ),
    _shape("table row", r"^\|.*\|", formatting=0.5, extraction=0.3),
    _shape("json payload", r"[{\[]\s*\"\w+\"\s*:", formatting=0.4, extraction=0.2, data_query=0.2),
    _shape("blank to fill", r"_{3,}|\[blank\]", extraction=0.3, knowledge=0.5),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in one text: its read part, its words and the cues by name."""

    text: str
    length: int
    words: int
    found: Mapping[str, float]
    scores: Mapping[str, float]

    @property
    def group(self) -> str:
        return strongest(self.scores)


def strongest(scores: Mapping[str, float]) -> str:
    """The group with the highest score; of equals, the one listed first in ``GROUPS``."""
    return max(GROUPS, key=lambda group: scores[group])


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("’", "'"))


def excerpt(text: str) -> str:
    """The part of a text that is read at all."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def read(text: str) -> Reading:
    seen = excerpt(text)
    found: dict[str, float] = {}
    scores = dict.fromkeys(GROUPS, 0.0)
    for group, bias in BIAS.items():
        scores[group] += bias
    words = _count_lexicon(seen, found, scores)
    for line in _instruction_lines(seen):
        _add_opening(line, found, scores)
    for shape in SHAPES:
        times = _times(shape, seen)
        if times:
            _add(shape.name, times, shape.weights, found, scores)
    if not seen.isascii():
        _add_foreign(seen.lower(), found, scores)
    _add_conjunctions(words, seen, found, scores)
    scores["roleplay"] = max(scores["roleplay"], 0.0)
    return Reading(seen, len(text), words, found, scores)


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


def _index(cues: Iterable[Cue]) -> dict[str, list[tuple[tuple[str, ...], Cue]]]:
    """First word -> (the words that must follow, cue), longest first; plurals come for free."""
    index: dict[str, list[tuple[tuple[str, ...], Cue]]] = {}
    for cue in cues:
        for phrase in cue.phrases:
            first, *rest = words_of(phrase)
            index.setdefault(first, []).append((tuple(rest), cue))
            if not rest and len(first) > 3 and first[-1] != "s":
                index.setdefault(f"{first}s", []).append(((), cue))
    for entries in index.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return index


_LEXICON = _index(LEXICON)
_OPENING = _index(OPENING)
_CUE = {cue.name: cue for cue in LEXICON}


def _zones(text: str) -> tuple[tuple[str, float], ...]:
    if len(text) <= OPENING_ZONE_CHARS + CLOSING_ZONE_CHARS:
        return ((text, 1.0),)
    return (
        (text[:OPENING_ZONE_CHARS], 1.0),
        (text[OPENING_ZONE_CHARS:-CLOSING_ZONE_CHARS], BODY_WEIGHT),
        (text[-CLOSING_ZONE_CHARS:], 1.0),
    )


def _count_lexicon(text: str, found: dict[str, float], scores: dict[str, float]) -> int:
    counts: dict[str, float] = {}
    total = 0
    for zone, weight in _zones(text):
        words = words_of(zone)
        total += len(words)
        for at, word in enumerate(words):
            for rest, cue in _LEXICON.get(word, ()):
                if not rest or tuple(words[at + 1 : at + 1 + len(rest)]) == rest:
                    counts[cue.name] = counts.get(cue.name, 0.0) + weight
    for name, count in counts.items():
        strength = min(count, 1 + REPEAT_WEIGHT * (count - 1), STRONGEST) if count > 1 else count
        _add(name, strength, _CUE[name].weights, found, scores)
    return total


def _instruction_lines(text: str) -> Iterable[str]:
    stripped = text.strip()
    first, _, rest = stripped.partition("\n")
    yield first
    last = rest.rpartition("\n")[2]
    if last:
        yield last


def _add_opening(line: str, found: dict[str, float], scores: dict[str, float]) -> None:
    words = words_of(line[:120])[:_LONGEST_OPENING]
    for at, word in enumerate(words):
        hits = [
            (rest, cue)
            for rest, cue in _OPENING.get(word, ())
            if not rest or tuple(words[at + 1 : at + 1 + len(rest)]) == rest
        ]
        if hits:
            for _, cue in (hit for hit in hits if len(hit[0]) == len(hits[0][0])):
                _add(f"opening: {cue.name}", 1.0, cue.weights, found, scores)
            return
        if word not in _FILLER:
            return


def _times(shape: Shape, text: str) -> int:
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
    if code_shown and ("opening: explain" in found or "opening: repair" in found):
        _add("asks about code", 1.0, {"code_read": 1.5, "knowledge": -0.7}, found, scores)
    if "translation" in found and "human language" not in found:
        if code_shown or "language" in found:
            _add("ports code", 1.0, {"code_write": 2.0, "translation": -3.0}, found, scores)
    elif "opening: explain" in found and "translation" not in found and "human language" in found:
        _add("speaks of a language", 1.0, {"translation": -0.6}, found, scores)
    if words <= 14 and text.rstrip().endswith(("?", "？")):  # noqa: RUF001
        _add("short question", 1.0, {"knowledge": 0.4}, found, scores)
