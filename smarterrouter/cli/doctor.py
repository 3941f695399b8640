"""``smarterrouter doctor``: is everything there that is needed, and if not, what to do.

Each check looks at one thing and tells what it found, with a remedy where something is wrong. It
changes nothing and needs no daemon. Exit code 1 when a check fails; a warning is no failure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from smarterrouter.assembly.machines import Machines
    from smarterrouter.config import Settings
    from smarterrouter.domain.ports import Backend

BACKEND_TIMEOUT_S = 8.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found; ``remedy`` says what to do where it is not ``ok``."""

    check: str
    status: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """Check settings, port, backends, models, memory; say what to do about what is wrong."""
    import asyncio
    import json

    from smarterrouter.config import load

    findings = list(asyncio.run(_collect(load(None, config), config)))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"schema": 1, "findings": rows}, indent=2))
    else:
        from smarterrouter.cli.render import show_findings

        show_findings([asdict(finding) for finding in findings])
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


async def _collect(settings: Settings, config: Path | None) -> list[Finding]:
    from smarterrouter.cli.memory_checks import look

    found = [*_settings(config), _binding(settings), _port(settings)]
    machines, memory = await look(settings)
    found += [finding async for finding in _backends(settings, machines)]
    return [*found, *memory, _database(settings)]


def _settings(config: Path | None) -> Iterator[Finding]:
    from smarterrouter.config import find_file, unknown_variables

    file = find_file(config)
    yield Finding("settings", "ok", f"from {file}" if file else "no file; defaults and variables")
    if unknown := unknown_variables():
        yield Finding(
            "settings", "warn", f"no settings of this version: {', '.join(unknown)}", "Remove them."
        )


def _binding(settings: Settings) -> Finding:
    from smarterrouter.errors import ConfigError

    try:
        settings.check_binding()
    except ConfigError as error:
        return Finding("binding", "fail", f"{settings.host} without a key", error.message)
    keys = "with a key" if settings.own_key else "without a key"
    return Finding("binding", "ok", f"{settings.host}, {keys}")


def _port(settings: Settings) -> Finding:
    from smarterrouter.cli.client import ask_daemon
    from smarterrouter.daemon.run import bind
    from smarterrouter.errors import ConfigError, SmarterRouterError

    try:
        if version := (ask_daemon("/health", settings) or {}).get("version"):
            return Finding("port", "ok", f"{settings.port}: smarterrouter {version} serves there")
    except SmarterRouterError:
        pass  # something else answers, or an answer without sense: the next line says who has it
    try:
        bind(settings.host, settings.port).close()
    except ConfigError as error:
        return Finding("port", "fail", f"{settings.port}: {_holder(settings.port)}", error.message)
    return Finding("port", "ok", f"{settings.port} is free")


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    try:
        for one in psutil.net_connections("tcp"):
            listens = one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
            if listens and one.pid:
                return f"{psutil.Process(one.pid).name()} (process {one.pid}) listens there"
    except psutil.Error:
        pass
    return "something listens there"


async def _backends(settings: Settings, machines: Machines) -> AsyncIterator[Finding]:
    from smarterrouter.assembly import build_backends
    from smarterrouter.errors import ConfigError

    try:
        backends = build_backends(settings)
    except ConfigError as error:
        yield Finding("backends", "fail", "none", error.message)
        return
    for backend in backends.values():
        yield await _backend(backend, machines)
        await backend.aclose()


async def _backend(backend: Backend, machines: Machines) -> Finding:
    import asyncio

    from smarterrouter.cli.memory_checks import passed_over
    from smarterrouter.errors import SmarterRouterError

    check = f"backend {backend.name}"
    try:
        async with asyncio.timeout(BACKEND_TIMEOUT_S):
            models, version = await backend.models(), await backend.version()
    except TimeoutError:
        return Finding(check, "fail", f"silent for {BACKEND_TIMEOUT_S:g} s", "See what hinders it.")
    except SmarterRouterError as error:
        remedy = f"Start it, or correct the address of backend '{backend.name}'."
        return Finding(check, "fail", error.message, remedy)
    except Exception as error:  # whatever it is, the other checks are still of use
        return Finding(check, "fail", f"{type(error).__name__}: {error}", "Report this.")
    found = f"{version or backend.kind}, {len(models)} models"
    if not models:
        return Finding(check, "warn", found, "Give it a model: nothing can be routed to it.")
    if cards := passed_over(backend, models, machines.of_node(backend.node)):
        remedy = (
            f"It runs its models in RAM. Set ROUTER_LLAMA_SERVER to a llama-server built for "
            f"{', '.join(cards)}, unless your presets want it so."
        )
        return Finding(check, "warn", f"{found}; it uses no card", remedy)
    return Finding(check, "ok", found)


def _database(settings: Settings) -> Finding:
    import os

    from smarterrouter.errors import ConfigError
    from smarterrouter.store.database import check, default_path

    path = settings.database or default_path()
    try:
        check(path)
    except ConfigError as error:
        return Finding("database", "fail", str(path), error.message)
    place = next(one for one in (path, *path.parents) if one.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        remedy = "Make it writable, or set ROUTER_DATABASE to a file elsewhere."
        return Finding("database", "fail", f"{path}: {place} cannot be written", remedy)
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "not there yet"
    return Finding("database", "ok", f"{path}, {size}")
