"""What profiling has found out, in a terminal; from its report as JSON. Fits 80 columns.

Decides nothing else. A score is told with the interval that it lies in with 95 % certainty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from smarterrouter.cli.render import DASH, LONGEST_NAME, add, plain, table_of, within
from smarterrouter.profiling.progress import span

BAR = 12
LEGEND = "\N{FULL BLOCK} at least, \N{DARK SHADE} measured, \N{LIGHT SHADE} at most; 95 % sure"
Row = dict[str, Any]


def show_plan(plan: Row) -> None:
    """What would be profiled, and how long it would take."""
    out = Console(highlight=False)
    if plan["models"]:
        table = table_of("model", ("about", "right"))
        for one in plan["models"]:
            add(table, one["model"], span(one["seconds"]))
        out.print(table)
        out.print(f"About {span(plan['seconds'])} in all. Nothing was done.", markup=False)
    else:
        out.print("There is nothing to profile.")
    for model, why in plan["left_out"].items():
        out.print(plain(f"{model}: {why}"))


def show_report(report: Row) -> None:
    """All models, then who is best of what."""
    out = Console(highlight=False)
    if not report["models"]:
        out.print("Nothing has been profiled yet: run `smarterrouter profile`.")
        return
    out.print(Group(*_report(report)))


def show_card(answer: Row) -> None:
    """One model: speed, memory, abilities, and its score in each group."""
    Console(highlight=False).print(Group(*_card(answer["profile"])))


def _report(report: Row) -> Iterable[RenderableType]:
    yield _models(report["models"])
    for one in report["models"]:
        if one["failure"]:
            yield plain(f"{one['model']} was given up: {one['failure']}", "yellow")
        elif not one["done"] and not one["imported"]:
            yield plain(f"{one['model']} is not finished: the next run goes on.", "yellow")
    yield Text(LEGEND, style="dim")
    if report["best"]:
        yield _best(report["best"], report["groups"])
    for judge in report["judges"]:
        yield plain(f"The judge {judge['why']}")
    if missing := [group for group in report["groups"] if group not in report["best"]]:
        yield Text(
            f"Nothing was measured of {', '.join(missing)}: there, size and quantisation count."
        )


def _models(models: Sequence[Row]) -> Table:
    table = table_of(
        "model", "score", ("", "right"), ("tok/s", "right"), ("load", "right"), ("GB", "right")
    )
    for one in models:
        figures = _figures(one)
        names = [one["model"], *[c["subject"] for c in one["candidates"][1:]]]
        scores = [candidate["overall"] for candidate in one["candidates"]] or [None]
        for number, (name, score) in enumerate(zip(names, scores, strict=False)):
            shown = within(name, LONGEST_NAME) + (" *" if one["imported"] else "")
            more = figures if number == 0 else ("", "", "")
            add(table, shown, bar(score), _percent(score), *more)
    if any(one["imported"] for one in models):
        table.caption = "* measured by somebody else"
        table.caption_justify = "left"
    return table


def _figures(one: Row) -> tuple[str, str, str]:
    speed = one["speed"] or {}
    held = one["footprint_bytes"]
    return (
        _number(speed.get("decode_tps")),
        DASH if one["load_seconds"] is None else f"{one['load_seconds']:.1f} s",
        DASH if held is None else f"{held / 1e9:.2f}",
    )


def _best(best: Row, groups: Sequence[str]) -> Table:
    table = table_of("best of", "model", ("measured", "right"), ("likely", "right"))
    for group in [*groups, "overall"]:
        if one := best.get(group):
            style = "bold" if group == "overall" else ""
            row = ("no model gave a right answer", DASH, DASH)
            if one["subject"]:
                name = within(one["subject"], 40)
                row = (name, f"{one['mean']:.0%}", f"{one['score']:.0%}")
            add(table, group, *row, style=style)
    table.caption = "likely: with what its other groups suggest, where few prompts were asked"
    table.caption_justify = "left"
    return table


def _card(one: Row) -> Iterable[RenderableType]:
    yield Text.assemble(plain(one["model"], "bold"), plain(f"  on {one['backend']}{_about(one)}"))
    yield _facts(one)
    for candidate in one["candidates"]:
        yield _candidate(candidate)
    if one["failure"]:
        yield plain(f"It was given up: {one['failure']}", "yellow")
    elif not one["done"] and not one["imported"]:
        yield Text("It is not finished: the next run goes on.", style="yellow")
    if one["candidates"]:
        yield Text(LEGEND, style="dim")


def _about(one: Row) -> str:
    when = datetime.fromtimestamp(one["at"]).strftime("%Y-%m-%d %H:%M")
    who = "imported" if one["imported"] else one["depth"]
    return f", {who}, {when}"


def _facts(one: Row) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in [*_loads(one), *_speeds(one), *_memory(one), *_abilities(one)]:
        add(table, name, text)
    return table


def _loads(one: Row) -> Iterable[tuple[str, str]]:
    load = one["load"]
    if not load:
        return
    kinds = (("from the disk", "cold"), ("from memory", "warm"), ("", "unknown"))
    told = [f"{_seconds(load[key])} {name}".strip() for name, key in kinds if load[key]]
    yield "load", ", ".join(told) or f"not measured: {load['why']}"


def _speeds(one: Row) -> Iterable[tuple[str, str]]:
    speed = one["speed"]
    if not speed:
        return
    counted = "" if one["imported"] else f" by {speed['counters']} counters"
    yield "writes", f"{_number(speed['decode_tps'])} tokens/s{counted}"
    for row in speed["lengths"]:
        first = DASH if row["ttft_s"] is None else f"{row['ttft_s']:.2f} s"
        reads = f"{_number(row['prefill_tps'])} tokens/s, first word after {first}"
        yield f"reads {row['prompt_tokens']}", reads
    for row in one["parallel"] or ():
        slots = f" ({row['slots']} at once)" if row["slots"] else ""
        yield f"{row['requests']} requests", f"{_number(row['tps'])} tokens/s together{slots}"


def _memory(one: Row) -> Iterable[tuple[str, str]]:
    memory = one["memory"]
    if not memory:
        return
    for name, key, why in (("memory", "usual", "why"), ("", "larger", "why_not_larger")):
        if weighed := memory[key]:
            held = ", ".join(f"{n / 1e9:.2f} GB on {d}" for d, n in weighed["devices"].items())
            context = f" with a context of {weighed['context']}" if weighed["context"] else ""
            yield name, f"{held}{context}, {weighed['source']}"
        elif memory[why]:
            yield name, f"{'a larger context: ' if key == 'larger' else ''}{memory[why]}"


def _abilities(one: Row) -> Iterable[tuple[str, str]]:
    for name, ability in (one["abilities"] or {}).items():
        says = {True: "yes", False: "no", None: "unknown"}[ability["able"]]
        yield name, f"{says}: {ability['why']}"


def _candidate(candidate: Row) -> RenderableType:
    table = table_of(
        "group", "measured", ("", "right"), ("likely", "right"), ("asked", "right"), ("", "fold")
    )
    for group, score in candidate["groups"].items():
        likely = DASH if score["mean"] is None else f"{score['score']:.0%}"
        asked, remark = str(score["asked"]), _remark(score)
        add(table, group, bar(score), _percent(score), likely, asked, remark)
    whole = candidate["overall"]
    table.add_section()
    add(table, "overall", bar(whole), _percent(whole), "", str(whole["count"]), "")
    if reason := _settled(candidate):
        table.caption = plain(f"{candidate['subject']}: {reason}", "table.caption")
        table.caption_justify = "left"
    table.title = plain(candidate["subject"], "table.title")
    table.title_justify = "left"
    return table


def _remark(score: Row) -> str:
    parts = []
    if score["unmeasured"]:
        parts.append(f"{score['unmeasured']} unmeasured")
    if score["parsed"]:
        parts.append(f"{score['parsed']} only parsed")
    if score["judged"]:
        parts.append(f"{score['judged']} judged")
    return ", ".join(parts)


def _settled(candidate: Row) -> str:
    settled = candidate["settled"]
    return str(settled["why"]) if settled else ""


def bar(score: Row | None) -> Text:
    """The mean as a bar, its interval in a lighter shade."""
    if score is None or score["mean"] is None:
        return Text(DASH, style="dim")
    low, mean, high = (round(score[key] * BAR) for key in ("low", "mean", "high"))
    text = Text()
    text.append("\N{FULL BLOCK}" * low, style="green")
    text.append("\N{DARK SHADE}" * (mean - low), style="green")
    text.append("\N{LIGHT SHADE}" * (high - mean), style="yellow")
    text.append("\N{MIDDLE DOT}" * (BAR - max(high, mean)), style="dim")
    return text


def _percent(score: Row | None) -> str:
    if score is None or score["mean"] is None:
        return DASH
    return f"{score['mean']:.0%} ({100 * score['low']:.0f}-{100 * score['high']:.0f})"


def _seconds(values: Sequence[float]) -> str:
    return " and ".join(f"{value:.2f} s" for value in values)


def _number(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"
