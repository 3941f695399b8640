"""Which answers a judge is to compare. Decides the pairs; what they come to is ``scoring``'s.

A question costs as much whoever meets, so each goes to the model that was compared least. Near
neighbours tell most of each other: a weak model's answer beside a strong one's is seldom news.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from smarterrouter.profiling.task import Task

OPPONENTS = 4
"""How many others each model meets in a task, where there are more."""

FORM = "1"
"""Changes when the question to the judge does, so that old verdicts are not taken for new."""

QUESTIONS_PER_PAIR = 2


@dataclass(frozen=True, slots=True)
class Answers:
    """What the models answered to one task, by model id, without their reasoning.

    ``None``: unmeasured (failed, cut off); such a model is not compared in this task.
    """

    task: Task
    texts: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question to the judge: two models' answers to a task, in this order."""

    task: Task
    first: str
    second: str
    first_answer: str
    second_answer: str

    @property
    def key(self) -> str:
        """Changes with whatever could change the verdict, but for the judge itself."""
        digest = hashlib.sha256()
        for part in (FORM, self.task.key, *self.models, self.first_answer, self.second_answer):
            digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
        return digest.hexdigest()[:24]

    @property
    def models(self) -> tuple[str, str]:
        return self.first, self.second

    @property
    def identical(self) -> bool:
        """A tie, whoever judges: it need not be asked."""
        return self.first_answer.strip() == self.second_answer.strip()

    def swapped(self) -> Comparison:
        return Comparison(self.task, self.second, self.first, self.second_answer, self.first_answer)


def comparisons(
    answers: Iterable[Answers],
    models: Sequence[str],
    *,
    budget: int,
    seed: int,
    quality: Mapping[str, float] | None = None,
    opponents: int = OPPONENTS,
) -> tuple[Comparison, ...]:
    """What to ask, each pair in both orders one after the other; task after task in turn.

    ``budget`` is the most questions; identical answers cost none. ``quality`` is each model's
    overall score so far, where known. What comes first matters most, so that a run may end early.
    """
    chance = Random(seed)
    tables = [_Table(one, _measured(one, models), opponents) for one in answers]
    chance.shuffle(tables)
    found: list[Comparison] = []
    for pair in _in_turn(tables, _Field(_ranks(quality or {}), chance)):
        if not pair.identical:
            budget -= QUESTIONS_PER_PAIR
            if budget < 0:
                break
        found += (pair, pair.swapped())
    return tuple(found)


def _in_turn(tables: Sequence[_Table], field: _Field) -> Iterator[Comparison]:
    """One more pair of each task, round after round, until no task has any left."""
    while tables:
        going_on = []
        for table in tables:
            if (pair := table.next_pair(field)) is not None:
                going_on.append(table)
                yield pair
        tables = going_on


def _measured(answers: Answers, models: Sequence[str]) -> list[str]:
    return [model for model in dict.fromkeys(models) if answers.texts.get(model) is not None]


def _ranks(quality: Mapping[str, float]) -> dict[str, int]:
    ordered = sorted(quality, key=lambda model: (quality[model], model))
    return {model: rank for rank, model in enumerate(ordered)}


class _Field:
    """Who met whom so far, in all tasks."""

    def __init__(self, ranks: Mapping[str, int], chance: Random) -> None:
        self.times: Counter[str] = Counter()
        self.chance = chance
        self._ranks = ranks
        self._met: Counter[frozenset[str]] = Counter()

    def meet(self, one: str, other: str) -> None:
        self.times.update((one, other))
        self._met[frozenset((one, other))] += 1

    def distance(self, one: str, other: str) -> int:
        """Ranks apart, dearer with every meeting, so that far ones meet now and then."""
        apart = 1
        if one in self._ranks and other in self._ranks:
            apart = abs(self._ranks[one] - self._ranks[other])
        return apart * (1 + self._met[frozenset((one, other))])


class _Table:
    """One task: who has met whom in it."""

    def __init__(self, answers: Answers, models: Sequence[str], opponents: int) -> None:
        self._answers = answers
        self._opponents = opponents
        self._met: dict[str, set[str]] = {model: set() for model in models}

    def next_pair(self, field: _Field) -> Comparison | None:
        """The model that was compared least, and the best opponent that it has left."""
        for one in sorted(
            self._open(), key=lambda m: (*self._times(m, field), field.chance.random())
        ):
            free = [m for m in self._open() if m != one and m not in self._met[one]]
            if free:
                other = min(free, key=lambda m: self._fitness(one, m, field))
                return self._meet(one, other, field)
        return None

    def _open(self) -> list[str]:
        return [model for model, met in self._met.items() if len(met) < self._opponents]

    def _times(self, model: str, field: _Field) -> tuple[int, int]:
        return len(self._met[model]), field.times[model]

    def _fitness(self, one: str, other: str, field: _Field) -> tuple[int, int, int, float]:
        here, overall = self._times(other, field)
        return here, field.distance(one, other), overall, field.chance.random()

    def _meet(self, one: str, other: str, field: _Field) -> Comparison:
        self._met[one].add(other)
        self._met[other].add(one)
        field.meet(one, other)
        texts = self._answers.texts
        return Comparison(self._answers.task, one, other, texts[one] or "", texts[other] or "")
