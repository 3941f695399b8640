"""How would two models that did not meet have fared? Decides that from all who did.

Bradley and Terry's model: each has a strength, and the share of points that one takes from
another is the logistic of the difference. Strengths are drawn toward zero, as verdicts are few.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

DRAWN_TO_ZERO = 0.5
"""Precision of the prior on strengths: as if each had tied twice with a model of strength 0."""

DAMPING = 0.5
STEPS = 200
PRECISE = 1e-9

Bout = tuple[str, str, float, float]
"""(one, other, the points of one from 0 to 1, weight)"""


def strengths(bouts: Iterable[Bout]) -> dict[str, float]:
    """Log odds for each model that met another."""
    points: dict[str, float] = defaultdict(float)
    met: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one, other, share, weight in bouts:
        points[one] += share * weight
        points[other] += (1.0 - share) * weight
        met[one][other] += weight
        met[other][one] += weight
    found = dict.fromkeys(met, 0.0)
    for _ in range(STEPS):
        steps = {model: _step(model, found, met[model], points[model]) for model in met}
        for model, step in steps.items():
            found[model] += step
        if all(abs(step) < PRECISE for step in steps.values()):
            break
    return found


def expected(one: float, other: float) -> float:
    """The share of points that a model of one strength takes from another."""
    return 1.0 / (1.0 + math.exp(other - one))


def _step(model: str, found: Mapping[str, float], met: Mapping[str, float], points: float) -> float:
    mine = found[model]
    due = sum(weight * expected(mine, found[other]) for other, weight in met.items())
    slope = sum(met.values()) / 4 + DRAWN_TO_ZERO
    return DAMPING * (points - due - DRAWN_TO_ZERO * mine) / slope
