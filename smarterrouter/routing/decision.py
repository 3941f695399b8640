"""Which model answers this prompt? Hard filters with reasons, then a sum of named terms.

Pure: everything is handed in, nothing is looked up. The terms of a candidate's score:

1. ``quality``     P(good) at medium difficulty, from profile evidence or a prior by size.
2. ``size``        what this prompt's difficulty changes about that.
3. ``speed``       minus the expected seconds, at the neutral price of 0.001 a second.
4. ``preference``  the same seconds at the price that the quality preference adds or takes off:
                   0 pays 0.1 a second (fast), 0.5 the neutral price, 1 next to nothing.
5. ``unknown``     a small charge where no speed is known, so that a known model goes first.
6. ``unproven``    a charge for each capability the prompt needs that nobody has vouched for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct

from smarterrouter.domain.decision import (
    Candidate,
    PromptFeatures,
    Rejection,
    RouteDecision,
    ScoreTerm,
)
from smarterrouter.domain.ids import new_id
from smarterrouter.domain.models import Capability, Model, ModelProfile
from smarterrouter.routing.quality import MEDIUM_DIFFICULTY, Knowledge, ProfiledQuality
from smarterrouter.routing.seconds import Seconds, Standing, expected

NEUTRAL_PRICE = 0.001
PRICE_DECADES = 4.0
UNKNOWN_SPEED_CHARGE = 0.02
UNPROVEN_CHARGE = 0.2
LEAST_ANSWER_TOKENS = 64
TOO_LONG = "context too short"


class Contender(Struct, frozen=True):
    """A model, what was measured of it, and how it stands now."""

    model: Model
    standing: Standing
    profile: ModelProfile | None = None


class Policy(Struct, frozen=True):
    """What the user wants. ``quality_preference`` runs from 0 (fast) to 1 (good)."""

    quality_preference: float = 0.5
    quality: ProfiledQuality = ProfiledQuality()


NEEDS: Mapping[Capability, str] = {
    Capability.CHAT: "cannot chat",
    Capability.EMBEDDING: "makes no embeddings",
    Capability.VISION: "cannot see images",
    Capability.TOOLS: "cannot call tools",
}


def route(
    features: PromptFeatures,
    contenders: Iterable[Contender],
    policy: Policy,
    virtual_model: str | None = None,
) -> RouteDecision:
    """The models that can answer, best first, and the others with the reason against them."""
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for contender in contenders:
        model = contender.model
        obstacle = contender.standing.obstacle
        if reason := objection(model, features) or obstacle:
            rejected.append(Rejection(model.ref, model.id, reason, reason is obstacle))
        else:
            candidates.append(_candidate(contender, features, policy))
    candidates.sort(key=lambda c: (-c.score, c.model))
    return RouteDecision(
        id=f"dec-{new_id()}",
        virtual_model=virtual_model,
        features=features,
        quality_preference=policy.quality_preference,
        candidates=tuple(candidates),
        rejected=tuple(rejected),
    )


def objection(model: Model, features: PromptFeatures) -> str | None:
    """Why the model cannot answer this prompt at all; ``None`` when it can."""
    for need, lacks in NEEDS.items():
        if need in features.needs - model.capabilities - model.uncertain:
            embeds = Capability.EMBEDDING in model.capabilities
            return "is for embeddings only" if need is Capability.CHAT and embeds else lacks
    context = model.usable_context
    answer = min(features.max_tokens or LEAST_ANSWER_TOKENS, LEAST_ANSWER_TOKENS)
    if Capability.EMBEDDING in features.needs:
        answer = 0
    if context is not None and features.prompt_tokens + answer > context:
        return (
            f"{TOO_LONG}: about {features.prompt_tokens} tokens in the prompt, "
            f"{context} in the model"
        )
    return None


def price_per_second(quality_preference: float) -> float:
    """What a second is worth in quality: 0.1 at preference 0, 0.001 at 0.5, 0.00001 at 1."""
    return NEUTRAL_PRICE * math.pow(10.0, PRICE_DECADES * (0.5 - quality_preference))


def _candidate(contender: Contender, features: PromptFeatures, policy: Policy) -> Candidate:
    model = contender.model
    knowledge = policy.quality.of(model, features.group)
    seconds = expected(model, contender.profile, features, contender.standing)
    return Candidate(
        ref=model.ref,
        model=model.id,
        quality=knowledge.at(features.difficulty_score),
        expected_seconds=seconds.total if seconds else None,
        resident=contender.standing.resident,
        terms=(
            *_quality_terms(knowledge, features),
            *_speed_terms(seconds, policy.quality_preference),
            *_unproven_terms(model, features),
        ),
    )


def _quality_terms(knowledge: Knowledge, features: PromptFeatures) -> tuple[ScoreTerm, ...]:
    medium = knowledge.at(MEDIUM_DIFFICULTY)
    here = knowledge.at(features.difficulty_score)
    return (
        ScoreTerm("quality", medium, knowledge.why),
        ScoreTerm("size", here - medium, _Hardness(features)),
    )


def _speed_terms(seconds: Seconds | None, preference: float) -> tuple[ScoreTerm, ...]:
    if seconds is None:
        return (ScoreTerm("unknown", -UNKNOWN_SPEED_CHARGE, "neither speed nor size is known"),)
    change = (NEUTRAL_PRICE - price_per_second(preference)) * seconds.total
    return (
        ScoreTerm("speed", -NEUTRAL_PRICE * seconds.total, seconds),
        ScoreTerm("preference", change, _Price(preference)),
    )


class _Hardness(Struct, frozen=True):
    features: PromptFeatures

    def __str__(self) -> str:
        return f"{self.features.difficulty} prompt ({self.features.difficulty_score:.2f})"


class _Price(Struct, frozen=True):
    preference: float

    def __str__(self) -> str:
        price = price_per_second(self.preference)
        return f"quality preference {self.preference:g} prices a second at {price:.2g}"


def _unproven_terms(model: Model, features: PromptFeatures) -> tuple[ScoreTerm, ...]:
    unproven = sorted(features.needs & model.uncertain)
    if not unproven:
        return ()
    why = f"its backend does not say whether it can do {', '.join(unproven)}"
    return (ScoreTerm("unproven", -UNPROVEN_CHARGE * len(unproven), why),)
