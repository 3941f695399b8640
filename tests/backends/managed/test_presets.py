"""Preset files as llama.cpp's documentation shows them, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smarterrouter.backends.managed.presets import Preset, Presets, read_presets
from smarterrouter.errors import ConfigError


def presets(tmp_path: Path, text: str) -> Presets:
    path = tmp_path / "presets.ini"
    path.write_text(text)
    return read_presets(path)


def preset(tmp_path: Path, *lines: str) -> Preset:
    return presets(tmp_path, "\n".join(["[m]", *lines])).for_model("m")


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as wrong:
        presets(tmp_path, text)
    return wrong.value.message.removeprefix(str(tmp_path / "presets.ini"))


DOCUMENTED = """
version = 1

; (Optional) settings shared across all presets.
[*]
c = 8192
n-gpu-layers = 8

[ggml-org/MY-MODEL-GGUF:Q8_0]
; string value
chat-template = chatml
n-gpu-layers = 123
jinja = true
c = 4096
LLAMA_ARG_CACHE_RAM = 0
model-draft = ./my-models/draft.gguf
model-draft = /Users/abc/my-models/draft.gguf

[custom_model]
model = /Users/abc/my-awesome-model-Q4_K_M.gguf
"""


def test_the_documented_example_is_read_as_documented(tmp_path: Path) -> None:
    found = presets(tmp_path, DOCUMENTED)
    assert found.sections == ("ggml-org/MY-MODEL-GGUF:Q8_0", "custom_model")
    mine = found.for_model("ggml-org/MY-MODEL-GGUF:Q8_0")
    assert (mine.ctx_size, mine.n_gpu_layers, mine.cache_ram) == (4096, 123, 0)
    assert mine.flags == (
        ("chat-template", "chatml"),
        ("jinja", None),
        ("model-draft", "/Users/abc/my-models/draft.gguf"),
    )
    custom = found.for_model("custom_model")
    assert (custom.ctx_size, custom.n_gpu_layers) == (8192, 8)
    assert custom.model == Path("/Users/abc/my-awesome-model-Q4_K_M.gguf")


def test_a_model_without_a_section_gets_what_all_get(tmp_path: Path) -> None:
    assert presets(tmp_path, DOCUMENTED).for_model("another").ctx_size == 8192
    assert presets(tmp_path, "").for_model("another") == Preset()


@pytest.mark.parametrize("common", ["c", "ctx-size", "LLAMA_ARG_CTX_SIZE"])
@pytest.mark.parametrize("own", ["c", "ctx-size", "LLAMA_ARG_CTX_SIZE"])
def test_a_section_wins_however_the_flag_is_spelled(tmp_path: Path, common: str, own: str) -> None:
    found = presets(tmp_path, f"[m]\n{own} = 1024\n[*]\n{common} = 2048\n")
    assert found.for_model("m").ctx_size == 1024
    assert found.for_model("n").ctx_size == 2048


def test_of_two_lines_for_one_flag_the_later_counts(tmp_path: Path) -> None:
    assert preset(tmp_path, "temp = 0.1", "temperature = 0.7").arguments() == [
        "--temperature",
        "0.7",
    ]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("metrics = true", ["--metrics"]),
        ("metrics = 1", ["--metrics"]),
        ("metrics = off", []),
        ("jinja = enabled", ["--jinja"]),
        ("jinja = disabled", ["--no-jinja"]),
        ("no-jinja = true", ["--no-jinja"]),
        ("no-jinja = false", ["--jinja"]),
        ("LLAMA_ARG_NO_JINJA = 1", ["--no-jinja"]),
        ("nkvo = 1", ["--no-kv-offload"]),
        ("kvo = 0", ["--no-kv-offload"]),
        ("cb = 0", ["--no-cont-batching"]),
        ("no-host = 1", ["--no-host"]),
        ("fa = on", ["--flash-attn", "on"]),
        ("flash-attn = auto", ["--flash-attn", "auto"]),
        ("fit = off", ["--fit", "off"]),
        ("log-verbosity = 3", ["--log-verbosity", "3"]),
        ("rerank = true", ["--reranking"]),
        ("b = 512", ["--batch-size", "512"]),
        ("MTMD_BACKEND_DEVICE = none", ["--mmproj-device", "none"]),
        ('chat-template-kwargs = {"a": "b c"}', ["--chat-template-kwargs", '{"a": "b c"}']),
    ],
)
def test_flags_reach_the_command_line(tmp_path: Path, line: str, arguments: list[str]) -> None:
    assert preset(tmp_path, line).arguments() == arguments


def test_what_the_router_decides_has_fields_and_no_arguments(tmp_path: Path) -> None:
    found = preset(
        tmp_path,
        "model = /m.gguf",
        "mm = /p.gguf",
        "np = 4",
        "ctk = q8_0",
        "ctv = q4_0",
        "ngl = all",
        "t = 6",
        "cram = 256",
        "embedding = true",
        "pooling = mean",
        "load-on-startup = true",
        "stop-timeout = 20",
    )
    assert found == Preset(
        model=Path("/m.gguf"),
        mmproj=Path("/p.gguf"),
        parallel=4,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        n_gpu_layers="all",
        threads=6,
        cache_ram=256,
        embedding=True,
        pooling="mean",
        load_on_startup=True,
        stop_timeout=20.0,
    )
    assert found.arguments() == []


def test_slots_left_to_llama_cpp_are_unknown(tmp_path: Path) -> None:
    assert preset(tmp_path, "parallel = -1").parallel is None


def test_a_model_can_do_without_its_projector(tmp_path: Path) -> None:
    assert preset(tmp_path).mmproj_auto
    assert not preset(tmp_path, "no-mmproj = true").mmproj_auto


def test_what_the_daemon_says_itself_is_dropped(tmp_path: Path) -> None:
    found = preset(tmp_path, "host = 0.0.0.0", "port = 80", "api-key = x", "alias = y", "a = z")
    assert found == Preset()


def test_comments_end_a_line_wherever_they_begin(tmp_path: Path) -> None:
    found = preset(tmp_path, "# one", "  ; two", "c = 4096 ; three", "temp = 0.5# four", "")
    assert found.ctx_size == 4096
    assert found.arguments() == ["--temperature", "0.5"]


def test_a_file_path_may_start_beside_the_preset_file(tmp_path: Path) -> None:
    (tmp_path / "near.gguf").touch()
    assert preset(tmp_path, "model = near.gguf").model == tmp_path / "near.gguf"
    assert preset(tmp_path, "model = far.gguf").model == Path("far.gguf")


def test_tags_after_a_colon_may_be_written_small(tmp_path: Path) -> None:
    found = presets(tmp_path, "[org/model:q8_0]\nc = 512\n")
    assert found.for_model("org/model:Q8_0").ctx_size == 512


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[m]\nnlg = 1", ", line 2, [m] nlg: llama-server has no such option; did you mean ngl?"),
        ("[m]\nLLAMA_ARG_X = 1", ", line 2, [m] LLAMA_ARG_X: llama-server has no such option;"),
        ("[m]\nb = many", ", line 2, [m] b: 'many' is not a whole number."),
        ("[m]\nc = many", ", line 2, [m] c: 'many' is not a whole number."),
        ("[m]\nctk = f15", ", line 2, [m] ctk: 'f15' is not one of f32, f16"),
        ("[m]\nnp = 0", ", line 2, [m] np: a model needs at least one slot"),
        ("[m]\njinja = perhaps", ", line 2, [m] jinja: 'perhaps' is neither true nor false."),
        ("[m]\nmodel =", ", line 2, [m] model: the path is missing."),
        ("[m]\ntemp =", ", line 2, [m] temp: the value is missing."),
        ("[m]\nhf = a/b", ", line 2, [m] hf: smarterrouter downloads nothing; use model = PATH"),
        ("[m]\nlora-url = a/b", ", line 2, [m] lora-url: smarterrouter downloads nothing; use mo"),
        ("[m]\ngpt-oss-20b-default = 1", ", line 2, [m] gpt-oss-20b-default: smarterrouter down"),
        ("[m]\n[n]\n[m]", ", line 3: [m] appears twice; merge the two sections."),
        ("\n[m", ", line 2: '[m' is neither [section] nor key = value."),
        ("[m]\n--c = 1", ", line 2: '--c = 1' is neither [section] nor key = value."),
        ("c = 1", ", line 1: c stands before any section; write [*] above it."),
        ("version = 2", ", line 1: version 2 is not known; write version = 1."),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    assert complaint(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("warp-drive = 9", ["--warp-drive", "9"]),
        ("warp-drive = on", ["--warp-drive", "on"]),
        ("warp-drive = 1", ["--warp-drive", "1"]),
        ("warp = true", ["--warp"]),
        ("warp-drive = false", ["--no-warp-drive"]),
        ("no-warp-drive = true", ["--no-warp-drive"]),
        ("no-warp-drive = false", ["--warp-drive"]),
    ],
)
def test_a_long_flag_of_a_newer_llama_server_is_handed_on(
    tmp_path: Path, line: str, arguments: list[str]
) -> None:
    assert preset(tmp_path, line).arguments() == arguments


def test_a_section_wins_for_an_unknown_flag_too(tmp_path: Path) -> None:
    found = presets(tmp_path, "[*]\nwarp-drive = true\n[m]\nno-warp-drive = true\n")
    assert found.for_model("m").arguments() == ["--no-warp-drive"]
    assert found.for_model("n").arguments() == ["--warp-drive"]


def test_a_flag_that_is_handed_on_unknown_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert preset(tmp_path, "ctx-sise = 1").arguments() == ["--ctx-sise", "1"]
    assert "line 2, [m] ctx-sise: not an option known here" in caplog.text
    assert "did you mean ctx-size?" in caplog.text


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_presets(tmp_path / "none.ini")
    (tmp_path / "binary.ini").write_bytes(b"[m]\nalias = \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_presets(tmp_path / "binary.ini")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("[]*=;#\n c-tvx01ersion"), max_size=60))
def test_no_text_brings_anything_but_a_config_error(tmp_path: Path, text: str) -> None:
    try:
        found = presets(tmp_path, text)
    except ConfigError:
        return
    assert isinstance(found.for_model("c").arguments(), list)
