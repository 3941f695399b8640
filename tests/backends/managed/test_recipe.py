"""What a child is started with, for a model in RAM, on one card, and split over several."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from smarterrouter.backends.managed.cards import Card, Split
from smarterrouter.backends.managed.folder import Entry, from_file
from smarterrouter.backends.managed.presets import read_presets
from smarterrouter.backends.managed.recipe import (
    Defaults,
    Recipe,
    environment,
    recipe,
    server_command,
    wheel_params,
)

FIRST, SECOND, THIRD = (Card(f"CUDA{i}", f"card {i}", i) for i in range(3))
ONE: Split = ((SECOND, 3 << 30),)
TWO: Split = ((THIRD, 2 << 30), (FIRST, 6 << 30))

Make = Callable[..., Recipe]


@pytest.fixture
def made(tmp_path: Path, made_models: Path) -> Make:
    """The recipe of a small model with those lines in its preset."""

    def make(*lines: str) -> Recipe:
        file = tmp_path / "presets.ini"
        file.write_text("\n".join(["[m]", *lines]))
        preset = read_presets(file).for_model("m")
        entry = from_file("m", made_models / "tiny-5m.gguf", preset, [])
        assert isinstance(entry, Entry)
        return recipe(entry, Defaults(context=1024, parallel=2))

    return make


def flags(made: Recipe, split: Split = ()) -> dict[str, str]:
    """The flags with a value, by name; the last of two counts."""
    words = server_command(Path("llama-server"), made, 1, split)
    return {
        word: value
        for word, value in pairwise(words)
        if word.startswith("--") and not value.startswith("--")
    }


PLACES = {"--device", "--split-mode", "--tensor-split", "--main-gpu", "--device-draft"}


def placed(made: Recipe, split: Split = ()) -> dict[str, str]:
    return {name: value for name, value in flags(made, split).items() if name in PLACES}


# --- a binary -----------------------------------------------------------------------------------


def test_a_model_that_is_placed_nowhere_gets_no_flags_for_it(made: Make) -> None:
    assert placed(made()) == {}
    assert environment(made()) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_one_card_is_named_and_nothing_is_split(made: Make) -> None:
    assert placed(made(), ONE) == {"--device": "CUDA1", "--split-mode": "none"}


def test_several_cards_share_in_proportion_in_the_order_they_are_listed(made: Make) -> None:
    assert placed(made(), TWO) == {"--device": "CUDA0,CUDA2", "--tensor-split": "6144,2048"}


def test_the_smallest_share_is_not_none(made: Make) -> None:
    split = ((FIRST, 6 << 30), (SECOND, 1000))
    assert placed(made(), split)["--tensor-split"] == "6144,1"


def test_what_is_placed_on_a_card_lies_there_whole(made: Make) -> None:
    assert environment(made(), ONE) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LLAMA_ARG_FIT": "off",
        "MTMD_BACKEND_DEVICE": "CUDA1",
    }


def test_a_presets_devices_are_what_is_chosen_from(made: Make) -> None:
    assert placed(made("device = CUDA0,CUDA1"), ONE)["--device"] == "CUDA1"
    assert placed(made("device = CUDA0,CUDA1")) == {"--device": "CUDA0,CUDA1"}


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("tensor-split = 3,1", {"--tensor-split": "3,1"}),
        ("main-gpu = 2", {"--main-gpu": "2"}),
        ("split-mode = none", {"--split-mode": "none"}),
        ("device = none", {"--device": "none"}),
        ("n-gpu-layers = 0", {}),
    ],
)
def test_a_preset_that_says_what_goes_where_wins(
    made: Make, line: str, left: dict[str, str]
) -> None:
    for split in (ONE, TWO):
        assert placed(made(line), split) == left
        assert "LLAMA_ARG_FIT" not in environment(made(line), split)


def test_a_presets_way_of_splitting_is_kept(made: Make) -> None:
    assert placed(made("split-mode = row"), TWO) == {
        "--device": "CUDA0,CUDA2",
        "--tensor-split": "6144,2048",
        "--split-mode": "row",
    }
    assert placed(made("split-mode = row"), ONE) == {"--device": "CUDA1", "--split-mode": "row"}


def test_a_draft_model_goes_where_its_model_goes(made: Make) -> None:
    assert placed(made("model-draft = small.gguf"), ONE)["--device-draft"] == "CUDA1"
    own = made("model-draft = small.gguf", "device-draft = CUDA0")
    assert placed(own, ONE)["--device-draft"] == "CUDA0"


# --- the wheel ----------------------------------------------------------------------------------


def test_the_wheel_is_told_a_card_by_its_place(made: Make) -> None:
    params = wheel_params(made(), 1, ONE)
    assert params["split_mode"] == {"enum": ["llama_split_mode", "LLAMA_SPLIT_MODE_NONE"]}
    assert (params["main_gpu"], params["fit_params"]) == (1, False)
    assert "tensor_split" not in params


def test_the_wheel_leaves_out_cards_without_a_share(made: Make) -> None:
    params = wheel_params(made(), 1, TWO)
    assert params["tensor_split"] == [6144, 0, 2048]
    assert "split_mode" not in params


def test_a_preset_wins_with_the_wheel_too(made: Make) -> None:
    params = wheel_params(made("tensor-split = 3,1", "split-mode = row"), 1, ONE)
    assert params["tensor_split"] == [3.0, 1.0]
    assert params["split_mode"] == {"enum": ["llama_split_mode", "LLAMA_SPLIT_MODE_ROW"]}
    assert "main_gpu" not in params


def test_the_wheel_in_ram_is_told_nothing_of_cards(made: Make) -> None:
    params = wheel_params(made("n-gpu-layers = 0"), 1, ONE)
    assert not params.keys() & {"split_mode", "tensor_split", "main_gpu", "fit_params"}


def test_the_wheel_takes_a_split(made: Make) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    common = xllamacpp.CommonParams()
    assert hasattr(common, "mmproj_device")
    assert len(common.tensor_split) >= 16
    for name in wheel_params(made(), 1, ONE) | wheel_params(made(), 1, TWO):
        first, _, last = name.partition(".")
        assert hasattr(getattr(common, first), last) if last else hasattr(common, first)


# --- the layout ---------------------------------------------------------------------------------


def test_a_layout_is_what_the_model_is_started_with(made: Make) -> None:
    start = made("ctx-size = 3072", "cache-type-k = q8_0", "cache-ram = 5", "swa-full = true")
    layout = start.layout(cards=False)
    assert layout
    assert (layout.context, layout.parallel) == (3072, 2)
    assert (layout.cache_type_k, layout.cache_type_v) == ("q8_0", "f16")
    assert (layout.batch, layout.ubatch, layout.swa_full) == (2048, 512, True)
    assert layout.cache_ram_bytes == 5 << 20
    assert layout.shape == start.shape
    assert not layout.on_gpu


def test_a_model_would_use_a_card_where_there_is_one_and_its_preset_lets_it(made: Make) -> None:
    layouts = [made(line).layout(cards=True) for line in ("", "n-gpu-layers = 0", "device = none")]
    assert [layout and layout.on_gpu for layout in layouts] == [True, False, False]


def test_of_a_model_with_some_layers_on_a_card_only_those_count_there(made: Make) -> None:
    whole = made().layout(cards=True)
    half = made("n-gpu-layers = 1").layout(cards=True)
    blocks = made().entry.header.block_count
    assert whole
    assert half
    assert blocks
    assert half.shape.weights_bytes == int(whole.shape.weights_bytes / (blocks + 1))
    assert len(half.shape.layers) == 1 < len(whole.shape.layers)
    for everything in ("99", "-1", "all"):
        assert made(f"n-gpu-layers = {everything}").layout(cards=True) == whole
    in_ram = made("n-gpu-layers = 1").layout(cards=False)
    assert in_ram
    assert in_ram.shape == whole.shape


def test_with_its_cache_kept_in_ram_a_card_holds_none_of_it(made: Make) -> None:
    layout = made("no-kv-offload = true").layout(cards=True)
    assert layout
    assert layout.shape.layers == ()


def test_of_a_model_whose_tensors_are_sent_to_ram_one_by_one_nobody_knows_the_size(
    made: Make,
) -> None:
    for line in ("cpu-moe = true", "n-cpu-moe = 10", "override-tensor = exps=CPU"):
        assert made(line).layout(cards=True) is None
        assert made(line).layout(cards=False) is not None


def test_a_prompt_cache_without_a_limit_counts_as_llama_servers_own(made: Make) -> None:
    layout = made("cache-ram = -1").layout(cards=False)
    assert layout
    assert layout.cache_ram_bytes == 8 << 30
