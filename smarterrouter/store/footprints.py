"""What loaded models were seen to hold, kept over restarts. Decides nothing.

A footprint's name says which model, file, context and cache it belongs to; the newest counts.
"""

from __future__ import annotations

import sqlite3
import time

from msgspec import Struct


class FootprintRecord(Struct, frozen=True):
    """See ``writer.Entry``. ``bytes`` on one device; ``source`` is measured or reported."""

    name: str
    bytes: int
    source: str

    def weight(self) -> int:
        return len(self.name)

    def write(self, connection: sqlite3.Connection) -> None:
        row = (self.name, self.bytes, self.source, time.time())
        connection.execute("INSERT OR REPLACE INTO footprints VALUES (?, ?, ?, ?)", row)


def read(connection: sqlite3.Connection) -> tuple[FootprintRecord, ...]:
    """All that are kept."""
    rows = connection.execute("SELECT name, bytes, source FROM footprints")
    return tuple(FootprintRecord(*row) for row in rows)
