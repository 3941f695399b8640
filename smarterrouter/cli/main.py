"""The command line's root: names the commands and turns errors into sentences and exit codes.

Imports nothing heavy, so that ``--help`` is instant; each command imports what it runs.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from smarterrouter import __version__
from smarterrouter.cli.benchmarks import benchmarks
from smarterrouter.cli.doctor import doctor
from smarterrouter.cli.models import models
from smarterrouter.cli.profile import profile
from smarterrouter.cli.route import route
from smarterrouter.cli.say import say
from smarterrouter.cli.serve import serve
from smarterrouter.cli.vram import vram
from smarterrouter.errors import ConfigError, SmarterRouterError, Unavailable

FAILED, WRONG_USAGE, UNREACHABLE = 1, 2, 3


class Commands(TyperGroup):
    """Prints our own errors as one sentence on stderr."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SmarterRouterError as error:
            say(f"smarterrouter: {error.message}")
            raise typer.Exit(exit_code(error)) from error


def exit_code(error: SmarterRouterError) -> int:
    """1 it failed, 2 wrong usage, 3 no daemon or backend to be reached."""
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    return UNREACHABLE if isinstance(error, Unavailable) else FAILED


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One OpenAI-compatible address in front of every model on your own hardware.",
)
app.command()(serve)
app.command()(route)
app.command()(models)
app.command()(doctor)
app.add_typer(profile, name="profile")
app.add_typer(benchmarks, name="benchmarks", help="Show and import published benchmark scores.")
app.add_typer(vram, name="vram")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smarterrouter {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The ``smarterrouter`` script."""
    app()
