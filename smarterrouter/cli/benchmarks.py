"""``smarterrouter benchmarks``: what others have published of the models that are here.

Decides nothing about matches: ``profiling.benchmarks`` does. Nothing is fetched unasked, and what
is imported counts only with ``profile.benchmarks``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarterrouter.cli.say import say
from smarterrouter.errors import (
    BadRequest,
    ModelNotFound,
    SmarterRouterError,
    Unavailable,
    known_models,
)

if TYPE_CHECKING:
    from smarterrouter.config import Settings
    from smarterrouter.store.profiles import Profiles

Config = Annotated[Path | None, typer.Option(help="Settings file (TOML).")]
Url = Annotated[
    str | None, typer.Option(envvar="ROUTER_URL", help="The daemon to ask.", show_default=False)
]

OFF = "It counts once ROUTER_PROFILE_BENCHMARKS=true is set; `benchmarks` shows what it says."

benchmarks = typer.Typer(invoke_without_command=True)


@benchmarks.callback()
def listed(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Show imported benchmark tables, and which of their rows speak of which model."""
    if ctx.invoked_subcommand:
        return
    report = _report(_settings(config), url)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    from smarterrouter.cli.benchmark_table import show_benchmarks

    show_benchmarks(report)


@benchmarks.command(name="import")
def import_table(
    place: Annotated[
        str, typer.Argument(help="A file, or an http or https address.", metavar="FILE|URL")
    ],
    config: Config = None,
) -> None:
    """Keep a table: the Open LLM Leaderboard's or the LMSYS arena's, as CSV or JSON."""
    import asyncio
    import time

    from smarterrouter.cli import keeping
    from smarterrouter.profiling.benchmarks.shelf import opened, table
    from smarterrouter.profiling.benchmarks.source import read, without_secrets

    settings = _settings(config)
    raw = asyncio.run(read(place))
    shown = without_secrets(place) if "://" in place else str(Path(place).expanduser().absolute())
    kept = table(raw, shown, time.time())
    before = [one for one in keeping.notes(settings).tables() if one.name == kept.name]
    keeping.write(settings, lambda notes: notes.keep(kept))
    rows = len(opened([kept])[0].rows)
    instead = f" in place of {before[0].place}" if before else ""
    counts, untold = keeping.tell_daemon(settings)
    say(f"{rows} rows kept as {kept.name}{instead}.", untold, None if counts else OFF)


@benchmarks.command()
def match(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    row: Annotated[
        str | None, typer.Argument(help="The row's name, as its table writes it.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No row speaks of this model.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Let the names decide again.")] = False,
    config: Config = None,
) -> None:
    """Say which row speaks of MODEL, where the names do not tell."""
    if (row is not None) + none + auto != 1:
        raise BadRequest("Give the name of a row, or --none, or --auto.")
    from smarterrouter.assembly.known import shelf
    from smarterrouter.cli import keeping
    from smarterrouter.domain.benchmarks import RowChoice
    from smarterrouter.profiling.benchmarks.shelf import no_such_row

    settings = _settings(config)
    kept = shelf(keeping.notes(settings))
    _check(model, settings)
    chosen = kept.tables_with(row) if row else [(one.name, "") for one in kept.tables]
    if not chosen:
        raise no_such_row(kept, row) if row else _nothing_imported()

    async def choose(notes: Profiles) -> None:
        for table, name in chosen:
            if auto:
                await notes.drop_choice(model, table)
            else:
                await notes.keep(RowChoice(model=model, table=table, row=name))

    keeping.write(settings, choose)
    _, untold = keeping.tell_daemon(settings)
    said = "goes by its name again" if auto else f"is {row}" if row else "has no row"
    where = ", ".join(table for table, _ in chosen)
    say(f"{model} {said} in {where}.", untold)


@benchmarks.command()
def drop(
    table: Annotated[str, typer.Argument(help="The table's name, as `benchmarks` shows it.")],
    config: Config = None,
) -> None:
    """Forget a table, and what was said of its rows."""
    from smarterrouter.cli import keeping

    settings = _settings(config)
    names = [one.name for one in keeping.notes(settings).tables()]
    if table not in names:
        there = f"There are {', '.join(names)}." if names else "None has been imported."
        raise SmarterRouterError(f"There is no table {table}. {there}")
    keeping.write(settings, lambda notes: notes.drop_table(table))
    _, untold = keeping.tell_daemon(settings)
    say(f"{table} is forgotten.", untold)


def _report(settings: Settings, url: str | None) -> dict[str, Any]:
    """As the daemon knows it; without one, by what the backends list now."""
    from smarterrouter.cli import client

    answer = client.ask_daemon("/admin/benchmarks", settings, url, timeout_s=60.0)
    if answer is not None:
        return answer
    from smarterrouter.assembly.known import shelf
    from smarterrouter.cli import keeping
    from smarterrouter.cli.deciding import listed_engine

    kept = shelf(keeping.notes(settings))
    try:
        models = listed_engine(settings).catalogue.models if kept.tables else ()
    except Unavailable as error:
        say(f"smarterrouter: {error.message}")
        models = ()
    return kept.report(models, used=settings.profile.benchmarks)


def _settings(config: Path | None) -> Settings:
    from smarterrouter.config import load

    return load(None, config)


def _check(model: str, settings: Settings) -> None:
    """Raises ``ModelNotFound`` for a model that is not there, as far as is known."""
    names = [one["model"] for one in _report(settings, None)["models"]]
    if names and model not in names:
        raise ModelNotFound(f"There is no model '{model}'. {known_models(names)}")


def _nothing_imported() -> SmarterRouterError:
    return SmarterRouterError("No table has been imported: `smarterrouter benchmarks import FILE`.")
