"""All findings as one document: what ``profile --json`` and ``/admin/profiles`` tell. Pure.

Scores run from 0 to 1, with 95 % intervals that hold whenever the asking was stopped. A group that
nothing was measured of is missing: it keeps its prior. Unknown is ``null``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.profiles import Answer, Figures, in_form
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.findings import Found
from smarterrouter.profiling.judging import STEP as JUDGE
from smarterrouter.profiling.judging import judged
from smarterrouter.profiling.quiz import SETTLED, item_of, scores_of
from smarterrouter.profiling.statistics import (
    Interval,
    Item,
    Scores,
    Settled,
    Standing,
    placed,
    standings,
)
from smarterrouter.profiling.task import Task

SCHEMA = 1
Report = dict[str, Any]


class _Reason(Struct, frozen=True):
    """Why a subject's scores had settled, as far as they had; see ``quiz``."""

    groups: dict[str, Settled] = {}
    overall: Settled | None = None


Reasons = Mapping[str, _Reason]
"""By subject."""


def report(found: Sequence[Found], figures: Iterable[Figures], tasks: Sequence[Task]) -> Report:
    """Of all models; ``tasks`` are those that answers may belong to, besides people's own."""
    every, counting = tuple(figures), {one.model.identity for one in found}
    known = {task.id: task.key for task in tasks}
    answers = {
        one.model.model: tuple(a for a in one.answers if known.get(a.task_id, a.task) == a.task)
        for one in found
    }
    flat = [answer for some in answers.values() for answer in some]
    items, scores = _items(tasks, flat), scores_of(flat)
    scored = standings(items, scores)
    reasons = {
        subject: structs.replace(told, overall=told.overall and _place(items, scores, subject))
        for subject, told in _reasons(f for f in every if f.identity in counting).items()
    }
    return {
        "schema": SCHEMA,
        "models": [_model(one, answers[one.model.model], scored, reasons) for one in found],
        "best": _best(scored),
        "judges": [msgspec.json.decode(one.body) for one in every if one.identity == JUDGE],
        "groups": list(GROUPS),
    }


def _place(items: Sequence[Item], scores: Mapping[str, Scores], subject: str) -> Settled | None:
    """Where it stands now, by what it was asked itself: a quick look is no whole one."""
    asked = [item for item in items if item.key in scores.get(subject, {})]
    return placed(asked, scores, subject)


def _items(tasks: Iterable[Task], answers: Iterable[Answer]) -> list[Item]:
    """What could be answered: all bundled tasks that need no judge, and whatever else was."""
    need_judge = {task.key for task in judged(tasks)}
    items = {task.key: item_of(task) for task in tasks if task.key not in need_judge}
    for answer in answers:
        if answer.score is not None:
            items.setdefault(answer.task, Item(answer.task, answer.group, answer.level))
    return list(items.values())


def _reasons(figures: Iterable[Figures]) -> dict[str, _Reason]:
    return {
        one.step.removeprefix(SETTLED): reason
        for one in figures
        if one.step.startswith(SETTLED) and (reason := in_form(one.body, _Reason))
    }


def _model(
    one: Found,
    answers: Sequence[Answer],
    scored: Mapping[str, Standing],
    reasons: Reasons,
) -> Report:
    model, profile = one.model, one.profile
    return {
        "model": model.model,
        "backend": model.backend,
        "imported": one.imported,
        "depth": model.depth,
        "done": model.done,
        "failure": model.failure,
        "at": model.at,
        "size_bytes": model.size_bytes,
        "parameters": model.parameters,
        "quantization": model.quantization,
        "context_length": model.context_length,
        "load_seconds": profile.load_seconds,
        "footprint_bytes": profile.footprint_bytes,
        "load": msgspec.to_builtins(one.load),
        "speed": msgspec.to_builtins(one.speed),
        "parallel": msgspec.to_builtins(one.parallel.rows) if one.parallel else None,
        "memory": msgspec.to_builtins(one.memory),
        "abilities": msgspec.to_builtins(one.abilities.found) if one.abilities else None,
        "dimensions": one.abilities.dimensions if one.abilities else None,
        "candidates": [
            _candidate(subject, answers, scored[subject], reasons.get(subject, _Reason()))
            for subject in one.subjects
            if subject in scored
        ],
    }


def _candidate(
    subject: str, answers: Sequence[Answer], standing: Standing, reason: _Reason
) -> Report:
    own = [answer for answer in answers if answer.subject == subject]
    return {
        "subject": subject,
        "overall": _interval(standing.overall),
        "settled": msgspec.to_builtins(reason.overall),
        "tokens": sum(answer.answer_tokens or 0 for answer in own),
        "seconds": sum(answer.seconds for answer in own),
        "groups": {
            group: {
                "score": score.score,
                **_interval(score.interval),
                **_counts([a for a in own if a.group == group]),
                "settled": msgspec.to_builtins(reason.groups.get(group)),
            }
            for group, score in standing.groups.items()
        },
    }


def _interval(interval: Interval) -> Report:
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "count": interval.count,
    }


def _counts(answers: Sequence[Answer]) -> Report:
    """How many were asked, and how the measured ones were judged."""
    how = Counter(answer.how for answer in answers if answer.score is not None)
    return {
        "asked": len(answers),
        "unmeasured": sum(answer.score is None for answer in answers),
        "parsed": how[How.PARSED],
        "judged": how[How.JUDGED],
    }


def _best(scored: Mapping[str, Standing]) -> Report:
    """Who is best of each group, by the best guess of each, and overall; nobody where no answer
    was right."""
    best: Report = {}
    for group in GROUPS:
        there = {s: one.groups[group] for s, one in scored.items() if group in one.groups}
        if not there:
            continue
        subject = max(there, key=lambda s: (there[s].score, s))
        good = any(one.interval.mean for one in there.values())
        best[group] = {
            "subject": subject if good else None,
            "score": there[subject].score,
            "mean": there[subject].interval.mean,
        }
    measured = [(s, one.overall.mean) for s, one in scored.items() if one.overall.mean is not None]
    if measured:
        subject, mean = measured[0]
        best["overall"] = {"subject": subject if mean else None, "score": mean, "mean": mean}
    return best
