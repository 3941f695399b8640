"""How devices, models and what happened to them look in a terminal; from the daemon's JSON.

Decides nothing else. What fills a bar is told apart by its pattern, so colours only help. Fits 80
columns.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from smarterrouter.cli.render import DASH, LONGEST_NAME, add, plain, within

BAR = 30
SPARE = 7
"""What the name of a device may be long before it takes room from the models' names."""

SHORTEST_NAME = 12
MOST_AWAY = 20
"""With more models that are not loaded, only their number is told."""

Row = dict[str, Any]

OURS, OTHERS = ("models", "green", "\N{FULL BLOCK}"), ("others", "yellow", "\N{MEDIUM SHADE}")
FREE, UNKNOWN = ("free", "dim", "\N{MIDDLE DOT}"), ("unknown", "dim", "?")
"""What a bar shows: its name, its style and what it is drawn with."""


def show_vram(report: Row) -> None:
    """The whole report."""
    Console(highlight=False).print(view(report))


def view(report: Row) -> RenderableType:
    """Devices, then models, then who waits."""
    models = report["models"]
    ours = [model for model in models if model["managed"]]
    parts = [part for device in report["devices"] for part in _device(device)]
    if not parts:
        parts.append("No device tells what memory there is: models are loaded without counting.")
    parts += _models(ours, models, len(report["devices"]))
    parts += _unmanaged([model for model in models if not model["managed"]])
    parts += [plain(line, "bold") for line in _queue(report["queue"])]
    return Group(*parts)


# devices


def _device(device: Row) -> Iterable[RenderableType]:
    total = device["total_bytes"]
    head = Text.assemble(plain(device["id"], "bold"), plain(f"  {device['name']}"))
    if device["gone"]:
        yield head.append(": it has gone", style="red")
    elif not total:
        yield head.append(": its size is not known, so nothing is counted there")
    else:
        line = Table.grid(expand=True)
        line.add_column(no_wrap=True)
        line.add_column(justify="right", style="dim", no_wrap=True)
        add(line, head, f"{gb(total)} GB, {gb(device['budget_bytes'])} for models")
        yield line
        yield _bar(device["own_bytes"], device["foreign_bytes"], total)


def _bar(own: int, foreign: int | None, total: int) -> Text:
    rest = max(0, total - own - (foreign or 0))
    middle = [] if foreign is None else [(OTHERS, foreign)]
    bar, key, left = Text(), Text(), BAR
    for (name, style, mark), count in [(OURS, own), *middle]:
        cells = min(left, _cells(count, total))
        left -= cells
        bar.append(mark * cells, style=style)
        key.append(f"  {mark}", style=style).append(f" {name} {gb(count)}")
    name, style, mark = UNKNOWN if foreign is None else FREE
    bar.append(mark * left, style=style)
    key.append(f"  {mark}", style=style).append(f" {name} {gb(rest)} GB")
    return bar.append(key)


def _cells(count: int, total: int) -> int:
    """How much of the bar; what is there at all is seen."""
    return max(round(BAR * count / total), 1) if count > 0 else 0


# models


def _models(ours: list[Row], every: list[Row], devices: int) -> Iterable[RenderableType]:
    if not every:
        yield "\nThere is no model. `smarterrouter doctor` says what is wrong."
        return
    here = [model for model in ours if _in_memory(model)]
    away = [model for model in ours if not _in_memory(model)]
    if ours and not here:
        yield "\nNo model is loaded."
    shown = away if len(away) <= MOST_AWAY else []
    if here or shown:
        yield _table(here, shown, devices > 1, twice(every))
    if len(away) > len(shown):
        yield Text(f"{len(away)} more are not loaded: `smarterrouter models` lists them.", "dim")
    for model in ours:
        if model["failure"]:
            yield plain(f"{model['model']} failed: {model['failure']}", "red")


def _table(here: list[Row], away: list[Row], several: bool, doubled: set[str]) -> Table:
    """Where there are several devices, their names take room from the models'."""
    held = [_where(model) for model in here] if several else []
    longest = max((len(line) for cell in held for line in cell.splitlines()), default=0)
    room = max(SHORTEST_NAME, LONGEST_NAME - max(0, longest - SPARE))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    if several:
        table.add_column("on", no_wrap=True)
    table.add_column("uses", justify="right", no_wrap=True)
    table.add_column("pin", no_wrap=True)
    table.add_column("idle", justify="right", no_wrap=True)
    for model in [*here, *away]:
        where = [_where(model)] if several else []
        name = within(name_of(model, doubled), room)
        style = "" if _in_memory(model) else "dim"
        add(table, name, *_figures(model), *where, *_uses(model), style=style)
    return table


def _where(model: Row) -> str:
    return "\n".join(one["id"] for one in model["devices"]) or DASH


def _figures(model: Row) -> tuple[str, str, str]:
    return model["state"], gb(model["bytes"]), model["bytes_source"] or DASH


def _uses(model: Row) -> tuple[str, str, str]:
    pinned, limit = "yes" if model["pinned"] else DASH, model["concurrency"]
    if not _in_memory(model):
        return DASH, pinned, DASH
    uses = f"{model['leases']}/{limit}" if limit else str(model["leases"])
    return uses, pinned, "in use" if model["leases"] else length(model["last_used_s"])


def _in_memory(model: Row) -> bool:
    """Whether it holds something, or is on its way in or out."""
    return model["state"] not in ("unloaded", "failed") or bool(model["devices"])


def twice(models: Iterable[Row]) -> set[str]:
    """The ids that several backends have."""
    return {name for name, count in Counter(one["model"] for one in models).items() if count > 1}


def name_of(model: Row, doubled: set[str]) -> str:
    """Its id; with its backend where that alone does not say which is meant."""
    name = str(model["model"])
    return f"{model['backend']}/{name}" if name in doubled else name


def _unmanaged(models: list[Row]) -> Iterable[Text]:
    """A line for each backend that leaves us nothing to load."""
    for backend in dict.fromkeys(model["backend"] for model in models):
        its = [model for model in models if model["backend"] == backend]
        limits = sorted({model["concurrency"] for model in its if model["concurrency"]})
        limit = f"{' or '.join(map(str, limits))} a model" if limits else "none is set"
        count = f"{len(its)} model{'' if len(its) == 1 else 's'}"
        yield plain(
            f"{backend} ({count}) manages its own memory: here only a limit on requests at once "
            f"applies ({limit})."
        )


def _queue(queue: Iterable[Row]) -> Iterable[str]:
    for one in queue:
        many = "1 request waits" if one["waiting"] == 1 else f"{one['waiting']} requests wait"
        yield f"{many} for {one['model']}, for {length(one['oldest_s'])} so far"


# what happened


def show_history(history: Sequence[Row]) -> None:
    """One line a happening, newest first."""
    out = Console(highlight=False)
    if not history:
        out.print("Nothing has been loaded or unloaded since the daemon started.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("when", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in history:
        seconds = one["seconds"]
        add(
            table,
            _when(one["at"]),
            one["kind"],
            within(one["model"], LONGEST_NAME),
            gb(one["bytes"]),
            DASH if seconds is None else f"{seconds:.1f}",
            one["why"],
        )
    out.print(table)


def _when(at: float) -> str:
    """The time of day; before today with the date."""
    then, today = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%m-%d %H:%M", then)


# figures


def gb(count: int | None) -> str:
    """Gigabytes: 12.3, 0.05."""
    if count is None:
        return DASH
    return f"{count / 1e9:.2f}" if 0 < count < 1e9 else f"{count / 1e9:.1f}"


def length(seconds: float | None) -> str:
    """A length of time: 0.3 s, 12 s, 5 min, 3.2 h."""
    if seconds is None:
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
