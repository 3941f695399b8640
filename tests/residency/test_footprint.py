"""The estimate against known processes, and the laws it must keep.

The measured bytes are the Pss of real llama.cpp processes (xllamacpp 2026.10, CPU, no prompt
cache) after a few prompts, one per slot and more.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.shape import Layer, Shape
from smarterrouter.residency.footprint import cache_bytes, estimate, slot_tokens

SMOLLM = Shape(
    weights_bytes=96_576_768,
    layers=(Layer(3, 64, 64),) * 30,
    embedding_length=576,
    vocab_size=49_152,
    feed_forward_length=1536,
    head_count=9,
)
LLAMA_200M = Shape(
    weights_bytes=195_614_720,
    layers=(Layer(5, 64, 64),) * 21,
    embedding_length=640,
    vocab_size=1777,
    feed_forward_length=1728,
    head_count=10,
)


@pytest.mark.parametrize(
    ("shape", "context", "parallel", "cache", "measured_mb"),
    [
        (SMOLLM, 512, 1, "f16", 169.0),
        (SMOLLM, 512, 4, "f16", 183.8),
        (SMOLLM, 2048, 1, "f16", 213.2),
        (SMOLLM, 8192, 1, "f16", 356.2),
        (SMOLLM, 8192, 4, "f16", 358.9),
        (LLAMA_200M, 512, 1, "f16", 245.5),
        (LLAMA_200M, 512, 4, "f16", 259.1),
        (LLAMA_200M, 2048, 1, "f16", 299.1),
        (LLAMA_200M, 8192, 1, "f16", 464.5),
        (LLAMA_200M, 8192, 4, "f16", 459.7),
        (LLAMA_200M, 2048, 1, "q8_0", 273.5),
        (LLAMA_200M, 8192, 1, "q8_0", 361.5),
    ],
)
def test_estimate_is_within_a_tenth_of_what_was_measured(
    shape: Shape, context: int, parallel: int, cache: str, measured_mb: float
) -> None:
    found = estimate(
        shape, context=context, parallel=parallel, cache_type_k=cache, cache_type_v=cache
    )
    assert found.source == "estimated"
    assert found.bytes == pytest.approx(measured_mb * 1e6, rel=0.1)


def test_cache_is_what_llama_cpp_reports() -> None:
    # "CPU KV buffer size = 52.50 MiB" for the 200M model at 2048 tokens.
    assert cache_bytes(LLAMA_200M, 2048, 1) == 52.5 * 2**20


@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        ("f32", 32),
        ("bf16", 16),
        ("q8_0", 8.5),
        ("q5_1", 6),
        ("q5_0", 5.5),
        ("q4_1", 5),
        ("q4_0", 4.5),
    ],
)
def test_cache_types_have_ggmls_sizes(kind: str, bits: float) -> None:
    full = cache_bytes(SMOLLM, 1024, 1)
    assert cache_bytes(SMOLLM, 1024, 1, kind, kind) == full * bits / 16


def test_slots_share_the_context_in_blocks_of_256() -> None:
    assert slot_tokens(8192, 1) == 8192
    assert slot_tokens(8192, 4) == 2048
    assert slot_tokens(1000, 1) == 1024
    assert slot_tokens(512, 4) == 256


def test_a_window_bounds_its_layers_unless_they_are_kept_whole() -> None:
    windowed = replace(SMOLLM, layers=(Layer(3, 64, 64, window=1024),) * 30)
    per_token = cache_bytes(SMOLLM, 256, 1) // 256
    assert cache_bytes(windowed, 32_768, 1) == (1024 + 512) * per_token
    assert cache_bytes(windowed, 32_768, 1, swa_full=True) == 32_768 * per_token
    assert cache_bytes(windowed, 512, 1) == 512 * per_token


def test_recurrent_layers_cost_the_same_at_any_context() -> None:
    recurrent = replace(SMOLLM, layers=(), state_bytes=1_000_000)
    assert cache_bytes(recurrent, 512, 4) == cache_bytes(recurrent, 65_536, 4) == 4_000_000


def test_only_a_cpu_keeps_rearranged_weights_twice() -> None:
    four_bit = replace(SMOLLM, repacked_bytes=50_000_000)
    on_cpu = estimate(four_bit, context=2048, parallel=1, on_cpu=True).bytes
    on_card = estimate(four_bit, context=2048, parallel=1, on_cpu=False).bytes
    assert on_cpu - on_card == 50_000_000


def test_an_unknown_cache_type_counts_as_f16() -> None:
    usual = estimate(SMOLLM, context=2048, parallel=1)
    odd = estimate(SMOLLM, context=2048, parallel=1, cache_type_k="new", cache_type_v="new")
    assert odd == usual


def test_the_program_itself_can_be_measured_elsewhere() -> None:
    small = estimate(SMOLLM, context=512, parallel=1, base_bytes=0).bytes
    assert estimate(SMOLLM, context=512, parallel=1, base_bytes=7).bytes == small + 7


@given(st.integers(1, 200_000), st.integers(1, 200_000), st.integers(1, 16))
def test_more_context_never_takes_less(one: int, other: int, parallel: int) -> None:
    less, more = sorted((one, other))
    assert (
        estimate(SMOLLM, context=less, parallel=parallel).bytes
        <= estimate(SMOLLM, context=more, parallel=parallel).bytes
    )
