"""What the planner is told and handed, and the effects that it answers with. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from smarterrouter.domain.models import ModelRef, Placement
from smarterrouter.errors import SmarterRouterError
from smarterrouter.residency.ledger import Share
from smarterrouter.residency.line import Ticket

Used = Mapping[str, int | None]
"""Used bytes by device, as far as anybody knows."""


class Grant(Struct, frozen=True):
    ticket: Ticket


class Refuse(Struct, frozen=True):
    ticket: Ticket
    error: SmarterRouterError


class StartLoad(Struct, frozen=True):
    model: ModelRef
    placement: Placement
    why: str


class StartUnload(Struct, frozen=True):
    model: ModelRef
    why: str


class Suspect(Struct, frozen=True):
    """What others use is in the way of the model: whose that is should be looked at anew."""

    model: ModelRef


Effect = Grant | Refuse | StartLoad | StartUnload | Suspect


@dataclass(frozen=True, slots=True)
class Limits:
    """``queue_size`` requests may wait at once, each for ``wait_s`` at most; ``patience_s`` how
    long others may go ahead of one that has no room. ``doubt_s``, but no longer than patience
    lasts, is how long what others use may be in the way before it counts as lasting."""

    queue_size: int = 256
    patience_s: float = 30.0
    wait_s: float = 600.0
    doubt_s: float = 10.0


class Held(Struct, frozen=True):
    """What a loaded model was seen to hold. ``share`` is empty where nobody counts devices.

    Not ``certain`` is what its devices held more than before: others may have had a part in that.
    """

    share: Share
    source: str
    context: int | None = None
    reported: int | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device said when it was asked ``at`` that time. ``ours`` is the part of
    ``used_bytes`` that certain models were seen to hold; a device that has gone has no total."""

    total_bytes: int | None
    used_bytes: int | None
    ours: Mapping[ModelRef, int] = field(default_factory=dict)
    at: float = math.inf
