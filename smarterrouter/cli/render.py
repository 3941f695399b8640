"""How a decision looks in a terminal. Decides nothing; takes the JSON form that everyone prints."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SHOWN = 0.0005
"""A term below this in every candidate changes nothing, and its column is left out."""

DASH = "\N{EN DASH}"


def show_decision(decision: dict[str, Any], explain: bool) -> None:
    """The winner; with ``explain`` also every candidate's terms and every rejection."""
    out = Console(highlight=False)
    if not explain:
        out.print(decision["model"] or DASH, markup=False, soft_wrap=True)
        return
    needs = [need for need in decision["needs"] if need != "chat"]
    wants = f", needs {' and '.join(needs)}" if needs else ""
    out.print(
        f"{decision['group']} ({decision['category']}), {decision['difficulty']} "
        f"{decision['difficulty_score']:.2f}, about {decision['prompt_tokens']} tokens{wants}",
        markup=False,
    )
    if decision["candidates"]:
        out.print(_candidates(decision["candidates"]))
        out.print(_reasons(decision["candidates"][0]))
    if decision["rejected"]:
        out.print(_rejected(decision["rejected"]))
    out.print(decision["why"], style="bold", markup=False)


def _candidates(candidates: list[dict[str, Any]]) -> Table:
    every = [term for candidate in candidates for term in candidate["terms"]]
    names = list(dict.fromkeys(term["name"] for term in every if abs(term["value"]) >= SHOWN))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=16)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("score", justify="right", style="bold", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("loaded", no_wrap=True)
    for candidate in candidates:
        terms = {term["name"]: term["value"] for term in candidate["terms"]}
        seconds = candidate["expected_seconds"]
        table.add_row(
            candidate["model"],
            *(f"{terms[name]:+.3f}" if name in terms else DASH for name in names),
            f"{candidate['score']:.3f}",
            DASH if seconds is None else f"{seconds:.1f}",
            "yes" if candidate["resident"] else "no",
        )
    return table


def _reasons(winner: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for term in winner["terms"]:
        table.add_row(term["name"], f"{term['value']:+.3f}", term["why"])
    return table


def _rejected(rejected: list[dict[str, Any]]) -> Table:
    table = Table("rejected", "why", box=box.SIMPLE_HEAD, pad_edge=False)
    for rejection in rejected:
        table.add_row(rejection["model"], rejection["reason"])
    return table
