"""The database as a command uses it: read here, written here, and the daemon told of it.

Decides nothing. A daemon that runs may have the same file open; both may read and write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from smarterrouter.cli import client
from smarterrouter.errors import SmarterRouterError

if TYPE_CHECKING:
    from smarterrouter.config import Settings
    from smarterrouter.store.profiles import Profiles

_T = TypeVar("_T")


def notes(settings: Settings) -> Profiles:
    """What is kept, to be read. Raises ``Unavailable`` where the file is none of ours."""
    from smarterrouter.store.database import bring_up_to_date, default_path
    from smarterrouter.store.profiles import Profiles
    from smarterrouter.store.writer import Writer

    path = settings.database or default_path()
    with suppress(SmarterRouterError):  # whoever reads it says what is wrong with it
        bring_up_to_date(path)
    return Profiles(path, Writer(path))


def write(settings: Settings, work: Callable[[Profiles], Awaitable[_T]]) -> _T:
    """Do ``work``, which keeps things, and return once they are on the disk."""
    from smarterrouter.store.database import bring_up_to_date, default_path
    from smarterrouter.store.profiles import Profiles
    from smarterrouter.store.writer import Writer

    path = settings.database or default_path()
    bring_up_to_date(path)
    writer = Writer(path)
    writer.start()

    async def run() -> _T:
        return await work(Profiles(path, writer))

    try:
        return asyncio.run(run())
    finally:
        writer.close()


def tell_daemon(settings: Settings) -> tuple[bool, str | None]:
    """Have a daemon that runs read the database anew.

    Whether benchmark tables count (there, or by the settings where none runs), and a sentence where
    it could not be told.
    """
    try:
        answer = client.ask_daemon("/admin/learn", settings, None, {}, timeout_s=60.0)
    except SmarterRouterError:
        told = "The daemon that runs here could not be told: it knows of this after a restart."
        return settings.profile.benchmarks, told
    counts = settings.profile.benchmarks if answer is None else answer.get("benchmarks")
    return bool(counts), None
