"""``smarterrouter profile``: measure every model on this machine, and look at what was found.

A daemon that runs does it itself, since it has the memory; without one it is done right here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarterrouter.cli.say import say
from smarterrouter.errors import BadRequest, SmarterRouterError

if TYPE_CHECKING:
    from smarterrouter.config import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML).")]

profile = typer.Typer(invoke_without_command=True)


@profile.callback()
def run(
    ctx: typer.Context,
    model: Annotated[
        list[str] | None, typer.Option(help="Profile this model alone; may be repeated.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="About two minutes for each model.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Profile anew what has been profiled.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume/--restart", help="Go on where an earlier run was broken off."),
    ] = True,
    judge: Annotated[
        str | None,
        typer.Option(help="Have this model compare open answers; 'biggest' for the largest."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Ask the tasks of this file, too.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run code that models write, under bubblewrap.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it would take.")
    ] = False,
    as_json: AsJson = False,
    models_dir: Annotated[
        str | None,
        typer.Option(help="Profile this folder of GGUF files, with no daemon.", metavar="DIR"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help="The daemon to ask.", show_default=False)
    ] = None,
    config: Config = None,
) -> None:
    """Measure how fast, how large and how good each model is."""
    if ctx.invoked_subcommand:
        return
    from smarterrouter.cli import profiling

    wish = {
        "models": tuple(model or ()),
        "quick": quick,
        "force": force,
        "restart": not resume,
        "judge": judge,
        "prompts": str(prompts.absolute()) if prompts else None,
    }
    if models_dir is not None and _was_typed(ctx, "url"):
        raise BadRequest("Give --models-dir, which needs no daemon, or --url.")
    settings = _settings(models_dir, config)
    place = profiling.place(settings, None if models_dir else url, here=models_dir is not None)
    if dry_run:
        planned = place.plan(wish, allow_code=allow_code)
        _print(planned, as_json, profiling.show_plan)
        return
    report, failed = place.run(wish, allow_code=allow_code)
    _print(report, as_json, profiling.show_report)
    if failed:
        names = ", ".join(failed)
        raise SmarterRouterError(f"Not all could be profiled: {names}. The next run tries again.")


@profile.command()
def show(
    model: Annotated[str | None, typer.Argument(help="The model's id.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show what was found out: a card for MODEL, or a table of all."""
    from smarterrouter.cli import profiling

    report = profiling.kept(_settings(None, config))
    if model is None:
        _print(report, as_json, profiling.show_report)
        return
    found = [one for one in report["models"] if model in (one["model"], _ref(one))]
    if not found:
        names = ", ".join(one["model"] for one in report["models"]) or "none"
        raise SmarterRouterError(f"{model} has not been profiled. Profiled: {names}.")
    _print({"schema": report["schema"], "profile": found[0]}, as_json, profiling.show_card)


@profile.command(name="export")
def export_file(
    file: Annotated[Path, typer.Argument(help="The file to write; - for standard output.")],
    own: Annotated[
        bool, typer.Option("--own", help="With the answers to prompts of your own.")
    ] = False,
    config: Config = None,
) -> None:
    """Write what was found out to FILE, for a friend or for `route --profiles`."""
    from smarterrouter.cli import profiling

    text, told = profiling.exported(_settings(None, config), own=own)
    if str(file) == "-":
        typer.echo(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SmarterRouterError(f"{file} cannot be written: {error.strerror}.") from None
    say(f"{told} written to {file}.")


@profile.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A file that `profile export` wrote.")],
    config: Config = None,
) -> None:
    """Take over what somebody with the same hardware has found out."""
    from smarterrouter.cli import profiling

    say(profiling.imported(_settings(None, config), file))


def _was_typed(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and not only in the environment."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _settings(models_dir: str | None, config: Path | None) -> Settings:
    from smarterrouter.config import load

    flags: dict[str, Any] | None = None
    if models_dir is not None:
        flags = {"provider": "managed", "models_dir": models_dir, "backend": ()}
    return load(flags, config)


def _print(answer: dict[str, Any], as_json: bool, show: Any) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show(answer)


def _ref(one: dict[str, Any]) -> str:
    return f"{one['backend']}/{one['model']}"
