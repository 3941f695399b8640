"""What a judge's answer says. Decides between A, B, a tie, and nonsense; never raises.

1. Reasoning goes: think blocks, channels other than the final one. Unfinished: there is no verdict.
2. Marked verdicts: JSON, ``[[A]]``, a boxed letter, "Verdict: B", a last line that is the verdict.
3. Else sentences: "Answer A is better", "I prefer the second", "they are equally good".
4. Else a line by itself that is a bare letter.

The first of 2 to 4 that finds anything decides, and only if all that it finds is one and the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from smarterrouter.profiling.judge.results import Preference

LONGEST_READ = 8000
"""Characters from the end of the answer: a verdict that stands further up was not the last word."""

_I = re.IGNORECASE


def _any(words: str) -> str:
    """A pattern for any of some words, which are parted by commas."""
    return f"(?:{'|'.join(words.split(', '))})"


_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,80}<\|message\|>")
_THOUGHT = _any("think, thinking, thought, reasoning, reflection")
_OPENS = re.compile(rf"<{_THOUGHT}>|\[THINK\]", _I)
_CLOSES = re.compile(rf"</{_THOUGHT}>|\[/THINK\]", _I)

_WRAPPERS = _any("text, textbf, textit, mathbf, mathrm, mathsf, boldsymbol, emph")
_WRAPPED = re.compile(rf"\\{_WRAPPERS}\b *")
_MARKUP = re.compile(r"[*`$#>]|\\[()\[\],;!]|<\|[^<>|]{0,40}\|>")
_PLAIN = str.maketrans(
    {"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "_": " ", "\\": " "}
)

_SAID = {
    "a": Preference.A,
    "first": Preference.A,
    "b": Preference.B,
    "second": Preference.B,
}
"""Whatever else the patterns below let through is a tie."""

_NOUN = _any("answer, response, assistant, option, candidate, reply")
_WORD = rf"(?P<said>{_any('A, B, first, second, tied?, draw, equal(?:ly good)?, both, neither')})\b"
_ARTICLE = r"(?:an? (?=tie|draw)|the )?"
_OR = r"(?![\"']? ?(?:[|/]|or\b))"
"""Not followed by a further choice: that is the question, repeated."""

_REASONS = _any("is, wins, by, over, because, since, as")
_ENDS = rf"(?= ?(?:$|[.,;:!)\]}}\"'\n\u2014\u2013-]|{_REASONS}\b))"
"""Not followed by what would make the A an article."""

_VALUE = rf"[ \"'(\[{{]*{_ARTICLE}(?:{_NOUN}[ -]?)?[\"']?{_WORD}{_OR}{_ENDS}"
_TITLE = _any("verdict, winner, preference, preferred, choice, decision, judge?ment, conclusion")
_LABEL = (
    rf"(?:\b{_TITLE}|(?:^|[{{,\"']) ?{_any('better, best, answer, result')}"
    rf"|\b{_any('better, best, winning, final')} {_any('one, answer, response')})"
    r"[\"']?(?: ?[:=]| is\b:?)"
)
_LABELLED = re.compile(_LABEL + _VALUE, _I | re.MULTILINE)
_BRACKETS = re.compile(rf"\[\[ ?(?:{_NOUN} )?(?P<said>A|B|C|tie|draw) ?\]\]", _I)
_BOXED = re.compile(rf"boxed ?\{{+ ?(?:{_NOUN} )?(?P<said>A|B|tie|draw) ?\}}", _I)
_ALONE = re.compile(rf"[ \"'(\[{{]*{_ARTICLE}(?:{_NOUN} )?{_WORD}[ .!\"')\]}}]*", _I)
_LETTER = re.compile(r"[ \"'(\[]*(?P<said>A|B|tie)[ .!\"')\]]*", _I)

_PLACE = rf"(?:[Tt]he )?(?P<place>[Ff]irst|[Ss]econd)(?: {_NOUN}| one)?"
_WHO = rf"\b(?:{_NOUN} (?P<letter>[AaBb])|(?P<bare>[AB])|{_PLACE})\b"
_HOW = _any(
    "the, a, much, slightly, clearly, far, somewhat, marginally, overall, therefore, thus, still, "
    "simply, significantly, definitely, just, also"
)
_GOOD = _any("better, best, stronger, strongest, superior, preferable, preferred, winner")
_IS = rf"{_any('is, was, seems, appears, looks')}(?: to be)?"
_IS_BETTER = re.compile(rf"{_WHO} (?:wins\b|{_IS} (?:{_HOW} )*{_GOOD}\b)")
_VERBS = _any("prefer, pick, choose, favou?r, go with, vote for, select")
_PREFERRED = re.compile(rf"\b(?i:{_VERBS}) (?:the )?{_WHO}")
_TIED = re.compile(
    rf"\bequally {_any('good, bad, well, strong, helpful, useful')}\b"
    rf"|\bneither (?:{_any('one, answer, response')} )?{_any('is, wins')}\b|\bneither A nor B\b"
    rf"|\b{_any('is, call it, declare')} a {_any('tie, draw')}\b|'s a {_any('tie, draw')}\b"
    rf"|\bare {_any('tied, equal')}\b|\bno clear {_any('winner, preference')}\b",
    _I,
)
_CLAUSES = re.compile(rf"[.,;:!?\n]|\b{_any('so, but, because, since, while, although, though')}\b")
_DENIED = re.compile(r"n't\b|\bnot\b|\bif\b", _I)
_OPEN = re.compile(
    rf"n't\b|\b{_any('not, if, whether, would, could, cannot, nor, unless, might')}\b", _I
)
"""What makes a clause say less than it seems to."""


def verdict(text: str) -> Preference | None:
    """The preference that a judge's answer states, or ``None`` for nonsense and contradictions."""
    plain = _plain(_last_word(text))
    for finds in (_marked, _sentences, _letters):
        if found := set(finds(plain)):
            return found.pop() if len(found) == 1 else None
    return None


def _last_word(text: str) -> str:
    """The answer without its reasoning; empty when that did not come to an end."""
    channels = list(_CHANNEL.finditer(text))
    if channels:
        text = text[channels[-1].end() :] if channels[-1][1] == "final" else ""
    closings = list(_CLOSES.finditer(text))
    if closings:
        text = text[closings[-1].end() :]
    if opening := _OPENS.search(text):
        text = text[: opening.start()]
    return text[-LONGEST_READ:]


def _plain(text: str) -> str:
    """Without emphasis, LaTeX wrappers and runs of blanks."""
    text = _MARKUP.sub("", _WRAPPED.sub("", text)).translate(_PLAIN)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _marked(text: str) -> Iterator[Preference]:
    for pattern in (_BRACKETS, _BOXED, _LABELLED):
        yield from _meant(match["said"] for match in pattern.finditer(text))
    last = text.rpartition("\n")[2]
    if alone := _ALONE.fullmatch(last):
        yield from _meant([alone["said"]])


def _sentences(text: str) -> Iterator[Preference]:
    for clause in _CLAUSES.split(text):
        if _TIED.search(clause):
            if not _DENIED.search(clause):
                yield Preference.TIE
        elif not _OPEN.search(clause):
            for pattern in (_IS_BETTER, _PREFERRED):
                for match in pattern.finditer(clause):
                    yield from _meant([match["letter"] or match["bare"] or match["place"]])


def _letters(text: str) -> Iterator[Preference]:
    for line in text.split("\n"):
        if alone := _LETTER.fullmatch(line):
            yield from _meant([alone["said"]])


def _meant(words: Iterable[str]) -> Iterator[Preference]:
    for word in words:
        yield _SAID.get(word.lower(), Preference.TIE)
