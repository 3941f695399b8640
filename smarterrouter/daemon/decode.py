"""From a request's bytes to a ``ChatRequest``. Decides what is too malformed to go on.

The body is decoded once. Top-level fields stay in their original bytes; only what routing
reads is looked into, so that anything else reaches the backend as the client wrote it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from smarterrouter.domain.chat import ChatRequest, Endpoint, Message
from smarterrouter.domain.models import Capability
from smarterrouter.errors import BadRequest

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
STAND_IN = ".,"
"""What stands for a token whose text nobody knows: its estimate is just over one token."""

IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_messages = msgspec.json.Decoder(list[_Message])
_texts = msgspec.json.Decoder(str | list[Any])


def decode(body: bytes, endpoint: Endpoint, caller: str) -> ChatRequest:
    """The request. Raises ``BadRequest`` with the field at fault."""
    try:
        fields = _fields(body)
    except BROKEN as error:
        raise BadRequest(f"The body is not a JSON object: {error}.") from None
    messages = _conversation(fields, endpoint)
    stream = _read(fields, "stream", bool | None) or False
    return ChatRequest(
        endpoint=endpoint,
        model=_model(fields),
        stream=stream and endpoint is not Endpoint.EMBEDDINGS,
        messages=messages,
        needs=_needs(fields, endpoint, messages),
        fields=fields,
        max_tokens=_max_tokens(fields),
        caller=caller,
    )


def _model(fields: dict[str, Raw]) -> str:
    model: str | None = _read(fields, "model", str | None)
    if not model:
        raise BadRequest(
            "'model' is missing. GET /v1/models lists what you may ask for.", param="model"
        )
    return model


def _max_tokens(fields: dict[str, Raw]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        wanted: int | None = _read(fields, name, int | None)
        if wanted is not None and wanted > 0:
            return wanted
    return None


def _conversation(fields: dict[str, Raw], endpoint: Endpoint) -> tuple[Message, ...]:
    if endpoint is not Endpoint.CHAT:
        name = "prompt" if endpoint is Endpoint.COMPLETIONS else "input"
        return (Message("user", _plain_text(fields, name)),)
    try:
        given = _messages.decode(_required(fields, "messages"))
    except BROKEN as error:
        raise BadRequest(f"'messages' is malformed: {error}.", param="messages") from None
    if not given:
        raise BadRequest("'messages' is empty: send at least one.", param="messages")
    return tuple(_message(message) for message in given)


def _message(given: _Message) -> Message:
    if given.content is None or isinstance(given.content, str):
        return Message(given.role, given.content or "")
    text = "\n".join(part.text for part in given.content if part.text)
    images = sum(part.type in IMAGE_PARTS for part in given.content)
    return Message(given.role, text, images)


def _plain_text(fields: dict[str, Raw], name: str) -> str:
    """The text of ``prompt`` or ``input``: a string, several, or tokens (as many stand-ins)."""
    try:
        given = _texts.decode(_required(fields, name))
    except BROKEN as error:
        raise BadRequest(f"'{name}' is malformed: {error}.", param=name) from None
    if isinstance(given, str):
        return given
    if not given:
        raise BadRequest(f"'{name}' is empty.", param=name)
    if all(isinstance(item, int) for item in given):
        return STAND_IN * len(given)
    return max((_one_text(item, name) for item in given), key=len)


def _one_text(item: object, name: str) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return STAND_IN * len(item)
    raise BadRequest(f"'{name}' holds neither text nor tokens.", param=name)


def _needs(
    fields: dict[str, Raw], endpoint: Endpoint, messages: tuple[Message, ...]
) -> frozenset[Capability]:
    if endpoint is Endpoint.EMBEDDINGS:
        return frozenset({Capability.EMBEDDING})
    needs = {Capability.CHAT}
    if any(message.images for message in messages):
        needs.add(Capability.VISION)
    if _read(fields, "tools", list[Raw] | None):
        needs.add(Capability.TOOLS)
    return frozenset(needs)


def _required(fields: dict[str, Raw], name: str) -> Raw:
    try:
        return fields[name]
    except KeyError:
        raise BadRequest(f"'{name}' is missing.", param=name) from None


def _read(fields: dict[str, Raw], name: str, kind: Any) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except BROKEN as error:
        raise BadRequest(f"'{name}' is malformed: {error}.", param=name) from None
