"""What others have published of models: imported tables, and what the owner says of their rows.

Decides nothing. ``at`` is Unix time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Raw, Struct


class BenchmarkTable(Struct, frozen=True, kw_only=True):
    """An imported table. ``name`` is unique: whoever imports it again takes its place.

    ``place`` is the file or address that it came from, ``rows`` its rows as JSON.
    """

    name: str
    place: str
    at: float
    rows: Raw


class RowChoice(Struct, frozen=True, kw_only=True):
    """Which row of a table speaks of a local model, said by hand; ``""`` is none of them."""

    model: str
    table: str
    row: str


class Published(Struct, frozen=True):
    """P(good) at medium difficulty in one prompt group, as published scores suggest it.

    ``weight`` is how many measured prompts it counts as.
    """

    probability: float
    weight: float
    why: str


class BenchmarkNotes(Protocol):
    """Where tables and choices are kept. Reads may block, so they are made in threads.

    Writes return once they are on the disk; they raise ``Unavailable`` when they cannot be.
    """

    def tables(self) -> Sequence[BenchmarkTable]: ...

    def choices(self) -> Sequence[RowChoice]: ...

    async def keep(self, record: BenchmarkTable | RowChoice) -> None:
        """In the place of an earlier one of the same thing."""

    async def drop_table(self, name: str) -> None:
        """With the choices that were made in it."""

    async def drop_choice(self, model: str, table: str) -> None:
        """The names decide again."""
