"""What a checker says of one answer."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class How(StrEnum):
    """``RUN``: code was run; ``PARSED``: it was only read, for it could not be run."""

    CHECKED = "checked"
    RUN = "run"
    PARSED = "parsed"
    JUDGED = "judged"


class Verdict(Struct, frozen=True):
    """``score`` from 0 (wrong) to 1 (right); ``None``: unmeasured. ``why``: for the owner."""

    score: float | None
    why: str
    how: How = How.CHECKED
