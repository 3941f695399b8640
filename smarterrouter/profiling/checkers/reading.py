"""How a model's answer is read: without its reasoning, its Markdown and its small talk.

Decides what of an answer is reasoning, code, or courtesy around the answer. Which part of it is
the conclusion, ``conclusion`` decides; whether that is right, the module of each kind. Nothing here
raises, and all of it takes time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)"
_OPENS = (
    rf"(?:^|\n)[ \t]*<{_NAMES}>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
    r"|<\|begin_of_thought\|>|<\|channel>thought"
)
_CLOSES = rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>|<channel\|>"
_THOUGHT = re.compile(rf"(?P<open>{_OPENS})|(?P<close>{_CLOSES})", re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>final\b[^<\n]{0,40}<\|message\|>")
_CHANNEL = re.compile(r"<\|channel\|>\w+")
_TOKENS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|end|start|return|message|endoftext|end_of_text|eom_id"
    r"|begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE)\|>"
    r"|</s>\s{0,9}\Z|<end_of_turn>|<start_of_turn>|<\uff5cend▁of▁sentence\uff5c>"
)
_BARE_CHANNEL = "assistantfinal"


def answer_of(text: str) -> str:
    """What was said to the user; empty if reasoning was begun and never came to an end."""
    text = _of_the_final_channel(text.replace("\r\n", "\n").lstrip("\ufeff"))
    said: list[str] = []
    thinking, at = False, 0
    for tag in _THOUGHT.finditer(text):
        if tag["close"]:
            if not thinking:
                said.clear()  # the opening tag was part of the prompt: all so far is reasoning
            thinking, at = False, tag.end()
        elif not thinking:
            said.append(text[at : tag.start()])
            thinking = True
    if not thinking:
        said.append(text[at:])
    return _unwrapped(_TOKENS.sub("", "".join(said)).strip())


def _of_the_final_channel(text: str) -> str:
    finals = list(_FINAL_CHANNEL.finditer(text))
    if finals:
        return text[finals[-1].end() :].partition("<|")[0]
    if _CHANNEL.search(text):
        return ""
    if text.startswith("analysis") and _BARE_CHANNEL in text:
        return text.rpartition(_BARE_CHANNEL)[2]
    return text


def _unwrapped(text: str) -> str:
    """Without ``<answer>`` tags around all of it."""
    if text.startswith("<answer>") and text.endswith("</answer>") and text.count("<answer>") == 1:
        return text[len("<answer>") : -len("</answer>")].strip()
    return text


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code; ``language`` in lower case, empty if there is none."""

    language: str
    code: str


_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^\s`{]*)[^`\n]*")
_ONE_LINE = re.compile(
    r"[ \t]*```(?:(?:sqlite|sql|regex|re|json|text|bash|sh|python) )?([^`\n]+)```[ \t.]*"
)


def fences(text: str) -> tuple[Fence, ...]:
    """The blocks of code in their order; one that is never closed runs to the end."""
    return tuple(part for part in _parts(text) if isinstance(part, Fence))


def fenced(text: str, *languages: str) -> tuple[str, ...]:
    """The code of the blocks in one of ``languages``, else of those without a language.

    All blocks where no languages are given.
    """
    found = fences(text)
    if not languages:
        return tuple(block.code for block in found)
    return tuple(b.code for b in found if b.language in languages) or tuple(
        b.code for b in found if not b.language
    )


def prose(text: str) -> str:
    """All but the blocks of code."""
    return "\n".join(part for part in _parts(text) if isinstance(part, str))


def _parts(text: str) -> Iterator[Fence | str]:
    """Lines of prose and whole blocks of code, in their order."""
    mark, language, inside = "", "", list[str]()
    for line in text.split("\n"):
        if mark:
            bare = line.strip()
            if len(bare) >= len(mark) and not bare.strip(mark[0]):
                yield Fence(language, "\n".join(inside))
                mark, inside = "", []
            else:
                inside.append(line)
        elif one := _ONE_LINE.fullmatch(line):
            yield Fence("", one[1].strip())
        elif opening := _FENCE.fullmatch(line):
            mark, language = opening[1], opening[2].lower()
        else:
            yield line
    if mark:
        yield Fence(language, "\n".join(inside))


_SENTENCE_END = re.compile(r"[.!?…]+[\"'”\u2019)\]*_`]{0,4}(?=\s|\Z)|[。\uff01\uff1f]+|\n")
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|mr|mrs|ms|dr|prof|st|jr|sr|inc|ltd|co|fig|ca"
    r"|excl|incl|u\.s|u\.k|a\.m|p\.m|ph\.d|jan|feb|aug|sept?|oct|nov|dec|gen|rev|hon)"
    r"|(?<!\w)[A-Z]|^\s{0,9}\(?\d{1,3})\.\Z",
    re.IGNORECASE,
)
_ALWAYS_GO_ON = re.compile(
    r"(?:e\.g|i\.e|vs|cf|approx|excl|incl|mr|mrs|ms|dr|prof)\.\Z", re.IGNORECASE
)
_FACTORIAL = re.compile(r"[\dn]! [^A-Z\s]")
_REACH = 12


def sentences(text: str) -> list[str]:
    """The sentences of plain text. A line's end ends one, an abbreviation's full stop does not."""
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        if _goes_on(text, start, end):
            continue
        found.append(text[start : end.end()])
        start = end.end()
    found.append(text[start:])
    return [one.strip() for one in found if any(map(str.isalnum, one))]


def _goes_on(text: str, start: int, mark: re.Match[str]) -> bool:
    end = mark.end()
    if mark[0] == "!":
        return bool(_FACTORIAL.match(text, end - 2))
    if mark[0].rstrip(")]") in ("...", "…") and text[end : end + 2].lstrip(" ")[:1].islower():
        return True
    before = text[max(start, end - _REACH) : end]
    if mark[0] != "." or not _ABBREVIATED.search(before):
        return False
    rest = text[end : end + _REACH].lstrip(" ")
    if not rest.strip() or rest[0] == "\n":
        return False
    numbering = before.strip(" .()").isdigit() and end - start <= _REACH
    initial = bool(re.search(r"(?<!\w)[A-Z]\.\Z", before)) and not before.endswith("I.")
    return numbering or initial or bool(_ALWAYS_GO_ON.search(before)) or not rest[0].isupper()


_GREETS = re.compile(
    r"\W{0,4}(?:sure|certainly|of course|absolutely|okay|ok|great|alright|no problem|gladly"
    r"|here(?:['\u2019]s| is| are| you| it is)|below (?:is|are)"
    r"|as (?:you )?requested|understood|got it|sorry|i apologi[sz]e|my apologies"
    r"|(?:good|excellent) question|thank(?:s| you))\b",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(
    r"\W{0,4}(?:the following|let me|i(?:['\u2019](?:ve|d|m|ll)| have| can| will| am| would))\b",
    re.IGNORECASE,
)
_OFFERS = re.compile(
    r"\W{0,4}(?:(?:just |please )?let me know|(?:i )?hope (?:this|that|it|you)"
    r"|(?:please )?feel free|would you like"
    r"|if you(?:['\u2019]d| would| need| want| have| prefer)|is there anything"
    r"|(?:i['\u2019]m |i am )?happy to|do you (?:want|need|have)|want me to|(?:shall|should) i\b"
    r"|anything else|enjoy\b|good luck)",
    re.IGNORECASE,
)
_REMARKS = re.compile(
    r"\W{0,4}(?:notes?(?: that)?:?\b|\(?word count|\(?total words"
    r"|\d{1,4} (?:words|characters|sentences|lines)\W{0,4}\Z|these (?:are|\w+ \w+ )"
    r"|this (?:list|table|json|answer|response|poem|text|csv|yaml)\b|i(?:['\u2019]ve| have)\b)",
    re.IGNORECASE,
)
_NODS = re.compile(
    r"\A\W{0,4}(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|no problem|gladly"
    r"|understood|got it|great(?: question)?|good question)[!.]+[*_]{0,3} +(?=\S)",
    re.IGNORECASE,
)
_RULE = re.compile(r"\s{0,9}(?:[-*_]\s{0,3}){3,}")
LONGEST_COURTESY = 40


def body(text: str) -> str:
    """Without the courtesies before ("Sure! Here is the list:") and after ("Let me know if ...").

    Only whole lines are taken for such, and a nod ("Sure thing!") before the text; a text of
    nothing else stays as it is.
    """
    lines = text.strip().split("\n")
    first, last = 0, len(lines)
    while first < last and _opens_with_courtesy(lines[first]):
        first += 1
    while last > first and _closes_with(lines, last - 1, _OFFERS, _REMARKS):
        last -= 1
    kept = "\n".join(lines[first:last]).strip("\n") if first < last else text.strip()
    return _NODS.sub("", kept, count=1)


def without_offers(text: str) -> str:
    """Without "Let me know if ..." and the like at the end, but with all that may say something."""
    lines = text.strip().split("\n")
    last = len(lines)
    while last > 0 and _closes_with(lines, last - 1, _OFFERS):
        last -= 1
    return "\n".join(lines[:last]) if last else text.strip()


def _opens_with_courtesy(line: str) -> bool:
    if not line.strip() or _RULE.fullmatch(line):
        return True
    bare = line.rstrip(" *_")
    if not _is_short(line):
        return False
    greets = bare.endswith((":", ".", "!")) and _GREETS.match(line)
    return bool(greets or (bare.endswith(":") and _ANNOUNCES.match(line)))


def _closes_with(lines: list[str], at: int, *kinds: re.Pattern[str]) -> bool:
    line = lines[at]
    if not line.strip() or _RULE.fullmatch(line):
        return True
    apart = at > 0 and not lines[at - 1].strip()
    return apart and _is_short(line) and any(kind.match(line) for kind in kinds)


def _is_short(line: str) -> bool:
    return len(line.split(None, LONGEST_COURTESY)) <= LONGEST_COURTESY
