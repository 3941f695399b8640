"""Where a decision comes from on the command line: the daemon, a profile file, or right here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarterrouter.domain.chat import ChatRequest, Message, asking
from smarterrouter.errors import ConfigError, SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.config import Settings

Decide = Callable[[dict[str, Any]], dict[str, Any]]
"""From a question (prompt or messages, model, image, tools) to a decision as JSON."""

DAEMON_TIMEOUT_S = 10.0


def ask_daemon(
    url: str | None, question: dict[str, Any], settings: Settings
) -> dict[str, Any] | None:
    """The daemon's decision; ``None`` when none runs at the usual place.

    Raises ``Unavailable`` when a daemon was named and does not answer.
    """
    import httpx

    address = (url or settings.address()).rstrip("/")
    given = {key: value for key, value in question.items() if value is not None}
    try:
        answer = httpx.get(
            f"{address}/admin/explain",
            params=given,
            headers={"Authorization": f"Bearer {settings.own_key}"} if settings.own_key else {},
            timeout=DAEMON_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        if url is None:
            return None
        raise Unavailable(f"No smarterrouter answers at {address}: {error}.") from None
    return _read(answer.status_code, answer.text, address)


def local(settings: Settings) -> Decide:
    """Decides over the configured backends as they are now, nothing being loaded.

    Raises ``Unavailable`` when none is set or none can be reached.
    """
    import asyncio

    from smarterrouter.assembly import Engine

    try:
        engine = Engine(settings)
    except ConfigError as error:
        raise Unavailable(f"No daemon answers at port {settings.port}. {error.message}") from None
    asyncio.run(engine.catalogue.refresh())
    if not engine.catalogue.models:
        problems = " ".join(engine.catalogue.problems.values())
        raise Unavailable(f"There is no model to choose from. {problems}".strip())
    return lambda question: engine.completions.decide(as_request(question, settings)).as_json()


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


def _read(status: int, text: str, address: str) -> dict[str, Any]:
    import json

    try:
        answer = json.loads(text)
        if status == 200:
            decision: dict[str, Any] = answer["decision"]
            return decision
        said = answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"What answers at {address} is not smarterrouter.") from None
    raise SmarterRouterError(said)
