"""Every model's scores in the end: overall, and in each group. Decides how they are put.

Overall scores are means. A group has too few prompts for its mean to be trusted alone: its score
is drawn toward what the model's overall score and the group's difficulty make likely, the more so
the less models differ from that elsewhere. The interval beside it is that of the group alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from smarterrouter.profiling.statistics import items as orders
from smarterrouter.profiling.statistics.comparing import overall
from smarterrouter.profiling.statistics.intervals import Interval, Weighed, bounds, weighed
from smarterrouter.profiling.statistics.items import Item, Scores

LEAST_PECULIAR = 0.05
"""Models are taken to be this much better or worse in a group than expected, at least."""


class GroupScore(Struct, frozen=True):
    """``score`` is the best guess, ``error`` its standard error, ``interval`` of this group alone.

    All from 0 to 1.
    """

    score: float
    error: float
    interval: Interval


class Standing(Struct, frozen=True):
    """A model's score on all prompts with its interval, and those of the groups it was asked of."""

    overall: Interval
    groups: dict[str, GroupScore]


def standings(items: Sequence[Item], scores: Mapping[str, Scores]) -> dict[str, Standing]:
    """Of each model, best first. One without a measured answer comes last, with 0 to 1."""
    by_group = _grouped(items)
    drawn = drawn_in(by_group, scores)
    found: dict[str, Standing] = {}
    for model in sorted(scores):
        mine = scores[model]
        groups = {
            group: _group_score(drawn[model][group], members, mine)
            for group, members in by_group.items()
            if group in drawn.get(model, ())
        }
        found[model] = Standing(bounds(overall(items, mine), _sure_overall(by_group, mine)), groups)
    return dict(sorted(found.items(), key=lambda one: (-(one[1].overall.mean or 0.0), one[0])))


def _sure_overall(by_group: Mapping[str, Sequence[Item]], scores: Scores) -> float:
    """As of most groups: a few that were asked further are no second look at the whole."""
    sure = sorted(_sure(members, scores) for members in by_group.values())
    return sure[(len(sure) - 1) // 2] if sure else orders.LOOKS[-1].confidence


def _sure(members: Sequence[Item], scores: Scores) -> float:
    return orders.confidence(sum(item.key in scores for item in members), len(members))


def _group_score(guess: tuple[float, float], members: Sequence[Item], scores: Scores) -> GroupScore:
    span = bounds(_alone(members, scores), _sure(members, scores))
    return GroupScore(min(span.high, max(span.low, guess[0])), guess[1], span)


Drawn = dict[str, dict[str, tuple[float, float]]]
"""By model and group: the score drawn toward what is likely, and its standard error."""


def drawn_in(by_group: Mapping[str, Sequence[Item]], scores: Mapping[str, Scores]) -> Drawn:
    """See ``Drawn``. Only models and groups with a measured answer."""
    items = [item for members in by_group.values() for item in members]
    whole = {m: w for m in sorted(scores) if (w := overall(items, scores[m])) is not None}
    alone = {
        (model, group): found
        for model in whole
        for group, members in by_group.items()
        if (found := _alone(members, scores[model])) is not None
    }
    harder = _harder(whole, alone)
    expected = {(m, g): min(1.0, max(0.0, whole[m].mean + harder[g])) for m, g in alone}
    peculiar = _peculiar(whole, alone, expected)
    drawn: Drawn = {model: {} for model in whole}
    for (model, group), found in alone.items():
        noise = _noise(whole[model], found)
        trust = peculiar / (peculiar + noise)
        score = expected[model, group] + trust * (found.mean - expected[model, group])
        known = _noise(whole[model], whole[model])
        drawn[model][group] = score, math.sqrt(trust * noise + (1 - trust) ** 2 * known)
    return drawn


_Places = Mapping[tuple[str, str], Weighed]


def _harder(whole: Mapping[str, Weighed], alone: _Places) -> dict[str, float]:
    """By how much a group's scores are above (or below) the models' overall ones.

    One model alone does not show whether a group is hard or the model bad at it.
    """
    off: dict[str, list[float]] = defaultdict(list)
    for (model, group), found in alone.items():
        off[group].append(found.mean - whole[model].mean)
    return {g: math.fsum(o) / len(o) if len(o) > 1 else 0.0 for g, o in off.items()}


def _peculiar(
    whole: Mapping[str, Weighed], alone: _Places, expected: Mapping[tuple[str, str], float]
) -> float:
    """The variance among groups of a model's true scores about the expected ones.

    What is seen of it is more by the error of the means, and less for the group's difficulty was
    taken from the same scores.
    """
    left = 1.0 - 1.0 / len(whole) if len(whole) > 1 else 1.0
    seen = [(found.mean - expected[place]) ** 2 / left for place, found in alone.items()]
    noise = [_noise(whole[model], found) for (model, _), found in alone.items()]
    true = (math.fsum(seen) - math.fsum(noise)) / max(1, len(alone))
    return max(LEAST_PECULIAR**2, true)


def _noise(whole: Weighed, found: Weighed) -> float:
    """The variance of a mean, by how the model's scores vary over all."""
    return (whole.variance + 0.25 / whole.answers) / found.answers


def _alone(members: Sequence[Item], scores: Scores) -> Weighed | None:
    measured = [scores.get(item.key) for item in members]
    return weighed([(score, 1.0) for score in measured if score is not None])


def _grouped(items: Sequence[Item]) -> dict[str, list[Item]]:
    by_group: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_group[item.group].append(item)
    return {group: by_group[group] for group in sorted(by_group)}
