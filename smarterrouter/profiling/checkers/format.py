"""Has an answer the form that was asked for?

Decides which part of the answer the rules are about, and whether each holds. A rule may hold for
the answer as it stands, without the courtesies around it, or without a title above it: how a model
greets is its own style. What an answer may not have (``lacks``), it may have nowhere.

Where there is a code fence, it is the answer; not where it is but a small part of it, unless the
rule is about something that belongs into one (CSV, YAML).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from smarterrouter.profiling.checkers import counting, specs
from smarterrouter.profiling.checkers.plain import plain
from smarterrouter.profiling.checkers.reading import body, fences, prose
from smarterrouter.profiling.checkers.verdict import Verdict

FLAGS = re.IGNORECASE | re.MULTILINE
_PAPER = {"", "text", "txt", "plaintext", "plain", "markdown", "md", "csv", "yaml", "yml"}


def check(spec: specs.Format, answer: str) -> Verdict:
    """1 if every rule holds; ``why`` names the first that does not.

    ``None`` if a pattern of the task is no regular expression.
    """
    try:
        broken = next(filter(None, (_broken(rule, answer) for rule in spec.rules)), None)
    except re.error as error:
        return Verdict(None, f"a pattern of the task cannot be used: {error}")
    if broken:
        return Verdict(0.0, broken)
    return Verdict(1.0, "every rule of form holds")


def _broken(rule: specs.Rule, answer: str) -> str | None:
    """How the answer breaks the rule; ``None`` if it does not."""
    for name in rule.__struct_fields__:
        wanted = getattr(rule, name)
        if wanted is not None and (problem := _RULES[name](wanted, answer)):
            return problem
    return None


def readings(answer: str) -> tuple[str, ...]:
    """What may be taken for the product that was asked for, the likeliest first."""
    product = _product(answer)
    bare = body(product)
    kept = bare.split("\n")
    while kept and (not kept[0].strip() or counting.is_heading(kept[0])):
        kept.pop(0)
    untitled = "\n".join(kept) if kept else bare
    return tuple(dict.fromkeys((bare, untitled, product)))


def _product(answer: str) -> str:
    blocks = fences(answer)
    if not blocks:
        return answer.strip()
    around = "\n".join((body(prose(answer)) or "").split())
    if len(blocks) == 1 and (blocks[0].language in _PAPER or len(blocks[0].code) >= len(around)):
        return blocks[0].code.strip("\n")
    return answer.strip()


def _code(answer: str, *languages: str) -> str:
    """What belongs into a fence, whether it stands in one or not."""
    blocks = fences(answer)
    named = [b.code for b in blocks if b.language in languages] or [b.code for b in blocks]
    return named[0].strip("\n") if named else body(answer)


def _within(counts: Sequence[int], wanted: tuple[int, int], noun: str) -> str | None:
    if any(wanted[0] <= count <= wanted[1] for count in counts):
        return None
    least, most = wanted
    asked = str(least) if least == most else f"{least} to {most}"
    return f"it has {counts[0]} {noun}, not {asked}"


def _counted(noun: str, count: Callable[[str], int | tuple[int, ...]]) -> Callable[..., str | None]:
    def problem(wanted: tuple[int, int], answer: str) -> str | None:
        counts: list[int] = []
        for text in readings(answer):
            counted = count(text)
            counts += counted if isinstance(counted, tuple) else (counted,)
        return _within(counts, wanted, noun)

    return problem


def _characters(text: str) -> tuple[int, ...]:
    return (len(text.strip()), len(plain(text).strip()))


def _has(pattern: str, answer: str) -> str | None:
    if re.compile(pattern, FLAGS).search(answer) or re.search(pattern, plain(answer), FLAGS):
        return None
    return f"it has nothing like {pattern}"


def _lacks(pattern: str, answer: str) -> str | None:
    seen = re.search(pattern, answer, FLAGS) or re.search(pattern, plain(answer), FLAGS)
    return f"it has {seen[0][:60]!r}, which it should not" if seen else None


_EDGE = r"[\s\"'“”\u2018\u2019*_`.,!>]*"
_LEADING = " \t\n\"'“”\u2018\u2019*_`>#"


def _starts(pattern: str, answer: str) -> str | None:
    wanted = re.compile(pattern, FLAGS)
    for text in readings(answer):
        if any(wanted.match(t) for t in (text, text.lstrip(_LEADING), plain(text).lstrip())):
            return None
    return f"it does not start with {pattern}"


def _ends(pattern: str, answer: str) -> str | None:
    re.compile(pattern)
    wanted = re.compile(rf"(?:{pattern}){_EDGE}\Z", FLAGS)
    for text in readings(answer):
        tails = (text.rstrip(), plain(text).rstrip())
        if any(wanted.search(tail, max(0, len(tail) - _TAIL)) for tail in tails):
            return None
    return f"it does not end with {pattern}"


_TAIL = 2_000


def _every_line(pattern: str, answer: str) -> str | None:
    wanted = re.compile(pattern, FLAGS)
    first: str | None = None
    for text in readings(answer):
        odd = next((line for line in counting.lines(text) if not _fits(wanted, line)), None)
        if odd is None and counting.lines(text):
            return None
        first = first or odd
    return f"the line {(first or '')[:60]!r} is not like {pattern}"


def _fits(wanted: re.Pattern[str], line: str) -> bool:
    forms = (line, line.strip(), plain(line).strip(), counting.unmarked(line))
    return any(wanted.search(form) for form in forms)


_CASES: dict[str, Callable[[str], bool]] = {
    "upper": lambda text: text.isupper(),
    "lower": lambda text: text.islower(),
    "title": counting.is_titled,
}


def _case(wanted: str, answer: str) -> str | None:
    if any(_CASES[wanted](text) for text in readings(answer)):
        return None
    return f"it is not in {wanted} case"


def _table(wanted: tuple[int, int], answer: str) -> str | None:
    found = counting.tables(answer)
    if wanted in found:
        return None
    if not found:
        return "it has no Markdown table"
    rows, columns = found[0]
    across = "uneven" if columns is None else str(columns)
    return f"its table has {rows} rows and {across} columns, not {wanted[0]} and {wanted[1]}"


def _csv(wanted: tuple[int, int], answer: str) -> str | None:
    widths = counting.csv_widths(_code(answer, "csv"))
    if widths is None:
        return "it is not CSV"
    if len(widths) != wanted[0]:
        return f"it has {len(widths)} lines of CSV, not {wanted[0]}"
    if odd := [width for width in widths if width != wanted[1]]:
        return f"a line has {odd[0]} fields, not {wanted[1]}"
    return None


def _yaml_keys(wanted: list[str], answer: str) -> str | None:
    keys = counting.yaml_keys(_code(answer, "yaml", "yml"))
    if keys is None:
        return "it is not YAML with keys at its outermost level"
    lacking = [key for key in wanted if key not in keys]
    return f"it has no key {lacking[0]}" if lacking else None


def _in_order(patterns: list[str], answer: str) -> str | None:
    problem: str | None = None
    for text in (answer, plain(answer)):
        at = 0
        for pattern in patterns:
            found = re.compile(pattern, FLAGS).search(text, at)
            if not found:
                problem = f"{pattern} is not found, or not in its place"
                break
            at = found.end()
        else:
            return None
    return problem


_RULES: dict[str, Callable[..., str | None]] = {
    "words": _counted("words", counting.words),
    "lines": _counted("lines", lambda text: len(counting.lines(text))),
    "sentences": _counted("sentences", counting.sentences),
    "paragraphs": _counted("paragraphs", counting.paragraphs),
    "bullets": _counted("bullets", counting.bullets),
    "numbered": _counted("numbered entries", counting.numbered),
    "characters": _counted("characters", _characters),
    "has": _has,
    "lacks": _lacks,
    "starts": _starts,
    "ends": _ends,
    "every_line": _every_line,
    "case": _case,
    "table": _table,
    "csv": _csv,
    "yaml_keys": _yaml_keys,
    "in_order": _in_order,
}
