"""``route --batch``: one decision a line, for whole files of prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from smarterrouter.cli.deciding import from_profiles, local
from smarterrouter.config import Settings
from smarterrouter.domain.chat import Endpoint
from smarterrouter.errors import BadRequest


def run_batch(
    path: Path, profiles: Path | None, of_all: dict[str, Any], settings: Settings
) -> None:
    """Print a line for each line of the file. Raises ``BadRequest`` naming a malformed line.

    ``of_all`` holds what the flags ask of every line: ``model``, ``image``, ``tools``.
    """
    decide = from_profiles(profiles, settings) if profiles else local(settings)
    for number, item in _lines(path):
        own = _question(item, path, number)
        question = {name: own.get(name) or value for name, value in of_all.items()}
        decision = decide({**own, **question})
        print(json.dumps(_row(item, number, decision)))  # noqa: T201


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        source = nullcontext(sys.stdin) if str(path) == "-" else path.open(encoding="utf-8")
        with source as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    line.encode()  # undecodable bytes of standard input come as surrogates
                    yield number, _object(line, path, number)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise BadRequest(f"{path} is not UTF-8 text.") from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"{path}, line {number} is not JSON: {error}.") from None
    if not isinstance(item, dict):
        raise BadRequest(f"{path}, line {number} is not an object with 'prompt' or 'messages'.")
    return item


def _question(item: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    """The line's prompt or messages, read as the daemon would read them."""
    from smarterrouter.daemon.decode import decode

    given, prompt = item.get("messages"), item.get("prompt")
    if given is None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise BadRequest(f"{path}, line {number} has neither a 'prompt' nor 'messages'.")
        given = [{"role": "user", "content": prompt}]
    body = json.dumps({"model": "-", "messages": given}).encode()
    try:
        request = decode(body, Endpoint.CHAT, "batch")
    except BadRequest as error:
        raise BadRequest(f"{path}, line {number}: {error.message}") from None
    images = any(message.images for message in request.messages)
    return {"messages": request.messages, "image": images, "tools": bool(item.get("tools"))}


def _row(item: dict[str, Any], number: int, decision: dict[str, Any]) -> dict[str, Any]:
    best = decision["candidates"][0] if decision["candidates"] else None
    return {
        "id": item.get("id", number),
        "model": decision["model"],
        "category": decision["category"],
        "group": decision["group"],
        "difficulty": decision["difficulty"],
        "difficulty_score": decision["difficulty_score"],
        "score": best["score"] if best else None,
    }
