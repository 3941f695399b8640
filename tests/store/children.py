"""What other processes do to a database; ``python -m tests.store.children DEED PATH``."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from itertools import count
from pathlib import Path

from smarterrouter.store import database
from smarterrouter.store.writer import Writer
from tests.store.records import record, until

NOBODY = 65534


def hold(path: Path) -> None:
    """Hold the file until stdin ends; a new one from readers as well."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    sys.stdin.read()
    connection.execute("ROLLBACK")
    connection.close()


def write_for_ever(path: Path) -> None:
    """Write, and tell after each few how many have been written."""
    writer = Writer(path, gather_s=0.0)
    writer.start()
    for number in count():
        writer.submit(record(f"{os.getpid()}-{number}", text="word " * 500))
        if number % 20 == 0:
            until(lambda: writer.counts.waiting < 100)
            print(writer.counts.written, flush=True)


def write_within_limits(path: Path) -> None:
    """Write to a file that must not grow beyond 400 kB."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    _write_and_tell(path, 600)


def write_as_nobody(path: Path) -> None:
    """Write as somebody without rights."""
    import sqlite_utils  # noqa: F401 - while it can be read

    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    database.check(path)
    _write_and_tell(path, 3)


def _write_and_tell(path: Path, times: int) -> None:
    writer = Writer(path, gather_s=0.0)
    writer.start()
    for number in range(times):
        writer.submit(record(str(number), text="word " * 400, keep=True))
        if number % 50 == 0:
            until(lambda: not writer.counts.waiting)
    closed = writer.close()
    told = writer.counts
    print(json.dumps({"closed": closed, "written": told.written, "failed": told.failed}))


if __name__ == "__main__":
    deeds = (hold, write_for_ever, write_within_limits, write_as_nobody)
    {deed.__name__: deed for deed in deeds}[sys.argv[1]](Path(sys.argv[2]))
