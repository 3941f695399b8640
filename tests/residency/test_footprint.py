"""The estimate against real children, and the laws it must keep.

More models, and what they hold in figures, are in docs/benchmarks.md.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.shape import Layer, Layout, Shape
from smarterrouter.residency.footprint import (
    CHECKPOINTS,
    GPU_CONTEXT_BYTES,
    SERVER_BYTES,
    WHEEL_BYTES,
    cache_bytes,
    checkpoint_bytes,
    compute_bytes,
    estimate,
    output_bytes,
    slot_tokens,
    split_overhead_bytes,
)
from tests.benchmarks.footprint_models import Kind, make_kind
from tests.benchmarks.footprints import ALLOWED, SMOLLM2, Case, held

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
MINILM = Shape(
    weights_bytes=45_600_000,
    layers=(),
    embedding_length=384,
    vocab_size=30_522,
    feed_forward_length=1536,
    head_count=12,
)
MIB = 2**20
SMALL = {
    "windowed": Kind("gemma3", 256, 6, 1024, 4, 1, 64, 32_000, "Q8_0", window=256),
    "recurrent": Kind("qwen35", 512, 4, 3584, 4, 2, 64, 32_000, "Q8_0"),
    "embedder": Kind("qwen3", 256, 4, 512, 4, 2, 64, 32_000, "Q8_0", pooling=3),
}


def in_ram(shape: Shape = SMOLLM, context: int = 2048, parallel: int = 1, **more: Any) -> Layout:
    return Layout(shape, context, parallel, on_gpu=False, **more)


# --- real children ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        Case("tiny-20m", 512, 2, "q8_0"),
        Case(SMOLLM2, 256),
        *(Case(name, 256) for name in SMALL),
    ],
    ids=lambda case: f"{case.model} {case}",
)
async def test_estimate_is_within_a_fifth_of_what_a_child_holds_after_ten_prompts(
    case: Case, tmp_path: Path, made_models: Path, smollm2: Path
) -> None:
    path = tmp_path / f"{case.model}.gguf"
    if case.model in SMALL:
        make_kind(path, SMALL[case.model])
    else:
        path.symlink_to(smollm2 if case.model == SMOLLM2 else made_models / path.name)
    server = shutil.which("llama-server")
    found = await held(case, tmp_path, Path(server) if server else None)
    assert abs(found.off) < ALLOWED, found


# --- what llama.cpp says it allocates -----------------------------------------------------------


def test_cache_is_what_llama_cpp_reports() -> None:
    # "CPU KV buffer size = 52.50 MiB" for the 200M model at 2048 tokens.
    assert cache_bytes(in_ram(LLAMA_200M)) == 52.5 * MIB


@pytest.mark.parametrize(
    ("context", "parallel", "reported_mb"), [(2048, 1, 17.4), (8192, 1, 23.7), (8192, 4, 17.4)]
)
def test_work_space_is_about_what_llama_cpp_reports(
    context: int, parallel: int, reported_mb: float
) -> None:
    found = compute_bytes(in_ram(context=context, parallel=parallel))
    assert found == pytest.approx(reported_mb * 1e6, rel=0.15)


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
    plain = in_ram(context=1024)
    typed = replace(plain, cache_type_k=kind, cache_type_v=kind)
    assert cache_bytes(typed) == cache_bytes(plain) * bits / 16


def test_slots_share_the_context_in_blocks_of_256() -> None:
    assert slot_tokens(in_ram(context=8192)) == 8192
    assert slot_tokens(in_ram(context=8192, parallel=4)) == 2048
    assert slot_tokens(in_ram(context=1000)) == 1024
    assert slot_tokens(in_ram(context=512, parallel=4)) == 256


def test_an_unknown_cache_type_counts_as_f16() -> None:
    odd = replace(in_ram(), cache_type_k="new", cache_type_v="new")
    assert estimate(odd) == estimate(in_ram())


# --- windows, states and what is kept of them ---------------------------------------------------


def windowed(context: int, **more: Any) -> Layout:
    return in_ram(replace(SMOLLM, layers=(Layer(3, 64, 64, window=1024),) * 30), context, **more)


def test_a_window_bounds_its_layers_unless_they_are_kept_whole() -> None:
    per_token = cache_bytes(in_ram(context=256)) // 256
    assert cache_bytes(windowed(32_768)) == (1024 + 512) * per_token
    assert cache_bytes(windowed(32_768, ubatch=128)) == (1024 + 256) * per_token
    assert cache_bytes(windowed(512)) == 512 * per_token
    assert cache_bytes(replace(windowed(32_768), swa_full=True)) == 32_768 * per_token


def test_recurrent_layers_cost_the_same_at_any_context() -> None:
    recurrent = replace(SMOLLM, layers=(), state_bytes=1_000_000)
    for context in (512, 65_536):
        assert cache_bytes(in_ram(recurrent, context, 4)) == 4_000_000


def test_states_to_go_back_to_are_kept_of_windows_and_recurrent_layers_alone() -> None:
    per_token = cache_bytes(in_ram(context=256)) // 256
    assert checkpoint_bytes(in_ram()) == 0
    assert checkpoint_bytes(windowed(8192)) == CHECKPOINTS * 1024 * per_token
    assert checkpoint_bytes(replace(windowed(8192), swa_full=True)) == 0
    recurrent = replace(SMOLLM, layers=(), state_bytes=1_000_000)
    assert checkpoint_bytes(in_ram(recurrent, 8192, 4)) == CHECKPOINTS * 4_000_000


# --- embeddings ---------------------------------------------------------------------------------


def test_a_model_served_for_embeddings_has_logits_for_every_token_twice() -> None:
    layout = in_ram(context=512)
    more = estimate(replace(layout, embeds=True)).bytes - estimate(layout).bytes
    assert more == 2 * 4 * SMOLLM.vocab_size * (512 - 1)


def test_an_encoder_has_room_for_them_once_whatever_it_is_served_for() -> None:
    layout = in_ram(MINILM, context=512)
    assert output_bytes(layout) > 4 * MINILM.vocab_size * 512
    assert compute_bytes(layout) < 20e6
    assert estimate(replace(layout, embeds=True)) == estimate(layout)


def test_of_a_model_known_by_its_weights_alone_no_outputs_are_made_up() -> None:
    weighed = Shape(10**9, (), 2048, 150_000, 0, 0)
    assert estimate(in_ram(weighed)).bytes < 1.15e9


# --- cards --------------------------------------------------------------------------------------


def test_on_a_card_only_what_lies_there_is_counted() -> None:
    shape = replace(SMOLLM, repacked_bytes=50_000_000)
    layout = Layout(shape, 2048, cache_ram_bytes=10**9, on_gpu=True)
    parts = shape.weights_bytes + cache_bytes(layout) + compute_bytes(layout)
    assert estimate(layout).bytes == parts + GPU_CONTEXT_BYTES
    assert estimate(replace(layout, wheel=True)) == estimate(layout)


def test_in_ram_rearranged_weights_and_the_prompt_cache_are_counted_besides() -> None:
    plain = estimate(in_ram()).bytes
    rearranged = in_ram(replace(SMOLLM, repacked_bytes=50_000_000))
    assert estimate(rearranged).bytes == plain + 50_000_000
    assert estimate(in_ram(cache_ram_bytes=MIB)).bytes == plain + MIB
    assert estimate(in_ram(wheel=True)).bytes - plain == WHEEL_BYTES - SERVER_BYTES


def test_each_further_card_takes_work_space_and_a_context_but_no_weights_nor_cache() -> None:
    layout = Layout(replace(SMOLLM, weights_bytes=10**12), 8192)
    mask = 2 * 512 * 8192
    assert split_overhead_bytes(layout) == compute_bytes(layout) + 3 * mask + GPU_CONTEXT_BYTES


# --- laws ---------------------------------------------------------------------------------------


@given(st.integers(1, 200_000), st.integers(1, 200_000), st.integers(1, 16), st.booleans())
def test_more_context_never_takes_less(one: int, other: int, parallel: int, embeds: bool) -> None:
    less, more = (
        in_ram(windowed(0).shape, tokens, parallel, embeds=embeds)
        for tokens in sorted((one, other))
    )
    assert estimate(less).bytes <= estimate(more).bytes
