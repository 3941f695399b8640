"""Imported benchmark tables in a terminal; from their report as JSON. Fits 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from smarterrouter.cli.render import DASH, add, plain, table_of

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
        yield _matches(report["models"], several=len(report["tables"]) > 1)
    if report["used"]:
        yield Text("Routing counts them where little has been measured here.")
    else:
        yield Text("Routing does not count them: set ROUTER_PROFILE_BENCHMARKS=true.")


def _tables(tables: list[Row]) -> Table:
    shown = table_of("table", ("rows", "right"), "imported", ("from", "fold"))
    for one in tables:
        when = datetime.fromtimestamp(one["at"]).strftime("%Y-%m-%d")
        few = "" if one["compares"] else " (too few rows to compare with: it counts for nothing)"
        add(shown, one["name"], str(one["rows"]), when, one["place"] + few)
    return shown


def _matches(models: list[Row], *, several: bool) -> Table:
    """Each model with the rows that speak of it; where none does, the best reason why."""
    shown = table_of(("model", "fold"), ("row", "fold"), ("sure", "right"))
    for model in models:
        found = [one for one in model["matches"] if one["row"]]
        for number, one in enumerate(found):
            name = "" if number else model["model"]
            told = [one["table"]] * several
            told += [one["why"]] * (not one["corrected"] and one["score"] < 1)
            row = one["row"] + (f" ({', '.join(told)})" if told else "")
            add(shown, name, row, "by hand" if one["corrected"] else f"{one['score']:.0%}")
        if not found:
            add(shown, model["model"], plain(_why_none(model["matches"]), "dim"), DASH)
    return shown


def _why_none(matches: list[Row]) -> str:
    """Of all tables, what the one says that came nearest."""
    nearest = max(matches, key=lambda one: (one["corrected"], bool(one["nearest"])))
    return f"none: {nearest['why']}"
