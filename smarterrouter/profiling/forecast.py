"""How long will profiling take? A guess from a model's speed, measured or by its size. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.profiles import Depth
from smarterrouter.profiling import speed
from smarterrouter.profiling.asking import CHARACTERS_PER_TOKEN
from smarterrouter.profiling.measuring import LOADS, PARALLEL, REPEATS
from smarterrouter.profiling.rig import Pace
from smarterrouter.profiling.task import Task

QUICK_S = 120.0
"""About how long a quick profile takes for each model; what is not asked by then is left out."""

ANSWERED = 0.4
"""The part of its token limit that an answer usually takes."""

ASKED = 0.6
"""The part of the tasks that are usually asked before a model's scores have settled."""

PROBE_TOKENS = 800


def expected_s(model: Model, pace: Pace, tasks: Iterable[Task], depth: Depth) -> float:
    """Seconds for one model, thinking not counted."""
    seconds = 2 * LOADS[depth] * pace.load_s
    if Capability.CHAT not in model.capabilities:
        return seconds + 5.0
    seconds += _speed_s(model, pace, depth) + PROBE_TOKENS / pace.decode_tps
    if depth is Depth.QUICK:
        asked = sum(task_s(task, pace) for task in tasks if task.quick)
        return seconds + min(asked, QUICK_S)
    return seconds + ASKED * sum(task_s(task, pace) for task in tasks)


def task_s(task: Task, pace: Pace) -> float:
    """Seconds for one task, as answers usually are."""
    read = len(task.text) / CHARACTERS_PER_TOKEN / pace.prefill_tps
    return read + ANSWERED * task.max_tokens / pace.decode_tps


def _speed_s(model: Model, pace: Pace, depth: Depth) -> float:
    answers = 2 + REPEATS[depth] * len(speed.LENGTHS)
    read = REPEATS[depth] * sum(speed.lengths(model.usable_context)) / pace.prefill_tps
    if depth is Depth.FULL:
        answers += sum(PARALLEL)
    return read + answers * speed.ANSWER_TOKENS / pace.decode_tps
