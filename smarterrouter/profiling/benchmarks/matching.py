"""Which row of a benchmark table speaks of a local model.

Decides on one row, or that it is not sure: a score of another model is worse than none. The rules
are in ``same``. Besides, a row known for a merge must have the same name to the letter, and where
several releases fit a name without one, none is taken.

The owner may correct a match by hand: ``corrections`` maps a local id to the row's name, or to
``""`` for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from smarterrouter.profiling.benchmarks.formats import BenchmarkRow
from smarterrouter.profiling.benchmarks.names import ModelName, parse
from smarterrouter.profiling.benchmarks.same import Side, difference, fit, left_open, unfolded

NEAREST = 3


class Local(Protocol):
    """What is asked of a local model; ``domain.models.Model`` has it."""

    @property
    def id(self) -> str: ...
    @property
    def parameters(self) -> int | None: ...
    @property
    def quantization(self) -> str | None: ...
    @property
    def architecture(self) -> str | None: ...


class Match(Struct, frozen=True):
    """The row for a local model, or ``None`` and why not.

    ``score`` is 1 where all agrees, less for each thing left open. ``nearest`` names the rows
    that come closest where none was taken. ``corrected``: the owner said so.
    """

    local: str
    row: BenchmarkRow | None
    score: float
    why: str
    nearest: tuple[str, ...] = ()
    corrected: bool = False


def match(
    local: Local, rows: Sequence[BenchmarkRow], corrections: Mapping[str, str] | None = None
) -> Match:
    """The best of ``rows`` for ``local``. Rows of several sources: ask with each source's own."""
    wanted = (corrections or {}).get(local.id)
    if wanted is not None:
        return _corrected(local, rows, wanted)
    here = unfolded(Side(parse(local.id), _billions(local), (local.architecture or "").lower()))
    if here is None:
        return Match(local.id, None, 0.0, "its name does not tell what it was distilled into")
    if not here.name.family:
        return Match(local.id, None, 0.0, "its name tells no family")
    found = [(score, row) for row in rows if (score := _fit(here, row))]
    if not found:
        return _none(local.id, here, rows)
    releases = {parse(row.model_name).release for _, row in found} - {None}
    if here.name.release is None and len(releases) > 1:
        names = tuple(sorted({row.model_name for _, row in found}))[:NEAREST]
        return Match(local.id, None, 0.0, "its name does not tell which release it is", names)
    best, row = max(found, key=lambda pair: (pair[0], *_rank(pair[1], local)))
    return Match(local.id, row, round(best, 3), _why(here, row))


def _corrected(local: Local, rows: Sequence[BenchmarkRow], wanted: str) -> Match:
    if not wanted:
        return Match(local.id, None, 0.0, "set to none by hand", corrected=True)
    same = [row for row in rows if row.model_name.casefold() == wanted.casefold()]
    if not same:
        why = f"set by hand to {wanted}, which is not in this table"
        return Match(local.id, None, 0.0, why, _nearest(parse(wanted), rows), corrected=True)
    return Match(local.id, max(same, key=lambda r: _rank(r, local)), 1.0, "set by hand", (), True)


def _none(local: str, here: Side, rows: Sequence[BenchmarkRow]) -> Match:
    near = _nearest(here.name, rows)
    if not near:
        return Match(local, None, 0.0, "no row is of its family")
    row = next(row for row in rows if row.model_name == near[0])
    what = difference(here, _of_row(row)) or "being a merge"
    why = f"{near[0]} comes nearest, but differs in {what}"
    return Match(local, None, 0.0, why, near)


def _nearest(name: ModelName, rows: Sequence[BenchmarkRow]) -> tuple[str, ...]:
    """Names of the same family, or with a word in common, the likest first."""
    kin = {r.model_name for r in rows if _akin(name, parse(r.model_name))}
    likest = sorted(kin, key=lambda other: (-_likeness(name, parse(other)), len(other), other))
    return tuple(likest[:NEAREST])


def _akin(one: ModelName, other: ModelName) -> bool:
    if one.family == other.family:
        return True
    first, second = one.family + (one.version or ""), other.family + (other.version or "")
    return first in other.words or second in one.words


def _likeness(one: ModelName, other: ModelName) -> float:
    words = len(one.words ^ other.words) + len(one.variant ^ other.variant)
    sizes = one.size is not None and one.size == other.size
    return 2.0 * (one.version == other.version) + sizes + (one.tuning == other.tuning) / 4 - words


def _fit(here: Side, row: BenchmarkRow) -> float:
    if parse(row.model_name).family != here.name.family:  # the quickest rule, for most rows
        return 0.0
    if row.merged and _stem(here.name.text) != _stem(row.model_name):
        return 0.0
    return fit(here, _of_row(row))


def _of_row(row: BenchmarkRow) -> Side:
    parameters = row.parameters / 1e9 if row.parameters else None
    return Side(parse(row.model_name), parameters, tuned=row.tuned)


def _billions(local: Local) -> float | None:
    return local.parameters / 1e9 if local.parameters else None


def _rank(row: BenchmarkRow, local: Local) -> tuple[bool, bool, bool, int, str]:
    """Among rows of equal fit: the maker's own, of the same owner, unquantised, the fullest."""
    owner = row.model_name.rpartition("/")[0].casefold()
    quantised = parse(row.model_name).quantization or (row.precision or "bfloat16").lower()
    return (
        bool(row.official),
        bool(owner) and local.id.casefold().startswith(f"{owner}/"),
        quantised in ("bfloat16", "float16", "bf16", "fp16", "f16"),
        len(row.scores),
        row.model_name,
    )


def _stem(text: str) -> str:
    return text.rpartition("/")[2].casefold()


def _why(here: Side, row: BenchmarkRow) -> str:
    return "; ".join(["same model", *left_open(here, _of_row(row))])
