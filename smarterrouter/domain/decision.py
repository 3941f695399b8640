"""What a routing decision says: the prompt's features, every candidate's terms, every rejection.

Only the shape lives here; ``routing`` makes them, and everybody else prints them.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from smarterrouter.domain.models import Capability, ModelRef

LEAST_LEAD = 0.0005
"""A smaller lead is none that anybody could see in three decimals."""


class Difficulty(StrEnum):
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


class PromptFeatures(Struct, frozen=True):
    """What routing knows of a prompt before any model sees it.

    ``difficulty_score`` runs from 0 (trivial) to 1 (expert); ``prompt_tokens`` is an
    estimate of all messages together; ``answer_tokens`` what an answer usually takes.
    """

    category: str
    group: str
    difficulty: Difficulty
    difficulty_score: float
    prompt_tokens: int
    answer_tokens: int
    max_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()


class ScoreTerm(Struct, frozen=True):
    """One addend of a candidate's score. ``basis`` says why, when it is put into words."""

    name: str
    value: float
    basis: object

    @property
    def why(self) -> str:
        """The reason a person reads."""
        return str(self.basis)


class Candidate(Struct, frozen=True):
    """A model that could answer. ``score`` is exactly the sum of its terms.

    ``quality`` is the estimated probability (0..1) of a good answer; ``expected_seconds``
    covers waiting, loading, reading the prompt and writing the answer.
    """

    ref: ModelRef
    model: str
    quality: float
    expected_seconds: float | None
    resident: bool
    terms: tuple[ScoreTerm, ...]

    @property
    def score(self) -> float:
        return sum(term.value for term in self.terms)

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "backend": self.ref.backend,
            "score": self.score,
            "quality": self.quality,
            "expected_seconds": self.expected_seconds,
            "resident": self.resident,
            "terms": [{"name": t.name, "value": t.value, "why": t.why} for t in self.terms],
        }


class Rejection(Struct, frozen=True):
    """A model that could not answer this prompt at all, and why; ``room``: for want of room."""

    ref: ModelRef
    model: str
    reason: str
    room: bool = False


class RouteDecision(Struct, frozen=True):
    """The order in which models are tried for one prompt, best first."""

    id: str
    virtual_model: str | None
    features: PromptFeatures
    quality_preference: float
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]

    def as_json(self) -> dict[str, object]:
        """The decision as every command and route prints it."""
        seen, chosen = self.features, self.chosen
        return {
            "id": self.id,
            "model": chosen.model if chosen else None,
            "backend": chosen.ref.backend if chosen else None,
            "virtual_model": self.virtual_model,
            "category": seen.category,
            "group": seen.group,
            "difficulty": seen.difficulty.value,
            "difficulty_score": round(seen.difficulty_score, 4),
            "prompt_tokens": seen.prompt_tokens,
            "needs": sorted(seen.needs),
            "quality_preference": self.quality_preference,
            "candidates": [candidate.as_json() for candidate in self.candidates],
            "rejected": [{"model": r.model, "reason": r.reason} for r in self.rejected],
            "why": self.why(),
        }

    def why(self) -> str:
        """The choice in a sentence: what was asked, who won, and what decided it."""
        chosen, seen = self.chosen, self.features
        if chosen is None:
            reasons = "; ".join(f"{one.model} {one.reason}" for one in self.rejected[:5])
            return f"No model can answer this prompt: {reasons or 'there is none'}."
        seconds = chosen.expected_seconds
        pace = "" if seconds is None else f", about {seconds:.1f} s"
        told = (
            f"{chosen.model} for {_article(seen.difficulty.value)} {seen.group} prompt "
            f"(quality {chosen.quality:.2f}{pace})"
        )
        if len(self.candidates) == 1:
            return f"{told}: the only model that can answer it."
        second = self.candidates[1]
        ahead: dict[str, float] = {}
        for term in chosen.terms:
            ahead[term.name] = ahead.get(term.name, 0.0) + term.value
        for term in second.terms:
            ahead[term.name] = ahead.get(term.name, 0.0) - term.value
        name = max(ahead, key=lambda term: ahead[term])
        lead = chosen.score - second.score
        if lead < LEAST_LEAD:
            return f"{told}, level with {second.model}."
        return f"{told}, ahead of {second.model} by {lead:.3f}: {name}."

    @property
    def chosen(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
