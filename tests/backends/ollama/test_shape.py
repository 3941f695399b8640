"""What a model's proportions are by ``/api/show``, and how Ollama would lay it out."""

from __future__ import annotations

from typing import Any

import pytest

from smarterrouter.backends.ollama import listing
from smarterrouter.backends.ollama.shape import layout, shape
from smarterrouter.domain.shape import Layer, Shape

LLAMA = {
    "block_count": 4,
    "embedding_length": 512,
    "feed_forward_length": 2048,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
}
TABLE = {"name": "token_embd.weight", "type": "Q4_K", "shape": [512, 32_000]}
ANY = Shape(1, (), 0, 0, 0, 0)


def shaped(
    architecture: str = "llama", tensors: Any = None, size: int | None = 1000, **own: Any
) -> Shape | None:
    told = {key.replace("__", "."): value for key, value in own.items()}
    info = {f"{architecture}.{key}": value for key, value in {**LLAMA, **told}.items()}
    info |= {"general.architecture": architecture, "tokenizer.ggml.tokens": None}
    return shape(listing.card({"model_info": info, "tensors": tensors}), size)


def layers(architecture: str = "llama", **own: Any) -> tuple[Layer, ...]:
    found = shaped(architecture, **own)
    assert found
    return found.layers


def test_the_proportions_of_a_plain_model() -> None:
    assert shaped(tensors=[TABLE]) == Shape(
        weights_bytes=1000,
        layers=(Layer(2, 64, 64),) * 4,
        embedding_length=512,
        vocab_size=32_000,
        feed_forward_length=2048,
        head_count=8,
    )


@pytest.mark.parametrize(
    "missing", [{"block_count": None}, {"attention.head_count": None}, {"attention.head_count": []}]
)
def test_without_layers_or_heads_nothing_is_said(missing: dict[str, Any]) -> None:
    assert shaped(**{key.replace(".", "__"): value for key, value in missing.items()}) is None


def test_without_a_size_or_a_header_nothing_is_said() -> None:
    assert shaped(size=None) is None
    assert shape(listing.card({}), 1000) is None
    assert shape(listing.card({"model_info": {"general.architecture": 3}}), 1000) is None


@pytest.mark.parametrize("left_out", [None, []])
def test_arrays_that_ollama_leaves_out_count_as_the_usual(left_out: Any) -> None:
    assert layers(attention__head_count_kv=left_out) == (Layer(8, 64, 64),) * 4
    assert shaped(feed_forward_length=left_out)


def test_lengths_of_keys_and_values_go_before_the_width() -> None:
    own = {"attention__key_length": 128, "attention__value_length": 96}
    assert layers(**own) == (Layer(2, 128, 96),) * 4


@pytest.mark.parametrize(
    ("architecture", "windows"),
    [("gemma2", [256, None] * 2), ("gptoss", [256, None] * 2), ("llama", [None] * 4)],
)
def test_windows_are_where_the_architecture_has_them(
    architecture: str, windows: list[int | None]
) -> None:
    found = layers(architecture, attention__sliding_window=256)
    assert [layer.window for layer in found] == windows


def test_experts_that_one_token_passes_are_counted() -> None:
    found = shaped(expert_count=64, expert_used_count=8, expert_feed_forward_length=700)
    assert found
    assert found.feed_forward_length == 5600


def test_an_encoder_keeps_nothing() -> None:
    assert layers("nomic-bert") == ()


@pytest.mark.parametrize(
    ("own", "tensors"),
    [
        ({"vocab_size": 9}, None),
        ({"vocab_size": 9}, [{"name": "token_embd.weight"}]),
        ({"vocab_size": 9}, "none of your business"),
        ({"embedding_length": 2, "vocab_size": 9}, [{**TABLE, "shape": [2, "3"]}]),
    ],
)
def test_the_vocabulary_may_be_told_by_the_header_alone(own: dict[str, Any], tensors: Any) -> None:
    found = shaped(tensors=tensors, **own)
    assert found
    assert found.vocab_size == 9


@pytest.mark.parametrize(
    ("num_ctx", "slots", "chats", "context", "batch"),
    [
        (4096, 1, True, 4096, 512),
        (4096, 4, True, 16_384, 1024),
        (32_768, 2, True, 65_536, 2048),
        (8192, 1, False, 8192, 512),
    ],
)
def test_each_slot_has_the_whole_context_and_the_batch_grows_with_it(
    num_ctx: int, slots: int, chats: bool, context: int, batch: int
) -> None:
    found = layout(ANY, num_ctx, slots, "q8_0", chats=chats)
    assert (found.context, found.parallel) == (context, slots)
    assert (found.batch, found.ubatch) == (batch, batch)
    assert (found.cache_type_k, found.cache_type_v) == ("q8_0", "q8_0")
