"""A request as the router sees it: the few parts it reads, and all fields as they came.

Decides nothing about models. ``fields`` keeps every top-level field in its original bytes,
so that what we do not understand reaches the backend unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Raw, Struct

from smarterrouter.domain.models import Capability


class Endpoint(StrEnum):
    """The OpenAI routes that reach a model; the value is the path below ``/v1/``."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Message(Struct, frozen=True):
    """One message: who speaks and the text alone. Images are counted, not kept."""

    role: str
    text: str
    images: int = 0


class ChatRequest(Struct, frozen=True):
    """One decoded request. ``caller`` is the API key's name, or the client's address.

    ``prompt_tokens`` is what routing has estimated, once it has; 0 before.
    """

    endpoint: Endpoint
    model: str
    stream: bool
    messages: tuple[Message, ...]
    needs: frozenset[Capability]
    fields: Mapping[str, Raw]
    max_tokens: int | None = None
    caller: str = "local"
    prompt_tokens: int = 0


def asking(
    messages: Sequence[Message], *, model: str, image: bool = False, tools: bool = False
) -> ChatRequest:
    """A chat request that is only decided about, never sent."""
    needs = {Capability.CHAT}
    needs |= {Capability.VISION} if image else set()
    needs |= {Capability.TOOLS} if tools else set()
    return ChatRequest(Endpoint.CHAT, model, False, tuple(messages), frozenset(needs), {})
