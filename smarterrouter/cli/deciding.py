"""Where a decision comes from on the command line: the daemon, a profile file, or right here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarterrouter.cli import client
from smarterrouter.domain.chat import ChatRequest, Message, asking
from smarterrouter.errors import NoBackend, Unavailable

if TYPE_CHECKING:
    from smarterrouter.assembly import Engine
    from smarterrouter.config import Settings

Decide = Callable[[dict[str, Any]], dict[str, Any]]
"""From a question (prompt or messages, model, image, tools) to a decision as JSON."""


def ask_daemon(
    url: str | None, question: dict[str, Any], settings: Settings
) -> dict[str, Any] | None:
    """The daemon's decision; ``None`` when none runs at the usual place. See ``client``."""
    given = {key: value for key, value in question.items() if value is not None}
    answer = client.ask_daemon("/admin/explain", settings, url, given)
    if answer is None:
        return None
    try:
        decision: dict[str, Any] = answer["decision"]
    except KeyError:
        raise Unavailable("What answers there is not smarterrouter.") from None
    return decision


def local(settings: Settings) -> Decide:
    """Decides over the configured backends as they are now, nothing being loaded.

    Raises ``Unavailable`` when none is set or none can be reached.
    """
    engine = listed_engine(settings)
    return lambda question: engine.completions.decide(as_request(question, settings)).as_json()


def listed_engine(settings: Settings) -> Engine:
    """An engine that knows the models of the configured backends, and runs nothing.

    Raises ``Unavailable`` when no backend is set or none has a model.
    """
    import asyncio

    from smarterrouter.assembly import Engine

    try:
        engine = Engine(settings)
    except NoBackend as error:
        raise Unavailable(error.message) from None
    engine.only_lists = True
    asyncio.run(_listed(engine))
    if not engine.catalogue.models:
        problems = " ".join(engine.catalogue.problems.values())
        raise Unavailable(f"There is no model to choose from. {problems}".strip())
    return engine


async def _listed(engine: Engine) -> None:
    await engine.look()
    await engine.catalogue.refresh()
    await engine.learn()
    for backend in engine.backends.values():
        await backend.aclose()


def from_profiles(path: Path, settings: Settings) -> Decide:
    """Decides over the models of a profile file, contacting nothing."""
    from smarterrouter.cli.pool import Pool

    pool = Pool.read(path, settings)
    return lambda question: pool.decide(as_request(question, settings)).as_json()


def as_request(question: dict[str, Any], settings: Settings) -> ChatRequest:
    """The question as the request it stands for."""
    return asking(
        question.get("messages") or (Message("user", question["prompt"]),),
        model=question.get("model") or settings.external_model_name,
        image=bool(question.get("image")),
        tools=bool(question.get("tools")),
    )
