"""All imported tables together: what they say of the models that are here. Pure.

Decides what a table is called, so that a newer edition takes the place of an older one: by what it
is, and where that is not known, by the file that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, to_builtins

from smarterrouter.domain.benchmarks import BenchmarkTable, Published, RowChoice
from smarterrouter.errors import SmarterRouterError
from smarterrouter.profiling.benchmarks.formats import OTHER, BenchmarkRow, parse
from smarterrouter.profiling.benchmarks.matching import Local, Match, match
from smarterrouter.profiling.benchmarks.priors import Yardstick, priors, yardstick

SCHEMA = 1
Report = dict[str, object]


@dataclass(frozen=True, slots=True)
class Opened:
    """A kept table, with its rows and what is usual among them."""

    name: str
    place: str
    at: float
    rows: tuple[BenchmarkRow, ...]
    middles: Yardstick


def table(raw: bytes, place: str, at: float) -> BenchmarkTable:
    """A file as it is kept. Raises ``BadRequest`` where no scores are found in it.

    Takes a while for the largest: call it in a thread.
    """
    rows = parse(raw, place)
    source = rows[0].source
    path = urlsplit(place).path if "://" in place else place
    name = PurePath(path).stem if source == OTHER else source
    return BenchmarkTable(
        name=name or OTHER, place=place, at=at, rows=Raw(msgspec.json.encode(rows))
    )


def opened(tables: Iterable[BenchmarkTable]) -> tuple[Opened, ...]:
    """What an older version wrote in another form is not known."""
    return tuple(one for one in map(_opened, tables) if one is not None)


def _opened(kept: BenchmarkTable) -> Opened | None:
    try:
        rows = msgspec.json.decode(kept.rows, type=tuple[BenchmarkRow, ...])
    except msgspec.ValidationError:
        return None
    return Opened(kept.name, kept.place, kept.at, rows, yardstick(rows))


@dataclass(frozen=True, slots=True)
class Shelf:
    """The tables, and what the owner has said of them."""

    tables: tuple[Opened, ...]
    choices: Sequence[RowChoice] = ()

    def matches(self, local: Local) -> tuple[Match, ...]:
        """The row for a local model in each table, in the tables' order."""
        return tuple(match(local, one.rows, self._by_hand(one.name)) for one in self.tables)

    def published(self, models: Iterable[Local]) -> dict[str, Mapping[str, Published]]:
        """By model and prompt group; models that no table speaks of are left out."""
        found = {one.id: self._priors(one, self.matches(one)) for one in models}
        return {model: by_group for model, by_group in found.items() if by_group}

    def report(self, models: Iterable[Local], *, used: bool) -> Report:
        """As ``benchmarks --json`` and ``/admin/benchmarks`` tell it."""
        return {
            "schema": SCHEMA,
            "used": used,
            "tables": [
                {
                    "name": one.name,
                    "place": one.place,
                    "at": one.at,
                    "rows": len(one.rows),
                    "compares": bool(one.middles),
                }
                for one in self.tables
            ],
            "models": [self._told(one) for one in models],
        }

    def tables_with(self, row: str) -> list[tuple[str, str]]:
        """The tables that have a row of that name, with the name as each writes it."""
        wanted = row.casefold()
        found = {
            one.name: each.model_name
            for one in self.tables
            for each in one.rows
            if each.model_name.casefold() == wanted
        }
        return list(found.items())

    def names_like(self, text: str, most: int = 5) -> list[str]:
        """Names of rows that contain ``text``, the shortest first."""
        part = text.casefold()
        names = {r.model_name for one in self.tables for r in one.rows}
        return sorted((n for n in names if part in n.casefold()), key=lambda n: (len(n), n))[:most]

    def _by_hand(self, table: str) -> dict[str, str]:
        return {one.model: one.row for one in self.choices if one.table == table}

    def _priors(self, local: Local, found: Sequence[Match]) -> dict[str, Published]:
        pairs = zip(found, (one.middles for one in self.tables), strict=True)
        return priors(pairs, local.quantization)

    def _told(self, local: Local) -> Report:
        found = self.matches(local)
        return {
            "model": local.id,
            "matches": [
                {
                    "table": one.name,
                    "row": each.row.model_name if each.row else None,
                    "score": each.score,
                    "why": each.why,
                    "nearest": each.nearest,
                    "corrected": each.corrected,
                }
                for one, each in zip(self.tables, found, strict=True)
            ],
            "priors": to_builtins(self._priors(local, found)),
        }


def no_such_row(shelf: Shelf, row: str) -> SmarterRouterError:
    """What to say to whoever names a row that is in no table."""
    near = shelf.names_like(row) or shelf.names_like(row.rpartition("/")[2])
    hint = f" Rows like it: {', '.join(near)}." if near else ""
    return SmarterRouterError(f"No imported table has a row {row}.{hint}")
