"""How long a context Ollama is asked for (``num_ctx``): the one rule, for loads and requests.

1. The need is the prompt and room for the answer: ``max_tokens``, else 1024 tokens; together at
   most what the model was trained for. The prompt's tokens are an over-estimate. What it does not
   cover (tools, and the arguments of earlier calls) counts one token for three bytes.
2. If the model is resident with a context that suffices, that one: any other reloads the model.
3. Else the smallest of the default and its doublings that suffices, up to what it was trained for.
4. If even that cannot hold the prompt and the beginning of an answer (64 tokens, or ``max_tokens``
   if that is less), the request is at fault: Ollama would cut off the prompt's head in silence.

Texts to embed need no room, and rule 4 is left to Ollama, which is told not to cut and so knows
exactly. A load needs what its placement says, mostly nothing: then what is resident stays as it
is. A ``num_ctx`` in the client's own ``options`` is the least that it wants, so a need as well.
"""

from __future__ import annotations

from msgspec import Struct

from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.errors import Unsupported

USUAL_ANSWER = 1024
SHORTEST_ANSWER = 64
BYTES_PER_TOKEN = 3


class Need(Struct, frozen=True):
    """Tokens. ``least`` of an answer must fit (rule 4); ``None`` leaves that to Ollama."""

    prompt: int = 0
    room: int = 0
    least: int | None = None
    wished: int = 0


class Window(Struct, frozen=True):
    """What a model's context may be and is: trained for, by default, and now; in tokens."""

    trained: int | None
    default: int
    resident: int | None = None


def need_of(request: ChatRequest, uncounted_bytes: int = 0, wished: int = 0) -> Need:
    """Rule 1; ``uncounted_bytes`` are those of the prompt that its estimate does not cover."""
    prompt = request.prompt_tokens + uncounted_bytes // BYTES_PER_TOKEN
    if request.endpoint is Endpoint.EMBEDDINGS:
        return Need(prompt, wished=wished)
    limit = request.max_tokens
    return Need(
        prompt, limit or USUAL_ANSWER, min(limit or SHORTEST_ANSWER, SHORTEST_ANSWER), wished
    )


def tokens_of(need: Need, trained: int | None) -> int:
    """The least context that suffices. Raises ``Unsupported`` where none would hold the prompt."""
    _check(need, trained)  # 4
    return _capped(max(need.prompt + need.room, need.wished), trained)  # 1


def num_ctx(need: Need, window: Window) -> int:
    """The context to ask for. Raises as ``tokens_of`` does."""
    tokens = tokens_of(need, window.trained)
    if window.resident is not None and window.resident >= tokens:  # 2
        return window.resident
    length = window.default  # 3
    while length < tokens:
        length *= 2
    return _capped(length, window.trained)


def _check(need: Need, trained: int | None) -> None:
    if trained is None or need.least is None or need.prompt + need.least <= trained:
        return
    raise Unsupported(
        f"The prompt has about {need.prompt} tokens, and the model takes {trained} at most, prompt "
        "and answer together. Shorten the conversation, or ask a model with a longer context.",
        param="messages",
        code="context_length_exceeded",
    )


def _capped(tokens: int, most: int | None) -> int:
    return tokens if most is None else min(tokens, most)
