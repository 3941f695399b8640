"""Does an answer's regular expression find what it should, and nothing else?

Decides which part of the answer is the expression. It is run ``apart``, since some expressions
never come to an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from smarterrouter.errors import Unavailable
from smarterrouter.profiling.checkers import apart, specs
from smarterrouter.profiling.checkers.reading import body, fences, prose
from smarterrouter.profiling.checkers.verdict import Verdict

LONGEST = 2_000
MOST_TRIED = 8


def check(spec: specs.Pattern, answer: str) -> Verdict:
    """1 if the expression finds all of ``matches`` and none of ``misses``."""
    tried = list(islice(dict.fromkeys(expressions(answer)), MOST_TRIED))
    if not tried:
        return Verdict(0.0, "the answer has no regular expression")
    task = {
        "expressions": tried,
        "whole": spec.whole,
        "matches": spec.matches,
        "misses": spec.misses,
    }
    try:
        ran = apart.run(_problems, task)
    except Unavailable as error:
        return Verdict(None, error.message)
    problems: list[str] = ran.found
    if "" in problems:
        return Verdict(1.0, f"{tried[problems.index('')][:80]} finds what it should")
    return Verdict(0.0, f"{tried[0][:80]}: {problems[0] if problems else ran.stopped}")


def _problems(task: Any) -> Iterator[str]:
    """Run apart: what is wrong with each expression, up to one with which nothing is."""
    import re

    for text in task["expressions"]:
        try:
            found = re.compile(text)
            find = found.fullmatch if task["whole"] else found.search
            missed = [one for one in task["matches"] if not find(one)]
            wrong = [one for one in task["misses"] if find(one)]
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            yield f"it is no regular expression: {error}"
            continue
        if not missed and not wrong:
            yield ""
            return
        yield f"it does not find {missed[0]!r}" if missed else f"it finds {wrong[0]!r}"


_LITERAL = re.compile(
    r"(?:\b(?P<raw>[rR][bBuU]?)|\b[uUbBfF])?(?:\"\"\"(?P<long>[^\n]{1,2000}?)\"\"\""
    r"|\"(?P<double>(?:[^\"\\\n]|\\.){1,2000}+)\"|'(?P<single>(?:[^'\\\n]|\\.){1,2000}+)')"
)
_SLASHED = re.compile(
    r"(?<![\w/:])/(?P<body>(?![/*])(?:[^/\\\n]|\\.){1,2000}+)/(?P<flags>[a-z]{0,6})(?!\w)"
)
_CODE = re.compile(
    r"\b(?:import re|re\.\w+\(|Regex|RegExp|preg_|Pattern\.compile|const |let |var "
    r"|pattern ?=|regex ?=)"
)
_SPAN = re.compile(r"(`{1,2})([^`\n]{1,2000})\1")
_META = re.compile(r"[\\^$.*+?()\[\]{}|]")
_LABEL = re.compile(
    r"(?i)\W{0,4}(?:(?:the |a |your )?(?:final )?(?:regex|pattern|answer|regular expression)"
    r"(?: is)?)\W{0,3}[:=]\s*"
)


def expressions(answer: str) -> Iterator[str]:
    """What may be the expression, the likeliest first.

    Of a fence, else of code in the line, else between slashes, else a line of its own.
    """
    found = [one for block in fences(answer) for one in _of_code(block.code)]
    if not found:
        found = [one for span in _SPAN.findall(prose(answer)) for one in _of_code(span[1])]
        found = [one for one in found if _META.search(one)]
        found.sort(key=len, reverse=True)
    if not found:
        found = [one for line in body(answer).split("\n")[:200] for one in _of_line(line)]
    yield from (one for one in found if len(one) <= LONGEST)


def _of_code(code: str) -> Iterator[str]:
    if _CODE.search(code):
        yield from _literals(code)
        return
    for line in code.strip().split("\n")[:50]:
        if line.strip() and not line.lstrip().startswith(("#", "//")):
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[str]:
    """The expression that the line is, without slashes or quotes around it."""
    bare = line.strip()
    if label := _LABEL.match(bare):
        bare = bare[label.end() :].strip()
    bare = bare.strip("`")
    if slashed := _SLASHED.fullmatch(bare):
        yield _flagged(slashed)
    elif literal := _LITERAL.fullmatch(bare):
        yield from _unquoted(literal)
    if _META.search(bare) or bare.isalnum():
        yield bare
    if not slashed and (inside := _SLASHED.search(bare)):
        yield _flagged(inside)


def _literals(code: str) -> Iterator[str]:
    for literal in islice(_LITERAL.finditer(code), MOST_TRIED):
        yield from (one for one in _unquoted(literal) if _META.search(one))
    for slashed in islice(_SLASHED.finditer(code), MOST_TRIED):
        yield _flagged(slashed)


def _unquoted(literal: re.Match[str]) -> Iterator[str]:
    text = literal["long"] or literal["double"] or literal["single"]
    if not literal["raw"] and "\\\\" in text:
        yield text.replace("\\\\", "\\")
    yield text


def _flagged(slashed: re.Match[str]) -> str:
    flags = "".join(flag for flag in slashed["flags"] if flag in "imsx")
    return f"(?{flags}){slashed['body']}" if flags else slashed["body"]
