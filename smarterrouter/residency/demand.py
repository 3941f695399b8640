"""What loading a model would take, and how it is to be treated. Decides nothing.

The planner is handed one of each for a model, by whoever knows backends and settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from smarterrouter.domain.models import Placing


class Demand(Struct, frozen=True):
    """Memory for one model with one context.

    ``bytes`` is what is reserved and ``least_bytes`` what it is believed to need: a mere estimate
    is reserved with a margin, but a model is not called too large for want of that. ``devices``
    are those it may lie on, empty where nobody counts them. Each device of a split takes
    ``split_bytes`` more. ``grows``: what it holds when it has just been loaded is not all.
    """

    bytes: int
    source: str
    devices: tuple[str, ...] = ()
    placing: Placing = Placing.CHOSEN
    split_bytes: int = 0
    least_bytes: int | None = None
    grows: bool = False

    @property
    def least(self) -> int:
        return self.bytes if self.least_bytes is None else self.least_bytes


@dataclass(frozen=True, slots=True)
class Conduct:
    """``slots``: requests that the model answers at once, ``None`` for any number.

    ``keep_alive_s``: how long it stays when idle; 0 not at all, negative for ever.
    """

    slots: int | None = None
    keep_alive_s: float = -1.0
