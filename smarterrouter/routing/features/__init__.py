"""Decides what a prompt asks for: its group, its difficulty and its size in tokens.

Looks at text alone: no model, no file, no clock, no settings. It does not choose a model; a
wrong group costs a worse prior, never an answer. ``cues`` holds the vocabulary, ``reading``
adds it up, ``grading`` and ``tokens`` tell difficulty and size.

1. The last user message is read; if it is long enough to speak for itself, that is all.
2. A short one ("and now in Rust?") also counts what the earlier user messages asked, the
   nearest most.
3. The system prompt speaks weakly, and only its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from smarterrouter.domain.chat import Message
from smarterrouter.domain.decision import PromptFeatures
from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.models import Capability
from smarterrouter.routing.features import grading
from smarterrouter.routing.features.grading import EASY_BELOW, HARD_FROM, level
from smarterrouter.routing.features.reading import Reading, read, strongest
from smarterrouter.routing.features.tokens import ECHO, answer_tokens, estimate_tokens

__all__ = [
    "EASY_BELOW",
    "GROUPS",
    "HARD_FROM",
    "answer_tokens",
    "classify",
    "difficulty",
    "estimate_tokens",
    "features",
]

FOLLOW_UP_CHARS = 70
EARLIER_WEIGHTS = (0.8, 0.4, 0.2)
EARLIER_CHARS = 600
SYSTEM_WEIGHT = 0.3
SYSTEM_CHARS = 400
FOLLOW_UP_DIFFICULTY = 0.85
TOKENS_PER_MESSAGE = 5
TOKENS_PER_IMAGE = 768


def classify(text: str) -> str:
    """The group of one text without a conversation around it."""
    return read(text).group


def difficulty(text: str, group: str) -> float:
    """How hard one text is as a task of this group, 0 to 1."""
    return grading.score(read(text), group)


def features(
    messages: Sequence[Message],
    *,
    needs: frozenset[Capability] = frozenset(),
    max_tokens: int | None = None,
) -> PromptFeatures:
    """Everything routing knows of a conversation before any model sees it."""
    asked = _asked(messages)
    own = read(asked[0])
    earlier = _earlier(asked)
    group = strongest(_weighed(own, earlier, _system(messages)))
    score = grading.score(own, group)
    if earlier:
        score = max(score, FOLLOW_UP_DIFFICULTY * grading.score(earlier[0], group))
    material = estimate_tokens(asked[0]) if group in ECHO else 0
    return PromptFeatures(
        category=GROUPS[group],
        group=group,
        difficulty=level(score),
        difficulty_score=score,
        prompt_tokens=_prompt_tokens(messages),
        answer_tokens=answer_tokens(group, score, material, max_tokens),
        max_tokens=max_tokens,
        needs=needs,
    )


def _asked(messages: Sequence[Message]) -> list[str]:
    """What the user said, latest first; without a user, whatever was said last."""
    asked = [message.text for message in reversed(messages) if message.role == "user"]
    if asked:
        return asked
    return [messages[-1].text if messages else ""]


def _earlier(asked: Sequence[str]) -> list[Reading]:
    if len(asked[0]) > FOLLOW_UP_CHARS:
        return []
    return [_read_again(text[:EARLIER_CHARS]) for text in asked[1 : 1 + len(EARLIER_WEIGHTS)]]


def _system(messages: Sequence[Message]) -> Reading | None:
    for message in messages:
        if message.role in ("system", "developer"):
            return _read_again(message.text[:SYSTEM_CHARS])
    return None


_read_again = lru_cache(maxsize=512)(read)
"""System prompts and earlier turns come again with every turn of a conversation."""


def _weighed(own: Reading, earlier: Sequence[Reading], system: Reading | None) -> dict[str, float]:
    scores = dict(own.scores)
    for weight, reading in zip(EARLIER_WEIGHTS, earlier, strict=False):
        for group, score in reading.scores.items():
            scores[group] += weight * score
    if system is not None:
        for group, score in system.scores.items():
            scores[group] += SYSTEM_WEIGHT * score
    return scores


def _prompt_tokens(messages: Sequence[Message]) -> int:
    """All messages together, so that the cost is that of one text however many there are."""
    text = "\n".join(message.text for message in messages)
    images = sum(message.images for message in messages)
    return estimate_tokens(text) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_IMAGE * images
