"""How large a model of an Ollama will be: its proportions by ``/api/show``, and how it is started.

``model_info`` is the header of the model's GGUF file, so that the reader of those files reads it
too. It decides what each layer keeps. Of what Ollama leaves out (arrays) it takes the usual: as
many key-value heads as heads, and windows as the architecture has them.

Decides only how Ollama starts its runner: each slot has the whole ``num_ctx``, and the batch grows
with the context, if there is room for that. The estimate is for when there is.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from smarterrouter.backends.managed.gguf import describe
from smarterrouter.backends.managed.gguf_file import Facts, Tensors
from smarterrouter.backends.ollama.listing import Card
from smarterrouter.domain.shape import Layout, Shape

OWN_NAMES = {"gptoss": "gpt-oss"}
"""Architectures that Ollama's own files call otherwise than llama.cpp does."""

USUAL_BATCH = 512
LARGEST_BATCH = 2048
BATCHES = ((4096, USUAL_BATCH), (32_768, 1024))
"""Tokens at once, by the whole context up to which that is so."""


def shape(card: Card, weights_bytes: int | None) -> Shape | None:
    """The proportions; ``None`` where the weights, the layers or the heads are not told."""
    header = describe(facts(card), Tensors(), 0)
    if not (weights_bytes and header.block_count and header.head_count):
        return None
    return replace(header.shape(), weights_bytes=weights_bytes)


def layout(of: Shape, num_ctx: int, slots: int, cache_type: str, *, chats: bool) -> Layout:
    """The model as Ollama would start it. ``num_ctx`` is for each slot."""
    context = num_ctx * slots
    batch = batch_of(context) if chats else USUAL_BATCH
    return Layout(
        shape=of,
        context=context,
        parallel=slots,
        cache_type_k=cache_type,
        cache_type_v=cache_type,
        batch=batch,
        ubatch=batch,
    )


def batch_of(context: int) -> int:
    """See ``BATCHES``."""
    return next((batch for most, batch in BATCHES if context <= most), LARGEST_BATCH)


def facts(card: Card) -> Facts:
    """The header as a GGUF file's reader has it, with the names that llama.cpp uses."""
    found, info = Facts(), card.model_info or {}
    own = info.get("general.architecture")
    usual = OWN_NAMES.get(own) if isinstance(own, str) else None
    for key, given in info.items():
        value = tuple(given) if isinstance(given, list) else given
        if value is not None and value != ():
            found[_renamed(key, own, usual)] = value
    if usual:
        found["general.architecture"] = usual
    if vocabulary := _vocabulary(card, found.number("*.embedding_length")):
        found.lengths["tokenizer.ggml.tokens"] = vocabulary
    return found


def _renamed(key: str, own: Any, usual: str | None) -> str:
    return key.replace(f"{own}.", f"{usual}.", 1) if usual and key.startswith(f"{own}.") else key


def _vocabulary(card: Card, width: int | None) -> int | None:
    """How many tokens it knows, by the table that has a row for each."""
    for table in card.tensors or ():
        size = table.get("shape")
        if width and isinstance(size, list) and all(isinstance(one, int) for one in size):
            return prod(size) // width
    return None
