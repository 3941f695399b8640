"""Models whose true quality is known, asked by the rules of ``profiling.statistics``.

A prompt's difficulty moves every model's chance on it (by logits); a model's bent moves its chance
in a whole group. Means come out as asked for: the offset that does it is searched for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from random import Random
from statistics import NormalDist
from typing import Any

from smarterrouter.profiling.statistics import (
    POINTS,
    Interval,
    Item,
    Scores,
    next_tasks,
    standings,
)
from smarterrouter.profiling.statistics.comparing import overall

BUNDLED = (12, 13, 14, 12, 13, 14, 12, 13, 14, 12, 13, 14, 12, 12)
"""Prompts of each group: 180 in 14 groups."""
STEPS = 7
LEVELS = ("easy", "medium", "hard")

Draw = Callable[[Random, float], float]
"""A score with the given mean."""


def right_or_wrong(rng: Random, mean: float) -> float:
    return float(rng.random() < mean)


def in_thirds(rng: Random, mean: float) -> float:
    return sum(rng.random() < mean for _ in range(3)) / 3


def anywhere(rng: Random, mean: float) -> float:
    return rng.betavariate(max(1e-3, 2 * mean), max(1e-3, 2 * (1 - mean)))


@dataclass(frozen=True, kw_only=True)
class World:
    """``spread`` of difficulty and ``bent`` toward groups are standard deviations of logits.

    ``drift``: how much the hard level is harder than the medium one, and that than the easy one.
    ``unmeasured``: share of answers without a score. ``endless``: the truth is the mean over all
    prompts that could have been drawn, and not over those that were.
    """

    qualities: Sequence[float]
    sizes: Sequence[int] = BUNDLED
    spread: float = 0.0
    bent: float = 0.0
    drift: float = 0.0
    draw: Draw = right_or_wrong
    unmeasured: float = 0.0
    endless: bool = False


@dataclass(frozen=True, slots=True)
class Exam:
    """One drawn world: prompts, each model's true chance on each, all answers it would give, and
    what each of them costs. ``means``: each model's true quality by group, and under ``""``."""

    items: tuple[Item, ...]
    chances: dict[str, dict[str, float]]
    answers: dict[str, dict[str, float | None]]
    tokens: dict[str, dict[str, float]]
    means: dict[str, dict[str, float]]

    def truth(self, model: str, group: str = "") -> float:
        return self.means[model][group]


@dataclass(slots=True)
class Run:
    """What a run came to."""

    exam: Exam
    scores: dict[str, Scores] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        """The part of the tokens of a run that asks everything."""
        tokens = self.exam.tokens
        asked = math.fsum(tokens[m][key] for m, own in self.scores.items() for key in own)
        return asked / math.fsum(math.fsum(own.values()) for own in tokens.values())


def drawn(world: World, rng: Random) -> Exam:
    """Prompts and answers; qualities are true means over just these prompts."""
    items, hard = [], {}
    for number, size in enumerate(world.sizes):
        usual = rng.lognormvariate(5.5, 0.6)
        for place in range(size):
            level = place * 3 // size
            key = f"g{number}-{place}"
            items.append(Item(key, f"g{number}", LEVELS[level], usual * (1 + level)))
            hard[key] = rng.gauss(0, world.spread) + world.drift * (level - 1)
    chances, answers, tokens, means = {}, {}, {}, {}
    for number, quality in enumerate(world.qualities):
        name = f"m{number}"
        bents = {f"g{group}": rng.gauss(0, world.bent) for group in range(len(world.sizes))}
        logits = {item.key: bents[item.group] - hard[item.key] for item in items}
        meant = _all_there_are(world, items, bents) if world.endless else logits
        offset = _offset(quality, list(meant.values()))
        own = chances[name] = {key: _chance(logit + offset) for key, logit in logits.items()}
        means[name] = _means(items, {key: _chance(logit + offset) for key, logit in meant.items()})
        answers[name] = {
            key: None if rng.random() < world.unmeasured else world.draw(rng, chance)
            for key, chance in own.items()
        }
        tokens[name] = {item.key: item.tokens * rng.lognormvariate(0, 0.8) for item in items}
    return Exam(tuple(items), chances, answers, tokens, means)


def _all_there_are(
    world: World, items: Sequence[Item], bents: dict[str, float]
) -> dict[tuple[str, int], float]:
    """Logits of what could have stood in each prompt's place."""
    steps = [NormalDist().inv_cdf((step + 0.5) / STEPS) * world.spread for step in range(STEPS)]
    return {
        (item.key, number): bents[item.group] - step - world.drift * (LEVELS.index(item.level) - 1)
        for item in items
        for number, step in enumerate(steps)
    }


def _means(items: Sequence[Item], chances: dict[Any, float]) -> dict[str, float]:
    group = {item.key: item.group for item in items}
    found: dict[str, list[float]] = defaultdict(list)
    for key, chance in chances.items():
        found[group[key if isinstance(key, str) else key[0]]].append(chance)
        found[""].append(chance)
    return {name: math.fsum(each) / len(each) for name, each in found.items()}


def _chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _offset(quality: float, logits: Sequence[float]) -> float:
    """What added to all logits makes the mean chance ``quality``."""
    low, high = -20.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        short = math.fsum(_chance(logit + middle) for logit in logits) < quality * len(logits)
        low, high = (middle, high) if short else (low, middle)
    return middle


def asked(exam: Exam, *, at_once: int = 10**6, seed: int = 0) -> Run:
    """Ask each model in turn what ``next_tasks`` says."""
    run, names = Run(exam), list(exam.answers)
    for name in names:
        own: dict[str, float | None] = {}
        run.scores[name] = own
        while True:
            progress = next_tasks(
                exam.items,
                run.scores,
                name,
                at_once=at_once,
                seed=seed,
            )
            if progress.done:
                break
            own |= {item.key: exam.answers[name][item.key] for item in progress.ask}
    return run


def asked_all(exam: Exam) -> Run:
    return Run(exam, dict(exam.answers))


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of many runs: shares, and widths as multiples of Wilson's 95 % interval.

    ``wrong`` of the pairs truly 15 points apart are ranked the other way, or level. ``_of_all``:
    the same for a run that asks everything and takes plain means; ``_drawn``: and draws them.
    ``width`` is of as many prompts as were asked, ``width_of_all`` of all there are.
    """

    saved: float = 0.0
    pairs: int = 0
    wrong: float = 0.0
    wrong_of_all: float = 0.0
    cover: float = 0.0
    width: float = 0.0
    width_of_all: float = 0.0
    group_cover: float = 0.0
    group_width: float = 0.0
    group_width_of_all: float = 0.0
    group_wrong: float = 0.0
    group_wrong_of_all: float = 0.0
    group_wrong_drawn: float = 0.0


def measured(
    world: Callable[[Random], World], *, runs: int, seed: int, only_order: bool = False
) -> Figures:
    """Run it over and over; ``only_order`` is faster and leaves intervals and groups out."""
    rng, tally = Random(seed), defaultdict[str, list[float]](list)
    for number in range(runs):
        exam = drawn(world(rng), rng)
        run, whole = asked(exam, seed=number), asked_all(exam)
        tally["saved"].append(1 - run.spent)
        _order(exam, run, whole, tally)
        if not only_order:
            _intervals(exam, run, whole, tally)
    pairs = len(tally["wrong"])
    return Figures(
        pairs=pairs, **{name: math.fsum(each) / max(1, len(each)) for name, each in tally.items()}
    )


_Tally = dict[str, list[float]]


def _order(exam: Exam, run: Run, whole: Run, tally: _Tally) -> None:
    truth = {model: exam.truth(model) for model in exam.answers}
    for name, taken in (("wrong", run), ("wrong_of_all", whole)):
        found = {m: _overall(exam, taken.scores[m]) for m in exam.answers}
        tally[name] += _reversed(truth, found)


def _overall(exam: Exam, scores: Scores) -> float:
    found = overall(exam.items, scores)
    assert found
    return found.mean


def _reversed(truth: dict[str, float], found: dict[str, float]) -> list[float]:
    """For each pair far enough apart, whether it is ranked wrong; half for a tie."""
    return [
        float(found[one] < found[other]) + 0.5 * (found[one] == found[other])
        for one, other in permutations(truth, 2)
        if truth[one] - truth[other] > POINTS - 1e-6
    ]


def _intervals(exam: Exam, run: Run, whole: Run, tally: _Tally) -> None:
    put, put_whole = (standings(exam.items, one.scores) for one in (run, whole))
    for model, standing in put.items():
        _width(exam, model, standing.overall, run, whole, tally)
    for group in sorted({item.group for item in exam.items}):
        for model, standing in put.items():
            _width(exam, model, standing.groups[group].interval, run, whole, tally, group)
        truth = {model: exam.truth(model, group) for model in put}
        drawn_now = {model: put[model].groups[group].score for model in put}
        plain = {model: put_whole[model].groups[group].interval.mean or 0.0 for model in put}
        drawn_all = {model: put_whole[model].groups[group].score for model in put}
        tally["group_wrong"] += _reversed(truth, drawn_now)
        tally["group_wrong_of_all"] += _reversed(truth, plain)
        tally["group_wrong_drawn"] += _reversed(truth, drawn_all)


def _width(
    exam: Exam, model: str, found: Interval, run: Run, whole: Run, tally: _Tally, group: str = ""
) -> None:
    kind = "group_" if group else ""
    keys = [item.key for item in exam.items if group in ("", item.group)]
    tally[kind + "cover"].append(float(found.low <= exam.truth(model, group) <= found.high))
    for name, taken in (("width", run), ("width_of_all", whole)):
        scores = [taken.scores[model].get(key) for key in keys]
        own = [score for score in scores if score is not None]
        tally[kind + name].append(found.width / wilson_width(own))


def wilson_width(scores: Sequence[float], z: float = 1.96) -> float:
    """Of the ordinary 95 % interval for a run whose length was fixed."""
    n, mean = len(scores), math.fsum(scores) / len(scores)
    reach = z * math.sqrt(max(0.0, mean * (1 - mean)) / n + z * z / (4 * n * n))
    middle, scale = mean + z * z / (2 * n), 1 + z * z / n
    return min(1.0, (middle + reach) / scale) - max(0.0, (middle - reach) / scale)
