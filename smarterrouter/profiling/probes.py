"""What can a model do? One small question for each capability, and how its answer is read. Pure.

Decides by what comes back, not by names. What the backend refuses outright it cannot do; what
failed for another reason stays unknown.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.errors import BackendError, BadRequest, SmarterRouterError
from smarterrouter.profiling.asking import Reply, question, thinking
from smarterrouter.profiling.checkers.reading import answer_of
from smarterrouter.profiling.task import Said

COLOURS: Mapping[str, tuple[int, int, int]] = {"red": (220, 20, 20), "blue": (20, 40, 220)}
IMAGE_SIDE = 64
SHORT_TOKENS = 160
CITY = "Lisbon"
WEATHER: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city at this moment.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name."}},
            "required": ["city"],
        },
    },
}


class Ability(Struct, frozen=True):
    """Whether a model can do something; ``None``: nobody knows. ``why`` is what was seen."""

    able: bool | None
    why: str


class Probe(Struct, frozen=True):
    """Questions (by a word that tells them apart), and what their answers say."""

    name: str
    ask: Callable[[str], dict[str, ChatRequest]]
    read: Callable[[Mapping[str, Reply]], Ability]


def failed(error: SmarterRouterError) -> Ability:
    """What a failure says: a refusal is a no, and so is an error that came twice while a plain
    question was answered in between; anything else says nothing."""
    no = isinstance(error, BadRequest) or type(error) is BackendError
    return Ability(False if no else None, error.message)


# vision


def _images(model: str) -> dict[str, ChatRequest]:
    return {name: _about_image(model, colour) for name, colour in COLOURS.items()}


def _about_image(model: str, colour: tuple[int, int, int]) -> ChatRequest:
    text = "Which colour fills this image? Answer with one word."
    url = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "user", "content": content}]
    return question(model, [Said("user", text)], SHORT_TOKENS, messages=messages)


def png(colour: tuple[int, int, int], side: int = IMAGE_SIDE) -> bytes:
    """A square of one colour as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = (b"\x00" + bytes(colour) * side) * side
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _sees(replies: Mapping[str, Reply]) -> Ability:
    named = {
        shown: [name for name in COLOURS if name in answer_of(reply.text).lower()]
        for shown, reply in replies.items()
    }
    if all(said == [shown] for shown, said in named.items()):
        return Ability(True, "named the colours of two images")
    return Ability(False, "did not name the colours of two images")


# tools


def _tools(model: str) -> dict[str, ChatRequest]:
    said = [Said("user", f"What is the weather in {CITY} at the moment? Use the tool.")]
    return {"call": question(model, said, SHORT_TOKENS * 3, tools=[WEATHER], tool_choice="auto")}


def _calls(replies: Mapping[str, Reply]) -> Ability:
    [reply] = replies.values()
    for call in reply.calls:
        function = call.get("function")
        if not isinstance(function, dict):
            return Ability(False, "its call names no function")
        if function.get("name") != "get_weather":
            return Ability(False, f"called {function.get('name')!r}, which is no tool")
        arguments = _object(function.get("arguments"))
        if arguments is None:
            return Ability(False, "its call's arguments are not JSON")
        if CITY.lower() in str(arguments.get("city", "")).lower():
            return Ability(True, "called the tool with the right argument")
        return Ability(False, "called the tool with a wrong argument")
    return Ability(False, "answered without calling the tool")


# JSON


def _json(model: str) -> dict[str, ChatRequest]:
    said = [Said("user", "Describe a bicycle as a JSON object with the keys wheels and colour.")]
    mode = {"type": "json_object"}
    return {"json": question(model, said, SHORT_TOKENS, response_format=mode)}


def _keeps_to_json(replies: Mapping[str, Reply]) -> Ability:
    [reply] = replies.values()
    if _object(answer_of(reply.text)) is not None:
        return Ability(True, "answered with a JSON object")
    return Ability(False, "its answer is not a JSON object")


# thinking


def _thoughts(model: str) -> dict[str, ChatRequest]:
    said = [Said("user", "A bell rings every 7 minutes from 9:05 on. When is its fifth ring?")]
    return {
        name: question(model, said, SHORT_TOKENS, **thinking(switch))
        for name, switch in (("on", True), ("off", False))
    }


def _thinks(replies: Mapping[str, Reply]) -> Ability:
    """``able`` where the switch works: thinking and not thinking are two candidates then."""
    on, off = (bool(_reasoning(replies[name])) for name in ("on", "off"))
    if on and not off:
        return Ability(True, "thinks, and can be told not to")
    if on:
        return Ability(False, "always thinks")
    return Ability(False, "does not think")


def _reasoning(reply: Reply) -> str:
    return reply.reasoning.strip() or ("tag" if answer_of(reply.text) != reply.text.strip() else "")


def _object(text: object) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


CHAT_PROBES = (
    Probe("tools", _tools, _calls),
    Probe("json", _json, _keeps_to_json),
    Probe("vision", _images, _sees),
    Probe("thinking", _thoughts, _thinks),
)
"""Those of a model that chats. Embeddings are asked for by their own endpoint."""
