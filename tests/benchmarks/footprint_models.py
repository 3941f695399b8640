"""Makes GGUF models of many kinds whose weights are all zero: right in size, wrong in every answer.

Decides nothing about memory. Each has the proportions, the tensors and a vocabulary as large as
those of a published family, so that llama.cpp lays it out as it would the real one. Where
``tests.support.make_gguf`` makes models that answer, these only need to be held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, product
from pathlib import Path

import gguf
import numpy as np

from tests.support.make_gguf import CHATML, SPEECH

CONTEXT = 32_768
CONVOLVED, STATE, TIME_STEPS = 4, 128, 16
"""Of the recurrent layers of Qwen3.5: tokens that they see at once, and the size of a state."""
BYTE_TOKENS = 256
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
SPACE = "\u2581"
BPE_SPACE = "\u0120"
FULL_EVERY = 4
"""Of Qwen3.5's layers every fourth keeps keys and values."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One model: an architecture and its proportions. ``head`` is the length of a key or value."""

    architecture: str
    width: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    dtype: str = "Q8_0"
    window: int = 0
    experts: int = 0
    experts_used: int = 0
    pooling: int | None = None
    context: int = CONTEXT


KINDS = {
    "llama-3-like": Kind("llama", 2048, 4, 8192, 32, 8, 64, 128_256, "Q4_K"),
    "llama-2-like": Kind("llama", 1024, 12, 2816, 16, 4, 64, 32_000, "Q4_0"),
    "qwen2-like": Kind("qwen2", 896, 12, 4864, 14, 2, 64, 151_936, "Q8_0"),
    "qwen3-like": Kind("qwen3", 1024, 8, 3072, 16, 8, 128, 151_936, "F16"),
    "qwen3moe-like": Kind(
        "qwen3moe", 1024, 4, 3072, 16, 4, 128, 151_936, "Q4_K", experts=32, experts_used=8
    ),
    "qwen35-like": Kind("qwen35", 1024, 12, 3584, 8, 2, 256, 151_936, "Q8_0"),
    "gemma3-270m-like": Kind("gemma3", 640, 18, 2048, 4, 1, 256, 262_144, "Q8_0", window=512),
    "gemma3-1b-like": Kind("gemma3", 1152, 6, 6912, 4, 1, 256, 262_144, "Q4_0", window=512),
    "minilm-like": Kind("bert", 384, 6, 1536, 12, 12, 32, 30_522, "F16", pooling=1, context=512),
    "bge-base-like": Kind("bert", 768, 12, 3072, 12, 12, 64, 30_522, "F16", pooling=2, context=512),
    "qwen3-embedding-like": Kind("qwen3", 1024, 4, 3072, 16, 8, 128, 151_936, "Q8_0", pooling=3),
}


def make_kind(path: Path, kind: Kind) -> Path:
    """Writes the model to ``path``, where it appears when it is complete."""
    unfinished = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(unfinished, kind.architecture)
    _write_proportions(writer, path.stem, kind)
    _VOCABULARIES[_tokenizer(kind)](writer, kind.vocabulary)
    for name, shape in _tensors(kind):
        _write(writer, name, shape, kind.dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.replace(path)


def _write_proportions(writer: gguf.GGUFWriter, name: str, kind: Kind) -> None:
    writer.add_name(name)
    file_types = {"Q4_K": "MOSTLY_Q4_K_M", "F32": "ALL_F32"}
    writer.add_file_type(gguf.LlamaFileType[file_types.get(kind.dtype, f"MOSTLY_{kind.dtype}")])
    writer.add_context_length(kind.context)
    writer.add_embedding_length(kind.width)
    writer.add_block_count(kind.layers)
    writer.add_feed_forward_length(kind.feed_forward)
    writer.add_head_count(kind.heads)
    writer.add_head_count_kv(kind.kv_heads)
    if kind.architecture == "bert":
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
    else:
        writer.add_key_length(kind.head)
        writer.add_value_length(kind.head)
        writer.add_layer_norm_rms_eps(1e-6)
    if kind.architecture == "qwen35":
        writer.add_ssm_conv_kernel(CONVOLVED)
        writer.add_ssm_inner_size(STATE * TIME_STEPS)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(TIME_STEPS)
        writer.add_ssm_group_count(TIME_STEPS)
        writer.add_full_attention_interval(FULL_EVERY)
        writer.add_rope_dimension_sections([11, 11, 10, 0])
        writer.add_rope_dimension_count(64)
    if kind.window:
        writer.add_sliding_window(kind.window)
    if kind.experts:
        writer.add_expert_count(kind.experts)
        writer.add_expert_used_count(kind.experts_used)
        writer.add_expert_feed_forward_length(kind.feed_forward // kind.experts_used)
    if kind.pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(kind.pooling))


# --- tensors ------------------------------------------------------------------------------------

Named = tuple[str, tuple[int, ...]]


def _tensors(kind: Kind) -> Iterator[Named]:
    yield "token_embd.weight", (kind.vocabulary, kind.width)
    if kind.architecture == "bert":
        yield "position_embd.weight", (kind.context, kind.width)
        yield "token_types.weight", (2, kind.width)
        yield from _norm("token_embd_norm", kind)
    else:
        yield "output_norm.weight", (kind.width,)
    for layer in range(kind.layers):
        yield from (
            _encoder_block(kind, layer) if kind.architecture == "bert" else _block(kind, layer)
        )


def _block(kind: Kind, layer: int) -> Iterator[Named]:
    yield f"blk.{layer}.attn_norm.weight", (kind.width,)
    if kind.architecture == "qwen35":
        recurrent = (layer + 1) % FULL_EVERY != 0
        yield f"blk.{layer}.post_attention_norm.weight", (kind.width,)
        yield from _recurrence(kind, layer) if recurrent else _attention(kind, layer)
    else:
        yield f"blk.{layer}.ffn_norm.weight", (kind.width,)
        yield from _attention(kind, layer)
    for name, shape in _feed_forward(kind):
        yield f"blk.{layer}.{name}.weight", shape


def _attention(kind: Kind, layer: int) -> Iterator[Named]:
    queries, keys = kind.heads * kind.head, kind.kv_heads * kind.head
    gated = 2 if kind.architecture == "qwen35" else 1
    rows: list[Named] = [("attn_q", (gated * queries, kind.width))]
    rows += [(name, (keys, kind.width)) for name in ("attn_k", "attn_v")]
    rows += [("attn_output", (kind.width, queries))]
    if kind.architecture in ("qwen3", "qwen3moe", "qwen35", "gemma3"):
        rows += [(name, (kind.head,)) for name in ("attn_q_norm", "attn_k_norm")]
    if kind.architecture == "gemma3":
        rows += [(name, (kind.width,)) for name in ("post_attention_norm", "post_ffw_norm")]
    for name, shape in rows:
        yield f"blk.{layer}.{name}.weight", shape
    if kind.architecture == "qwen2":
        for name, length in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
            yield f"blk.{layer}.{name}.bias", (length,)


def _recurrence(kind: Kind, layer: int) -> Iterator[Named]:
    inner = STATE * TIME_STEPS
    for name, shape in (
        ("attn_qkv.weight", (3 * inner, kind.width)),
        ("attn_gate.weight", (inner, kind.width)),
        ("ssm_conv1d.weight", (3 * inner, CONVOLVED)),
        ("ssm_dt.bias", (TIME_STEPS,)),
        ("ssm_a", (TIME_STEPS,)),
        ("ssm_beta.weight", (TIME_STEPS, kind.width)),
        ("ssm_alpha.weight", (TIME_STEPS, kind.width)),
        ("ssm_norm.weight", (STATE,)),
        ("ssm_out.weight", (kind.width, inner)),
    ):
        yield f"blk.{layer}.{name}", shape


def _feed_forward(kind: Kind) -> Iterator[Named]:
    if not kind.experts:
        yield "ffn_gate", (kind.feed_forward, kind.width)
        yield "ffn_up", (kind.feed_forward, kind.width)
        yield "ffn_down", (kind.width, kind.feed_forward)
        return
    each = kind.feed_forward // kind.experts_used
    yield "ffn_gate_inp", (kind.experts, kind.width)
    yield "ffn_gate_exps", (kind.experts, each, kind.width)
    yield "ffn_up_exps", (kind.experts, each, kind.width)
    yield "ffn_down_exps", (kind.experts, kind.width, each)


def _encoder_block(kind: Kind, layer: int) -> Iterator[Named]:
    for name, shape in (
        *((f"attn_{part}", (kind.width, kind.width)) for part in ("q", "k", "v", "output")),
        ("ffn_up", (kind.feed_forward, kind.width)),
        ("ffn_down", (kind.width, kind.feed_forward)),
    ):
        yield f"blk.{layer}.{name}.weight", shape
        yield f"blk.{layer}.{name}.bias", shape[:1]
    for name in ("attn_output_norm", "layer_output_norm"):
        yield from _norm(f"blk.{layer}.{name}", kind)


def _norm(name: str, kind: Kind) -> Iterator[Named]:
    yield f"{name}.weight", (kind.width,)
    yield f"{name}.bias", (kind.width,)


PLAIN = ("gate_inp", "position", "types", "conv1d")


def _write(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Zeros of the type; what is small (norms, biases, routers) is never quantised.

    Rows that the type's blocks do not divide are kept as Q8_0, whose blocks are short.
    """
    small = len(shape) == 1 or any(word in name for word in PLAIN)
    kind = gguf.GGMLQuantizationType["F32" if small else dtype]
    *outer, inner = shape
    if inner % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = gguf.GGMLQuantizationType.Q8_0
    stored = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    if stored is not None:
        writer.add_tensor(name, np.zeros(shape, dtype=stored), raw_dtype=kind)
        return
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows = np.zeros((*outer, inner // block * size), dtype=np.uint8)
    writer.add_tensor(name, rows, raw_dtype=kind)


# --- vocabularies -------------------------------------------------------------------------------


def _tokenizer(kind: Kind) -> str:
    if kind.architecture == "bert":
        return "wordpiece"
    spm = kind.architecture == "gemma3" or kind.vocabulary == 32_000
    return "sentencepiece" if spm else "bytepair"


def _spelled() -> Iterator[str]:
    """Made-up words, as long on average as the tokens of real vocabularies."""
    for length in range(2, 8):
        yield from map("".join, product(LETTERS, repeat=length))


def _sentencepiece(writer: gguf.GGUFWriter, size: int) -> None:
    """Every word of `SPEECH` is one token, by way of its beginnings."""
    said = [
        piece[:length]
        for word in SPEECH.split()
        for piece in (word, SPACE + word)
        for length in range(2, len(piece) + 1)
    ]
    characters = [SPACE, *map(chr, range(33, 127))]
    plain = ["<unk>", "<s>", "<|im_start|>", "<|im_end|>"]
    raw = [f"<0x{byte:02X}>" for byte in range(BYTE_TOKENS)]
    pieces = _first(chain(plain, raw, characters, said, map(SPACE.__add__, _spelled())), size)
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 3]
    types += [gguf.TokenType.BYTE] * BYTE_TOKENS
    types += [gguf.TokenType.NORMAL] * (size - len(types))
    scores = [len(piece) - 100.0 if len(piece) > 1 else -1000.0 for piece in pieces]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(3)
    writer.add_chat_template(CHATML)


def _bytepair(writer: gguf.GGUFWriter, size: int) -> None:
    """Merges build the words of `SPEECH` letter by letter, and as many more as there is room."""
    visible = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    visible += [chr(256 + n) for n in range(BYTE_TOKENS - len(visible))]
    words = map(BPE_SPACE.__add__, chain(SPEECH.split(), _spelled()))
    joined = {
        piece[:length]: f"{piece[: length - 1]} {piece[length - 1]}"
        for piece in islice(words, size)
        for length in range(2, len(piece) + 1)
    }
    specials = ["<|im_start|>", "<|im_end|>"]
    built = list(islice(joined, size - len(visible) - len(specials)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*visible, *built, *specials])
    writer.add_token_types([gguf.TokenType.NORMAL] * (size - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges([joined[piece] for piece in built])
    writer.add_eos_token_id(size - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _wordpiece(writer: gguf.GGUFWriter, size: int) -> None:
    plain = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = map(SPACE.__add__, chain(SPEECH.split(), _spelled()))
    pieces = _first(chain(plain, map(chr, range(33, 127)), words), size)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * len(plain) + [gguf.TokenType.NORMAL] * (size - len(plain))
    )
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)


def _first(pieces: Iterable[str], size: int) -> list[str]:
    """The first ``size`` different ones."""
    return list(islice(dict.fromkeys(islice(pieces, 2 * size)), size))


_VOCABULARIES: dict[str, Callable[[gguf.GGUFWriter, int], None]] = {
    "sentencepiece": _sentencepiece,
    "bytepair": _bytepair,
    "wordpiece": _wordpiece,
}
