"""Which of two answers is better, where nobody can check them: a judge model is asked.

``comparisons`` says what to ask, ``run`` asks it, ``scores`` says what came of it and whether
the judge can be trusted. Only ``running`` and ``endpoint`` have effects.
"""

from __future__ import annotations

from smarterrouter.profiling.judge.counting import Counts, OwnAnswers
from smarterrouter.profiling.judge.endpoint import http_ask
from smarterrouter.profiling.judge.pairs import Answers, Comparison, comparisons
from smarterrouter.profiling.judge.question import question
from smarterrouter.profiling.judge.reading import verdict
from smarterrouter.profiling.judge.report import JudgeReport
from smarterrouter.profiling.judge.results import Failure, Preference, Result
from smarterrouter.profiling.judge.running import Ask, Heard, Hearing, run, wait_s
from smarterrouter.profiling.judge.scoring import Judgement, Tally, scores

__all__ = [
    "Answers",
    "Ask",
    "Comparison",
    "Counts",
    "Failure",
    "Heard",
    "Hearing",
    "JudgeReport",
    "Judgement",
    "OwnAnswers",
    "Preference",
    "Result",
    "Tally",
    "comparisons",
    "http_ask",
    "question",
    "run",
    "scores",
    "verdict",
    "wait_s",
]
