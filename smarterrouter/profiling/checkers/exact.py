"""Does an answer come down to one of the right answers, and to none of their rivals?

Decides what counts as the same answer (case, accents, punctuation, articles and the spaces of code
do not matter), and which one is meant where several are named: the one that stands in the most
conclusive part, what is denied not counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.conclusion import (
    asserted,
    closing,
    declared,
    implied,
    is_bold,
    main_clause,
    since_correction,
)
from smarterrouter.profiling.checkers.plain import plain, without_latex
from smarterrouter.profiling.checkers.reading import sentences
from smarterrouter.profiling.checkers.verdict import Verdict

MOST_PARTS = 80
FEW_WORDS = 6


def check(spec: specs.Exact, answer: str) -> Verdict:
    """1 if the answer's conclusion names one of the answers and no rival."""
    names = Names(spec.answers, spec.rivals)
    whole = folded(plain(answer))
    right = names.right(whole)
    if not right:
        wrong = names.wrong(whole)
        said = f"it says {wrong[0]}" if wrong else "it names none of the answers"
        return Verdict(0.0, f"{said}, not {spec.answers[0] if spec.answers else 'anything'}")
    if declares_another(answer, names):
        return Verdict(0.0, f"it names {right[0]}, but comes to something else")
    if not names.wrong(whole):
        kept = folded(asserted(plain(answer)))
        denied = not names.right(kept) and not _hedges_nothing(right)
        return Verdict(0.0, f"it denies {right[0]}") if denied else _says(right)
    for part in _parts(answer, names):
        meant = names.meant(part)
        if meant is not None:
            return _says(right) if meant else Verdict(0.0, "it comes to one of the wrong answers")
    return Verdict(0.0, f"it names {right[0]}, but a wrong answer as well")


def _says(right: list[str]) -> Verdict:
    return Verdict(1.0, f"it says {right[0]}")


def _hedges_nothing(right: list[str]) -> bool:
    """An answer that is itself a denial is not denied by its own "not"."""
    return any(
        re.search(r"\b(?:not|no|never|cannot|isn't|without)\b", one.lower()) for one in right
    )


def _parts(answer: str, names: Names) -> Iterator[str]:
    """What the model calls its answer, how it ends and begins, then the rest of the conclusions.

    What corrects the answer comes before all of that.
    """
    *later, _ = since_correction(answer)
    for source in later:
        yield from declared(source)
        yield from implied(source)
    yield from declared(answer)
    yield from _ends(answer, names)
    for _, part in zip(range(MOST_PARTS), implied(answer), strict=False):
        yield part


def _ends(answer: str, names: Names) -> Iterator[str]:
    """How it ends, if that is put as a conclusion, and how it begins, if not with a thought.

    A beginning that is put as the answer itself comes before an end that is not in bold.
    """
    opening = next(iter(sentences(without_latex(answer))), "")
    begins = not (_thinks_aloud(opening, names) or _LABELS.match(plain(answer)))
    stands = begins and _is_put_as_answer(opening, names)
    for one in closing(_up_to_the_last_name(answer, names)):
        if is_bold(one) or not stands:
            yield plain(one)
    if begins:
        yield plain(opening)


_AT_FIRST = re.compile(
    r"\b(?:at first|first (?:thought|glance|guess|impression|look|idea)|might|seems?|looks? like"
    r"|tempting|obvious(?:ly)?|naive(?:ly)?|intuitive(?:ly)?|initial(?:ly)?)\b"
    r"|^\W{0,3}(?:let's|let us|let me|suppose|assume|assuming|if)\b",
    re.IGNORECASE,
)
_LABELS = re.compile(r"\s{0,9}[^:\n]{1,40}: [^\n]{1,80}\n[^:\n]{1,40}: ")


def _thinks_aloud(opening: str, names: Names) -> bool:
    """It asks, lists steps, weighs several wrong answers, or says that it is a first thought."""
    said = plain(opening)
    weighs = len(names.wrong(folded(said))) > 1
    return bool(weighs or said.endswith("?") or _ITEM.match(opening) or _AT_FIRST.search(said))


def _is_put_as_answer(opening: str, names: Names) -> bool:
    """Something in it is bold, or it is but a name, or begins with one, as "Yes, it is" does."""
    said = folded(plain(opening))
    named = [*names.right(said), *names.wrong(said)]
    words = max((len(one.split()) for one in named), default=0)
    few = len(said.split()) <= words + 1
    return bool(named) and (few or is_bold(opening) or names.leads(said) is not None)


def _up_to_the_last_name(answer: str, names: Names) -> str:
    """Without paragraphs at the end that name neither a right nor a wrong answer."""
    blocks = answer.split("\n\n")
    while len(blocks) > 1 and not names.any(folded(plain(blocks[-1]))):
        blocks.pop()
    return "\n\n".join(blocks)


def declares_another(answer: str, names: Names) -> bool:
    """Whether what the model itself calls its answer is short and none of the right ones.

    The first line of a right answer of several lines is none of another.
    """
    named = [folded(one) for one in declared(answer)]
    if not named or len(named[0].split()) > FEW_WORDS or not re.search(r"\w", named[0]):
        return False
    whole = [folded(plain(one)) for one in names.answers]
    begun = any(one.startswith(named[0].rstrip(" .:")) for one in whole)
    return not begun and not any(names.right(one) for one in named)


_SET_OFF = r"(?=[\"')\]]{0,2}(?:\Z|[.,;:!]|\s\(|\s-\s(?!\d)|\s(?:because|since|as|for|not)\b))"
_AFTER = re.compile(r"[,;]\s(?:so|thus|hence|therefore)\b|[=→⇒]|->", re.IGNORECASE)
_NOT_GLOSSED = re.compile(r"\bnot\b[^()\n.;,]{1,40}\([^()\n]{1,40}\)", re.IGNORECASE)
_IN_BRACKETS = re.compile(
    r"\s\((?!(?:or|and|so|thus|hence|therefore|maybe|perhaps|possibly|it)\b)[^()\n]{1,200}\)", re.I
)
_WHICH = re.compile(r",\swhich\b[^.;\n]{0,200}", re.IGNORECASE)


class Names:
    """The right answers and the wrong ones, as they are looked for in a folded text."""

    def __init__(self, answers: Iterable[str], rivals: Iterable[str]) -> None:
        self.answers = list(answers)
        self.rivals = [one for one in rivals if one not in self.answers]

    def right(self, text: str) -> list[str]:
        """The right answers that the text names, but for those within a longer rival."""
        return self._named(text, self.answers, self.rivals)

    def wrong(self, text: str) -> list[str]:
        """The rivals that the text names, but for those within a longer right answer."""
        return self._named(text, self.rivals, self.answers)

    def any(self, text: str) -> bool:
        """Whether the text names any of them."""
        return bool(self.right(text) or self.wrong(text))

    def meant(self, part: str) -> bool | None:
        """Whether this part means a right answer; ``None`` where it names none, or both sorts."""
        unlike = asserted(_NOT_GLOSSED.sub(" ", part))
        main = main_clause(part)
        for said in (part, asserted(part), unlike, main, _IN_BRACKETS.sub(" ", main)):
            meant = self._only(said)
            if meant is not None:
                return meant if said is not part else self._unless_denied(part, meant)
        text = folded(part)
        leading = self.leads(text)
        if leading is not None:
            return leading
        return self._only(_WHICH.sub(" ", _AFTER.split(asserted(part))[-1]))

    def _only(self, said: str) -> bool | None:
        text = folded(said)
        right, wrong = self.right(text), self.wrong(text)
        return bool(right) if bool(right) != bool(wrong) else None

    def _unless_denied(self, part: str, right: bool) -> bool | None:
        kept = folded(asserted(part))
        if self.any(kept) or _hedges_nothing([*self.answers, *self.rivals]):
            return right
        return None

    def leads(self, text: str) -> bool | None:
        """Whether the folded text begins with a right answer, set off from what follows it.

        ``None`` if it begins with none at all.
        """
        for right, names in ((True, self.answers), (False, self.rivals)):
            if any(
                (p := pattern(one)) and re.match(rf"\W{{0,3}}(?:{p}){_SET_OFF}", text)
                for one in names
            ):
                return right
        return None

    @staticmethod
    def _named(text: str, names: Iterable[str], others: Iterable[str]) -> list[str]:
        found = []
        for name in names:
            rest = text
            for other in others:
                if len(other) > len(name) and occurs(name, folded(plain(other))):
                    rest = re.sub(pattern(other) or r"(?!)", " ~ ", rest)
            if occurs(name, rest):
                found.append(name)
        return found


def occurs(name: str, text: str) -> bool:
    """Whether the folded text names this answer, as a word or words of its own."""
    wanted = pattern(name)
    return bool(wanted and re.search(wanted, text))


_ITEM = re.compile(r"(?m)^[ \t]{0,9}(?:[-*•\u2013+]|\(?\d{1,3}[.)])[ \t]+(?=\S)")
_SPACES = re.compile(r"\s+")
_SUPERSCRIPT = str.maketrans(
    {"²": "^2", "³": "^3", "·": "*", "\u00d7": "*", "\u2013": "-", "—": " - "}
)


def folded(text: str) -> str:
    """Plain text without case, accents, marks of lists and needless spaces."""
    text = _ITEM.sub("", text.translate(_SUPERSCRIPT))
    letters = unicodedata.normalize("NFKD", text.casefold())
    return _SPACES.sub(" ", "".join(c for c in letters if not unicodedata.combining(c))).strip()


_TOKEN = re.compile(r"\d+(?:[.,]\d+)*[^\W_]*|[^\W_]+(?:'[^\W_]+)*|_|[^\w\s]")
_ARTICLES = {"the", "a", "an"}
_PROSE = set(".,;:!?'\"()- ")
_JOIN = r"[^\w]{1,4}(?:(?:the|an?|and)\W{1,3})?"


@lru_cache(maxsize=512)
def pattern(name: str) -> str | None:
    """What finds the answer in a folded text: by words, or character by character for code."""
    text = folded(plain(name)) or folded(name)
    prose = all(c.isalnum() or c in _PROSE for c in text)
    inner = text.strip(" .,;:!?\"'")
    if prose and inner and not re.match(r"-\d", inner) and "(" not in inner:
        tokens = [t for t in _TOKEN.findall(inner) if t[0].isalnum()]
        words = [t for t in tokens if t not in _ARTICLES] or tokens
        return _bounded(_JOIN.join(map(re.escape, words)), words) if words else None
    tight = text.replace(" ", "").replace("*", "")
    signs = [("['\"]" if c in "'\"" else re.escape(c)) for c in tight] or [re.escape(text)]
    return _bounded(r"[ *]{0,3}".join(signs), [tight or text]) if tight or text else None


def _bounded(wanted: str, words: list[str]) -> str:
    before = r"(?<!\w)" if words[0][0].isalnum() else ""
    if words[0][0].isdigit():
        before += r"(?<!\d[.,])(?<![-\d]-)(?<!^-)(?<![ =(]-)"
    after = r"(?!\w|\+\+|#)" if words[-1][-1].isalnum() else ""
    if words[-1][-1].isdigit():
        after += r"(?![.,]\d)"
    return before + wanted + after
