"""Between which bounds a true mean lies, given scores from 0 to 1. Decides on no stop.

The bounds are quantiles of beta distributions. Jeffreys adds half an answer to either side,
Clopper and Pearson a whole one to the side that a bound is to be kept from. The first covers too
little for some true values, the second more than was asked for; three quarters are added here.

Scores between 0 and 1 vary less than right and wrong would with the same mean. They count as so
many more answers of right and wrong as they vary less, but only as far as there are enough of them
to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from msgspec import Struct

FARTHER, NEARER = 0.75, 0.25
"""Answers added on a bound's far side, and on its near one."""

DOUBT = 4.0
"""As many answers' worth of doubt whether scores vary less than right and wrong do."""

HALVINGS = 50
TERMS, CLOSE, TINY = 300, 1e-12, 1e-300


class Interval(Struct, frozen=True):
    """``mean`` of ``count`` scores, ``None`` without any, and what it may be in truth.

    All from 0 to 1.
    """

    mean: float | None
    low: float
    high: float
    count: int

    @property
    def width(self) -> float:
        return self.high - self.low


class Weighed(Struct, frozen=True):
    """Scores summed up: their mean, their variance about it, and how many they are worth.

    ``answers`` is fewer than ``count`` where some weigh more than others.
    """

    mean: float
    variance: float
    answers: float
    count: int


def interval(scores: Iterable[float | None], confidence: float = 0.95) -> Interval:
    """Of scores that count alike; ``None`` is unmeasured and does not count.

    ``confidence`` is that of a run whose length was fixed beforehand. For one that looks whether
    it may stop, see ``items.LOOKS``.
    """
    return bounds(weighed([(score, 1.0) for score in scores if score is not None]), confidence)


def weighed(scores: Sequence[tuple[float, float]]) -> Weighed | None:
    """Of scores, each with its weight, which is above 0. ``None`` without any."""
    if not scores:
        return None
    total = math.fsum(weight for _, weight in scores)
    shares = [(score, weight / total) for score, weight in scores]
    mean = min(1.0, max(0.0, math.fsum(score * share for score, share in shares)))
    variance = math.fsum(share * (score - mean) ** 2 for score, share in shares)
    answers = 1.0 / math.fsum(share * share for _, share in shares)
    return Weighed(mean, variance, answers, len(scores))


def bounds(found: Weighed | None, confidence: float) -> Interval:
    """What the mean may be in truth: all of 0 to 1 where nothing is known."""
    if found is None:
        return Interval(None, 0.0, 1.0, 0)
    answers = found.answers / _spread(found)
    right = found.mean * answers
    wrong = max(0.0, answers - right)
    tail = (1.0 - confidence) / 2
    low = high = found.mean
    if found.mean > 0.0:
        low = quantile(tail, right + NEARER, wrong + FARTHER)
    if found.mean < 1.0:
        high = 1.0 - quantile(tail, wrong + NEARER, right + FARTHER)
    return Interval(found.mean, min(low, found.mean), max(high, found.mean), found.count)


def _spread(found: Weighed) -> float:
    """The scores' variance as a part of what right and wrong would have: above 0, at most 1.

    One answer at the far end is counted in that was not seen: nine in ten of 0.9 and one of 0 look
    all alike for a while.
    """
    binary = found.mean * (1.0 - found.mean)
    if binary <= 0.0 or found.answers <= 1.0:
        return 1.0
    seen = min(1.0, found.variance / binary * found.answers / (found.answers - 1.0))
    unseen = max(found.mean, 1.0 - found.mean) / min(found.mean, 1.0 - found.mean)
    return min(1.0, (seen * found.answers + DOUBT + unseen) / (found.answers + DOUBT))


@lru_cache(maxsize=16_384)
def quantile(share: float, a: float, b: float) -> float:
    """Where ``share`` of the beta distribution with ``a`` and ``b`` lies below."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if below(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def below(x: float, a: float, b: float) -> float:
    """The share of the beta distribution with ``a`` and ``b`` that lies below ``x``."""
    if x <= 0.0 or x >= 1.0:
        return min(1.0, max(0.0, x))
    if x > (a + 1) / (a + b + 2):
        return 1.0 - below(1.0 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x))
    return front * _continued(x, a, b) / a


def _continued(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, evaluated from its front (Lentz)."""
    c, d = 1.0, 1.0 / _off_zero(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _off_zero(1.0 + term * d)
            c = _off_zero(1.0 + term / c)
            value *= d * c
        if abs(d * c - 1.0) < CLOSE:
            break
    return value


def _off_zero(x: float) -> float:
    return x if abs(x) > TINY else TINY
