"""What profiling has found out and what was imported, kept as it comes. Decides nothing.

One row for each thing: whoever comes second to the same thing takes the place of the first, so
that nothing counts twice.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from smarterrouter.domain.benchmarks import BenchmarkTable, RowChoice
from smarterrouter.domain.profiles import (
    Answer,
    Figures,
    PairVerdict,
    ProfiledModel,
    ProfileRecord,
)
from smarterrouter.errors import Unavailable
from smarterrouter.store.queries import reading
from smarterrouter.store.writer import Writer

TABLES: dict[type[Struct], str] = {
    Answer: "profile_answers",
    Figures: "profile_figures",
    ProfiledModel: "profile_models",
    PairVerdict: "profile_verdicts",
    BenchmarkTable: "benchmark_tables",
    RowChoice: "benchmark_choices",
}
OF_A_MODEL = ("profile_answers", "profile_figures", "profile_models")
Record = ProfileRecord | BenchmarkTable | RowChoice
_T = TypeVar("_T", bound=Struct)


class _Kept(Struct, frozen=True):
    """See ``writer.Entry``."""

    record: Record

    def weight(self) -> int:
        return len(self.record.text) if isinstance(self.record, Answer) else 256

    def write(self, connection: sqlite3.Connection) -> None:
        fields = {
            name: _plain(getattr(self.record, name)) for name in self.record.__struct_fields__
        }
        names, marks = columns(fields), ", ".join(f":{name}" for name in fields)
        table = TABLES[type(self.record)]
        connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", fields)  # noqa: S608


class _Dropped(Struct, frozen=True):
    """See ``writer.Entry``: the rows of ``tables`` with these values go."""

    tables: tuple[str, ...]
    values: dict[str, str]

    def weight(self) -> int:
        return 0

    def write(self, connection: sqlite3.Connection) -> None:
        where = " AND ".join(f'"{name}" = :{name}' for name in self.values)
        for table in self.tables:
            connection.execute(f"DELETE FROM {table} WHERE {where}", self.values)  # noqa: S608


class Profiles:
    """See ``domain.profiles.ProfileNotes`` and ``domain.benchmarks.BenchmarkNotes``."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer

    async def keep(self, record: Record) -> None:
        await self._written(_Kept(record))

    async def forget(self, identity: str) -> None:
        await self._written(_Dropped(OF_A_MODEL, {"identity": identity}))

    async def drop_table(self, name: str) -> None:
        await self._written(_Dropped(("benchmark_tables",), {"name": name}))
        await self._written(_Dropped(("benchmark_choices",), {"table": name}))

    async def drop_choice(self, model: str, table: str) -> None:
        await self._written(_Dropped(("benchmark_choices",), {"model": model, "table": table}))

    def models(self) -> Sequence[ProfiledModel]:
        return self._read(ProfiledModel, "ORDER BY at, identity", {})

    def answers(self, identity: str | None = None) -> Sequence[Answer]:
        return self._read(Answer, f"{_OF_ONE} ORDER BY at, task", {"identity": identity})

    def figures(self, identity: str | None = None) -> Sequence[Figures]:
        return self._read(Figures, f"{_OF_ONE} ORDER BY at", {"identity": identity})

    def verdicts(self, judge: str) -> Sequence[PairVerdict]:
        return self._read(PairVerdict, "WHERE judge = :judge ORDER BY at", {"judge": judge})

    def tables(self) -> Sequence[BenchmarkTable]:
        return self._read(BenchmarkTable, "ORDER BY name", {})

    def choices(self) -> Sequence[RowChoice]:
        return self._read(RowChoice, 'ORDER BY model, "table"', {})

    async def _written(self, entry: _Kept | _Dropped) -> None:
        if not await asyncio.wrap_future(self._writer.keep(entry)):
            raise Unavailable(
                f"{self._path} cannot be written, so nothing that is measured would last. Is the "
                "disk full, or does another program hold the file?"
            )

    def _read(self, kind: type[_T], clause: str, values: dict[str, str | None]) -> list[_T]:
        with reading(self._path) as connection:
            if connection is None:
                return []
            names = columns(kind.__struct_fields__)
            query = f"SELECT {names} FROM {TABLES[kind]} {clause}"  # noqa: S608
            return [_struct(kind, row) for row in connection.execute(query, values)]


_OF_ONE = "WHERE (:identity IS NULL OR identity = :identity)"


def columns(names: Iterable[str]) -> str:
    """Names in quotation marks: one of them is a word of SQL."""
    return ", ".join(f'"{name}"' for name in names)


def _plain(value: object) -> object:
    """A value as a column holds it: lists as JSON."""
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    return msgspec.json.encode(value).decode() if isinstance(value, tuple) else value


def _struct(kind: type[_T], row: sqlite3.Row) -> _T:
    fields = dict(row)
    if kind is ProfiledModel:
        fields["capabilities"] = msgspec.json.decode(fields["capabilities"])
    if raw := {Figures: "body", BenchmarkTable: "rows"}.get(kind):
        fields[raw] = msgspec.Raw(fields[raw].encode())
    return msgspec.convert(fields, kind, strict=False)
