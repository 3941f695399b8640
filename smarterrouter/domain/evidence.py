"""Evidence: a prompt that every profiled model answered, and how well each did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """One profile prompt. ``scores`` maps a model's id to 0 (wrong) .. 1 (right).

    ``group`` is ``None`` where the source does not say; it is then classified. ``judged`` scores
    compare the models with each other: 0.5 is the middle of that pool, and not half right.
    """

    prompt: str
    group: str | None
    scores: Mapping[str, float]
    judged: bool = False
