"""How far a run of profiling has come: what its events add up to. Pure; the clock is handed in.

The command line draws it, the daemon tells it. Seconds that are left are a forecast: those of the
model at work by its own speed, those of the models after it as they were planned.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from smarterrouter.profiling.events import (
    Answered,
    Event,
    ModelBegan,
    ModelEnded,
    Noted,
    Paused,
    Planned,
    Resumed,
    Skipped,
    StepBegan,
)

LINES_KEPT = 200


class Progress:
    """Feed it every event. ``lines`` are what a person is told, the last ones of ``told``."""

    def __init__(self) -> None:
        self.planned: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.done: list[str] = []
        self.model: str | None = None
        self.step = ""
        self.asked = self.answered = self.left = 0
        self.left_s: float | None = None
        self.paused = False
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.told = 0

    def add(self, event: Event) -> str | None:
        """The line that the event is worth; ``None``: it only moves the bar."""
        line = self._take(event)
        if line:
            self.lines.append(line)
            self.told += 1
        return line

    @property
    def all_left_s(self) -> float | None:
        """What is left of all models."""
        rest = sum(
            seconds
            for name, seconds in self.planned.items()
            if name != self.model and name not in self.done and name not in self.failed
        )
        if self.model is None:
            return rest
        own = self.planned.get(self.model) if self.left_s is None else self.left_s
        return None if own is None else rest + own

    def status(self) -> dict[str, object]:
        """As JSON tells it."""
        return {
            "model": self.model,
            "number": len(self.done) + len(self.failed) + (self.model is not None),
            "of": len(self.planned),
            "step": self.step,
            "asked": self.asked,
            "answered": self.answered,
            "left": self.left,
            "model_left_s": self.left_s,
            "all_left_s": self.all_left_s,
            "paused": self.paused,
            "done": list(self.done),
            "failed": dict(self.failed),
            "skipped": dict(self.skipped),
            "lines": list(self.lines),
            "told": self.told,
        }

    def _take(self, event: Event) -> str | None:
        match event:
            case Planned(models):
                self.planned = dict(models)
            case Skipped(model, why):
                self.skipped[model] = why
                return f"{model}: {why}"
            case ModelBegan(model, number, of):
                self.model, self.step, self.left_s = model, "", None
                self.asked = self.answered = self.left = 0
                return f"{model}: model {number} of {of}"
            case StepBegan(what):
                self.step = what
            case Answered() as answer:
                self._answered(answer)
            case Noted(model, text):
                return f"{model}: {text}"
            case Paused():
                self.paused = True
            case Resumed():
                self.paused = False
            case ModelEnded(model, seconds, failure):
                return self._ended(model, seconds, failure)
        return None

    def _answered(self, answer: Answered) -> None:
        self.step = f"asking: {answer.group}"
        self.asked += 1
        self.answered += answer.score is not None
        self.left, self.left_s = answer.left, answer.left_s

    def _ended(self, model: str, seconds: float, failure: str | None) -> str:
        self.model, self.step, self.left_s = None, "", None
        if failure is None:
            self.done.append(model)
            return f"{model}: done in {span(seconds)}"
        self.failed[model] = failure
        return f"{model}: given up: {failure}"


class Status(Struct, frozen=True):
    """A run as the daemon tells it: ``state`` is running, done, failed or cancelled."""

    task: str
    state: str
    why: str | None
    progress: dict[str, object]


def span(seconds: float) -> str:
    """A length of time as a person says it: 12 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
