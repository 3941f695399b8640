"""How far apart two models are, and how sure that is. Decides not whether to go on asking.

Where both answered a prompt, its difficulty is the same for both and drops out of the difference;
where one did, it counts in full.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from msgspec import Struct

from smarterrouter.profiling.statistics.intervals import Weighed, weighed
from smarterrouter.profiling.statistics.items import Item, Scores

POINTS = 0.15
"""Models this far apart are to be ranked right; closer ones may be ranked either way."""

NORMAL = NormalDist()
SPLIT = 1.0
"""Prompts on which the two differ, added to those seen: few prompts alike prove little."""


class Gap(Struct, frozen=True):
    """``ahead``: by how much one model's mean is above another's, and the error of that."""

    ahead: float
    error: float

    @property
    def certainty(self) -> float:
        """How sure it is that the model that is ahead is the better one: 0.5 to 1."""
        return NORMAL.cdf(abs(self.ahead) / self.error)

    @property
    def risk(self) -> float:
        """How likely the model that is ahead is in truth ``POINTS`` or more behind."""
        return NORMAL.cdf(-(abs(self.ahead) + POINTS) / self.error)


def weights(items: Sequence[Item], scores: Scores) -> dict[str, float]:
    """What each measured prompt stands for in the mean of all, by key; they add up to 1.

    A group counts as many prompts as it has, however many of them were asked.
    """
    size: dict[str, int] = defaultdict(int)
    measured: dict[str, list[str]] = defaultdict(list)
    for item in items:
        size[item.group] += 1
        if scores.get(item.key) is not None:
            measured[item.group].append(item.key)
    total = sum(size[group] for group in measured)
    return {
        key: size[group] / total / len(keys) for group, keys in measured.items() for key in keys
    }


def overall(items: Sequence[Item], scores: Scores) -> Weighed | None:
    """A model's scores on all prompts, as far as they were measured."""
    return weighed(list(_pairs(scores, weights(items, scores)).values()))


def gap(items: Sequence[Item], one: Scores, other: Scores) -> Gap | None:
    """Between two models over all ``items``; ``None`` where one of them has no scores."""
    mine = _pairs(one, weights(items, one))
    theirs = _pairs(other, weights(items, other))
    a, b = weighed(list(mine.values())), weighed(list(theirs.values()))
    if a is None or b is None:
        return None
    parts = [_part(mine.get(key), a.mean) - _part(theirs.get(key), b.mean) for key in mine | theirs]
    doubt = SPLIT / min(a.answers, b.answers) ** 2
    return Gap(a.mean - b.mean, math.sqrt(math.fsum(part * part for part in parts) + doubt))


def _part(pair: tuple[float, float] | None, mean: float) -> float:
    """What one prompt adds to a mean's error."""
    return pair[1] * (pair[0] - mean) if pair else 0.0


def _pairs(scores: Scores, weight: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Score and weight of each prompt that counts."""
    return {key: (scores[key] or 0.0, weight[key]) for key in weight}
