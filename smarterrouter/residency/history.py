"""What happened to models lately, and why. Keeps the last few hundred events; decides nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from smarterrouter.domain.models import ModelRef

KEPT = 500


class Kind(StrEnum):
    LOAD = "load"
    LOAD_FAILED = "load failed"
    UNLOAD = "unload"
    UNLOAD_FAILED = "unload failed"
    ADOPTED = "adopted"
    LOST = "lost"


class Happening(Struct, frozen=True):
    """One event. ``at`` is in Unix seconds, ``seconds`` how long it took, ``bytes`` what the model
    held before or after; ``why`` is a sentence without a full stop."""

    at: float
    kind: Kind
    model: ModelRef
    why: str
    seconds: float | None = None
    bytes: int | None = None


class History:
    """The last events, oldest first."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.events: deque[Happening] = deque(maxlen=KEPT)
        self._wall = wall

    def add(
        self,
        kind: Kind,
        model: ModelRef,
        why: str,
        *,
        seconds: float | None = None,
        held: int | None = None,
    ) -> None:
        self.events.append(Happening(self._wall(), kind, model, why, seconds, held))
