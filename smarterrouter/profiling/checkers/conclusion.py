"""Which part of an answer is its conclusion: what reasoning before it says does not count.

Decides the order in which a checker is to look at the parts: it takes the first one that has
something of its kind in it (a number, a letter, one of the answers). Does not decide what that is.

1. What the model itself calls its answer: a box, an ``<answer>`` tag, ``####``, "the answer is".
   The last of them comes first, for a model that corrects itself says so later.
2. The last line, if it is but a few words.
3. What is bold in the last paragraph.
4. A sentence of the last paragraph that begins with "so", "therefore", "in total".
5. The first line if it is but a few words, then what is bold in the first paragraph: answers that
   are given first and explained later. Then what a paragraph in between sets in bold at its end, if
   there is nothing bold in the last one.
6. A number that all begins with ("27 kg. 45 kg are sold."), if no ", so ..." comes after it.
7. The last sentences, from the end. Where a part is headed "Explanation", those before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from smarterrouter.profiling.checkers.number_words import WORD
from smarterrouter.profiling.checkers.plain import boxed, plain, without_latex
from smarterrouter.profiling.checkers.reading import prose, sentences, without_offers

FEW_WORDS = 4
LAST_SENTENCES = 30

_TAGGED = re.compile(r"<answer>([^<]{1,2000})</answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?m)^[ \t]{0,3}####[ \t]*(?!\d{1,2}[.):] )([-$€£]?\d[^\n]{0,40})$")
_TEMPTING = "".join(
    rf"(?<!\b{one} )"
    for one in ("obvious", "naive", "tempting", "intuitive", "initial", "first", "wrong", "common")
)
_NAMED = re.compile(
    rf"(?:{_TEMPTING}\b(?:answer|(?<!in )conclusion"
    r"|(?:correct|right|best|final) (?:option|choice|result|value|solution|output))\b"
    r"(?:[^.\n:=?!]{0,60}?(?:\b(?:is|are|would be|should be|must be|will be)\b"
    r"(?! (?:wrong|incorrect))|[:=→⇒]|->| [-\u2013—] )|[ \t]{0,9}(?=\n))"
    r"|\b(?:i(?:'d| would)? (?:choose|pick|select|go with|going with))\b|\bans(?:wer)?\.?[:=])"
    r"[ \t:*_]{0,9}",
    re.IGNORECASE,
)
_WORKING = re.compile(
    r"\W{0,4}(?:to (?:find|solve|get|answer|determine|calculate|work)"
    r"|let(?:'s| us| me)?\b|we\b|first|step\b|given|if\b|since|using|start"
    r"|here|this (?:is|problem)|there (?:is|are)|not\b"
    r"|(?:the|as) follow)",
    re.IGNORECASE,
)
_THEREFORE = re.compile(
    r"\W{0,4}(?:so\b|therefore|thus|hence|in total|altogether|finally|(?:in )?conclusion"
    r"|consequently|overall|which means|this means|that means|as a result|in summary|to sum up"
    r"|(?:it|this|that) (?:must have been|can only (?:be|have been))\b"
    r"|donc|daher|deshalb|folglich|por (?:lo )?tanto|así que|∴|⇒)",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"(?:^|(?<=[.!?\n])\s{0,3})[\W_]{0,3}(?:wait|hold on|hmm|correction|scratch that|actually"
    r"|oops|let me (?:re-?check|re-?calculate|re-?do|correct|fix)|i made (?:a|an) (?:mistake|error)"
    r"|that(?:'s| is) (?:wrong|not right|incorrect)|(?:sorry|apologies)[ ,]{1,2})",
    re.IGNORECASE,
)
_CONFIRMS = re.compile(
    r"\b(?:yes|right|correct|confirmed|checks out|as before|matches)\b(?! (?:answer|option))", re.I
)
_EXPLAINS = re.compile(
    r"(?m)^[\W_]{0,6}(?:explanation|breakdown|reasoning|verification|verify|check|proof|why|notes?"
    r"|probe|kontrolle|begründung|erklärung|explication|vérification|for (?:reference|comparison)"
    r"|here'?s (?:how|why|the (?:breakdown|reasoning|explanation|work(?:ing)?))"
    r"|(?:step[- ]by[- ]step )?(?:breakdown|explanation)|because|this is because)\b[^\n]{0,80}$",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*(?!\s{0,3}:)|<(?:b|strong)>([^<\n]{1,200})</")
_LISTED = re.compile(r"\s{0,20}(?:[-*•\u2013]|\(?\d{1,3}[.)])\s")


def final(text: str) -> str:
    """The most conclusive part of the answer, without marks; empty if it says nothing."""
    return next(conclusions(text), "")


def conclusions(text: str) -> Iterator[str]:
    """The parts in which the conclusion may stand, the most likely one first, without marks."""
    for source in since_correction(text):
        yield from declared(source)
        yield from implied(source)


def since_correction(text: str) -> Iterator[str]:
    """What follows the last "wait, ..." unless that only confirms what was said; then all."""
    corrections = list(_CORRECTS.finditer(text))
    if corrections and corrections[-1].start() > 0:
        later = text[corrections[-1].end() :]
        if not _CONFIRMS.search(later):
            yield later
    yield text


def declared(text: str) -> Iterator[str]:
    """What the model itself calls its answer (1 of the module's list)."""
    if (box := boxed(text)) is not None:
        yield plain(box).strip()
    if tagged := [*_TAGGED.findall(text), *_HASHES.findall(text)]:
        yield plain(tagged[-1]).strip()
    yield from _named(plain(text))


def _named(text: str) -> Iterator[str]:
    ends = [found.end() for found in _NAMED.finditer(text)]
    for end in reversed(ends[-LAST_SENTENCES:]):
        rest = text[end : end + 1000].lstrip()
        said = sentences(rest)[:1]
        if said and not _WORKING.match(said[0]):
            yield said[0]


def implied(text: str) -> Iterator[str]:
    """Where a conclusion stands that is not called so (2 to 7 of the module's list)."""
    for spoken in _spoken(text):
        yield from _ranked(spoken)


def closing(text: str) -> Iterator[str]:
    """Sentences of the last paragraph that conclude, with their marks, the last one first.

    Those begin with "so" or "therefore"; else it is the last one, if something in it is bold. What
    is headed "Explanation" does not count.
    """
    for block in _blocks(next(_spoken(text)))[-1:]:
        said = sentences(block)[-LAST_SENTENCES:]
        yield from (one for one in reversed(said) if _THEREFORE.match(one))
        yield from (one for one in said[-1:] if is_bold(one))


def is_bold(sentence: str) -> bool:
    """Whether something in it is, a heading apart."""
    return bool(_BOLD.search(sentence))


def _spoken(text: str) -> Iterator[str]:
    """What is said before an explanation that has a heading; then all, code apart."""
    spoken = without_latex(without_offers(prose(text)) or text)
    explained = _EXPLAINS.search(spoken)
    if explained and (before := spoken[: explained.start()]).strip():
        yield before
    yield spoken


def _blocks(spoken: str) -> list[str]:
    return [block.strip() for block in spoken.split("\n\n") if block.strip(" \n*_-#")]


def _ranked(spoken: str) -> Iterator[str]:
    blocks = _blocks(spoken)
    if not blocks:
        return
    first, last = blocks[0], blocks[-1]
    yield from _few_words(last.rpartition("\n")[2])
    yield from _bold(last)
    said = sentences(plain(last))[-LAST_SENTENCES:]
    yield from (one for one in reversed(said) if _THEREFORE.match(one))
    if len(blocks) > 1 and not first.startswith("#"):
        yield from _few_words(first.partition("\n")[0])
        yield from _bold(first)
    yield from _set_in_bold(blocks)
    yield from _opening(plain(spoken[:20_000]))
    said = sentences(plain(spoken[-20_000:]))[-LAST_SENTENCES:]
    said.sort(key=_is_in_brackets, reverse=True)
    yield from reversed(said)


def _is_in_brackets(sentence: str) -> bool:
    """Whether all of it is a remark in brackets, and none so short that it may be the answer."""
    few = len(sentence.split(None, FEW_WORDS)) <= FEW_WORDS
    return sentence.startswith("(") and sentence.endswith(")") and not few


def _few_words(line: str) -> Iterator[str]:
    said = plain(line).strip()
    if said and len(said) < 200 and len(said.split()) <= FEW_WORDS and not _LISTED.match(line):
        yield said


def _bold(block: str) -> Iterator[str]:
    """The one bold passage; where there are several, the last sentence that has some."""
    spans = [span for span in (a or b for a, b in _BOLD.findall(block)) if span.strip(" :") == span]
    if len(spans) == 1:
        yield plain(spans[0]).strip()
    elif spans:
        said = [one for one in block.split("\n") if "**" in one or "</" in one]
        yield from reversed(sentences(plain(said[-1]))[-LAST_SENTENCES:])


_CONTINUES = re.compile(
    r"\W{0,4}(?:but|however|yet|still|unfortunately|although|though|then|next|now|after"
    r"|second(?:ly)?|third(?:ly)?|finally|step|\d{1,2}[.)])(?!\w)",
    re.IGNORECASE,
)
_BOLD_AT_THE_END = re.compile(
    r"(?m)^(?!\s{0,20}(?:[-*•\u2013]|\(?\d{1,3}[.)])\s)(?:[^*\n]{0,300}[^*\n ] "
    r"(?:\*\*([^*\n]{1,200})\*\*(?: [^\W\d]{1,20}){0,3}[.!]?|(?<=\bis )\*\*([^*\n]{1,200})\*\*:)"
    r"|\*\*([^*\n]{1,200}[.!])\*\*)(?=\s*$|\s[^\w\n]|\s[A-Z][^*\n]{1,80}$)"
)


def _set_in_bold(blocks: list[str]) -> Iterator[str]:
    """With what a paragraph before the last one ends in bold; a heading or a list's item is none.

    Of no weight if the last one has something bold or an equation, objects to what was said, or
    goes on.
    """
    if re.search(r"\*\*|=", blocks[-1]) or _CONTINUES.match(blocks[-1]):
        return
    for block in reversed(blocks[:-1]):
        found = list(_BOLD_AT_THE_END.finditer(block))
        if found:
            yield plain(found[-1][1] or found[-1][2] or found[-1][3]).strip()
            return


_NUMBER = rf"[-$€£]{{0,2}}\d[\d.,/ ]{{0,30}}(?<=\d)%?|(?:{WORD})(?:[ -](?:{WORD})){{0,6}}(?!\w)"
_OPENS = re.compile(
    r"\s{0,3}(?:(?:on average|about|approximately|approx\.?|ca\.|exactly|at (?:least|most))\s)?"
    rf"((?:{_NUMBER})(?:\s?(?!(?:each|apiece)\b)[^\W\d_]{{1,20}}|\s?[€$£°]){{0,3}}?)"
    r"(?:(?<=[^\W\d_]) (?:of|à|von) \d[\w.,]{0,12} \w{1,12})?\s?"
    r"(?:\.(?!\d)|:(?![\d=]|[^=\n]{0,200}=)|\([^()\n]{1,200}\)\s?(?:[.!\n]|\Z)"
    r"|[\n]|\Z)",
    re.IGNORECASE,
)
_GOES_ON_TO = re.compile(
    r"(?:[,;]\s+(?:so|thus|hence|therefore)"
    r"|[.!)\n]\s{0,3}(?:that|this|it) (?:makes|gives|leaves))\b[^.;\n]{0,60}\d",
    re.IGNORECASE,
)
_ITEMS = re.compile(r"(?m)^\W{0,3}(\d{1,3})(?:[.)]|[^:.\n]{0,20}:)\s")


def _opening(spoken: str) -> Iterator[str]:
    """The number that all begins with, and its unit, where that is neither a step nor an item."""
    found = _OPENS.match(spoken)
    if found and not _begins_a_list(spoken) and not _GOES_ON_TO.search(spoken, found.end(1)):
        yield found[1].strip()


def _begins_a_list(spoken: str) -> bool:
    """ "1. First" does, "14. Without it ..." only if another line begins with a number as well."""
    first = _ITEMS.match(spoken)
    return bool(first and (first[1] == "1" or len(_ITEMS.findall(spoken)) > 1))


_SET_ASIDE = re.compile(
    r"(?:,|;|-|\u2013|—|\()?\s{0,3}\b(?:(?:and |but |is |are |was |it's )?not(?! only)\b"
    r"(?: (?:the|a|an))?|isn't|aren't|wasn't|rather than|instead of|unlike"
    r"|as opposed to|contrary to|except)\b"
    r"(?:(?! but | it's | rather |\s?(?:->|=>|→|⇒))[^,.;:!?()\n]){1,80}(?:[,)](?! ?\d))?",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"(?<![\w])(?:,\s{0,3})?\b(?:because|since|although|though|while|whereas|even though|despite"
    r"|given that|as (?:there|it|this|that|the|each)\b|when|where|if|considering"
    r"|(?:many|some|most|others?|people|you|one)\b[^,.;\n]{0,30}"
    r"\b(?:think|believe|say|guess|assume))\b"
    r"(?:[^,.;!?()\n]|\([^()\n]{0,99}\)){1,200}",
    re.IGNORECASE,
)
_DANGLING = re.compile(r"\b(?:but|and|or|yet)\W{0,9}\Z", re.IGNORECASE)


def asserted(sentence: str) -> str:
    """Without what the sentence denies: "391, not 381" is "391"."""
    return _SET_ASIDE.sub(" ", sentence).strip()


def main_clause(sentence: str) -> str:
    """Without reasons and conditions, too: "45, since there are 3" is "45".

    With them where it would end in "but": "3, but as some is lost you need 4" has no end to part.
    """
    kept = _ASIDE.sub(" ", asserted(sentence)).strip(" ,;")
    return asserted(sentence) if _DANGLING.search(kept) else kept
