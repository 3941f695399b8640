"""How far profiling has come, drawn on stderr: two bars in a terminal, else a line now and then."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from smarterrouter.cli.render import harmless, plain
from smarterrouter.profiling import progress as told
from smarterrouter.profiling.events import Event


class Screen:
    """Use it as a context manager. ``tell`` takes events, ``show`` a daemon's status."""

    def __init__(self) -> None:
        self.progress = told.Progress()
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.fields[name]}", table_column=_column(ratio=1), markup=False),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[left]}", table_column=_column(justify="right")),
            console=self._console,
            expand=True,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._model: TaskID | None = None
        self._all: TaskID | None = None
        self._printed = 0

    def __enter__(self) -> Screen:
        self._bars.start()
        self._model = self._bars.add_task("", name="", left="", total=1)
        self._all = self._bars.add_task("", name="all models", left="", total=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def tell(self, event: Event) -> None:
        self.progress.add(event)
        self.show(self.progress.status())

    def show(self, status: dict[str, Any]) -> None:
        new = min(status["told"] - self._printed, len(status["lines"]))
        for line in status["lines"][len(status["lines"]) - new :] if new else ():
            self._console.print(plain(line), soft_wrap=True)
        self._printed = status["told"]
        if self._model is None or self._all is None:
            return
        step = "waiting: the models are in use" if status["paused"] else status["step"]
        total = max(1, status["asked"] + status["left"])
        self._bars.update(
            self._model,
            name=harmless(step),
            total=total,
            completed=status["asked"],
            left=_left(status["model_left_s"]),
        )
        finished = len(status["done"]) + len(status["failed"])
        share = status["asked"] / total if status["model"] else 0.0
        self._bars.update(
            self._all,
            total=max(1, status["of"]),
            completed=finished + share,
            left=_left(status["all_left_s"]),
        )


def _column(**how: Any) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", **how)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {told.span(seconds)} left"
