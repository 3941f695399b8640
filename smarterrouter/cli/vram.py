"""``smarterrouter vram``: what lies in memory, and by whose leave.

Asks a running daemon, for only it knows what is loaded; decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarterrouter.errors import SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.config import Settings

EVERY_S = 1.0
"""How often ``--watch`` looks."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML).")]
Named = Annotated[str, typer.Argument(help="The model's id, or BACKEND/NAME.", metavar="MODEL")]
Url = Annotated[str | None, typer.Option(help="The daemon to ask.", show_default=False)]

vram = typer.Typer(invoke_without_command=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options before a sub-command say; those after it go before them."""

    as_json: bool
    url: str | None
    config: Path | None


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon that was meant."""

    settings: Settings
    url: str | None

    @classmethod
    def meant(cls, ctx: typer.Context, url: str | None, config: Path | None) -> Daemon:
        from smarterrouter.config import load

        before: Asked = ctx.obj
        return cls(load(None, config or before.config), url or before.url)

    def ask(self, path: str, body: Any = None) -> dict[str, Any]:
        """Its answer to a GET, or to a POST of ``body``, which may take as long as it takes.

        Raises ``Unavailable`` when there is none to be reached.
        """
        from smarterrouter.cli.client import DAEMON_TIMEOUT_S, address_of, ask_daemon

        limit_s = DAEMON_TIMEOUT_S if body is None else None
        answer = ask_daemon(path, self.settings, self.url, body, limit_s)
        if answer is None:
            raise Unavailable(
                f"No smarterrouter answers at {address_of(self.settings, None)}. Start one with "
                "`smarterrouter serve`, or give the address of another with --url."
            )
        return answer

    def report(self) -> dict[str, Any]:
        answer = self.ask("/admin/vram")
        if not {"devices", "models", "queue"} <= answer.keys():
            raise Unavailable("What answers there is not smarterrouter.")
        return answer


@vram.callback()
def show(
    ctx: typer.Context,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew every second.")] = False,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help="The daemon to ask.", show_default=False)
    ] = None,
    config: Config = None,
) -> None:
    """Show what lies in memory; load, unload, pin and unpin models."""
    import json

    ctx.obj = Asked(as_json, url, config)
    if watch and (as_json or ctx.invoked_subcommand):
        raise typer.BadParameter("--watch draws the table, and nothing else.")
    if ctx.invoked_subcommand:
        return
    daemon = Daemon.meant(ctx, url, config)
    report = daemon.report()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    elif watch:
        _watch(daemon, report)
    else:
        from smarterrouter.cli.vram_table import show_vram

        show_vram(report)


@vram.command()
def load(
    ctx: typer.Context,
    model: Named,
    as_json: AsJson = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Have MODEL loaded, and wait until it is."""
    answer = _change(Daemon.meant(ctx, url, config), model, "load")
    _tell(ctx, as_json, answer, _loaded(answer))


@vram.command()
def unload(
    ctx: typer.Context,
    model: Named,
    as_json: AsJson = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Have MODEL go, unless it is in use or pinned."""
    answer = _change(Daemon.meant(ctx, url, config), model, "unload")
    _tell(ctx, as_json, answer, _unloaded(answer))


@vram.command()
def pin(
    ctx: typer.Context,
    model: Named,
    as_json: AsJson = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Have MODEL loaded, and never go to make room."""
    answer = _change(Daemon.meant(ctx, url, config), model, "pin")
    _tell(ctx, as_json, answer, f"pinned; {_loaded(answer)}")


@vram.command()
def unpin(
    ctx: typer.Context,
    model: Named,
    as_json: AsJson = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Let MODEL go again when room is needed."""
    answer = _change(Daemon.meant(ctx, url, config), model, "unpin")
    _tell(ctx, as_json, answer, f"{answer['model']} may go again when room is needed")


@vram.command()
def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Show what was loaded and unloaded lately, and why."""
    import json

    answer = Daemon.meant(ctx, url, config).ask(f"/admin/vram/history?limit={limit}")
    if as_json or ctx.obj.as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    from smarterrouter.cli.vram_table import show_history

    show_history(answer["history"])


# changing something


def _change(daemon: Daemon, model: str, verb: str) -> dict[str, Any]:
    """Have it done, however long that takes. An unknown model is told which there are."""
    from urllib.parse import quote

    from rich.console import Console

    from smarterrouter.cli.render import plain

    path = f"/admin/models/{quote(model, safe='/')}/{verb}"
    try:
        with Console(stderr=True, highlight=False).status(plain(f"{verb} {model} ...")):
            return daemon.ask(path, {})
    except SmarterRouterError as error:
        if error.code != "model_not_found":
            raise
        raise SmarterRouterError(f"There is no model '{model}'. {_known(daemon)}") from None


def _known(daemon: Daemon) -> str:
    from smarterrouter.cli.vram_table import name_of, twice

    models = daemon.report()["models"]
    doubled = twice(models)
    names = sorted(name_of(model, doubled) for model in models)
    return f"Known models: {', '.join(names)}." if names else "There is none at all."


def _tell(ctx: typer.Context, as_json: bool, answer: dict[str, Any], sentence: str) -> None:
    import json

    if as_json or ctx.obj.as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        typer.echo(sentence)


def _took(answer: dict[str, Any]) -> float | None:
    """How long the model took to load just now; ``None`` when it was there."""
    loads = [one for one in answer["happened"] if one["kind"] == "load"]
    return next((one["seconds"] for one in loads if _same(one, answer)), None)


def _same(happening: dict[str, Any], answer: dict[str, Any]) -> bool:
    return all(happening[key] == answer[key] for key in ("model", "backend"))


def _loaded(answer: dict[str, Any]) -> str:
    """The load as a sentence, or that there was none to be made."""
    held = f", {told}" if (told := _held(answer)) else ""
    took = _took(answer)
    if not took:
        return f"{answer['model']} was loaded already{held}"
    gone = [one["model"] for one in answer["happened"] if one["kind"] == "unload"]
    made_room = f"; {_listed(gone)} {'was' if len(gone) == 1 else 'were'} unloaded to make room"
    return f"loaded {answer['model']} in {took:.1f} s{held}{made_room if gone else ''}"


def _held(answer: dict[str, Any]) -> str:
    from smarterrouter.cli.vram_table import gb

    if answer["bytes"] is None:
        return ""
    where = _listed(device["id"] for device in answer["devices"])
    source = f" {answer['bytes_source']}" if answer["bytes_source"] else ""
    return f"{gb(answer['bytes'])} GB{source}" + (f" on {where}" if where else "")


def _unloaded(answer: dict[str, Any]) -> str:
    from smarterrouter.cli.vram_table import gb

    done = [one for one in answer["happened"] if one["kind"] == "unload" and _same(one, answer)]
    if not done:
        return f"{answer['model']} was not loaded"
    return f"unloaded {answer['model']} in {done[-1]['seconds']:.1f} s, {gb(done[-1]['bytes'])} GB"


def _listed(names: Iterable[str]) -> str:
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last


# watching


def _watch(daemon: Daemon, report: dict[str, Any]) -> None:
    """Draw the table in place until Ctrl-C; while the daemon is away, say so and try again."""
    import time
    from contextlib import suppress

    from rich.console import Console
    from rich.live import Live

    from smarterrouter.cli.render import plain
    from smarterrouter.cli.vram_table import view

    out = Console(highlight=False)
    if not out.is_terminal:
        raise typer.BadParameter("--watch draws in a terminal; --json prints the figures once.")
    with suppress(KeyboardInterrupt), Live(view(report), console=out, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            try:
                live.update(view(daemon.report()), refresh=True)
            except Unavailable as error:
                live.update(plain(f"{error.message} Trying again until Ctrl-C."), refresh=True)
