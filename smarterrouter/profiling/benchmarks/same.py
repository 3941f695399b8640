"""Whether two names mean the same weights: the rules by which a row is taken or left.

Decides by what both sides tell. All of these must agree:

1. family, version and every other word: a finetune, a merge, a distillate is not its parent;
2. the kind: coder, math, vision, thinking, embedding;
3. the grade: mini, small, large;
4. how a mixture of experts is written (8x7b, a3b); where only one name has it, the other's
   architecture says that it is one;
5. the size, within 8 %; where one name has none, the same date of release stands for it;
6. the date of the release, which only Mistral's names may leave out;
7. the length of context that is part of the name;
8. instruction-tuned or base: a local name that says neither is taken for tuned, and a base row
   serves it only for want of a better one.

Each rule gives 1 where it holds, 0 where it does not, and less than 1 where one name leaves it
open.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from smarterrouter.profiling.benchmarks.names import ModelName

SIZE_TOLERANCE = 0.08
UNSAID = 0.9
"""For each thing that one of two names leaves open."""
ONLY_BASE = 0.6

DATED_BY_HABIT = frozenset(
    (
        "mistral",
        "mixtral",
        "ministral",
        "codestral",
        "devstral",
        "magistral",
        "mathstral",
        "pixtral",
    )
)
IMPLIED_VERSION = {"mixtral": "0.1", "solar": "1", "tinyllama": "1"}
"""Families of which only one version came out, so that its number is often left off."""
KNOWN_SIZES = {
    "codestral": 22.2,
    "command-r": 35.0,
    "command-plus-r": 104.0,
    "deepseek3": 671.0,
    "deepseek-r1": 671.0,
    "mistral-nemo": 12.2,
    "mistral-large": 123.0,
    "openchat3.5": 7.2,
    "phi3-mini": 3.8,
    "phi3-small": 7.4,
    "phi3-medium": 14.0,
    "phi3.5-mini": 3.8,
    "phi4": 14.7,
    "phi4-mini": 3.8,
    "qwq": 32.8,
}
"""Billions, by ``ModelName.line``, for names that mostly come without their one size."""


class Side(Struct, frozen=True):
    """One of the two that are compared. ``parameters`` in billions, ``tuned`` as its table says."""

    name: ModelName
    parameters: float | None
    architecture: str = ""
    tuned: bool | None = None


def unfolded(side: Side) -> Side | None:
    """Ollama's ``deepseek-r1:14b`` is a distillate; what it was distilled into, it does not say.

    The architecture tells, or else the size where only one of that size came out; ``None`` where
    neither does. Every other model is given back as it is.
    """
    size = side.name.size or side.parameters
    if side.name.line != "deepseek-r1" or size is None or size > 100:
        return side
    parent = {"llama": "llama", "qwen2": "qwen", "qwen3": "qwen3"}.get(side.architecture)
    if parent is None and not 7.7 < size < 9:  # one of 8B there is of each
        parent = "llama" if size > 60 else "qwen"
    if parent is None:
        return None
    if parent == "qwen3":
        name = replace(side.name, words=frozenset({"r1", parent}), release="0528")
    else:
        name = replace(side.name, words=frozenset({"r1", "distill", parent}))
    return replace(side, name=name)


def _identity(here: Side, there: Side) -> float:
    one, other = here.name, there.name
    implied = IMPLIED_VERSION.get(one.family)
    same = one.family == other.family and one.words == other.words
    return float(same and (one.version or implied) == (other.version or implied))


def _variant(here: Side, there: Side) -> float:
    return float(here.name.variant == there.name.variant)


def _grade(here: Side, there: Side) -> float:
    return _open(here.name.grade, there.name.grade)


def _experts(here: Side, there: Side) -> float:
    one, other = here.name.experts, there.name.experts
    mixture = "moe" in here.architecture or here.name.family == "mixtral"
    return _open(one, other) if bool(one) == bool(other) or mixture else 0.0


def _size(here: Side, there: Side) -> float:
    """Names against names, else parameters against parameters, else what there is."""
    one, other = here.name.size, there.name.size
    if not (one and other):
        one, other = here.parameters or _said(here), there.parameters or _said(there)
    if not (one and other):
        return _pinned(here.name, there.name, nothing_known=not (one or other))
    apart = abs(one - other) / max(one, other)
    return 1.0 - apart if apart <= SIZE_TOLERANCE else 0.0


def _pinned(here: ModelName, there: ModelName, nothing_known: bool) -> float:
    """Whether something else stands for the size that one or both do not tell."""
    if here.experts or there.experts:
        return float(here.experts == there.experts)
    same_release = here.release is not None and here.release == there.release
    return UNSAID if nothing_known or same_release else 0.0


def _said(side: Side) -> float | None:
    return side.name.size or KNOWN_SIZES.get(side.name.line)


def _release(here: Side, there: Side) -> float:
    one, other = here.name.release, there.name.release
    open_ = one == other or here.name.family in DATED_BY_HABIT
    return _open(one, other) if open_ else 0.0


def _context(here: Side, there: Side) -> float:
    return _open(here.name.context, there.name.context)


def _tuning(here: Side, there: Side) -> float:
    one, other = here.name.tuning, there.name.tuning
    if other is None and there.tuned is not None:
        other = "instruct" if there.tuned else "base"
    if one == other and one is not None:
        return 1.0
    if one is None:
        return {"instruct": 1.0, "base": ONLY_BASE, None: UNSAID}[other]
    return UNSAID if other is None and one == "base" else 0.0


def fit(here: Side, there: Side) -> float:
    """0 .. 1: what all rules say together. 0: another model."""
    product = 1.0
    for _, rule in RULES:
        product *= rule(here, there)
        if not product:
            break
    return product


def difference(here: Side, there: Side) -> str | None:
    """What the first broken rule is about."""
    return next((what for what, rule in RULES if not rule(here, there)), None)


def left_open(here: Side, there: Side) -> list[str]:
    """What only one of the two names tells, in words."""
    given = {what: rule(here, there) for what, rule in RULES}
    said = [f"{what} not told by both names" for what, value in given.items() if value == UNSAID]
    return said + ["only the base was measured"] * (ONLY_BASE in given.values())


def _open(one: str | None, other: str | None) -> float:
    if one == other:
        return 1.0
    return 0.0 if one and other else UNSAID


RULES: tuple[tuple[str, Callable[[Side, Side], float]], ...] = (
    ("version or make", _identity),
    ("kind", _variant),
    ("grade", _grade),
    ("experts", _experts),
    ("size", _size),
    ("release", _release),
    ("context", _context),
    ("tuning", _tuning),
)
