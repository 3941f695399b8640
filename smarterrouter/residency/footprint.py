"""Estimates how much memory a model will take, before it has ever been loaded.

Decides nothing about what is loaded, and gives way to any measurement. The terms follow how
llama.cpp lays out its memory; the constants were fitted to its real processes (CPU, flash
attention), which the sum met within a tenth.
"""

from __future__ import annotations

from smarterrouter.domain.models import Footprint
from smarterrouter.domain.shape import Layer, Shape

# The program itself with its libraries, before any model.
BASE_BYTES = 28_000_000
# One token's text, merges and look-up tables in the tokenizer.
_VOCABULARY_BYTES = 400
# Cells and slots are dealt out in such blocks.
_BLOCK = 256

# Bytes per element of what ggml calls a type: a block's size by its 32 elements.
_TYPE_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


def estimate(
    shape: Shape,
    *,
    context: int,
    parallel: int,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    batch: int = 2048,
    ubatch: int = 512,
    swa_full: bool = False,
    on_cpu: bool = True,
    base_bytes: int = BASE_BYTES,
) -> Footprint:
    """The memory of one loaded model: weights, cache, work space, tokenizer and program.

    ``context`` is in tokens and shared by all ``parallel`` slots, as llama-server's
    ``--ctx-size`` is. ``on_cpu`` counts the second copy of some weights that only a CPU makes
    (the first stays mapped, and gives way when memory is short). An unknown cache type counts
    as f16, the largest in common use.
    """
    slot = slot_tokens(context, parallel)
    ubatch = min(ubatch, batch, slot * parallel)
    total = (
        shape.weights_bytes
        + (shape.repacked_bytes if on_cpu else 0)
        + cache_bytes(
            shape, slot, parallel, cache_type_k, cache_type_v, ubatch=ubatch, swa_full=swa_full
        )
        + compute_bytes(shape, slot, parallel, ubatch)
        + shape.vocab_size * _VOCABULARY_BYTES
        + base_bytes
    )
    return Footprint(bytes=total, source="estimated")


def slot_tokens(context: int, parallel: int) -> int:
    """How many tokens each slot holds: its share of the context, rounded up to whole blocks."""
    return _rounded(_rounded(max(1, context)) // max(1, parallel))


def cache_bytes(
    shape: Shape,
    slot: int,
    parallel: int,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    *,
    ubatch: int = 512,
    swa_full: bool = False,
) -> int:
    """Keys and values of all slots of ``slot`` tokens, and the state of recurrent layers."""
    key = _TYPE_BYTES.get(cache_type_k, 2.0)
    value = _TYPE_BYTES.get(cache_type_v, 2.0)
    per_slot = sum(
        _cells(layer, slot, ubatch, swa_full)
        * layer.kv_heads
        * (layer.key_length * key + layer.value_length * value)
        for layer in shape.layers
    )
    return parallel * (int(per_slot) + shape.state_bytes)


def compute_bytes(shape: Shape, slot: int, parallel: int, ubatch: int) -> int:
    """Work space: the activations of one micro-batch, its attention mask, and the logits.

    Of the activations three feed-forward rows and five embeddings are alive at a time, in
    32-bit floats; the mask has 16 bits per token and cell.
    """
    activations = 4 * ubatch * (3 * shape.feed_forward_length + 5 * shape.embedding_length)
    mask = 2 * ubatch * slot
    logits = 16 * parallel * shape.vocab_size
    return activations + mask + logits


def _cells(layer: Layer, slot: int, ubatch: int, swa_full: bool) -> int:
    """A layer with a window keeps only that, and the micro-batch which moves through it."""
    if layer.window is None or swa_full:
        return slot
    return _rounded(min(slot, layer.window + ubatch))


def _rounded(tokens: int) -> int:
    return max(1, -(-tokens // _BLOCK)) * _BLOCK
