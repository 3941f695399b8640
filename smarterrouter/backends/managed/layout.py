"""How a model will lie in memory, from its file and the flags that its llama-server is given.

Decides how much of it a card gets where the flags leave a part in RAM; the bytes that come of it
are ``residency``'s to estimate. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from smarterrouter.backends.managed.cards import uses_cards
from smarterrouter.backends.managed.folder import Entry
from smarterrouter.backends.managed.presets import Preset
from smarterrouter.domain.shape import Layout, Shape

MIB = 1 << 20
CACHE_RAM_MIB = 8192
"""llama-server's own limit to a prompt cache; what has no limit counts as this."""
SLOTS = 4
"""What a llama-server takes that is not told how many requests to answer at once."""
FITTED_CONTEXT = 4096
"""What a llama-server shortens the context to at most, where that makes the model fit a card."""

_OFF = ("off", "disabled", "false", "0")
_BY_TENSOR = frozenset({"override-tensor", "cpu-moe", "n-cpu-moe", "n-cpu-ffn"})


def shape_of(entry: Entry) -> Shape:
    """The model's proportions, the image projector's weights included."""
    own = entry.header.shape()
    return replace(own, weights_bytes=own.weights_bytes + entry.mmproj_bytes)


def on_card(entry: Entry) -> Shape | None:
    """The part of the model that a card holds.

    With ``n-gpu-layers`` that is the last so many layers, of which the output counts as one.
    ``None`` where tensors are sent to RAM one by one: a header's sums do not tell their sizes.
    """
    whole, flags = shape_of(entry), dict(entry.preset.flags)
    if flags.keys() & _BY_TENSOR:
        return None
    if "no-mmproj-offload" in flags:
        whole = replace(whole, weights_bytes=whole.weights_bytes - entry.mmproj_bytes)
    if "no-kv-offload" in flags:
        whole = replace(whole, layers=(), state_bytes=0)
    layers, blocks = entry.preset.n_gpu_layers, entry.header.block_count
    if not isinstance(layers, int) or blocks is None or not 0 <= layers <= blocks:
        return whole
    part = layers / (blocks + 1)
    kept = round(len(whole.layers) * layers / max(1, blocks))
    return replace(
        whole,
        weights_bytes=int(whole.weights_bytes * part),
        layers=whole.layers[len(whole.layers) - kept :],
        state_bytes=int(whole.state_bytes * part),
    )


def cache_ram_bytes(mib: int | None) -> int:
    """What the prompt cache may grow to; ``None`` is what llama-server does by itself."""
    return (CACHE_RAM_MIB if mib is None or mib < 0 else mib) * MIB


@dataclass(frozen=True, slots=True)
class Seen:
    """What a llama-server said of a model while that was loaded: slots, and tokens for each."""

    slots: int | None = None
    slot_context: int | None = None


def served(entry: Entry, seen: Seen, *, cards: bool) -> Layout | None:
    """The layout under a llama-server that somebody runs; ``entry.preset`` holds its flags.

    The whole context is what the flags say, else what was seen, else what the model was trained
    for: of that a card gets what fits, for llama-server shortens it.
    """
    preset = entry.preset
    gpu = cards and uses_cards(preset)
    shape = on_card(entry) if gpu else shape_of(entry)
    trained = entry.header.context_length or FITTED_CONTEXT
    fitted = gpu and dict(preset.flags).get("fit") not in _OFF
    usual = min(trained, FITTED_CONTEXT) if fitted else trained
    if shape is None:
        return None
    return Layout(
        shape=shape,
        context=preset.ctx_size or _whole_context(preset, seen) or usual,
        parallel=slots_of(preset, seen),
        cache_type_k=preset.cache_type_k or "f16",
        cache_type_v=preset.cache_type_v or "f16",
        batch=_number(preset, "batch-size", 2048),
        ubatch=_number(preset, "ubatch-size", 512),
        swa_full=swa_full(preset),
        cache_ram_bytes=cache_ram_bytes(preset.cache_ram),
        on_gpu=gpu,
    )


def weighed(
    weights_bytes: int, meta: Mapping[str, object], preset: Preset, seen: Seen, *, cards: bool
) -> Layout:
    """The layout of a model whose file nobody can read: its weights, and no cache that we know."""
    embedding, words = (meta.get(one) for one in ("n_embd", "n_vocab"))
    return Layout(
        shape=Shape(
            weights_bytes=weights_bytes,
            layers=(),
            embedding_length=embedding if isinstance(embedding, int) else 0,
            vocab_size=words if isinstance(words, int) else 0,
            feed_forward_length=0,
            head_count=0,
        ),
        context=preset.ctx_size or _whole_context(preset, seen) or FITTED_CONTEXT,
        parallel=slots_of(preset, seen),
        cache_ram_bytes=cache_ram_bytes(preset.cache_ram),
        on_gpu=cards and uses_cards(preset),
    )


def slots_of(preset: Preset, seen: Seen) -> int:
    return seen.slots or preset.parallel or SLOTS


def _whole_context(preset: Preset, seen: Seen) -> int | None:
    """Slots that share one cache each see all of it; so it is where nobody said how many."""
    flags = dict(preset.flags)
    shared = "kv-unified" in flags or (preset.parallel is None and "no-kv-unified" not in flags)
    if seen.slot_context is None or shared:
        return seen.slot_context
    return seen.slot_context * slots_of(preset, seen)


def swa_full(preset: Preset) -> bool:
    return ("swa-full", None) in preset.flags


def _number(preset: Preset, flag: str, usual: int) -> int:
    value = dict(preset.flags).get(flag) or ""
    return int(value) if value.isdigit() else usual
