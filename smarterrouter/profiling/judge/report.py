"""Can the judge be trusted? Decides that from how it answered, without knowing who is right.

It is not trusted when

1. nothing was asked or heard;
2. more than a third of what it answered cannot be read;
3. it all but always prefers one position;
4. it calls nearly everything a tie, and so tells nothing apart;
5. too few pairs were decided in both orders to tell judging from guessing;
6. its two verdicts on a pair agree no more often than chance would make them.

Of what may be bias or merit (its own answers, longer answers) the report says how much there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from smarterrouter.profiling.judge.counting import Counts, counted, wilson
from smarterrouter.profiling.judge.pairs import Comparison
from smarterrouter.profiling.judge.results import IN_WORDS, Failure, Result

MOST_UNREADABLE = 1 / 3
MOST_ONE_SIDED = 0.75
"""Of decided verdicts for one position; the 95 % interval must lie above it."""

MOST_TIES = 0.9
LEAST_DECIDED_PAIRS = 5
WORTH_SAYING = 0.8
"""Share of verdicts for the longer answer; the 95 % interval must lie above it."""


class JudgeReport(Struct, frozen=True):
    """``why`` is a sentence for the owner, trusted or not; ``notes`` are things to know."""

    judge: str
    counts: Counts
    trusted: bool
    why: str
    notes: tuple[str, ...] = ()


def report(
    comparisons: Sequence[Comparison],
    heard: Mapping[str, Result],
    *,
    judge: str,
    gave_up: str | None = None,
) -> JudgeReport:
    """The judge's conduct over all that it was asked; ``heard`` by the comparisons' keys."""
    counts = counted(comparisons, heard, judge)
    doubt = next(doubts(counts), None)
    return JudgeReport(
        judge=judge,
        counts=counts,
        trusted=doubt is None,
        why=f"{judge} {doubt or _summary(counts)}",
        notes=tuple(_notes(counts, gave_up)),
    )


def doubts(counts: Counts) -> Iterator[str]:
    """Reasons not to trust the judge, each to be read after its name. Numbered as above."""
    unread = counts.failures.get(Failure.UNREADABLE, 0)
    if not counts.asked and not counts.identical:
        yield "was asked nothing: there were no two answers to compare."
    if not counts.asked:
        return
    if not counts.answered:
        yield f"gave no answer: it {_failures(counts)}."
    if unread > MOST_UNREADABLE * counts.answered:
        yield f"answered nonsense in {unread} of {counts.answered}: its verdicts were not used."
    yield from _one_sided(counts)
    if counts.ties >= MOST_TIES * counts.readable:
        yield (
            f"called {counts.ties} of {counts.readable} a tie: that tells nothing apart, "
            "and its verdicts were not used."
        )
    yield from _guessing(counts)


def _one_sided(counts: Counts) -> Iterator[str]:
    first, decided = counts.first, counts.decided
    for place, number in (("first", first), ("second", decided - first)):
        if wilson(number, decided)[0] > MOST_ONE_SIDED:
            yield (
                f"prefers whatever stands {place} ({_percent(number, decided)} of {decided}): "
                "its verdicts were not used."
            )


def _guessing(counts: Counts) -> Iterator[str]:
    """If verdicts told nothing of the answers, both orders would name one answer by chance."""
    decided = counts.settled + counts.flipped
    if decided < LEAST_DECIDED_PAIRS:
        yield (
            f"decided {decided} pairs in both orders: too few to tell judging from guessing, "
            f"and its verdicts were not used{_because(counts)}."
        )
        return
    share = counts.first_share or 0.0
    by_chance = 2 * share * (1 - share)
    if wilson(counts.settled, decided)[0] <= by_chance:
        yield (
            f"picked the same answer in both orders in {counts.settled} of {decided} pairs, where "
            f"guessing gives {by_chance * decided:.0f}: its verdicts were not used."
        )


def _summary(counts: Counts) -> str:
    if not counts.asked:
        return "had nothing to judge: all answers were identical."
    low, high = (f"{100 * end:.0f} %" for end in counts.first_interval)
    return (
        f"judged {counts.readable} of {counts.asked} questions, {counts.ties} of them ties; "
        f"{_percent(counts.agreed, counts.both)} of {counts.both} pairs have the same verdict in "
        f"both orders; it prefers what stands first in {_percent(counts.first, counts.decided)} "
        f"({low} to {high})."
    )


def _notes(counts: Counts, gave_up: str | None) -> Iterator[str]:
    if gave_up:
        yield gave_up
    if counts.failures:
        yield f"Of {counts.asked} questions it {_failures(counts)}."
    if counts.not_asked:
        yield f"{counts.not_asked} questions were not asked."
    if counts.identical:
        yield f"{counts.identical} pairs of identical answers count as ties."
    if own := counts.own:
        yield (
            "It was one of those judged and may favour itself: its own answer was better in "
            f"{own.better}, worse in {own.worse}, as good in {own.ties} of its verdicts."
        )
    if wilson(counts.longer, counts.uneven)[0] > WORTH_SAYING:
        yield (
            f"It prefers the longer answer in {_percent(counts.longer, counts.uneven)} of "
            f"{counts.uneven}: length may be what it goes by."
        )


def _because(counts: Counts) -> str:
    return f" (it {_failures(counts)})" if counts.failures else ""


def _failures(counts: Counts) -> str:
    return ", ".join(f"{IN_WORDS[why]} in {n}" for why, n in sorted(counts.failures.items()))


def _percent(number: int, of: int) -> str:
    return f"{100 * number / of:.0f} %" if of else "none"
