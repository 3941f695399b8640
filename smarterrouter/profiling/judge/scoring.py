"""What a judge's verdicts make of the models. Decides scores; whether they count is ``report``'s.

1. A pair's points are the mean of its two orders: a win in both is 1, a tie in both 0.5; who is
   preferred only for its place gets 0.5; a win and a tie make 0.75.
2. Where one order could not be read, the other counts half, for nothing makes up for the bias of
   its position. Where neither could, the pair is unmeasured. Identical answers tie.
3. A model's score in a task is its mean share of points against every other model compared in it.
   What is missing (opponents not met, the half of 2) is what their strengths in the group make
   likely: else whoever meets the strong only would look weak.
4. A model without a verdict in a task has no score there. A judge that is not trusted gives none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from smarterrouter.profiling.judge.pairs import Comparison
from smarterrouter.profiling.judge.report import JudgeReport, report
from smarterrouter.profiling.judge.results import Preference, Result
from smarterrouter.profiling.judge.strength import expected, strengths

POINTS = {Preference.A: 1.0, Preference.TIE: 0.5, Preference.B: 0.0}
EVEN = 0.5
ONE_ORDER = 0.5
"""What a pair weighs that was read in one order only."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Pairs of one model, by what they came to. ``unmeasured``: nothing of them could be read."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    unmeasured: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """``scores`` by task key and model id, from 0 to 1: empty when the judge is not trusted."""

    scores: Mapping[str, Mapping[str, float]]
    tallies: Mapping[str, Tally]
    report: JudgeReport


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two models at one task; ``share`` of the points is that of ``one``."""

    task: str
    group: str
    one: str
    other: str
    share: float
    weight: float


def scores(
    comparisons: Sequence[Comparison],
    results: Iterable[Result],
    *,
    judge: str,
    gave_up: str | None = None,
) -> Judgement:
    """What the results come to. ``judge`` is its model id: it may be one of those judged.

    ``gave_up`` is the sentence of a run that ended early, for the report.
    """
    heard = {result.key: result for result in results}
    pairs = _pairs(comparisons, heard)
    told = report(comparisons, heard, judge=judge, gave_up=gave_up)
    return Judgement(_scores(pairs) if told.trusted else {}, _tallies(pairs), told)


def _pairs(comparisons: Iterable[Comparison], heard: Mapping[str, Result]) -> list[_Pair]:
    shares: dict[tuple[str, str, str, str], list[float]] = {}
    settled = set()
    for comparison in comparisons:
        one, other = sorted(comparison.models)
        place = (comparison.task.key, comparison.task.group, one, other)
        found = shares.setdefault(place, [])
        if comparison.identical:
            settled.add(place)
            found.append(EVEN)
        elif (result := heard.get(comparison.key)) and result.preference:
            points = POINTS[result.preference]
            found.append(points if comparison.first == one else 1.0 - points)
    return [
        _Pair(*place, share=_mean(found), weight=_weight(len(found), place in settled))
        for place, found in shares.items()
    ]


def _weight(orders: int, settled: bool) -> float:
    return 1.0 if settled else min(1.0, orders * ONE_ORDER)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else EVEN


def _scores(pairs: Sequence[_Pair]) -> dict[str, dict[str, float]]:
    tasks: dict[str, list[_Pair]] = defaultdict(list)
    groups: dict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        tasks[pair.task].append(pair)
        groups[pair.group].append(pair)
    likely = {group: _likely(of_group) for group, of_group in groups.items()}
    found = {task: _of_task(those, likely[those[0].group]) for task, those in tasks.items()}
    return {task: of_task for task, of_task in found.items() if of_task}


_Likely = Callable[[str, str], float]
"""The share of points that the first model would take from the second."""


def _likely(pairs: Iterable[_Pair]) -> _Likely:
    known = strengths((p.one, p.other, p.share, p.weight) for p in pairs if p.weight)
    return lambda one, other: expected(known.get(one, 0.0), known.get(other, 0.0))


def _of_task(pairs: Sequence[_Pair], likely: _Likely) -> dict[str, float]:
    against: dict[str, dict[str, float]] = defaultdict(dict)
    for pair in pairs:
        if pair.weight:
            share = pair.weight * pair.share + (1.0 - pair.weight) * likely(pair.one, pair.other)
            against[pair.one][pair.other] = share
            against[pair.other][pair.one] = 1.0 - share
    return {
        model: _mean([met.get(o, likely(model, o)) for o in against if o != model])
        for model, met in against.items()
    }


def _tallies(pairs: Iterable[_Pair]) -> dict[str, Tally]:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pair in pairs:
        counts[pair.one][_name(pair.share, pair.weight)] += 1
        counts[pair.other][_name(1.0 - pair.share, pair.weight)] += 1
    return {model: Tally(**found) for model, found in counts.items()}


def _name(share: float, weight: float) -> str:
    if not weight:
        return "unmeasured"
    return "ties" if share == EVEN else "wins" if share > EVEN else "losses"
