"""Evidence: a prompt that every profiled model answered, and how well each did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """One profile prompt. ``scores`` maps a model's id to 0 (wrong) .. 1 (right).

    ``group`` is ``None`` where the source does not say; it is then classified.
    """

    prompt: str
    group: str | None
    scores: Mapping[str, float]
