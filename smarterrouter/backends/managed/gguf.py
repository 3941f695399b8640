"""Reads what a GGUF file says about its model, from the header alone.

Decides what the file is, what it can do and what shape it has; not whether it may run or
fits anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from smarterrouter.backends.managed.gguf_file import (
    KEPT_ARRAY,
    Facts,
    NotAModel,
    PerLayer,
    Tensors,
    read_file,
)
from smarterrouter.domain.models import Capability
from smarterrouter.domain.shape import Layer, Shape

__all__ = ["GgufHeader", "NotAModel", "read_header"]

# llama.cpp's file types, `id:name`.
_FILE_TYPE_TABLE = (
    "0:F32 1:F16 2:Q4_0 3:Q4_1 7:Q8_0 8:Q5_0 9:Q5_1 10:Q2_K 11:Q3_K_S 12:Q3_K_M 13:Q3_K_L "
    "14:Q4_K_S 15:Q4_K_M 16:Q5_K_S 17:Q5_K_M 18:Q6_K 19:IQ2_XXS 20:IQ2_XS 21:Q2_K_S "
    "22:IQ3_XS 23:IQ3_XXS 24:IQ1_S 25:IQ4_NL 26:IQ3_S 27:IQ3_M 28:IQ2_S 29:IQ2_M "
    "30:IQ4_XS 31:IQ1_M 32:BF16 36:TQ1_0 37:TQ2_0 38:MXFP4 39:NVFP4 40:Q1_0 41:Q2_0"
)
_FILE_TYPES = dict(word.split(":") for word in _FILE_TYPE_TABLE.split())

_ENCODERS = re.compile(r".*bert.*|gemma-embedding|llama-embed|t5encoder")
_POOLED, _RANKED = frozenset({1, 2, 3}), 4

# Every how many layers one looks at everything, where the file does not say; a negative
# number starts with that layer instead of ending with it.
_FULL_ATTENTION_EVERY = {
    "afmoe": 4, "cohere2": 4, "cohere2moe": -4, "exaone4": 4, "exaone-moe": 4,
    "gemma-embedding": 6, "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "laguna": -4,
    "llama4": 4, "mellum": 4, "modern-bert": -3, "olmo2": 4, "plamo3": 8, "smallthinker": -4,
}  # fmt: skip
# Types that llama.cpp rearranges on any CPU that it runs well on; some CPUs have more.
_REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What one file, or all shards of one model together, say.

    ``kind`` is GGUF's ``general.type`` (model, mmproj, adapter, imatrix, ...).
    ``file_bytes`` is how long the file has to be to hold the tensors it lists.
    """

    architecture: str | None
    kind: str
    name: str | None
    quantization: str | None
    parameters: int
    context_length: int | None
    embedding_length: int | None
    feed_forward_length: PerLayer
    block_count: int | None
    head_count: PerLayer
    head_count_kv: PerLayer
    key_length: int | None
    value_length: int | None
    sliding_window: int | None
    sliding_window_pattern: PerLayer
    expert_count: int | None
    expert_used_count: int | None
    expert_feed_forward_length: PerLayer
    vocab_size: int | None
    pooling_type: int | None
    chat_template: str | None
    tool_template: str | None
    split_no: int
    split_count: int
    tensor_bytes: int
    bytes_by_type: tuple[tuple[str, int], ...]
    file_bytes: int
    is_projector: bool
    encodes_images: bool
    layers: tuple[Layer, ...]
    state_bytes: int

    def with_shards(self, others: Iterable[GgufHeader]) -> GgufHeader:
        """This (first) shard's description, with the tensors of all shards counted."""
        parts = (self, *others)
        by_type: Counter[str] = Counter()
        for part in parts:
            by_type.update(dict(part.bytes_by_type))
        return replace(
            self,
            quantization=self.quantization or _commonest(by_type),
            parameters=sum(part.parameters for part in parts),
            tensor_bytes=sum(part.tensor_bytes for part in parts),
            file_bytes=sum(part.file_bytes for part in parts),
            bytes_by_type=tuple(by_type.most_common()),
        )

    def capabilities(self, *, mmproj: bool = False) -> frozenset[Capability]:
        """What the model can do; ``mmproj`` says that an image projector comes with it.

        A reranker can do none of it: its answer is neither text nor a vector.
        """
        if self.pooling_type == _RANKED:
            return frozenset()
        if self.pooling_type in _POOLED or _ENCODERS.fullmatch(self.architecture or ""):
            return frozenset({Capability.EMBEDDING})
        found = {Capability.CHAT} | ({Capability.VISION} if mmproj else set())
        if self.tool_template or _handles_tools(self.chat_template or ""):
            found.add(Capability.TOOLS)
        if _THINKING.search(self.chat_template or ""):
            found.add(Capability.THINKING)
        return frozenset(found)

    def shape(self) -> Shape:
        """The proportions that a memory estimate needs."""
        return Shape(
            weights_bytes=self.tensor_bytes,
            layers=self.layers,
            embedding_length=self.embedding_length or 0,
            vocab_size=self.vocab_size or 0,
            feed_forward_length=self._widest(),
            head_count=_largest(self.head_count),
            state_bytes=self.state_bytes,
            repacked_bytes=sum(size for name, size in self.bytes_by_type if name in _REPACKED),
        )

    def _widest(self) -> int:
        """The feed-forward width that one token passes, all of its experts together."""
        dense = _largest(self.feed_forward_length)
        expert = _largest(self.expert_feed_forward_length) or dense
        return max(dense, expert * (self.expert_used_count or 0))


def read_header(path: Path) -> GgufHeader:
    """What ``path`` says of itself. Raises only `NotAModel`."""
    file = read_file(path)
    header = describe(file.facts, file.tensors, file.data_start)
    if header.architecture is None and header.split_no == 0:
        raise NotAModel(path, "The file does not name its architecture (general.architecture).")
    return header


def describe(facts: Facts, tensors: Tensors, data_start: int) -> GgufHeader:
    layers = _layers(facts)
    tokens = facts.lengths.get("tokenizer.ggml.tokens")
    kind = facts.text("general.type") or "model"
    projector = facts.architecture == "clip" or kind == "mmproj"
    file_type = _FILE_TYPES.get(str(facts.number("general.file_type")))
    return GgufHeader(
        architecture=facts.architecture,
        kind=kind,
        name=facts.text("general.name"),
        quantization=file_type or _commonest(tensors.by_type),
        parameters=tensors.elements,
        context_length=facts.number("*.context_length"),
        embedding_length=facts.number("*.embedding_length"),
        feed_forward_length=facts.per_layer("*.feed_forward_length"),
        block_count=facts.number("*.block_count"),
        head_count=facts.per_layer("*.attention.head_count"),
        head_count_kv=facts.per_layer("*.attention.head_count_kv"),
        key_length=facts.number("*.attention.key_length"),
        value_length=facts.number("*.attention.value_length"),
        sliding_window=facts.number("*.attention.sliding_window"),
        sliding_window_pattern=facts.per_layer("*.attention.sliding_window_pattern"),
        expert_count=facts.number("*.expert_count"),
        expert_used_count=facts.number("*.expert_used_count"),
        expert_feed_forward_length=facts.per_layer("*.expert_feed_forward_length"),
        vocab_size=tokens or facts.number("*.vocab_size"),
        pooling_type=facts.number("*.pooling_type"),
        chat_template=facts.text("tokenizer.chat_template"),
        tool_template=facts.text("tokenizer.chat_template.tool_use"),
        split_no=facts.number("split.no") or 0,
        split_count=facts.number("split.count") or 1,
        tensor_bytes=tensors.by_type.total(),
        bytes_by_type=tuple(tensors.by_type.most_common()),
        file_bytes=data_start + tensors.end,
        is_projector=projector,
        encodes_images=projector and facts.get("clip.has_vision_encoder", True) is not False,
        layers=layers,
        state_bytes=_state_bytes(facts, len(layers)),
    )


def _layers(facts: Facts) -> tuple[Layer, ...]:
    """The layers that keep keys and values. Encoders keep none."""
    blocks = min(facts.number("*.block_count") or 0, KEPT_ARRAY)
    if not facts.architecture or _ENCODERS.fullmatch(facts.architecture):
        return ()
    shared = facts.number("*.attention.shared_kv_layers") or 0
    return tuple(_layer(facts, i) for i in range(blocks - shared) if _keeps_kv(facts, i))


def _keeps_kv(facts: Facts, i: int) -> bool:
    recurrent = facts.per_layer("*.attention.recurrent_layers")
    if isinstance(recurrent, tuple) and i < len(recurrent):
        return not recurrent[i]
    every = facts.number("*.full_attention_interval")
    if every:
        return (i + 1) % every == 0
    heads = facts.per_layer("*.attention.head_count_kv")
    return not (isinstance(heads, tuple) and _at(heads, i) == 0) and heads != 0


def _layer(facts: Facts, i: int) -> Layer:
    heads = _at(facts.per_layer("*.attention.head_count"), i) or 1
    width = (facts.number("*.embedding_length") or 0) // heads
    key = facts.number("*.attention.key_length") or width
    value = facts.number("*.attention.value_length") or width
    window = facts.number("*.attention.sliding_window") if _is_windowed(facts, i) else None
    if window:
        key = facts.number("*.attention.key_length_swa") or key
        value = facts.number("*.attention.value_length_swa") or value
    if facts.number("*.attention.key_length_mla"):
        value = 0  # values are read back out of the compressed keys
    kv_heads = _at(facts.per_layer("*.attention.head_count_kv"), i)
    return Layer(heads if kv_heads is None else kv_heads, key, value, window or None)


def _is_windowed(facts: Facts, i: int) -> bool:
    pattern = facts.per_layer("*.attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return bool(_at(pattern, i))
    every = _FULL_ATTENTION_EVERY.get(facts.architecture or "")
    if every is None:
        return False
    if pattern:
        every = pattern if every > 0 else -pattern
    return i % every != 0 if every < 0 else i % every < every - 1


def _state_bytes(facts: Facts, layers: int) -> int:
    """What all recurrent layers keep for one slot, in 32-bit floats."""
    inner, state = facts.number("*.ssm.inner_size") or 0, facts.number("*.ssm.state_size") or 0
    groups, kernel = facts.number("*.ssm.group_count") or 0, facts.number("*.ssm.conv_kernel") or 1
    blocks = min(facts.number("*.block_count") or 0, KEPT_ARRAY)
    recurrent = max(0, blocks - layers)
    return 4 * recurrent * (state * inner + (kernel - 1) * (inner + 2 * groups * state))


def _at(value: PerLayer, i: int) -> int | None:
    if isinstance(value, tuple):
        return value[i] if i < len(value) else None
    return value


def _largest(value: PerLayer) -> int:
    return max(value, default=0) if isinstance(value, tuple) else value or 0


def _commonest(by_type: Counter[str]) -> str | None:
    return by_type.most_common(1)[0][0] if by_type else None


_CODE = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_LITERAL = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_TOOLS = re.compile(r"\b(?:tools|tool_calls)\b")
_THINKING = re.compile(
    r"</?think>|<seed:think>|\[THINK\]|START_THINKING|enable_thinking|reasoning_content"
    r"|reasoning_effort|\{%-? *(?:el)?if thinking\b"
)


def _handles_tools(template: str) -> bool:
    """Whether the template's code, as against the text it writes, speaks of tools."""
    code = _LITERAL.sub(
        lambda found: found[0] if found[0][1:-1].isidentifier() else "''",
        " ".join(_CODE.findall(template)),
    )
    return _TOOLS.search(code) is not None
