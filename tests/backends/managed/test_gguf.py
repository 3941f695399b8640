"""Headers of real files, written by the gguf package and read by our own code."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smarterrouter.backends.managed.gguf import GgufHeader, NotAModel, read_header
from smarterrouter.domain.models import Capability
from tests.support.make_gguf import make

CHAT, EMBEDDING = Capability.CHAT, Capability.EMBEDDING
TOOLS, THINKING, VISION = Capability.TOOLS, Capability.THINKING, Capability.VISION

Fill = Callable[[gguf.GGUFWriter], object]


def written(path: Path, architecture: str = "llama", fill: Fill = lambda writer: None) -> Path:
    """A file with one small tensor and whatever ``fill`` adds to it."""
    writer = gguf.GGUFWriter(path, architecture)
    fill(writer)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read(tmp_path: Path, architecture: str = "llama", fill: Fill = lambda w: None) -> GgufHeader:
    return read_header(written(tmp_path / "model.gguf", architecture, fill))


def refusal(path: Path) -> str:
    with pytest.raises(NotAModel) as refused:
        read_header(path)
    assert refused.value.path == path
    return refused.value.why


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("models") / "tiny.gguf", 1, "Hello there .", context=512)


def test_made_model_is_described_as_it_was_made(tiny: Path) -> None:
    header = read_header(tiny)
    assert (header.architecture, header.name, header.kind) == ("llama", "tiny", "model")
    assert header.quantization == "F16"
    assert header.context_length == 512
    assert header.embedding_length == 64
    assert header.head_count == header.head_count_kv == 1
    assert header.file_bytes == tiny.stat().st_size
    assert not header.is_projector
    assert len(header.layers) == header.block_count
    tensors = gguf.GGUFReader(tiny).tensors
    assert header.parameters == sum(int(tensor.n_elements) for tensor in tensors)
    assert header.tensor_bytes == sum(int(tensor.n_bytes) for tensor in tensors)


def test_file_type_names_the_quantization(tmp_path: Path) -> None:
    header = read(tmp_path, fill=lambda w: w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M))
    assert header.quantization == "Q4_K_M"


def test_without_a_file_type_the_heaviest_tensor_type_counts(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        weights = np.zeros((64, 256), dtype=np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor("output.weight", gguf.quantize(weights, kind), raw_dtype=kind)

    header = read(tmp_path, fill=fill)
    assert header.quantization == "Q8_0"
    assert dict(header.bytes_by_type) == {"Q8_0": 64 * 256 * 34 // 32, "F16": 4 * 32 * 2}


def with_vocabulary(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_merges([f"{token[:2]} {token[2:]}" for token in tokens])
    writer.add_bos_token_id(0)
    writer.add_chat_template("{{ messages }}")


def test_a_large_vocabulary_is_passed_in_a_blink(tmp_path: Path) -> None:
    tokens = [f"{n * 7919:x}" for n in range(150_000)]
    path = written(tmp_path / "large.gguf", fill=lambda w: with_vocabulary(w, tokens))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        header = read_header(path)
        took.append(time.perf_counter() - began)
    assert header.vocab_size == 150_000
    assert header.chat_template == "{{ messages }}"
    assert min(took) < 0.2  # some 0.02 s; a loop over all strings takes twenty times that


@pytest.mark.parametrize(
    "odd",
    ["", "a" * 255, "b" * 256, "c" * 512, "d" * 70_000, "\0", "\0" * 6, "x" + "\0" * 20],
    ids=lambda odd: f"{odd[:2]!r} * {len(odd)}",
)
@pytest.mark.parametrize("where", [0, 3000, 5999])
def test_no_token_leads_the_reader_astray(tmp_path: Path, odd: str, where: int) -> None:
    tokens = [f"t{n}" for n in range(6000)]
    tokens[where : where + 1] = [odd, odd, odd]
    header = read(tmp_path, fill=lambda w: with_vocabulary(w, tokens))
    assert header.vocab_size == 6002
    assert header.chat_template == "{{ messages }}"
    assert header.parameters == 128


def attention(writer: gguf.GGUFWriter, blocks: int = 6) -> None:
    writer.add_block_count(blocks)
    writer.add_embedding_length(512)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)


def test_heads_may_differ_by_layer_and_layers_without_keep_nothing(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer, 3)
        writer.kv_data[0].pop("llama.attention.head_count_kv")
        writer.add_head_count_kv([4, 0, 2])

    header = read(tmp_path, fill=fill)
    assert header.head_count_kv == (4, 0, 2)
    assert [layer.kv_heads for layer in header.layers] == [4, 2]
    assert header.layers[0].key_length == 512 // 8


def test_architectures_without_a_pattern_have_their_usual_one(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer, 12)
        writer.add_sliding_window(1024)

    windows = [layer.window for layer in read(tmp_path, "gemma3", fill).layers]
    assert windows == [1024] * 5 + [None] + [1024] * 5 + [None]
    assert {layer.window for layer in read(tmp_path, "llama", fill).layers} == {None}


def test_a_pattern_in_the_file_goes_before_the_usual_one(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer, 3)
        writer.add_sliding_window(512)
        writer.add_sliding_window_pattern([False, True, True])

    header = read(tmp_path, "gemma3", fill)
    assert [layer.window for layer in header.layers] == [None, 512, 512]


def test_compressed_keys_hold_the_values_too(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer)
        writer.add_key_length(576)
        writer.add_value_length(512)
        writer.add_key_length_mla(192)

    assert {layer.value_length for layer in read(tmp_path, "deepseek2", fill).layers} == {0}


def test_recurrent_layers_keep_a_state_and_no_cache(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer, 8)
        writer.add_uint32("qwen3next.full_attention_interval", 4)
        writer.add_ssm_inner_size(4096)
        writer.add_ssm_state_size(128)
        writer.add_ssm_group_count(16)
        writer.add_ssm_conv_kernel(4)

    header = read(tmp_path, "qwen3next", fill)
    assert len(header.layers) == 2
    assert header.state_bytes == 4 * 6 * (4096 * 128 + 3 * (4096 + 2 * 16 * 128))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", set()),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", set()),
        ("{%- if tools %}{{ tools | tojson }}{% endif %}", {TOOLS}),
        ("{% if message['tool_calls'] is defined %}{% endif %}", {TOOLS}),
        ("{{ 'You know many tools and it\\'s fine.' }}", set()),
        ("Use your tools. {# tools #}{{ x }}", set()),
        ("{% if enable_thinking %}{% endif %}", {THINKING}),
        ("{{ '<|im_start|>assistant\\n<think>\\n' }}", {THINKING}),
        ("{% if tools %}{% endif %}{{ message.reasoning_content }}", {TOOLS, THINKING}),
        ("{% if 'lonely", set()),
    ],
)
def test_the_template_says_what_a_chat_model_can_do(
    tmp_path: Path, template: str, expected: set[Capability]
) -> None:
    header = read(tmp_path, fill=lambda w: w.add_chat_template(template))
    assert header.capabilities() == {CHAT} | expected


def test_only_a_paired_projector_lets_a_model_see(tmp_path: Path) -> None:
    header = read(tmp_path)
    assert VISION not in header.capabilities()
    assert VISION in header.capabilities(mmproj=True)


@pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "jina-bert-v3", "modern-bert"])
def test_encoders_embed_and_keep_no_cache(tmp_path: Path, architecture: str) -> None:
    header = read(tmp_path, architecture, attention)
    assert header.capabilities() == {EMBEDDING}
    assert header.layers == ()


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (gguf.PoolingType.NONE, {CHAT}),
        (gguf.PoolingType.LAST, {EMBEDDING}),
        (gguf.PoolingType.RANK, set()),
    ],
)
def test_pooling_decides_between_chat_and_embedding(
    tmp_path: Path, pooling: gguf.PoolingType, expected: set[Capability]
) -> None:
    header = read(tmp_path, "qwen3", lambda w: w.add_pooling_type(pooling))
    assert header.capabilities() == expected


def test_projector_is_recognised_and_says_whether_it_sees(tmp_path: Path) -> None:
    seeing = read(tmp_path, "clip", lambda w: w.add_bool("clip.has_vision_encoder", True))
    assert seeing.is_projector
    assert seeing.encodes_images
    hearing = read(tmp_path, "clip", lambda w: w.add_bool("clip.has_vision_encoder", False))
    assert hearing.is_projector
    assert not hearing.encodes_images


def test_shards_count_together(tmp_path: Path) -> None:
    one = read(tmp_path)
    whole = one.with_shards([one, one])
    assert whole.parameters == 3 * one.parameters
    assert whole.tensor_bytes == 3 * one.tensor_bytes
    assert whole.shape().weights_bytes == 3 * one.tensor_bytes


def test_experts_of_one_token_count_together(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        attention(writer)
        writer.add_feed_forward_length(1000)
        writer.add_expert_count(64)
        writer.add_expert_used_count(8)
        writer.add_expert_feed_forward_length(768)

    assert read(tmp_path, "qwen3moe", fill).shape().feed_forward_length == 8 * 768


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.gguf")
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "ends inside its header"),
        (b"GGUF", "ends inside its header"),
        (b"PK\3\4" + bytes(60), "not a GGUF file"),
        (struct.pack("<4sIII", b"GGUF", 1, 1, 1), "version 1"),
        (struct.pack("<4sIQQ", b"GGUF", 4, 1, 1), "version 4"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 1, 1), "big-endian"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 1), "more entries"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**40), "more entries"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**62), "longer than"),
        (struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 2**60), "more strings"),
        (struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 4, 2**60), "larger than"),
        (struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 9, 2), "damaged"),
        (struct.pack("<4sIQQQcI", b"GGUF", 3, 0, 1, 1, b"k", 77), "damaged"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "architecture"),
    ],
)
def test_files_that_cannot_be_served_say_why(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    assert why in refusal(path)


def test_a_hostile_file_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 100_000))
        file.truncate(1 << 33)
    began = time.perf_counter()
    tracemalloc.start()
    refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert time.perf_counter() - began < 10


@settings(
    max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_never_gets_past_the_reader(tiny: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(tiny.read_bytes()[:60_000])
    positions = st.one_of(st.integers(0, 2000), st.integers(0, len(content) - 1))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(positions)
        patch = data.draw(st.binary(min_size=1, max_size=9))
        content[at : at + len(patch)] = patch
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        header = read_header(path)
    except NotAModel:
        return
    assert header.shape().weights_bytes >= 0
    assert isinstance(header.capabilities(), frozenset)
