"""Estimates tokens: of a text, by its kinds of characters, and of an answer, by its task.

Meant to guard a context limit, so a text's estimate errs upwards; no vocabulary is loaded.
The weights were fitted to the vocabularies of Llama 3 and Qwen 2, the larger count of the two.
"""

from __future__ import annotations

import math

# Longer texts are sampled in evenly spaced slices, so that cost stays bounded.
COUNTED_BYTES = 8192
SLICES = 32
MARGIN = 1.1


def _kind(tokens_each: float, *ranges: tuple[int, int]) -> tuple[bytes, float]:
    members = bytes(code for first, last in ranges for code in range(first, last + 1))
    return members, tokens_each


# Tokens per byte of a kind. Above 127 only a character's lead byte counts.
ASCII_KINDS: tuple[tuple[bytes, float], ...] = (
    _kind(0.18, (0x41, 0x5A), (0x61, 0x7A)),  # ASCII letters
    _kind(1.3, (0x30, 0x39)),  # digits
    _kind(0.35, (0x20, 0x20)),  # spaces
    _kind(0.2, (0x09, 0x0D)),  # tabs and line ends
    _kind(0.5, (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),  # punctuation
    _kind(1.0, (0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x7F)),  # control characters
)
KINDS: tuple[tuple[bytes, float], ...] = (
    *ASCII_KINDS,
    _kind(1.5, (0xC2, 0xCB)),  # accented Latin
    _kind(1.1, (0xCC, 0xCF), (0xD4, 0xD7), (0xDC, 0xDF)),  # Greek, Armenian, Hebrew, Syriac
    _kind(0.45, (0xD0, 0xD3)),  # Cyrillic
    _kind(0.6, (0xD8, 0xDB)),  # Arabic
    _kind(1.2, (0xE0, 0xE0)),  # Indic, Thai
    _kind(0.9, (0xE1, 0xEF)),  # Chinese, Japanese, Korean, symbols
    _kind(2.5, (0xF0, 0xF7)),  # emoji and rare scripts
)

# Tokens of an ordinary answer at difficulty 0.5.
ANSWER_TOKENS: dict[str, int] = {
    "code_write": 500,
    "code_read": 400,
    "data_query": 250,
    "math": 280,
    "logic": 300,
    "planning": 700,
    "knowledge": 350,
    "advice": 450,
    "summarising": 200,
    "extraction": 90,
    "translation": 60,
    "formatting": 120,
    "writing": 550,
    "roleplay": 220,
}
# Answers of these groups say the prompt's material again: this share of its tokens.
ECHO: dict[str, float] = {"translation": 0.95, "formatting": 0.9, "code_read": 0.3}
FEWEST, MOST = 8, 4096


def estimate_tokens(text: str) -> int:
    """Tokens of a text, a little more than most vocabularies need; 0 only if it is empty."""
    data = text.encode("utf-8", "surrogatepass")
    if not data:
        return 0
    sample = _sample(data)
    total = 0.0
    for members, tokens_each in ASCII_KINDS if data.isascii() else KINDS:
        total += tokens_each * (len(sample) - len(sample.translate(None, members)))
    return max(1, math.ceil(total * MARGIN * len(data) / len(sample)))


def _sample(data: bytes) -> bytes:
    if len(data) <= COUNTED_BYTES:
        return data
    size = COUNTED_BYTES // SLICES
    last = len(data) - size
    starts = (last * number // (SLICES - 1) for number in range(SLICES))
    return b"".join(data[start : start + size] for start in starts)


def answer_tokens(
    group: str, difficulty: float, prompt_tokens: int = 0, max_tokens: int | None = None
) -> int:
    """What an answer usually takes, never above ``max_tokens``: a prior, to be learned from."""
    usual = ANSWER_TOKENS[group] * (0.15 + 1.7 * difficulty)
    echoed = ECHO.get(group, 0.0) * prompt_tokens
    tokens = min(max(round(usual + echoed), FEWEST), MOST)
    return tokens if max_tokens is None else max(min(tokens, max_tokens), 0)
