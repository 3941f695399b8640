"""How a decision looks in a terminal. Decides nothing; takes the JSON form that everyone prints."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN = 0.0005
"""A term below this in every candidate changes nothing, and its column is left out."""

DASH = "\N{EN DASH}"
LONGEST_NAME = 25
_CONTROLS = dict.fromkeys(
    {*range(32), *range(127, 160)} - set(b"\t\n\r"), "\N{REPLACEMENT CHARACTER}"
)


def harmless(text: str) -> str:
    """Without the characters that a terminal would take for orders."""
    return text.translate(_CONTROLS)


def plain(text: str, style: str = "") -> Text:
    """Names and other free text as they are: brackets in them are no markup."""
    return Text(harmless(text), style=style)


def add(table: Table, *cells: str | Text, style: str = "") -> None:
    """A row of plain text."""
    table.add_row(*(plain(one) if isinstance(one, str) else one for one in cells), style=style)


def show_decision(decision: dict[str, Any], explain: bool) -> None:
    """The winner; with ``explain`` also every candidate's terms and every rejection."""
    out = Console(highlight=False)
    if not explain:
        if decision["model"]:
            out.print(plain(decision["model"]), soft_wrap=True)
        return
    needs = [need for need in decision["needs"] if need != "chat"]
    wants = f", needs {' and '.join(needs)}" if needs else ""
    seen = (
        f"{decision['group']} ({decision['category']}), {decision['difficulty']} "
        f"{decision['difficulty_score']:.2f}, about {decision['prompt_tokens']} tokens{wants}"
    )
    out.print(plain(seen))
    if decision["candidates"]:
        out.print(_candidates(decision["candidates"]))
        out.print(_reasons(decision["candidates"][0]))
    if decision["rejected"]:
        out.print(_rejected(decision["rejected"]))
    if decision["candidates"]:
        out.print(plain(decision["why"], "bold"))


def _candidates(candidates: list[dict[str, Any]]) -> Table:
    every = [term for candidate in candidates for term in candidate["terms"]]
    names = list(dict.fromkeys(term["name"] for term in every if abs(term["value"]) >= SHOWN))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("score", justify="right", style="bold", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("loaded", no_wrap=True)
    for candidate in candidates:
        terms = {term["name"]: term["value"] for term in candidate["terms"]}
        seconds = candidate["expected_seconds"]
        add(
            table,
            within(candidate["model"], LONGEST_NAME),
            *(f"{terms[name]:+.3f}" if name in terms else DASH for name in names),
            f"{candidate['score']:.3f}",
            DASH if seconds is None else f"{seconds:.1f}",
            "yes" if candidate["resident"] else "no",
        )
    return table


def within(name: str, length: int) -> str:
    """A name that is too long, with its middle left out: its end tells the quantisation."""
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def _reasons(winner: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for term in winner["terms"]:
        add(table, term["name"], f"{term['value']:+.3f}", term["why"])
    return table


def _rejected(rejected: list[dict[str, Any]]) -> Table:
    table = Table("rejected", "why", box=box.SIMPLE_HEAD, pad_edge=False)
    for rejection in rejected:
        add(table, rejection["model"], rejection["reason"])
    return table


def show_models(models: list[dict[str, Any]]) -> None:
    """One line a model; an unknown figure is a dash."""
    out = Console(highlight=False)
    if not models:
        out.print("There is no model. `smarterrouter doctor` says what is wrong.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=16)
    table.add_column("backend", overflow="fold")
    for name in ("size", "params", "quant", "context"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("can", overflow="fold")
    table.add_column("loaded", no_wrap=True)
    for model in models:
        known = model.get("meta") or {}
        add(
            table,
            model["id"],
            " ".join(model.get("homes") or [str(model.get("owned_by") or DASH)]),
            _short(known.get("size"), "B"),
            _short(known.get("n_params")),
            known.get("ftype") or DASH,
            str(model.get("context_length") or DASH),
            " ".join(model.get("capabilities") or [DASH]),
            "yes" if model.get("loaded") else "no",
        )
    out.print(table)


def show_findings(findings: list[dict[str, Any]]) -> None:
    """One line a finding, and its remedy below it."""
    out = Console(highlight=False)
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        status = finding["status"]
        found = plain(finding["found"])
        if finding["remedy"]:
            found.append(harmless(f"\n{finding['remedy']}"), style="bold")
        add(table, Text(status, style=colours[status]), finding["check"], found)
    out.print(table)


def _short(count: float | None, unit: str = "") -> str:
    """Three digits and a magnitude: 98.1M, 7.6G."""
    if not count:
        return DASH
    for magnitude, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= magnitude:
            return f"{count / magnitude:.3g}{letter}{unit}"
    return f"{count:g}{unit}"


def table_of(*columns: str | tuple[str, str]) -> Table:
    """An empty table; a column is its name, or its name and ``right`` or ``fold`` (may wrap)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        name, how = column if isinstance(column, tuple) else (column, "left")
        folds = how == "fold"
        table.add_column(
            name,
            justify="right" if how == "right" else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    return table
