"""Has a judge compare the answers that nobody can check, and keeps what comes of it.

Decides what is put before the judge: the answers to judged tasks of all who gave one. Verdicts are
kept as they come, and not asked for again as long as the answers are the same. Scores are kept
only from a judge that can be trusted; else those answers stay unmeasured, and their groups keep
their prior.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Raw, structs

from smarterrouter.domain.profiles import Answer, Figures, PairVerdict, ProfileNotes
from smarterrouter.profiling.checkers.specs import Judged
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.judge import (
    Answers,
    Ask,
    Comparison,
    Judgement,
    JudgeReport,
    Preference,
    Result,
    comparisons,
    run,
    scores,
)
from smarterrouter.profiling.task import Task

MOST_QUESTIONS = 2000
STEP = "judge"


def judged(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Those that need a judge."""
    return tuple(task for task in tasks if isinstance(task.check, Judged))


async def judge(
    notes: ProfileNotes,
    tasks: Sequence[Task],
    ask: Ask,
    name: str,
    *,
    timeout_s: float | None = None,
    heard: Callable[[int, int], None] = lambda number, of: None,
    wall: Callable[[], float] = time.time,
) -> JudgeReport:
    """Ask what has not been asked. ``heard`` is told how many questions were answered, of all.

    ``name`` is the judge's model id: it may be one of those judged. ``timeout_s`` is for an ask
    without a limit of its own; it would count waiting for people's requests, too.
    """
    answers = await asyncio.to_thread(notes.answers)
    wanted = comparisons(
        _answers(tasks, answers), _subjects(answers), budget=MOST_QUESTIONS, seed=1
    )
    earlier = [_result(one) for one in await asyncio.to_thread(notes.verdicts, name)]
    count = 0

    async def keep(comparison: Comparison, result: Result) -> None:
        nonlocal count
        count += 1
        heard(count, len(wanted))
        if result.final:
            await notes.keep(_verdict(name, comparison, result, wall()))

    hearing = await run(wanted, ask, heard=keep, earlier=earlier, timeout_s=timeout_s)
    judgement = scores(wanted, hearing.results, judge=name, gave_up=hearing.gave_up)
    await _keep(notes, answers, judgement, tasks, wall())
    return judgement.report


async def _keep(
    notes: ProfileNotes,
    answers: Sequence[Answer],
    judgement: Judgement,
    tasks: Sequence[Task],
    at: float,
) -> None:
    ours = {task.key for task in tasks}
    for answer in answers:
        if answer.task not in ours or answer.how != How.JUDGED:
            continue
        score = judgement.scores.get(answer.task, {}).get(answer.subject)
        why = judgement.report.why if score is None else f"{judgement.report.judge} compared it"
        if (score, why) != (answer.score, answer.why):
            changed = structs.replace(answer, score=score, why=why, how=How.JUDGED)
            await notes.keep(changed)
    body = Raw(msgspec.json.encode(judgement.report))
    await notes.keep(Figures(identity=STEP, step=judgement.report.judge, body=body, at=at))


def _answers(tasks: Iterable[Task], answers: Sequence[Answer]) -> list[Answers]:
    """What was answered; one that was cut off, say, waits for no judge."""
    texts: dict[str, dict[str, str | None]] = {}
    for answer in answers:
        waits = answer.how == How.JUDGED
        texts.setdefault(answer.task, {})[answer.subject] = answer.text if waits else None
    return [Answers(task, texts[task.key]) for task in tasks if task.key in texts]


def _subjects(answers: Iterable[Answer]) -> list[str]:
    return sorted({answer.subject for answer in answers})


def _result(kept: PairVerdict) -> Result:
    if kept.verdict is None:
        return msgspec.convert({"key": kept.key, "failure": "unreadable", "said": kept.why}, Result)
    return Result(kept.key, Preference(kept.verdict))


def _verdict(name: str, comparison: Comparison, result: Result, at: float) -> PairVerdict:
    return PairVerdict(
        judge=name,
        key=comparison.key,
        task=comparison.task.key,
        first=comparison.first,
        second=comparison.second,
        verdict=result.preference.value if result.preference else None,
        why=result.said,
        at=at,
    )
