"""How fast is a model? From replies to figures; pure.

Decides which prompts are timed and what is taken from their answers: the backend's own counters
where it has some, else the clock. Rates are tokens a second, of all replies together, so that a
long answer counts for more than a short one.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct

from smarterrouter.profiling.asking import Reply
from smarterrouter.profiling.task import Said

LENGTHS = (128, 1024, 4096)
"""Tokens of the three prompts; shorter where the context is."""
ANSWER_TOKENS = 48
ROOM_TOKENS = 128
"""Of the context, what stays free for the answer and the template."""
LEAST_TOKENS = 4
FILLER = (
    "harbour lantern gravel orchard cinder meadow ribbon copper thistle anchor velvet marble "
    "signal timber pepper saddle island button market winter"
)
TASK = "Write the numbers from 1 to 200 in words, one after the other, without stopping."


class Timed(Struct, frozen=True, kw_only=True):
    """One prompt length: tokens in the prompt (median), and what its answers took."""

    prompt_tokens: int
    ttft_s: float | None
    prefill_tps: float | None
    decode_tps: float | None
    answers: int


class Speed(Struct, frozen=True, kw_only=True):
    """All lengths, and all answers together. ``counters``: the backend's own, or the clock's.

    ``why`` a length is missing.
    """

    lengths: tuple[Timed, ...]
    ttft_s: float | None
    prefill_tps: float | None
    decode_tps: float | None
    counters: str
    why: str | None = None


class Parallel(Struct, frozen=True, kw_only=True):
    """Several requests at once: tokens a second of all of them together."""

    requests: int
    tps: float | None
    slots: int | None


def lengths(context: int | None) -> tuple[int, ...]:
    """Prompt lengths that fit, in tokens: the usual three, or three parts of a short context."""
    most = (context or LENGTHS[-1] + ROOM_TOKENS) - ROOM_TOKENS
    if most >= LENGTHS[-1]:
        return LENGTHS
    usual = [length for length in LENGTHS[:2] if length < most]
    found = [*usual, most] if len(usual) == 2 else [most // 8, most // 3, most]
    return tuple(sorted({max(8, length) for length in found}))


def prompt(words: int, number: int) -> tuple[Said, ...]:
    """A prompt of about so many words; no two numbers begin alike, so that nothing is cached."""
    stock, step = FILLER.split(), 3 + 4 * (number % 3)
    filler = [stock[(number * 7 + i * step) % len(stock)] for i in range(words)]
    return (Said("user", f"Note {number}: {' '.join(filler)}. {TASK}"),)


def words_for(tokens: int, few: Reply, few_words: int, none: Reply) -> int:
    """How many words make a prompt of so many tokens, by two prompts that were counted."""
    if few.prompt_tokens is None or none.prompt_tokens is None:
        return max(1, int(tokens / 1.4))
    each = max(0.5, (few.prompt_tokens - none.prompt_tokens) / few_words)
    return max(1, int((tokens - none.prompt_tokens) / each))


def speed(rows: Iterable[Sequence[Reply]]) -> Speed:
    """One row of replies for each prompt length."""
    kept = [row for row in rows if row]
    every = [reply for row in kept for reply in row]
    own = any(reply.decode_s for reply in every)
    return Speed(
        lengths=tuple(_timed(row) for row in kept),
        ttft_s=_median(reply.ttft_s for reply in kept[0]) if kept else None,
        prefill_tps=prefill_tps(every),
        decode_tps=decode_tps(every),
        counters="the backend's" if own else "the clock's",
    )


def parallel(
    requests: int, replies: Sequence[Reply], seconds: float, slots: int | None
) -> Parallel:
    """What so many requests at once came to, from the first question to the last word."""
    tokens = sum(reply.answer_tokens or 0 for reply in replies)
    tps = tokens / seconds if tokens and seconds > 0 and len(replies) == requests else None
    return Parallel(requests=requests, tps=tps, slots=slots)


def prefill_tps(replies: Iterable[Reply]) -> float | None:
    """Prompt tokens read a second."""
    pairs = [pair for reply in replies if (pair := _read(reply)) is not None]
    return _rate(pairs)


def decode_tps(replies: Iterable[Reply]) -> float | None:
    """Answer tokens written a second, the first of each answer left out by the clock."""
    pairs = [pair for reply in replies if (pair := _written(reply)) is not None]
    return _rate(pairs)


def _timed(row: Sequence[Reply]) -> Timed:
    counts = [reply.prompt_tokens for reply in row if reply.prompt_tokens is not None]
    return Timed(
        prompt_tokens=int(statistics.median(counts)) if counts else 0,
        ttft_s=_median(reply.ttft_s for reply in row),
        prefill_tps=prefill_tps(row),
        decode_tps=decode_tps(row),
        answers=len(row),
    )


def _read(reply: Reply) -> tuple[float, float] | None:
    if reply.prefill_tokens and reply.prefill_s:
        return reply.prefill_tokens, reply.prefill_s
    if reply.prompt_tokens and reply.ttft_s:
        return reply.prompt_tokens, reply.ttft_s
    return None


def _written(reply: Reply) -> tuple[float, float] | None:
    if reply.decode_tokens and reply.decode_s:
        return (reply.decode_tokens, reply.decode_s) if reply.decode_tokens > 1 else None
    if reply.answer_tokens and reply.answer_tokens > LEAST_TOKENS and reply.ttft_s is not None:
        after = reply.seconds - reply.ttft_s
        return (reply.answer_tokens - 1, after) if after > 0 else None
    return None


def _rate(pairs: Sequence[tuple[float, float]]) -> float | None:
    seconds = sum(spent for _, spent in pairs)
    return sum(tokens for tokens, _ in pairs) / seconds if seconds > 0 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
