"""A first guess at P(good) in each prompt group, out of published benchmark scores.

Decides what a benchmark says about a group, and how little that is. It is a prior and no more:
public tables measure other prompts than the owner's, at another precision, often with the answers
in the training data, and people who vote like length and style. So its weight is that of a few
prompts, and a handful of answers measured here outweighs it.

The formula. A score becomes a place on a line of log odds:

- Elo: ``e = (elo - median) * ln 10 / 400``, the odds against the table's median model;
- the others: ``x = (score - floor) / (ceiling - floor)``, chance taken off, then
  ``e = LOGITS_PER_SPREAD * (logit x - median) / spread`` with the median and the spread (the
  interquartile range, as one standard deviation) of ``logit x`` in the table itself.

``P = 1 / (1 + exp(-(MEDIAN_LOGIT + e - loss)))``, with ``loss`` for coarser weights than those
measured, and ``e`` a mean over the benchmarks of a group, weighted by ``SHARES`` and by how sure
the match is. The two constants are such that a median model of the Open LLM Leaderboard, which has
some 7 B parameters, and those one and two doublings away, come out about where routing puts models
of their size that nobody has measured: the table then neither lifts nor sinks all its models. The
arena's median is a larger model, so local models come out somewhat low there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles

from msgspec import Struct

from smarterrouter.domain.benchmarks import Published
from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.quantisation import quantisation_loss
from smarterrouter.profiling.benchmarks.formats import BenchmarkRow
from smarterrouter.profiling.benchmarks.matching import Match

MEDIAN_LOGIT = 2.0
LOGITS_PER_SPREAD = 0.7
LOGITS_PER_ELO = math.log(10) / 400
MOST_PROMPTS = 4.0
"""The weight of a prior is never more than that of so many measured prompts."""
FEWEST_MODELS = 8
"""A benchmark with fewer models in its table has no median worth the name."""
FURTHEST = 2.0
"""Log odds that a score may lie from the median: further out, tables say little."""
EDGE = 0.01
"""Fractions are kept this far from 0 and 1, where log odds have no end."""
ONE_DEVIATION = 1.349
"""Interquartile range of a normal distribution, in standard deviations."""

FLOORS = {"ARC": 25.0, "HellaSwag": 25.0, "MMLU": 25.0, "Winogrande": 50.0, "MT-bench": 1.0}
"""What guessing gives, in the benchmark's units; 0 for those not named: nobody guesses a sum, and
the leaderboard's second edition has taken it off."""
CEILINGS = {"MT-bench": 10.0}

SHARES: Mapping[str, Mapping[str, float]] = {
    "code_write": {"HumanEval": 1.0, "MBPP": 0.7, "arena:coding": 1.0, "BBH": 0.2},
    "code_read": {"HumanEval": 0.6, "arena:coding": 0.8, "BBH": 0.4},
    "data_query": {"HumanEval": 0.5, "arena:coding": 0.7, "BBH": 0.2},
    "math": {"MATH Lvl 5": 1.0, "GSM8K": 1.0, "arena:math": 0.7},
    "logic": {"BBH": 1.0, "MUSR": 0.7, "ARC": 0.4, "Winogrande": 0.2, "arena:hard_prompts": 0.4},
    "planning": {"MUSR": 0.7, "BBH": 0.5, "IFEval": 0.3, "arena:hard_prompts": 0.7},
    "knowledge": {"MMLU-PRO": 1.0, "MMLU": 1.0, "GPQA": 0.4, "TruthfulQA": 0.3, "ARC": 0.3},
    "advice": {"arena": 1.0, "MT-bench": 0.5, "TruthfulQA": 0.3, "MMLU-PRO": 0.3},
    "summarising": {"arena:longer_query": 0.8, "arena": 0.4, "MT-bench": 0.4, "IFEval": 0.4},
    "extraction": {"IFEval": 0.8, "arena:instruction_following": 0.6, "BBH": 0.4},
    "translation": {"arena:non_english": 0.8, "arena": 0.4, "MMLU-PRO": 0.2, "MMLU": 0.2},
    "formatting": {"IFEval": 1.0, "arena:instruction_following": 0.8},
    "writing": {"arena:creative_writing": 1.0, "arena": 0.7, "MT-bench": 0.5},
    "roleplay": {"arena:creative_writing": 0.7, "arena:multi_turn": 0.7, "arena": 0.5},
}
"""What part of the full weight a benchmark carries in a group, by how near their prompts are."""


class Middle(Struct, frozen=True):
    """Median and spread of one benchmark in one table: of log odds, but of points for Elo."""

    median: float
    spread: float


Yardstick = Mapping[str, Middle]


def yardstick(rows: Sequence[BenchmarkRow]) -> Yardstick:
    """Where the models of one source stand; benchmarks with too few models are left out."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for benchmark, score in row.scores.items():
            scores[benchmark].append(_line(benchmark, score))
    found: dict[str, Middle] = {}
    for benchmark, values in scores.items():
        if len(values) < FEWEST_MODELS:
            continue
        lower, _, upper = quantiles(values, n=4)
        if upper > lower:
            found[benchmark] = Middle(median(values), (upper - lower) / ONE_DEVIATION)
    return found


def priors(
    found: Iterable[tuple[Match, Yardstick]], quantization: str | None = None
) -> dict[str, Published]:
    """The prior of one local model for each group that its scores say something of.

    ``found`` is its match in each table with that table's yardstick, ``quantization`` that of the
    local model. Groups without a benchmark are left out, and so is everything if nothing matched.
    """
    parts = [part for match, middles in found for part in _parts(match, middles, quantization)]
    return {group: prior for group in GROUPS if (prior := _prior(SHARES[group], parts))}


class _Part(Struct, frozen=True):
    """What one score says: log odds from the median model, and how sure its match is."""

    benchmark: str
    score: float
    logit: float
    sure: float


def _parts(match: Match, middles: Yardstick, quantization: str | None) -> Iterable[_Part]:
    if match.row is None:
        return
    loss = max(0.0, quantisation_loss(quantization) - quantisation_loss(match.row.precision))
    for benchmark, score in match.row.scores.items():
        if middle := middles.get(benchmark):
            away = _line(benchmark, score) - middle.median
            away *= LOGITS_PER_ELO if _is_elo(benchmark) else LOGITS_PER_SPREAD / middle.spread
            away = max(-FURTHEST, min(FURTHEST, away))
            yield _Part(benchmark, score, away - loss, match.score)


def _prior(shares: Mapping[str, float], parts: Sequence[_Part]) -> Published | None:
    weighed = [(shares[p.benchmark] * p.sure, p) for p in parts if p.benchmark in shares]
    total = sum(weight for weight, _ in weighed)
    if total <= 0:
        return None
    logit = MEDIAN_LOGIT + sum(weight * part.logit for weight, part in weighed) / total
    said = ", ".join(f"{part.benchmark} {part.score:.4g}" for _, part in weighed)
    sure = max(part.sure for _, part in weighed)
    return Published(
        1.0 / (1.0 + math.exp(-logit)),
        MOST_PROMPTS * min(total, sure),
        f"published: {said}",
    )


def _line(benchmark: str, score: float) -> float:
    """Points for Elo, log odds of the fraction above chance for all others."""
    if _is_elo(benchmark):
        return score
    floor, ceiling = FLOORS.get(benchmark, 0.0), CEILINGS.get(benchmark, 100.0)
    fraction = min(1.0 - EDGE, max(EDGE, (score - floor) / (ceiling - floor)))
    return math.log(fraction / (1.0 - fraction))


def _is_elo(benchmark: str) -> bool:
    return benchmark.startswith("arena")
