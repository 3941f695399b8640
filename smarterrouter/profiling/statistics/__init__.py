"""How sure are we of a model's score, and when may we stop asking it?

``intervals``: what a mean may be in truth. ``items``: in which order things are asked, and when
it is looked whether they suffice. ``comparing``: two models. ``standing``: the scores in the end.
``stopping``: what to ask next. Pure: the same scores give the same answer, in whatever order they
came. What is promised, with figures: docs/decisions/0014-when-to-stop-asking.md.
"""

from __future__ import annotations

from smarterrouter.profiling.statistics.comparing import POINTS, Gap, gap
from smarterrouter.profiling.statistics.intervals import Interval, interval
from smarterrouter.profiling.statistics.items import LOOKS, Item, Look, Scores, in_order, quota
from smarterrouter.profiling.statistics.standing import GroupScore, Standing, standings
from smarterrouter.profiling.statistics.stopping import Progress, Settled, next_tasks, placed

__all__ = [
    "LOOKS",
    "POINTS",
    "Gap",
    "GroupScore",
    "Interval",
    "Item",
    "Look",
    "Progress",
    "Scores",
    "Settled",
    "Standing",
    "gap",
    "in_order",
    "interval",
    "next_tasks",
    "placed",
    "quota",
    "standings",
]
