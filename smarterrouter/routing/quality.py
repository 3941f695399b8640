"""How likely is a good answer? P(good) for a model, a prompt group and a difficulty.

With evidence: the model's score in the group, shrunk toward its overall score, as few prompts
say little. Without: a prior from parameters and quantisation, and from published scores where the
owner has imported them. All are read at the difficulty
at hand through one curve, so that size matters more the harder the prompt is.

The curve is logistic: logit P = ability - demand. A model of 1 B parameters has ability 0,
and each doubling adds 0.35: straight lines through the scores of eleven open models of 2 to 72 B
have slopes of 0.38 on grade-school sums and 0.27 on reading code, and demands of -0.3 and 1.2.
Demand runs from -4 for a greeting to +2 for the hardest prompts.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from smarterrouter.domain.benchmarks import Published
from smarterrouter.domain.evidence import Evidence
from smarterrouter.domain.models import Model
from smarterrouter.domain.quantisation import quantisation_loss

ABILITY_PER_DOUBLING = 0.35
EASIEST_DEMAND, HARDEST_DEMAND = -4.0, 2.0
MEDIUM_DIFFICULTY = 0.5
SHRINKAGE_PROMPTS = 8.0
SIZE_PROMPTS = 1.0
"""How many measured prompts the prior by size counts as, beside published scores."""
UNKNOWN_PARAMETERS = 7e9


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of a model in one group, at medium difficulty, and from where."""

    ability: float
    why: str

    def at(self, difficulty: float) -> float:
        """P(good) at a difficulty of 0 .. 1."""
        demand = EASIEST_DEMAND + (HARDEST_DEMAND - EASIEST_DEMAND) * difficulty
        return _probability(self.ability - demand)


def prior(model: Model) -> Knowledge:
    """What size and quantisation suggest of a model nobody has measured."""
    return _prior(model.parameters, model.quantization, model.id)


@lru_cache(maxsize=1024)
def _prior(parameters: int | None, quantization: str | None, name: str) -> Knowledge:
    named = None if parameters else parameters_in(name)
    taken = parameters or named or UNKNOWN_PARAMETERS
    ability = ABILITY_PER_DOUBLING * math.log2(taken / 1e9) - quantisation_loss(quantization)
    size = f"{_billions(taken)} parameters" if parameters else "size unknown, taken as 7B"
    if named:
        size = f"{_billions(taken)} parameters by its name"
    return Knowledge(ability, f"not profiled: {size}, {quantization or 'precision unknown'}")


_SIZE = re.compile(
    r"(?<![a-z0-9.])(?:(\d{1,2})x)?(\d{1,4}(?:\.\d{1,3})?)(b|m)(?![a-z0-9])", re.IGNORECASE
)
SHARED_BY_EXPERTS = 0.85
"""An 8x7b has some 47 of 56 B: its experts share a part."""


def parameters_in(name: str) -> float | None:
    """How many parameters a model's name tells: ``qwen2.5:7b``, ``smollm2-135m``, ``8x7b``."""
    found = _SIZE.search(name)
    if found is None:
        return None
    experts, number, unit = found.groups()
    each = float(number) * (1e9 if unit in "bB" else 1e6)
    return (each * int(experts) * SHARED_BY_EXPERTS if experts else each) or None


class ProfiledQuality:
    """Group scores from profile evidence, each shrunk toward the model's overall score.

    Judged scores say something of their own group alone: in any pool their mean is a half.

    Published scores are of other prompts on other scales, so of a model that was profiled they
    say only in which groups it is better than in others, and a few answers outweigh them.
    """

    def __init__(
        self,
        evidence: Sequence[tuple[str, Evidence]] = (),
        published: Mapping[str, Mapping[str, Published]] | None = None,
    ) -> None:
        """``evidence`` pairs each prompt's group with its scores; ``published`` is by model's id
        and group."""
        totals: dict[str, list[float]] = defaultdict(list)
        groups: dict[tuple[str, str], list[float]] = defaultdict(list)
        for group, item in evidence:
            for model, score in item.scores.items():
                if not item.judged:
                    totals[model].append(score)
                groups[model, group].append(score)
        self._totals = {model: (sum(s), len(s)) for model, s in totals.items()}
        self._groups = {key: (sum(s), len(s)) for key, s in groups.items()}
        self._published = published or {}

    def of(self, model: Model, group: str) -> Knowledge:
        """What is known of a model in a group, or else may be supposed."""
        return self.known(model.id, group) or self._supposed(model, group)

    def known(self, model: str, group: str) -> Knowledge | None:
        """What the evidence says of a model id in a group; ``None`` if it was not profiled."""
        if model not in self._totals:
            return None
        right, asked = self._totals[model]
        overall = (right + 0.5) / (asked + 1)
        good, count = self._groups.get((model, group), (0.0, 0))
        likely, weight = good + SHRINKAGE_PROMPTS * overall, count + SHRINKAGE_PROMPTS
        why = f"profiled: {good:.3g} of {count} {group} prompts, {right:.3g} of {asked} in all"
        by_group = self._published.get(model, {})
        if said := by_group.get(group):
            usual = fmean(_logit(one.probability) for one in by_group.values())
            leaning = _logit(said.probability) - usual
            likely += said.weight * _probability(_logit(overall) + leaning)
            weight += said.weight
            why = f"{why}; {said.why}"
        return Knowledge(_ability_from(likely / weight), why)

    def _supposed(self, model: Model, group: str) -> Knowledge:
        by_size = prior(model)
        said = self._published.get(model.id, {}).get(group)
        if said is None:
            return by_size
        share = said.weight / (said.weight + SIZE_PROMPTS)
        ability = share * _ability_from(said.probability) + (1.0 - share) * by_size.ability
        return Knowledge(ability, f"{said.why}; {by_size.why}")


def _ability_from(rate: float) -> float:
    """The ability whose P(good) at medium difficulty is ``rate``."""
    demand = EASIEST_DEMAND + (HARDEST_DEMAND - EASIEST_DEMAND) * MEDIUM_DIFFICULTY
    return demand + _logit(rate)


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def _billions(parameters: float) -> str:
    return f"{parameters / 1e9:.2g}B" if parameters < 1e10 else f"{parameters / 1e9:.0f}B"
