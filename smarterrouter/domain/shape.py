"""The proportions of a model, as far as they say how much memory it will take.

Decides nothing: a backend fills it in, ``residency`` estimates from it. Sizes are bytes,
lengths are elements or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps per token. ``window`` limits how many tokens it looks back."""

    kv_heads: int
    key_length: int
    value_length: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a footprint is estimated from.

    ``layers`` names only layers with a key-value cache; ``state_bytes`` is what recurrent
    layers keep per slot instead. ``repacked_bytes`` are weights that a CPU may hold a second
    time in an order that suits it. ``feed_forward_length`` counts all experts that one token
    passes; ``head_count`` is the largest of any layer.
    """

    weights_bytes: int
    layers: tuple[Layer, ...]
    embedding_length: int
    vocab_size: int
    feed_forward_length: int
    head_count: int
    state_bytes: int = 0
    repacked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A model as it lies in memory when it is loaded in a certain way.

    ``context`` is in tokens and shared by all ``parallel`` slots. ``cache_ram_bytes`` is the
    prompt cache that its server may grow in RAM. ``on_gpu``: whether it would use a card;
    ``embeds``: it is served for its embeddings; ``wheel``: by the xllamacpp wheel, whose program
    is larger than llama-server's.
    """

    shape: Shape
    context: int
    parallel: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    batch: int = 2048
    ubatch: int = 512
    swa_full: bool = False
    cache_ram_bytes: int = 0
    on_gpu: bool = True
    embeds: bool = False
    wheel: bool = False
