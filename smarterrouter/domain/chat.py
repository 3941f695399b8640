"""A request as the router sees it: the few parts it reads, and all fields as they came.

Decides nothing about models. ``fields`` keeps every top-level field in its original bytes,
so that what we do not understand reaches the backend unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Raw

from smarterrouter.domain.models import Capability


class Endpoint(StrEnum):
    """The OpenAI routes that reach a model; the value is the path below ``/v1/``."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who speaks and the text alone. Images are counted, not kept."""

    role: str
    text: str
    images: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One decoded request. ``caller`` is the API key's name, or the client's address."""

    endpoint: Endpoint
    model: str
    stream: bool
    messages: tuple[Message, ...]
    needs: frozenset[Capability]
    fields: Mapping[str, Raw]
    max_tokens: int | None = None
    include_usage: bool = False
    caller: str = "local"
