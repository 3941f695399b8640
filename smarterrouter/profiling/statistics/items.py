"""In which order a group's prompts are asked, and after how many it is looked whether they suffice.

Every model is asked in the same order, so that two models that were stopped at different times
have answered the same prompts as far as possible. The order mixes the levels and is otherwise
random, and prompts are not preferred for being short: what was asked so far has to stand for all.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

Scores = Mapping[str, float | None]
"""A model's scores by the key of the prompt; ``None`` where the answer was not measured."""


class Item(Struct, frozen=True):
    """A prompt as far as counting goes. ``tokens``: what answering it is expected to cost."""

    key: str
    group: str
    level: str
    tokens: float = 1.0


class Look(Struct, frozen=True):
    """``share`` of a group is asked, then it is looked whether that suffices.

    ``confidence`` of an interval after this look, so that those of all looks cover the truth
    together at 95 %: then it does not matter at which of them it was stopped, and why.
    """

    share: float
    confidence: float


LOOKS = (Look(0.55, 0.963), Look(0.75, 0.983), Look(1.0, 0.983))
"""Most of the 5 % is spent on the first look, where most models stop."""


def quota(look: Look, size: int) -> int:
    """How many prompts of a group of ``size`` are asked by then; at least one."""
    return min(size, max(1, math.floor(look.share * size + 0.5)))


def confidence(asked: int, size: int) -> float:
    """That of an interval, given how many prompts of ``size`` were asked."""
    first = asked <= quota(LOOKS[0], size)
    return LOOKS[0 if first else -1].confidence


def in_order(items: Iterable[Item], seed: int = 0) -> dict[str, tuple[Item, ...]]:
    """Each group's prompts as they are to be asked; groups by name."""
    levels: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in {item.key: item for item in items}.values():
        levels[item.group, item.level].append(item)
    placed: dict[str, list[tuple[float, str, Item]]] = defaultdict(list)
    for (group, level), members in levels.items():
        # Where a level begins is drawn for each group; else the easy ones came first everywhere.
        start = draw(seed, group, level)
        members.sort(key=lambda item: (draw(seed, item.key), item.key))
        for number, item in enumerate(members):
            placed[group].append(((number + start) / len(members), item.key, item))
    return {group: tuple(item for *_, item in sorted(placed[group])) for group in sorted(placed)}


def draw(seed: int, *names: str) -> float:
    """A number from 0 to 1 that is always the same for the same names."""
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
