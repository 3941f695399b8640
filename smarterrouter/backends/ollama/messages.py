"""From OpenAI's messages to Ollama's. Decides what of a message Ollama can be told.

Content parts become one text, images are taken out of their ``data:`` URLs, and the arguments of
earlier tool calls become the objects that they spell. Ollama's own fields (``images``,
``thinking``, ``tool_name``) are understood too. What Ollama cannot see or hear is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from smarterrouter.errors import BadRequest, Unsupported

ROLES = {"developer": "system", "function": "tool"}
TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})
IMAGES = frozenset({"image_url", "input_image", "image"})
EMPTY = frozenset({b"", b'""', b"null"})


class _Url(Struct):
    url: str


class _Source(Struct):
    data: str | None = None
    url: str | None = None


class _Part(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | str | None = None
    source: _Source | None = None


class _Function(Struct):
    name: str = ""
    arguments: Raw = Raw(b"{}")


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    thinking: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None


class _Turn(Struct):
    """A message as far as ``call_bytes`` needs it: the rest is passed over, which is quick."""

    tool_calls: list[_Call] | None = None


_decode = msgspec.json.Decoder(list[_Message]).decode
_turns = msgspec.json.Decoder(list[_Turn]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


def messages(raw: Raw) -> list[dict[str, object]]:
    """Raises ``BadRequest`` for what is malformed, or nothing that Ollama can take."""
    try:
        given = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    names = {
        call.id: call.function.name for one in given for call in one.tool_calls or () if call.id
    }
    return [_message(one, names) for one in given]


def call_bytes(raw: Raw) -> int:
    """How long the earlier calls in a conversation are. Raises ``BadRequest`` as ``messages``."""
    try:
        given = _turns(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    calls = [call.function for one in given for call in one.tool_calls or ()]
    return sum(len(call.name) + len(memoryview(call.arguments)) for call in calls)


def _malformed(error: Exception) -> BadRequest:
    return BadRequest(f"'messages' is malformed: {error}.", param="messages")


def _message(given: _Message, names: Mapping[str, str]) -> dict[str, object]:
    role = given.role.lower()
    sent: dict[str, object] = {"role": ROLES.get(role, role), "content": _text(given.content)}
    images = [*(given.images or ()), *_images(given.content)]
    thinking = given.thinking or given.reasoning_content or given.reasoning
    optional = {
        "thinking": thinking if isinstance(thinking, str) else None,
        "images": images,
        "tool_calls": [_call(call) for call in given.tool_calls or ()],
    }
    if sent["role"] == "tool":
        asked = names.get(given.tool_call_id or "")
        optional["tool_name"] = given.tool_name or given.name or asked
        optional["tool_call_id"] = given.tool_call_id
    return sent | {name: value for name, value in optional.items() if value}


def _text(content: str | Sequence[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.type not in TEXTS | IMAGES:
            raise Unsupported(
                f"Ollama takes text and images, and no part of type '{part.type}'. Leave it out, "
                "or ask a model on another backend.",
                param="messages",
            )
    return "\n".join(text for part in content if (text := part.text or part.refusal))


def _images(content: str | Sequence[_Part] | None) -> list[str]:
    parts = [] if content is None or isinstance(content, str) else content
    return [_image(part) for part in parts if part.type in IMAGES]


def _image(part: _Part) -> str:
    """The image's bytes in base64."""
    if part.source is not None and part.source.data:
        return part.source.data
    url = part.image_url.url if isinstance(part.image_url, _Url) else part.image_url
    url = url or (part.source.url if part.source else None) or ""
    head, comma, data = url.partition(",")
    if head[:5].lower() == "data:" and head.endswith(";base64") and comma and data:
        return data
    raise Unsupported(
        "Ollama does not fetch images. Send the image itself, as a URL of the form "
        "data:image/png;base64,...",
        param="messages",
    )


def _call(call: _Call) -> dict[str, object]:
    function = {"name": call.function.name, "arguments": _arguments(call.function)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _arguments(function: _Function) -> Raw:
    """The arguments as an object, its bytes as they came; OpenAI spells it within a string."""
    raw = function.arguments
    try:
        spelled = bytes(raw)
        if spelled.startswith(b'"'):
            raw = Raw(msgspec.json.decode(spelled, type=str).strip().encode() or b"{}")
        elif spelled in EMPTY:
            raw = Raw(b"{}")
        _object(raw)
    except (msgspec.DecodeError, UnicodeError):
        raise BadRequest(
            f"The arguments of an earlier call of {function.name} are not a JSON object.",
            param="messages",
        ) from None
    return raw
