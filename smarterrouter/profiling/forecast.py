"""How long will profiling take? A guess from a model's speed, measured or by its size. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.profiles import Depth
from smarterrouter.profiling import speed
from smarterrouter.profiling.asking import CHARACTERS_PER_TOKEN
from smarterrouter.profiling.bench import Options
from smarterrouter.profiling.measuring import LOADS, PARALLEL, READ_S, REPEATS
from smarterrouter.profiling.rig import Pace
from smarterrouter.profiling.task import Task

QUICK_S = 120.0
"""About how long a quick profile takes for each model; what is not asked by then is left out."""

ANSWERED = 0.4
"""The part of its token limit that an answer usually takes."""

ASKED = 0.6
"""The part of the tasks that are usually asked before a model's scores have settled."""

PROBE_TOKENS = 400
SETTLING_S = 3.0
"""Until what a model holds no longer changes."""
AT_ONCE = 4
"""Questions at once, where the model answers so many."""


def expected_s(model: Model, pace: Pace, options: Options) -> float:
    """Seconds for one model, thinking not counted."""
    depth = options.depth
    seconds = 2 * LOADS[depth] * pace.load_s + SETTLING_S
    if Capability.CHAT not in model.capabilities:
        return seconds
    seconds += _speed_s(model, pace, depth) + PROBE_TOKENS / pace.decode_tps
    always = _together_s(options.always, pace)
    if depth is Depth.QUICK:
        usual = _together_s([task for task in options.tasks if task.quick], pace)
        return seconds + min(always + usual, questions_s(seconds))
    usual = ASKED * _together_s(options.tasks, pace)
    return seconds + 2 * (pace.load_s + SETTLING_S) + always + usual


def _together_s(tasks: Iterable[Task], pace: Pace) -> float:
    return sum(task_s(task, pace) for task in tasks) / gain(AT_ONCE)


def questions_s(spent_s: float) -> float:
    """What is left for the questions of a quick profile."""
    return max(QUICK_S / 3, QUICK_S - spent_s)


def rest_asked(left: int, of: int) -> float:
    """The part of the tasks that are left which will probably be asked, of all.

    Whoever was asked more than is usual is asked everything.
    """
    asked = of - left
    return (ASKED * of - asked) / left if left and asked < ASKED * of else 1.0


def gain(at_once: int) -> float:
    """How much sooner several are answered at once than one by one, as is usual."""
    return math.sqrt(at_once)


def task_s(task: Task, pace: Pace) -> float:
    """Seconds for one task, as answers usually are."""
    read = len(task.text) / CHARACTERS_PER_TOKEN / pace.prefill_tps
    return read + ANSWERED * task.max_tokens / pace.decode_tps


def _speed_s(model: Model, pace: Pace, depth: Depth) -> float:
    answers = 2 + REPEATS[depth] * len(speed.LENGTHS)
    each = [length / pace.prefill_tps for length in speed.lengths(model.usable_context)]
    read = REPEATS[depth] * sum(min(seconds, READ_S[depth]) for seconds in each)
    if depth is Depth.FULL:
        answers += sum(PARALLEL)
    return read + answers * speed.ANSWER_TOKENS / pace.decode_tps
