"""What Ollama's lists say of its models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from smarterrouter.backends.ollama import listing
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef

TAG = {
    "name": "llama3.2:latest",
    "model": "llama3.2:latest",
    "modified_at": "2026-01-02T03:04:05Z",
    "size": 2_019_393_189,
    "digest": "abc",
    "details": {"family": "llama", "families": ["llama"], "quantization_level": "Q4_K_M"},
}
CARD = {
    "capabilities": ["completion", "tools", "insert"],
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 3_212_749_888,
        "llama.context_length": 131072,
        "tokenizer.ggml.tokens": [],
    },
}


LOADED = listing.Running("llama3.2:latest", 10, 8, 4096)


def listed(
    tag: dict[str, Any] | None = None, card: dict[str, Any] | None = None, parallel: int = 1
) -> Model | None:
    [one] = listing.tags({"models": [{**TAG, **(tag or {})}]})
    shown = listing.card(CARD if card is None else card)
    return listing.model(one, shown, "o", "home/", LOADED, parallel)


def test_a_model_with_all_that_is_known_of_it() -> None:
    assert listed() == Model(
        ref=ModelRef("o", "llama3.2:latest"),
        id="home/llama3.2:latest",
        capabilities=frozenset({Capability.CHAT, Capability.TOOLS}),
        size_bytes=2_019_393_189,
        parameters=3_212_749_888,
        quantization="Q4_K_M",
        context_length=131072,
        served_context=None,
        architecture="llama",
        digest="abc",
        resident=True,
        held=Footprint(8, "reported", 2, 4096),
        slots=1,
    )


@pytest.mark.parametrize(
    ("tag", "card", "slots"),
    [
        ({}, {}, 4),
        ({}, {"capabilities": ["embedding"]}, 1),
        ({"details": {"family": "qwen3vl"}}, {}, 1),
        ({"details": None}, {"model_info": {"general.architecture": "lfm2"}}, 1),
    ],
)
def test_a_model_has_the_slots_of_its_server_unless_it_embeds_or_is_of_some_family(
    tag: dict[str, Any], card: dict[str, Any], slots: int
) -> None:
    model = listed(tag, {**CARD, **card}, parallel=4)
    assert model
    assert model.slots == slots


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["embedding"], {Capability.EMBEDDING}),
        (["completion", "vision"], {Capability.CHAT, Capability.VISION}),
        (["completion", "thinking", "audio"], {Capability.CHAT, Capability.THINKING}),
    ],
)
def test_capabilities_are_those_stated(stated: list[str], expected: set[Capability]) -> None:
    model = listed(card={**CARD, "capabilities": stated})
    assert model
    assert model.capabilities == expected
    assert not model.uncertain


def test_an_old_server_leaves_capabilities_open() -> None:
    model = listed(card={"model_info": CARD["model_info"]})
    assert model
    assert model.capabilities == {Capability.CHAT}
    assert model.uncertain == listing.UNSTATED
    info = {"general.architecture": "nomic-bert", "nomic-bert.context_length": 2048}
    embedder = listed(card={"model_info": info})
    assert embedder
    assert embedder.capabilities == {Capability.EMBEDDING}
    assert embedder.context_length == 2048


def test_what_is_not_told_is_unknown() -> None:
    bare = {"size": 0, "digest": "", "details": {"quantization_level": "unknown"}}
    model = listed(bare, {"capabilities": ["completion"], "model_info": None})
    assert model
    assert (model.size_bytes, model.digest, model.quantization) == (None, None, None)
    assert (model.parameters, model.context_length, model.architecture) == (None, None, None)


def test_models_that_neither_talk_nor_embed_are_not_listed() -> None:
    assert listed(card={"capabilities": ["image"]}) is None


def test_models_that_run_elsewhere_are_not_listed() -> None:
    cloud = {**TAG, "name": "big:cloud", "remote_host": "https://ollama.com"}
    assert [tag.name for tag in listing.tags({"models": [cloud, TAG]})] == ["llama3.2:latest"]


def test_what_is_loaded_and_what_it_holds() -> None:
    loaded = listing.running(
        {
            "models": [
                {"name": "a:latest", "size": 10, "size_vram": 8, "context_length": 4096},
                {"name": "b:latest", "size": 10, "size_vram": 0},
            ]
        }
    )
    assert listing.footprint(loaded["a:latest"]) == Footprint(8, "reported", 2, 4096)
    assert listing.footprint(loaded["b:latest"]) == Footprint(10, "reported")
    assert listing.footprint(listing.Running("d", 8, 10)) == Footprint(10, "reported")
    assert loaded["b:latest"].context_length is None
    assert listing.footprint(loaded["b:latest"], cards=True) == Footprint(0, "reported", 10)
    assert listing.footprint(listing.Running("c")) is None
    assert listing.running({"models": None}) == {}


@pytest.mark.parametrize("answer", [[], {"models": 1}, {"models": [{"size": 1}]}])
def test_what_is_no_list_is_an_error(answer: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        listing.tags(answer)
