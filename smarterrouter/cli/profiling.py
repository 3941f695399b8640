"""Where profiling is done, and what is kept of it: the daemon's doing, or right here.

Decides who does it: the daemon, if one answers, for it has the memory; else this very process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from smarterrouter.cli import client, keeping
from smarterrouter.cli.profile_table import show_card, show_plan, show_report
from smarterrouter.cli.say import say
from smarterrouter.errors import BadRequest, NoBackend, SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.assembly import Engine
    from smarterrouter.config import Settings
    from smarterrouter.store.profiles import Profiles

__all__ = ["exported", "imported", "kept", "place", "show_card", "show_plan", "show_report"]

POLL_S = 0.5
INTERRUPTED = 130
Report = dict[str, Any]
_T = TypeVar("_T")


class Place(Protocol):
    """Where profiling is done."""

    def plan(self, wish: Report, *, allow_code: bool) -> Report:
        """What would be done, and how long that would take."""

    def run(self, wish: Report, *, allow_code: bool) -> tuple[Report, list[str]]:
        """Do it. What is known then, and which models were given up."""


def place(settings: Settings, url: str | None, *, here: bool) -> Place:
    """The daemon, where one answers; else here."""
    if not here and client.ask_daemon("/health", settings, url) is not None:
        return There(settings, url)
    return Here(settings)


class Here:
    """In this process, with an engine of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        logging.getLogger("smarterrouter").addHandler(logging.NullHandler())

    def plan(self, wish: Report, *, allow_code: bool) -> Report:
        from smarterrouter.assembly.profiling import Wish, forecast
        from smarterrouter.profiling import sandbox

        async def planned(engine: Engine) -> Report:
            if allow_code:
                await sandbox.find()
            return await forecast(engine, told)

        told = Wish(**_read_prompts(wish))
        return self._with_engine(planned)

    def run(self, wish: Report, *, allow_code: bool) -> tuple[Report, list[str]]:
        from smarterrouter.assembly.known import whole_report
        from smarterrouter.assembly.profiling import Profiling, Wish, own_tasks
        from smarterrouter.cli.profile_screen import Screen
        from smarterrouter.profiling import sandbox

        async def profiled(engine: Engine) -> Report:
            walls = await sandbox.find() if allow_code else None
            with screen:
                told = Wish(**_read_prompts(wish))
                own = await own_tasks(told)
                await Profiling(engine, told, screen.tell, walls, own=own).run()
            return await asyncio.to_thread(whole_report, engine.notes)

        screen = Screen()
        report = self._with_engine(profiled)
        return report, list(screen.progress.failed)

    def _with_engine(self, work: Callable[[Engine], Awaitable[_T]]) -> _T:
        from smarterrouter.assembly import Engine

        async def run() -> _T:
            async with Engine(self._settings) as engine:
                if not engine.catalogue.models:
                    problems = " ".join(engine.catalogue.problems.values())
                    raise Unavailable(f"There is no model to profile. {problems}".strip())
                return await work(engine)

        try:
            return asyncio.run(run())
        except NoBackend as error:
            raise Unavailable(error.message) from None
        except KeyboardInterrupt:
            raise _stopped() from None


class There:
    """In the daemon that answers at ``url``."""

    def __init__(self, settings: Settings, url: str | None) -> None:
        self._settings = settings
        self._url = url

    def plan(self, wish: Report, *, allow_code: bool) -> Report:
        _no_code(allow_code)
        return self._ask("/admin/reprofile?dry_run=true", _read_prompts(wish))

    def run(self, wish: Report, *, allow_code: bool) -> tuple[Report, list[str]]:
        from smarterrouter.cli.profile_screen import Screen

        _no_code(allow_code)
        task = self._ask("/admin/reprofile", _read_prompts(wish))["task"]
        try:
            with Screen() as screen:
                status = self._followed(task, screen)
        except KeyboardInterrupt:
            client.ask_daemon(
                f"/admin/profiling_status/{task}", self._settings, self._url, method="DELETE"
            )
            raise _stopped() from None
        if status["state"] != "done":
            raise SmarterRouterError(status["why"] or "Profiling was broken off in the daemon.")
        return self._ask("/admin/profiles"), list(status["progress"]["failed"])

    def _followed(self, task: str, screen: Any) -> Report:
        """Show how far it has come until it ends."""
        while True:
            status = self._ask(f"/admin/profiling_status/{task}")
            screen.show(status["progress"])
            if status["state"] != "running":
                return status
            time.sleep(POLL_S)

    def _ask(self, path: str, body: Any = None) -> Report:
        answer = client.ask_daemon(path, self._settings, self._url, body, timeout_s=60.0)
        if answer is None:
            raise Unavailable("The daemon no longer answers. What it found out so far is kept.")
        return answer


def _no_code(allow_code: bool) -> None:
    if allow_code:
        raise BadRequest(
            "The daemon runs no code that models write. Stop it and profile without it, or leave "
            "--allow-code out: then code is only read."
        )


def kept(settings: Settings) -> Report:
    """What is kept in the database. It is read here, whether a daemon runs or not."""
    from smarterrouter.assembly.known import whole_report

    return whole_report(keeping.notes(settings))


def exported(settings: Settings, *, own: bool) -> tuple[str, str]:
    """A profile file's text, and a line about it."""
    from smarterrouter.assembly.known import findings
    from smarterrouter.profiling.files import write_profiles
    from smarterrouter.profiling.task import bundled

    found = findings(keeping.notes(settings))
    if not found:
        raise SmarterRouterError("Nothing has been profiled yet: run `smarterrouter profile`.")
    known = None if own else {task.key for task in bundled()}
    text, models, prompts = write_profiles(found, known)
    return text, f"{models} models and {prompts} prompts"


def imported(settings: Settings, file: Path) -> str:
    """Keep what a profile file says; a line about it."""
    from smarterrouter.profiling.files import read_records

    records = read_records(file, time.time())

    async def keep(notes: Profiles) -> None:
        for record in records:
            await notes.keep(record)

    names = ", ".join(sorted({one.model for one in records if hasattr(one, "model")}))
    if not names:
        raise SmarterRouterError(f"{file} has no model: nothing was imported.")
    keeping.write(settings, keep)
    _, untold = keeping.tell_daemon(settings)
    return f"Imported: {names}. What is measured here goes before it. {untold or ''}".rstrip()


def _read_prompts(wish: Report) -> Report:
    """The wish with the words of the file that it names."""
    if wish["prompts"] is None:
        return wish
    from smarterrouter.profiling.task import LARGEST_FILE
    from smarterrouter.profiling.task import read as read_tasks

    path = Path(wish["prompts"])
    try:
        if path.exists() and not path.is_file():
            raise BadRequest(f"{path} is not a file.")
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    read_tasks(raw, str(path))
    return {**wish, "prompts": raw.decode()}


def _stopped() -> SystemExit:
    say("Stopped. The same command goes on where it was.")
    return SystemExit(INTERRUPTED)
