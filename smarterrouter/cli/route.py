"""``smarterrouter route``: which model would answer a prompt, and why.

Asks a running daemon for its decision, so that what is loaded counts; without one it decides
here from the same settings. A batch is always decided here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarterrouter.errors import SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.config import Settings


def route(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt, or - for standard input.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every candidate's terms.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
    image: Annotated[bool, typer.Option("--image", help="The prompt comes with an image.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="The prompt comes with tools.")] = False,
    model: Annotated[str | None, typer.Option(help="Ask for this model, real or virtual.")] = None,
    batch: Annotated[
        Path | None, typer.Option(help="Decide every line of this JSONL file ('-' for stdin).")
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(help="Take models and evidence from this file alone.")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line (batch).")] = False,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help="The daemon to ask.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """Show which model would answer PROMPT, without answering it."""
    import json

    from smarterrouter.config import load

    if (prompt is None) == (batch is None):
        raise typer.BadParameter("Give either a PROMPT or --batch FILE.")
    settings = load(None, config)
    if batch is not None:
        from smarterrouter.cli.batch import run_batch

        run_batch(batch, profiles, {"model": model, "image": image, "tools": tools}, settings)
        return
    try:
        text = typer.get_text_stream("stdin").read() if prompt == "-" else str(prompt)
    except UnicodeDecodeError:
        raise typer.BadParameter("Standard input is not UTF-8 text.") from None
    if not text.strip():
        raise typer.BadParameter("The prompt is empty.")
    question = {"prompt": text, "model": model, "image": image, "tools": tools}
    decision = _decision(question, profiles, url, settings)
    if as_json or jsonl:
        typer.echo(json.dumps({"schema": 1, "decision": decision}, indent=None if jsonl else 2))
    else:
        from smarterrouter.cli.render import show_decision

        show_decision(decision, explain)
    if decision["model"] is None:
        raise SmarterRouterError(decision["why"])


def _decision(
    question: dict[str, Any], profiles: Path | None, url: str | None, settings: Settings
) -> dict[str, Any]:
    from smarterrouter.cli import deciding

    if profiles is not None:
        return deciding.from_profiles(profiles, settings)(question)
    asked = deciding.ask_daemon(url, question, settings)
    if asked is not None:
        return asked
    try:
        return deciding.local(settings)(question)
    except Unavailable as error:
        raise Unavailable(f"No daemon answers at {settings.address()}. {error.message}") from None
