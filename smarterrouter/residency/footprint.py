"""Estimates how much memory a model will take, before it has ever been loaded.

Decides nothing about what is loaded, and gives way to any measurement. The terms follow how
llama.cpp lays out its memory, and count what a process may grow to: buffers are taken whole,
though their pages become resident only as prompts get long. What the sum meets is told in
docs/benchmarks.md.

Cards could not be measured: there the sum is what llama.cpp says it allocates, and
`GPU_CONTEXT_BYTES` stands for what the driver and its libraries take besides.
"""

from __future__ import annotations

from smarterrouter.domain.models import Footprint
from smarterrouter.domain.shape import Layer, Layout, Shape

# The program itself with its libraries, before any model: in the wheel's Python, and llama-server.
WHEEL_BYTES = 32_000_000
SERVER_BYTES = 17_000_000
# What CUDA, cuBLAS and their work space hold on a card before any model; 300 to 500 MB are usual.
# Not measured here.
GPU_CONTEXT_BYTES = 400_000_000
# How many states llama-server may keep of each slot, to go back to, of models that cannot forget
# their last tokens. The managed backend allows no more; a llama-server does 32 by itself.
CHECKPOINTS = 2
# One token's text, its merges and look-up tables in the tokenizer: 170 without merges, 330 with
# one merge for each token, 500 with two; in the wheel some 100 more.
_VOCABULARY_BYTES = 300
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


def estimate(layout: Layout) -> Footprint:
    """The memory of one loaded model, where it lies: on cards, or in RAM when it uses none.

    On cards: weights, cache, work space and what the cards' own libraries take. In RAM also the
    rearranged copy of some weights (the first stays mapped, and gives way when memory is short),
    what is kept of prompts, the tokenizer and the program. Served for its
    embeddings, every token of a batch has an output.
    """
    shape = layout.shape
    total = shape.weights_bytes + cache_bytes(layout) + compute_bytes(layout)
    if layout.on_gpu:
        return Footprint(bytes=total + GPU_CONTEXT_BYTES, source="estimated")
    total += (
        shape.repacked_bytes
        + output_bytes(layout)
        + layout.cache_ram_bytes
        + checkpoint_bytes(layout)
        + shape.vocab_size * _VOCABULARY_BYTES
        + (WHEEL_BYTES if layout.wheel else SERVER_BYTES)
    )
    return Footprint(bytes=total, source="estimated")


def split_overhead_bytes(layout: Layout) -> int:
    """What each further card takes besides its share of a split model: work space and context.

    With several cards llama.cpp may have four micro-batches on their way from card to card, and
    then keeps their inputs, of which the mask is the large one, four times.
    """
    return compute_bytes(layout) + 3 * _mask_bytes(layout) + GPU_CONTEXT_BYTES


def slot_tokens(layout: Layout) -> int:
    """How many tokens each slot holds: its share of the context, rounded up to whole blocks."""
    return _rounded(_rounded(max(1, layout.context)) // _slots(layout))


def cache_bytes(layout: Layout) -> int:
    """Keys and values of all slots, and the state of recurrent layers."""
    per_slot = sum(
        _cells(layer, layout) * _token_bytes(layer, layout) for layer in layout.shape.layers
    )
    return _slots(layout) * (int(per_slot) + layout.shape.state_bytes)


def compute_bytes(layout: Layout) -> int:
    """Work space: the activations of one micro-batch, its attention mask, and its logits.

    Of the activations three feed-forward rows and five embeddings are alive at a time, in
    32-bit floats, and one of the rows once more in 16 bits, for the product with the weights. An
    encoder ends without logits.
    """
    shape = layout.shape
    row = 14 * shape.feed_forward_length + 20 * shape.embedding_length
    logits = 0 if _encodes(shape) else _logits_bytes(layout, layout.embeds)
    return _micro_batch(layout) * row + _mask_bytes(layout) + logits


def output_bytes(layout: Layout) -> int:
    """Where logits are put for the server, in RAM; an encoder has the room and leaves it empty.

    Each slot's sampler holds some twelve bytes a token besides.
    """
    samplers = 12 * _slots(layout) * layout.shape.vocab_size
    return _logits_bytes(layout, layout.embeds or _encodes(layout.shape)) + samplers


def checkpoint_bytes(layout: Layout) -> int:
    """States to go back to: of layers with a window that much, and all of recurrent ones."""
    slot = slot_tokens(layout)
    windowed = sum(
        min(slot, layer.window) * _token_bytes(layer, layout)
        for layer in layout.shape.layers
        if layer.window and not layout.swa_full
    )
    return CHECKPOINTS * _slots(layout) * (int(windowed) + layout.shape.state_bytes)


def _logits_bytes(layout: Layout, every_token: bool) -> int:
    """One row for each slot, or for each token of the largest batch."""
    batch = min(layout.batch, slot_tokens(layout) * _slots(layout))
    return 4 * layout.shape.vocab_size * (batch if every_token else _slots(layout))


def _mask_bytes(layout: Layout) -> int:
    """16 bits for each token of a micro-batch and each cell of its slot."""
    return 2 * _micro_batch(layout) * slot_tokens(layout)


def _micro_batch(layout: Layout) -> int:
    return min(layout.ubatch, layout.batch, slot_tokens(layout) * _slots(layout))


def _token_bytes(layer: Layer, layout: Layout) -> float:
    """A token's key and value. An unknown type counts as f16, the largest in common use."""
    key = layer.key_length * _TYPE_BYTES.get(layout.cache_type_k, 2.0)
    value = layer.value_length * _TYPE_BYTES.get(layout.cache_type_v, 2.0)
    return layer.kv_heads * (key + value)


def _cells(layer: Layer, layout: Layout) -> int:
    """A layer with a window keeps only that, and the micro-batch which moves through it."""
    slot = slot_tokens(layout)
    if layer.window is None or layout.swa_full:
        return slot
    return _rounded(min(slot, layer.window + _micro_batch(layout)))


def _encodes(shape: Shape) -> bool:
    """It keeps nothing of earlier tokens. What is known by its weights alone is no encoder."""
    return not shape.layers and not shape.state_bytes and shape.feed_forward_length > 0


def _slots(layout: Layout) -> int:
    return max(1, layout.parallel)


def _rounded(tokens: int) -> int:
    return max(1, -(-tokens // _BLOCK)) * _BLOCK
