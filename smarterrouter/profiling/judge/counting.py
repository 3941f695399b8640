"""What a judge did, added up. Decides what is counted as what; not what that means.

Questions and verdicts are of one order of a pair; pairs are of both.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from smarterrouter.profiling.judge.pairs import Comparison
from smarterrouter.profiling.judge.results import Failure, Preference, Result

LONGER = 1.2
"""From this ratio of lengths on, one of two answers is the longer."""

BOTH = 2
TWO_SIDED = 1.96
"""Standard deviations of a 95 % interval."""


class OwnAnswers(Struct, frozen=True):
    """How the judge, being one of those judged, rates itself: verdicts for, against, ties."""

    better: int = 0
    worse: int = 0
    ties: int = 0


class Counts(Struct, frozen=True):
    """What a judge did.

    ``asked`` were put to it, ``readable`` answered with a verdict, ``ties`` of them ties,
    ``first`` of the others for what stood first. ``settled`` pairs were decided for the same
    answer in both orders, ``flipped`` for the same position; ``both`` could be read in both, and
    ``agreed`` of them with the same verdict. ``longer`` of ``uneven`` decided verdicts were for
    the answer that is longer by a fifth or more. ``identical`` pairs were not asked.
    """

    asked: int = 0
    readable: int = 0
    ties: int = 0
    first: int = 0
    both: int = 0
    agreed: int = 0
    settled: int = 0
    flipped: int = 0
    uneven: int = 0
    longer: int = 0
    identical: int = 0
    not_asked: int = 0
    failures: dict[Failure, int] = {}
    own: OwnAnswers | None = None

    @property
    def decided(self) -> int:
        return self.readable - self.ties

    @property
    def answered(self) -> int:
        """Questions that the judge said anything to."""
        return self.readable + self.failures.get(Failure.UNREADABLE, 0)

    @property
    def consistency(self) -> float | None:
        """Share of pairs read in both orders whose verdicts are the same."""
        return self.agreed / self.both if self.both else None

    @property
    def first_share(self) -> float | None:
        """Share of decided verdicts for what stood first; 0.5 is no bias."""
        return self.first / self.decided if self.decided else None

    @property
    def first_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of ``first_share``."""
        return wilson(self.first, self.decided)


def counted(comparisons: Iterable[Comparison], heard: Mapping[str, Result], judge: str) -> Counts:
    """What came of each question; ``heard`` by the comparisons' keys."""
    tally: Counter[str] = Counter()
    failures: Counter[Failure] = Counter()
    pairs: dict[_Place, list[str]] = defaultdict(list)
    identical: set[_Place] = set()
    own: Counter[str] = Counter()
    for one in comparisons:
        place = one.task.key, frozenset(one.models)
        result = heard.get(one.key)
        if one.identical:
            identical.add(place)
        elif result is None:
            tally["not_asked"] += 1
        elif result.failure:
            failures[result.failure] += 1
        elif result.preference:
            tally.update(_traits(one, result.preference))
            own.update(_of_itself(one, result.preference, judge))
            pairs[place].append(_chosen(one, result.preference))
    tally.update(trait for verdicts in pairs.values() for trait in _agreement(verdicts))
    return Counts(
        **tally,
        asked=tally["readable"] + failures.total(),
        identical=len(identical),
        failures=dict(failures),
        own=OwnAnswers(**own) if own else None,
    )


_Place = tuple[str, frozenset[str]]
"""A task's key and two models."""

_TIE = ""


def _chosen(one: Comparison, preference: Preference) -> str:
    """The model whose answer was preferred."""
    return {Preference.A: one.first, Preference.B: one.second}.get(preference, _TIE)


def _traits(one: Comparison, preference: Preference) -> Iterable[str]:
    yield "readable"
    if preference is Preference.TIE:
        yield "ties"
        return
    if preference is Preference.A:
        yield "first"
    a, b = len(one.first_answer), len(one.second_answer)
    if max(a, b) >= LONGER * min(a, b):
        yield "uneven"
        if (a > b) == (preference is Preference.A):
            yield "longer"


def _of_itself(one: Comparison, preference: Preference, judge: str) -> Iterable[str]:
    if judge in one.models:
        chosen = _chosen(one, preference)
        yield "ties" if chosen == _TIE else "better" if chosen == judge else "worse"


def _agreement(verdicts: list[str]) -> Iterable[str]:
    """Of a pair, the model preferred in either order."""
    if len(verdicts) < BOTH:
        return
    yield "both"
    one, other = verdicts
    if one == other:
        yield "agreed"
        if one != _TIE:
            yield "settled"
    elif _TIE not in verdicts:
        yield "flipped"


def wilson(successes: int, trials: int, deviations: float = TWO_SIDED) -> tuple[float, float]:
    """Wilson's score interval of a share; all of 0 .. 1 when there were no trials."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, deviations**2
    middle = share + square / (2 * trials)
    reach = deviations * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    low, high = ((middle + sign * reach) / (1 + square / trials) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)
