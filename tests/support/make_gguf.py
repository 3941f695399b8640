"""Makes real GGUF models of any size whose answer is known beforehand.

Every transformer block has its full size and is really computed, but its two output matrices
are zero. What reaches the end is therefore the embedding of the last token alone, and the
output matrix is a table from each token to the next one: the words to say, then the end of
the turn (or the first word again, for a model that never ends). Loading time, memory and
speed are those of an ordinary Llama of that size.

    python tests/support/make_gguf.py ladder DIR
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPEECH = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november "
    "oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu "
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "red orange yellow green blue indigo violet black white brown grey pink purple silver gold "
    "spring summer autumn winter morning noon evening night today tomorrow yesterday "
    "apple banana cherry damson elder fig grape hazel kiwi lemon mango nectarine olive peach "
    "quince raspberry strawberry tomato vanilla walnut bear cat dog eagle fox goose horse "
    "iguana jaguar koala lion mouse newt otter panda quail rabbit snake tiger vole wolf yak"
)
RUNGS = {
    "tiny-5m": (5, False),
    "tiny-20m": (20, False),
    "tiny-60m": (60, False),
    "tiny-200m": (200, False),
    "endless-20m": (20, True),
}

UNKNOWN, BEGIN, TURN_BEGIN, TURN_END = range(4)
HEAD = 64
SPACE = "\u2581"
BYTES_PER_WEIGHT = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The model's proportions; ``width`` is the embedding's length."""

    width: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int


class Vocabulary:
    """A SentencePiece vocabulary: four specials, 256 bytes, characters, and whole words.

    SentencePiece merges neighbours only, so every beginning of every word is a piece too, and
    the longer one wins.
    """

    def __init__(self, words: list[str]) -> None:
        self.pieces: list[str] = []
        self.scores: list[float] = []
        self.types: list[gguf.TokenType] = []
        self._ids: dict[str, int] = {}
        self._add("<unk>", 0, gguf.TokenType.UNKNOWN)
        for special in ("<s>", "<|im_start|>", "<|im_end|>"):
            self._add(special, 0, gguf.TokenType.CONTROL)
        for byte in range(256):
            self._add(f"<0x{byte:02X}>", 0, gguf.TokenType.BYTE)
        for character in map(chr, range(33, 127)):
            self._add(character, -1000)
        self._add(SPACE, -1000)
        for word in words:
            for whole in (word, SPACE + word):
                for length in range(2, len(whole) + 1):
                    self._add(whole[:length], length - 100)

    def __len__(self) -> int:
        return len(self.pieces)

    def _add(self, piece: str, score: float, kind: gguf.TokenType = gguf.TokenType.NORMAL) -> None:
        if piece not in self._ids:
            self._ids[piece] = len(self.pieces)
            self.pieces.append(piece)
            self.scores.append(score)
            self.types.append(kind)

    def path(self, words: list[str]) -> list[int]:
        """The words' tokens in order; each only once, for a token has one successor."""
        spelled = [words[0], *(SPACE + word if word.isalnum() else word for word in words[1:])]
        return list(dict.fromkeys(self._ids[word] for word in spelled))


def make(
    path: Path,
    megabytes: float,
    say: str,
    endless: bool = False,
    dtype: str = "f16",
    context: int = 2048,
    seed: int = 0,
    chat_template: str = CHATML,
) -> Path:
    """Writes a model of about ``megabytes`` to ``path``; to any chat it answers ``say``.

    It appears under ``path`` only when it is complete.
    """
    words = re.findall(r"\w+|[^\w\s]", say)
    vocabulary = Vocabulary(words)
    dimensions = _dimensions(megabytes * 1e6, BYTES_PER_WEIGHT[dtype], len(vocabulary))
    random = np.random.default_rng(seed)
    unfinished = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    _write_metadata(writer, path.stem, dimensions, dtype, context)
    _write_vocabulary(writer, vocabulary, chat_template)
    embedding, output = _next_token_table(
        vocabulary.path(words), endless, len(vocabulary), dimensions.width, random
    )
    _write_tensor(writer, "token_embd.weight", embedding, dtype)
    _write_tensor(writer, "output.weight", output, dtype)
    _write_tensor(writer, "output_norm.weight", _ones(dimensions.width), "f32")
    for layer in range(dimensions.layers):
        _write_block(writer, f"blk.{layer}", dimensions, dtype, random)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.replace(path)


def ladder(directory: Path) -> list[Path]:
    """The models that the tests share, smallest first; makes those that are missing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (megabytes, endless) in RUNGS.items():
        path = directory / f"{name}.gguf"
        if not path.exists():
            make(path, megabytes, f"Hello from {name.replace('-', ' ')} : {SPEECH} .", endless)
        paths.append(path)
    return paths


def _dimensions(target_bytes: float, bytes_per_weight: float, vocabulary: int) -> Dimensions:
    """The narrowest model of at most 28 layers that reaches the size."""
    for width in (64, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1536, 2048):
        heads = width // HEAD
        kv_heads = next(n for n in range(max(1, heads // 2), 0, -1) if heads % n == 0)
        feed_forward = width * 11 // 4 // 64 * 64
        block = width * (2 * width + 2 * kv_heads * HEAD + 3 * feed_forward) * bytes_per_weight
        tables = 2 * vocabulary * width * bytes_per_weight
        layers = max(2, round((target_bytes - tables) / block))
        if layers <= 28:
            break
    return Dimensions(width, layers, feed_forward, heads, kv_heads)


def _next_token_table(
    path: list[int], endless: bool, vocabulary: int, width: int, random: np.random.Generator
) -> tuple[Matrix, Matrix]:
    """Embeddings, and an output matrix which prefers each token's successor.

    All embeddings share their first component: it leads to the first word from any token that
    has no successor. A successor's pull is larger, and along the rest of the embedding.
    """
    own = random.standard_normal((vocabulary, width), dtype=np.float32)
    own[:, 0] = 0
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    embedding = 0.8 * own
    embedding[:, 0] = 0.6
    pull = 40 / np.sqrt(width)
    output = np.zeros((vocabulary, width), dtype=np.float32)
    output[path[0], 0] = 1.2 * pull
    for token, successor in zip(path, [*path[1:], path[0] if endless else TURN_END], strict=True):
        output[successor] += 3 * pull * own[token]
    return embedding, output


def _write_metadata(
    writer: gguf.GGUFWriter, name: str, dimensions: Dimensions, dtype: str, context: int
) -> None:
    file_type = "ALL_F32" if dtype == "f32" else f"MOSTLY_{dtype.upper()}"
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_context_length(context)
    writer.add_embedding_length(dimensions.width)
    writer.add_block_count(dimensions.layers)
    writer.add_feed_forward_length(dimensions.feed_forward)
    writer.add_head_count(dimensions.heads)
    writer.add_head_count_kv(dimensions.kv_heads)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)


def _write_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, template: str) -> None:
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(TURN_END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    if template:
        writer.add_chat_template(template)


def _write_block(
    writer: gguf.GGUFWriter,
    block: str,
    dimensions: Dimensions,
    dtype: str,
    random: np.random.Generator,
) -> None:
    width, wide = dimensions.width, dimensions.feed_forward
    kv_width = dimensions.kv_heads * HEAD
    for name in ("attn_norm", "ffn_norm"):
        _write_tensor(writer, f"{block}.{name}.weight", _ones(width), "f32")
    for name, rows in (
        ("attn_q", width), ("attn_k", kv_width), ("attn_v", kv_width),
        ("ffn_gate", wide), ("ffn_up", wide),
    ):  # fmt: skip
        weights = random.standard_normal((rows, width), dtype=np.float32) / (2 * np.sqrt(width))
        _write_tensor(writer, f"{block}.{name}.weight", weights, dtype)
    for name, columns in (("attn_output", width), ("ffn_down", wide)):
        silent = np.zeros((width, columns), dtype=np.float32)
        _write_tensor(writer, f"{block}.{name}.weight", silent, dtype)


def _write_tensor(writer: gguf.GGUFWriter, name: str, weights: Matrix, dtype: str) -> None:
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    writer.add_tensor(name, gguf.quantize(weights.astype(np.float32), kind), raw_dtype=kind)


def _ones(length: int) -> Matrix:
    return np.ones(length, dtype=np.float32)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ladder", directory]:
            for made in ladder(Path(directory)):
                print(f"{made}  {made.stat().st_size / 1e6:.1f} MB")
        case _:
            sys.exit(__doc__)
