"""What one question to a judge came to. Decides nothing."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Preference(StrEnum):
    """Which answer is better: ``A`` is the one that stood first."""

    A = "A"
    B = "B"
    TIE = "tie"


class Failure(StrEnum):
    """Why there is no preference."""

    UNREADABLE = "unreadable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    FAILED = "failed"


IN_WORDS = {
    Failure.UNREADABLE: "answered nonsense",
    Failure.TIMEOUT: "timed out",
    Failure.OVERLOADED: "was overloaded",
    Failure.UNAVAILABLE: "could not be reached",
    Failure.UNAUTHORIZED: "refused the key",
    Failure.REFUSED: "refused the question",
    Failure.FAILED: "failed",
}
"""What a judge did, as the middle of a sentence."""


class Result(Struct, frozen=True):
    """Either ``preference`` or ``failure`` is set. ``key`` is that of the comparison.

    ``said``: of a failure the error's sentence, or how the unreadable answer ended.
    """

    key: str
    preference: Preference | None = None
    failure: Failure | None = None
    said: str = ""

    @property
    def final(self) -> bool:
        """Asking again would bring the same: the judge has answered, well or not."""
        return self.preference is not None or self.failure is Failure.UNREADABLE
