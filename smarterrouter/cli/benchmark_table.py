"""Imported benchmark tables in a terminal; from their report as JSON. Fits 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from smarterrouter.cli.render import DASH, LONGEST_NAME, table_of, within

Row = dict[str, Any]


def show_benchmarks(report: Row) -> None:
    """The tables, and for each model what they say of it, or why nothing."""
    out = Console(highlight=False)
    if not report["tables"]:
        out.print("No table has been imported: `smarterrouter benchmarks import FILE`.")
        return
    out.print(Group(*_parts(report)))


def _parts(report: Row) -> Iterable[RenderableType]:
    yield _tables(report["tables"])
    if report["models"]:
        yield _matches(report["models"])
    if report["used"]:
        yield Text("Routing counts them where little has been measured here.")
    else:
        yield Text("Routing does not count them: set ROUTER_PROFILE_BENCHMARKS=true.")


def _tables(tables: list[Row]) -> Table:
    shown = table_of("table", ("rows", "right"), "imported", ("from", "fold"))
    for one in tables:
        when = datetime.fromtimestamp(one["at"]).strftime("%Y-%m-%d")
        shown.add_row(one["name"], str(one["rows"]), when, Text(one["place"]))
    return shown


def _matches(models: list[Row]) -> Table:
    shown = table_of("model", ("row", "fold"), ("sure", "right"))
    for model in models:
        name = within(model["model"], LONGEST_NAME)
        for number, one in enumerate(model["matches"]):
            shown.add_row("" if number else name, _row(one), _sure(one))
    return shown


def _row(one: Row) -> Text:
    if one["row"] is None:
        near = f" Nearest: {', '.join(one['nearest'])}." if one["nearest"] else ""
        return Text(f"{one['table']}: none, {one['why']}.{near}", style="dim")
    return Text(f"{one['row']} ({one['why']})")


def _sure(one: Row) -> str:
    if one["row"] is None:
        return DASH
    return "by hand" if one["corrected"] else f"{one['score']:.0%}"
