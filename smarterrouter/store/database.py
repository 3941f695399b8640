"""The database file: where it lies, how it is opened, and what is done with a broken one.

1. A file that a newer version or another program wrote is a ``ConfigError``, and not touched.
2. Any other is brought up to date. Readers go on beside the one writer (WAL).
3. What cannot be opened or written is told apart by ``trouble``. A damaged file can be
   ``set_aside``: under a name that says so, never deleted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from smarterrouter.errors import ConfigError, Unavailable
from smarterrouter.store import migrations

log = logging.getLogger(__name__)

FILE_NAME = "smarterrouter.db"
APPLICATION_ID = 0x53527472  # "SRtr"
BUSY_S = 0.25
READER_BUSY_S = 2.0
WAL_KEPT_BYTES = 16 << 20

Identity = tuple[int, int]

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNUSABLE = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


class Trouble(Enum):
    """Who is at fault when something could not be written, and so what helps."""

    LOCKED = auto()  # another program holds the file: waiting helps
    DAMAGED = auto()  # the file is no sound database: a new one helps
    UNUSABLE = auto()  # a full disk, missing rights, a wrong set-up: a person must help
    ENTRY = auto()  # what was to be written: leaving it out helps


def trouble(error: BaseException) -> Trouble:
    """What kind of trouble an error means."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _LOCKED:
        return Trouble.LOCKED
    if primary in _DAMAGED:
        return Trouble.DAMAGED
    if primary in _UNUSABLE or isinstance(error, OSError | MemoryError | ConfigError):
        return Trouble.UNUSABLE
    return Trouble.ENTRY


def default_path(
    platform: str = sys.platform,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> Path:
    """The database in the folder where this platform keeps a user's data."""
    home = home or Path.home()
    if platform == "darwin":
        base = home / "Library" / "Application Support"
    elif platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        named = Path(environ.get("XDG_DATA_HOME", ""))
        base = named if named.is_absolute() else home / ".local" / "share"
    return base / "smarterrouter" / FILE_NAME


def check(path: Path) -> None:
    """Raises ``ConfigError`` where the user chose a file that this version must not touch.

    For the start of the daemon. Whatever may get better by itself is left to the writer.
    """
    with suppress(sqlite3.Error, OSError):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder. Set ROUTER_DATABASE to a file in it.")
        if not path.is_file() or not path.stat().st_size:
            return
        connection = _connect(path, "ro", BUSY_S)
        try:
            _refuse_strangers(connection, path)
        finally:
            connection.close()


def open_to_write(path: Path, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """The one connection that writes, in autocommit mode, the tables up to date.

    Raises ``ConfigError``, ``sqlite3.Error`` or ``OSError``; ``trouble`` tells them apart.
    """
    _make(path)
    connection = _connect(path, "rw", busy_s)
    try:
        _refuse_strangers(connection, path)
        if not migrations.version(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        migrations.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path, busy_s: float = READER_BUSY_S) -> sqlite3.Connection:
    """A connection that cannot write, whose rows know their columns' names.

    Raises ``Unavailable`` when the file is there and cannot be opened, ``FileNotFoundError``
    when it is not, or has no tables yet.
    """
    try:
        os.stat(path)
        connection = _connect(path, "ro", busy_s)
        try:
            _check_tables(connection, path)
        except BaseException:
            connection.close()
            raise
    except FileNotFoundError:
        raise
    except ConfigError as error:
        raise Unavailable(error.message) from error
    except (sqlite3.Error, OSError) as error:
        raise unreadable(path, error) from error
    connection.row_factory = sqlite3.Row
    return connection


def bring_up_to_date(path: Path) -> None:
    """Have an older version's database migrated, if there is one.

    Raises ``ConfigError`` where it is none of ours, ``Unavailable`` where it cannot be opened.
    """
    try:
        if path.is_file():
            open_to_write(path).close()
    except (sqlite3.Error, OSError) as error:
        raise unreadable(path, error) from error


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Whether a reader of this version can make something of it."""
    _refuse_strangers(connection, path)
    found = migrations.version(connection)
    if not found:
        raise FileNotFoundError(path)
    if found < migrations.LATEST:
        raise Unavailable(
            f"{path} was written by an older smarterrouter. `smarterrouter serve` brings it up "
            "to date."
        )


def unreadable(path: Path, error: Exception) -> Unavailable:
    """The error for whoever wanted to read."""
    return Unavailable(f"{path} cannot be read: {error}. Try again, or see the daemon's log.")


def set_aside(path: Path, reason: str) -> Path:
    """Move a damaged database out of the way, whole. Returns where it is now.

    The log goes first: one left behind would be read into the new database.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{count}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    log.error(
        "%s is damaged (%s). It is kept as %s, and a new one is begun: earlier decisions and "
        "statistics are missing from it. The file may be repaired with sqlite3's .recover.",
        path,
        reason,
        aside.name,
    )
    return aside


def identity(path: Path) -> Identity | None:
    """Which file is at that path now: device and number."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_of(path: Path) -> Path:
    """The file that holds the latest writes to the database at ``path``."""
    return Path(f"{path}-wal")


def remove_log(path: Path, known: Identity | None) -> None:
    """Remove the log of a file that is no longer at ``path``; not that of its successor."""
    if known is not None and identity(log_of(path)) == known:
        for name in (log_of(path), f"{path}-shm"):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _make(path: Path) -> None:
    """An empty file that only its owner may read, if there is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _connect(path: Path, mode: str, busy_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None)


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ``ConfigError`` for a database of a newer version or of another program.

    What it looks at is one moment's: the writer may be making the tables right now.
    """
    connection.execute("BEGIN")
    try:
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        [owner] = connection.execute("PRAGMA application_id").fetchone()
        found = migrations.version(connection)
    finally:
        connection.execute("ROLLBACK")
    if owner != APPLICATION_ID and (owner or found or tables):
        raise ConfigError(
            f"{path} is a database of another program. Set ROUTER_DATABASE to another file."
        )
    if found > migrations.LATEST:
        raise ConfigError(
            f"{path} was written by a newer smarterrouter (tables of version {found}; this one "
            f"knows {migrations.LATEST}). Get the newer one, or set ROUTER_DATABASE to another "
            "file."
        )
