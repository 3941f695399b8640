"""``smarterrouter serve``: the daemon in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to.", show_default="11436")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
    models_dir: Annotated[
        str | None,
        typer.Option(help="Folder of GGUF files to run with llama.cpp.", metavar="DIR"),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run a small real model and route one prompt to it.")
    ] = False,
) -> None:
    """Serve every model at one OpenAI-compatible address."""
    from smarterrouter.config import load
    from smarterrouter.daemon import demo as demonstration
    from smarterrouter.daemon.run import run

    if models_dir is not None and not models_dir.strip():
        raise typer.BadParameter("--models-dir is empty.")
    flags: dict[str, Any] = {"host": host, "port": port}
    if models_dir is not None:  # the one backend, whatever the file lists
        flags |= {"provider": "managed", "models_dir": models_dir, "backend": ()}
    if demo:
        flags |= demonstration.flags()
    settings = load(flags, config)
    settings.check_binding()
    run(settings, demonstration.show if demo else None)
