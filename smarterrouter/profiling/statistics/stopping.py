"""What to ask a model next, and of which groups enough is known.

1. Every group is asked up to the first look (``items.LOOKS``).
2. At a look a model's place is settled when, for each model that was asked as much, it is unlikely
   that the one ahead is in truth 15 points or more behind; and when its own score is known well
   enough for the models to come. If it is not, all groups are asked up to the next look.
3. If it is settled, groups in which the rest may well change who is best are asked further, the
   most doubtful for its tokens first, as long as the model stays below ``SPENT`` of its tokens.
4. A group that is left out at a look stays so. At the last look everything was asked.

Only what belongs to a look is looked at then, so it does not matter in which order the answers
came, how many at a time, or whether the run was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from smarterrouter.profiling.statistics.comparing import NORMAL, POINTS, Gap, gap, overall
from smarterrouter.profiling.statistics.intervals import Weighed
from smarterrouter.profiling.statistics.items import LOOKS, Item, Scores, in_order, quota
from smarterrouter.profiling.statistics.standing import Drawn, drawn_in

RISK = 0.005
"""How likely an order that is wrong by ``POINTS`` may be at a look."""

PROMISED = 0.01
"""How likely it may be in the end."""

CERTAINLY_NOT = 0.0005
"""A likelihood that is not worth a word."""

SPENT = 0.62
"""The part of all tokens that a model may spend whose place is settled."""

ENOUGH = 0.9
"""The part of what the first look takes that another model was asked, to be compared with."""

DOUBTFUL = 0.15
"""From this likelihood on that the rest would change who is best of a group, it is asked."""


class Settled(Struct, frozen=True):
    """Why there is nothing more to ask. ``certainty`` from 0 to 1: how sure it is who is better;
    ``None`` where there is nobody to compare with."""

    why: str
    certainty: float | None
    asked: int
    of: int


class Progress(Struct, frozen=True):
    """``ask`` these next; nothing when it is done. ``groups`` that are settled, by name.

    ``overall`` is the model's place among all, once that is settled.
    """

    ask: tuple[Item, ...]
    groups: dict[str, Settled]
    overall: Settled | None = None

    @property
    def done(self) -> bool:
        return not self.ask


_Order = Mapping[str, tuple[Item, ...]]


class _View(Struct, frozen=True):
    """What is seen at a look: the order, own scores so far, and those of models to compare with."""

    order: _Order
    model: str
    mine: Scores
    rivals: dict[str, Scores]

    @property
    def items(self) -> list[Item]:
        return [item for members in self.order.values() for item in members]


def next_tasks(
    items: Sequence[Item],
    scores: Mapping[str, Scores],
    model: str,
    *,
    at_once: int = 8,
    seed: int = 0,
) -> Progress:
    """At most ``at_once`` prompts for ``model``, given the scores of all models so far.

    A prompt whose key is in a model's scores was asked, also if its score is ``None``.
    """
    order, mine = in_order(items, seed), scores.get(model, {})
    rivals = _rivals(order, scores, model)
    going, settled, place = set(order), dict[str, Settled](), None
    upto = dict.fromkeys(order, 0)
    for look in LOOKS:
        upto |= {group: quota(look, len(order[group])) for group in going}
        if missing := _missing(order, upto, mine):
            return Progress(missing[:at_once], settled, place)
        seen = {i.key: mine[i.key] for g, members in order.items() for i in members[: upto[g]]}
        view = _View(order, model, seen, rivals)
        place = _place(view, last=look is LOOKS[-1])
        drawn = drawn_in(order, {**rivals, model: seen})
        wanted = _wanted(view, drawn, going, upto) if place else going
        settled |= {group: _group(view, group, drawn) for group in sorted(going - wanted)}
        going = wanted
    return Progress((), settled, place)


def placed(items: Sequence[Item], scores: Mapping[str, Scores], model: str) -> Settled | None:
    """Where a model stands among all that were asked as much, by all that is known now."""
    order, mine = in_order(items, 0), scores.get(model, {})
    seen = {i.key: mine[i.key] for members in order.values() for i in members if i.key in mine}
    return _place(_View(order, model, seen, _rivals(order, scores, model)), last=True)


def _rivals(order: _Order, scores: Mapping[str, Scores], model: str) -> dict[str, Scores]:
    """The other models that were asked about as much as this one will be, or more."""
    keys = [item.key for members in order.values() for item in members]
    enough = ENOUGH * sum(quota(LOOKS[0], len(members)) for members in order.values())
    return {
        name: {key: theirs[key] for key in keys if key in theirs}
        for name, theirs in sorted(scores.items())
        if name != model and sum(key in theirs for key in keys) >= max(1, enough)
    }


def _missing(order: _Order, upto: Mapping[str, int], mine: Scores) -> tuple[Item, ...]:
    """What is still to be asked for a look, group by group in turn."""
    found = [
        ((place + 1) / len(members), group, item)
        for group, members in order.items()
        for place, item in enumerate(members[: upto[group]])
        if item.key not in mine
    ]
    return tuple(item for *_, item in sorted(found, key=lambda one: one[:2]))


def _place(view: _View, *, last: bool) -> Settled | None:
    """Whether, and how surely, it is known where the model stands among all."""
    asked, of = len(view.mine), len(view.items)
    own = overall(view.items, view.mine)
    gaps = {name: gap(view.items, view.mine, theirs) for name, theirs in view.rivals.items()}
    known = {name: found for name, found in gaps.items() if found}
    close = any(found.risk > RISK for found in known.values())
    if not last and (close or not _known_well(own, of)):
        return None
    if not known:
        return Settled("there is no other model to compare it with", None, asked, of)
    nearest = min(known, key=lambda name: (known[name].certainty, name))
    return Settled(_against(nearest, known[nearest]), known[nearest].certainty, asked, of)


def _against(rival: str, found: Gap) -> str:
    where = "ahead of" if found.ahead > 0 else "behind"
    sure = f"{100 * found.certainty:.0f} % sure that it is {where} {rival}, the nearest to it"
    if found.risk < CERTAINLY_NOT:
        return sure
    other = "behind" if found.ahead > 0 else "ahead"
    return (
        f"{sure}, and {100 * (1 - found.risk):.1f} % that it is not {100 * POINTS:.0f} points or "
        f"more {other}"
    )


def _known_well(own: Weighed | None, of: int) -> bool:
    """Whether another model just as good, once asked everything, could be told from it."""
    if own is None:
        return False
    variance = own.variance + 0.25 / own.answers
    allowed = POINTS / NORMAL.inv_cdf(1 - PROMISED)
    return variance / own.answers + variance / of <= allowed**2


def _wanted(view: _View, drawn: Drawn, going: set[str], upto: Mapping[str, int]) -> set[str]:
    """Of the groups still asked, those in which it is worth it, within what may be spent."""
    left = SPENT * _tokens(view.items)
    left -= math.fsum(_tokens(members[: upto[group]]) for group, members in view.order.items())
    likely: list[tuple[float, str, float]] = []
    for group in sorted(going):
        rest = view.order[group][upto[group] :]
        change = _change(drawn, view, group, len(rest))
        if rest and change >= DOUBTFUL:
            likely.append((-change / max(_tokens(rest), 1e-9), group, _tokens(rest)))
    wanted = set()
    for _, group, tokens in sorted(likely):
        if tokens <= left:
            wanted.add(group)
            left -= tokens
    return wanted


def _change(drawn: Drawn, view: _View, group: str, rest: int) -> float:
    """How likely asking the rest would change whether the model is the best of a group."""
    best = _best_other(drawn, view, group)
    mine = drawn.get(view.model, {}).get(group)
    if best is None or mine is None:
        return 0.0
    still = mine[1] * math.sqrt(rest / len(view.order[group]))
    return NORMAL.cdf(-abs(mine[0] - drawn[best][group][0]) / still) if still else 0.0


def _best_other(drawn: Drawn, view: _View, group: str) -> str | None:
    others = _others(drawn, view, group)
    return max(others, key=lambda name: (drawn[name][group][0], name), default=None)


def _others(drawn: Drawn, view: _View, group: str) -> list[str]:
    return [name for name in view.rivals if group in drawn.get(name, {})]


def _group(view: _View, group: str, drawn: Drawn) -> Settled:
    """Why a group is asked no further."""
    members = view.order[group]
    asked = sum(item.key in view.mine for item in members)
    best = _best_other(drawn, view, group)
    mine = drawn.get(view.model, {}).get(group)
    every = "all its prompts were asked" if asked == len(members) else ""
    if best is None or mine is None:
        return Settled(every or "its score is known well enough", None, asked, len(members))
    surely = {
        name: _surely_better(mine, drawn[name][group]) for name in _others(drawn, view, group)
    }
    sure = max(0.0, 1.0 - math.fsum(1.0 - one for one in surely.values()))
    why = f"{100 * sure:.0f} % sure that it is the best of {group} so far"
    if mine[0] <= drawn[best][group][0]:
        sure = 1.0 - surely[best]
        why = f"{100 * sure:.0f} % sure that {best} is better at {group}"
    return Settled(f"{every}; {why}" if every else why, sure, asked, len(members))


def _surely_better(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How sure it is that the first of two drawn scores is truly the higher."""
    return NORMAL.cdf((one[0] - other[0]) / math.hypot(one[1], other[1]))


def _tokens(items: Iterable[Item]) -> float:
    return math.fsum(item.tokens for item in items)
