"""The layout of a model under a llama-server that somebody else started, from its flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from smarterrouter.backends.managed.folder import Entry, from_file
from smarterrouter.backends.managed.layout import Seen, served, weighed
from smarterrouter.backends.managed.presets import read_arguments
from smarterrouter.domain.shape import Layout
from tests.support.make_gguf import make

TRAINED = 131_072


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("long") / "long.gguf", 3, "Hello .", context=TRAINED)


def laid(path: Path, words: str, seen: Seen | None = None, *, cards: bool = False) -> Layout:
    entry = from_file("m", path, read_arguments(words.split()), [])
    assert isinstance(entry, Entry)
    layout = served(entry, seen or Seen(), cards=cards)
    assert layout
    return layout


def test_flags_say_how_a_model_lies(long: Path) -> None:
    words = "llama-server --host 127.0.0.1 --port 4711 --alias m --ctx-size 8192 --parallel 2 "
    words += "--cache-type-k q8_0 -ctv q4_0 --cache-ram 100 -ub 256 --swa-full --model x.gguf"
    layout = laid(long, words)
    assert (layout.context, layout.parallel) == (8192, 2)
    assert (layout.cache_type_k, layout.cache_type_v) == ("q8_0", "q4_0")
    assert (layout.batch, layout.ubatch, layout.swa_full) == (2048, 256, True)
    assert (layout.cache_ram_bytes, layout.on_gpu) == (100 << 20, False)
    assert layout.shape.weights_bytes > 1e6


def test_where_flags_are_silent_llama_servers_own_ways_count(long: Path) -> None:
    layout = laid(long, "")
    assert (layout.context, layout.parallel, layout.cache_ram_bytes) == (TRAINED, 4, 8 << 30)


def test_a_context_that_nobody_asked_for_gives_way_on_a_card(long: Path) -> None:
    assert laid(long, "", cards=True).context == 4096
    assert laid(long, "--ctx-size 0", cards=True).context == 4096
    assert laid(long, "--fit off", cards=True).context == TRAINED
    assert laid(long, "--ctx-size 32768", cards=True).context == 32_768
    assert laid(long, "--n-gpu-layers 0", cards=True).context == TRAINED


def test_what_was_seen_goes_before_what_is_usual(long: Path) -> None:
    assert laid(long, "", Seen(4, 20_000), cards=True).context == 20_000
    assert laid(long, "--parallel 2", Seen(2, 20_000)).context == 40_000
    assert laid(long, "--parallel 2 --kv-unified", Seen(2, 20_000)).context == 20_000
    assert laid(long, "", Seen(1, None)).parallel == 1


def test_flags_that_make_no_sense_are_passed_over(long: Path) -> None:
    words = "--ctx-size many --parallel 0 --batch-size -5 --warp-drive 9 --cache-ram"
    layout = laid(long, words)
    assert (layout.context, layout.parallel, layout.batch) == (TRAINED, 4, 2048)


def test_of_a_model_without_a_file_only_its_weights_are_known() -> None:
    meta = {"n_embd": 512, "n_vocab": 32_000}
    flags = read_arguments(["--ctx-size", "1024", "-np", "1", "--cache-ram", "0"])
    layout = weighed(1000, meta, flags, Seen(), cards=True)
    assert (layout.shape.weights_bytes, layout.shape.layers) == (1000, ())
    assert (layout.shape.embedding_length, layout.shape.vocab_size) == (512, 32_000)
    assert (layout.context, layout.parallel, layout.cache_ram_bytes) == (1024, 1, 0)
    assert layout.on_gpu
    assert not weighed(1000, {}, flags, Seen(), cards=False).on_gpu
