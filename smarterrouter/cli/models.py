"""``smarterrouter models``: every model of every backend, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from smarterrouter.config import Settings


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the models as JSON.")] = False,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help="The daemon to ask.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """List every model of every backend."""
    import json

    from smarterrouter.config import load

    listed = _listed(load(None, config), url)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "models": listed}, indent=2))
        return
    from smarterrouter.cli.render import show_models

    show_models(listed)


def _listed(settings: Settings, url: str | None) -> list[dict[str, Any]]:
    """As the daemon knows them; without a daemon, as the backends list them now."""
    from smarterrouter.cli.client import ask_daemon
    from smarterrouter.cli.deciding import listed_engine
    from smarterrouter.daemon.listing import OWNER, listing
    from smarterrouter.errors import Unavailable

    answer = ask_daemon("/v1/models", settings, url)
    if answer is None:
        engine = listed_engine(settings)
        answer = {"data": listing(engine.completions, engine.loaded(), 0)}
    if not isinstance(entries := answer.get("data"), list):
        raise Unavailable("What answers there is not smarterrouter.")
    return [entry for entry in entries if entry.get("owned_by") != OWNER]
