"""Does an answer hold the JSON that was asked for?

Decides which JSON of the answer counts (a code fence's before that of the prose; of the prose the
last that has its lines to itself, else the longest), whether it fits the schema, and whether it
contains what is expected. JSON with comments, single quotes or trailing commas is none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.reading import fences
from smarterrouter.profiling.checkers.verdict import Verdict

NEARLY = 1e-9
MOST_READ = 1_000_000
"""Characters that are decoded in search of JSON, beginnings that lead nowhere counted."""
TOO_DEEP = 5_000
MOST_VALUES = 200


def check(spec: specs.Json, answer: str) -> Verdict:
    """1 if the answer's JSON fits the schema and contains what is expected.

    ``None`` if the schema itself is at fault.
    """
    try:
        problem_of = _validator(spec.schema)
    except Exception as error:  # the compiler of schemas raises whatever their faults lead to
        return Verdict(None, f"the task's schema cannot be used: {error}")
    found = list(_bare(answer) if spec.bare else values(answer))
    if not found:
        more = " and nothing else" if spec.bare else ""
        return Verdict(0.0, f"the answer is not valid JSON{more}" if spec.bare else "no valid JSON")
    problems = [problem_of(value) for value in found]
    fitting = next((v for v, problem in zip(found, problems, strict=True) if not problem), None)
    if all(problems):
        return Verdict(0.0, f"it does not fit the schema: {problems[0]}")
    if spec.expect is None:
        return Verdict(1.0, "the JSON fits the schema")
    lacking = missing(spec.expect, fitting, frozenset(spec.unordered))
    if lacking:
        return Verdict(0.0, lacking)
    return Verdict(1.0, "the JSON has what is expected")


def values(answer: str) -> Iterator[object]:
    """All JSON of the answer, that which counts first."""
    fenced = [block.code for block in fences(answer)]
    for text in (*fenced, answer):
        whole = _decoded(text)
        if whole:
            yield whole[0]
    within = [found for code in fenced for found in _inside(code)]
    if not within:
        within = list(_inside(answer))
        yield from (value for start, end, value in reversed(within) if _alone(answer, start, end))
    yield from (value for *_, value in sorted(within, key=lambda found: found[0] - found[1]))


_BEFORE = re.compile(r"(?:\A|\n)[ \t]{0,9}[*_`]{0,3}\Z")
_BEHIND = re.compile(r"[*_`]{0,3}[.]?[ \t]{0,9}(?:\n|\Z)")


def _alone(text: str, start: int, end: int) -> bool:
    """Whether nothing but marks stands beside it on its lines."""
    return bool(_BEFORE.search(text, max(0, start - 20), start) and _BEHIND.match(text, end))


def _bare(answer: str) -> Iterator[object]:
    """The JSON of an answer that has nothing else, but perhaps one fence around it."""
    blocks = fences(answer)
    text = answer.strip()
    if len(blocks) == 1 and text.startswith(("```", "~~~")) and text.endswith(("```", "~~~")):
        text = blocks[0].code
    yield from _decoded(text)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _decoded(text: str) -> list[object]:
    """The one value that the whole text is; empty if it is none."""
    try:
        return [_DECODER.decode(text)]
    except (ValueError, RecursionError):
        return []


def _inside(text: str) -> Iterator[tuple[int, int, object]]:
    """Objects and lists that stand in the text, each with where it begins and ends."""
    at, spent, count = 0, 0, 0
    while spent < MOST_READ and count < MOST_VALUES:
        starts = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
        if not starts:
            return
        start = min(starts)
        try:
            value, at = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            spent += 50 + error.pos - start
            at = start + 1
        except (ValueError, RecursionError):
            spent += TOO_DEEP
            at = start + 1
        else:
            spent += at - start
            count += 1
            yield start, at, value


def _refuse(address: str) -> object:
    raise ValueError(f"{address} would have to be fetched")


def _validator(schema: Mapping[str, object]) -> Callable[[object], str]:
    """What says how a value fails the schema; an empty string if it does not."""
    if not schema:
        return lambda _: ""
    import fastjsonschema  # here, for nothing but a profile run needs it

    validate = fastjsonschema.compile(
        dict(schema), handlers={"http": _refuse, "https": _refuse}, use_default=False
    )

    def problem(value: object) -> str:
        try:
            validate(value)
        except fastjsonschema.JsonSchemaValueException as error:
            return str(error.message)[:200]
        except (RecursionError, ArithmeticError, ValueError, TypeError) as error:
            return f"it cannot be checked ({type(error).__name__})"
        return ""

    return problem


def missing(expected: Any, found: Any, unordered: frozenset[str], where: str = "it") -> str:
    """How ``found`` falls short of ``expected``; an empty string if it contains it."""
    if isinstance(expected, dict):
        return _missing_of_object(expected, found, unordered, where)
    if isinstance(expected, list):
        return _missing_of_list(expected, found, unordered, where)
    if _same(expected, found):
        return ""
    return f"{where} is {_shown(found)}, not {_shown(expected)}"


def _missing_of_object(
    expected: dict[str, Any], found: Any, unordered: frozenset[str], where: str
) -> str:
    if not isinstance(found, dict):
        return f"{where} is {_shown(found)}, not an object"
    for key, value in expected.items():
        if key not in found:
            return f"{where} has no {key}"
        if problem := missing(value, found[key], unordered, key):
            return problem
    return ""


def _missing_of_list(expected: list[Any], found: Any, unordered: frozenset[str], where: str) -> str:
    if not isinstance(found, list):
        return f"{where} is {_shown(found)}, not a list"
    if len(found) != len(expected):
        return f"{where} has {len(found)} entries, not {len(expected)}"
    if where not in unordered:
        pairs = zip(expected, found, strict=True)
        problems = (missing(e, f, unordered, f"an entry of {where}") for e, f in pairs)
        return next(filter(None, problems), "")
    left = list(found)
    for entry in expected:
        place = next((i for i, f in enumerate(left) if not missing(entry, f, unordered)), None)
        if place is None:
            return f"{where} lacks {_shown(entry)}"
        del left[place]
    return ""


_QUOTED = re.compile(r"-?\d{1,60}(?:\.\d{1,60})?")


def _unquoted(text: str) -> object:
    """The number or truth value that stands in quotes, or else the text."""
    bare = text.strip().lower()
    if _QUOTED.fullmatch(bare):
        return float(bare)
    return {"true": True, "false": False}.get(bare, text)


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, (bool, int, float)) and isinstance(found, str):
        found = _unquoted(found)
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, str) and isinstance(found, str):
        return _folded(expected) == _folded(found)
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return _near(expected, found)
    return bool(expected == found)


def _near(expected: float, found: float) -> bool:
    try:
        return math.isclose(expected, found, rel_tol=NEARLY, abs_tol=NEARLY)
    except OverflowError:
        return expected == found


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return "a value too deep to show"
    return text if len(text) <= 60 else text[:57] + "..."
