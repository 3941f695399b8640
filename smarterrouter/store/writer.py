"""The one thread that writes to the database, on a connection of its own.

Whoever has something to keep hands it over and goes on: ``submit`` neither waits nor raises.
What becomes of an entry:

1. The queue is full (too many entries, or too much text): dropped and counted.
2. The database is locked: the batch waits, and tries again ever more slowly.
3. The database is damaged: it is moved aside, and the batch goes into a new one.
4. One entry cannot be written: it fails alone, the others of its batch are written.
5. The disk is full, or the file cannot be written: the batch fails and is counted. The next one
   tries again on a new connection.

A trouble is told to the log once a minute, with what has been lost so far.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from smarterrouter.store import database
from smarterrouter.store.database import Trouble
from smarterrouter.store.retention import DAY_S, KEPT, Retention, forget

log = logging.getLogger(__name__)

QUEUE_ENTRIES = 8192
QUEUE_CHARACTERS = 32 << 20
BATCH = 256
GATHER_S = 0.1
GATHERINGS = 20
FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 2.0
SILENT_PAUSE_S = 0.3
COMPLAINT_S = 60.0
TIDY_AGAIN_S = 600.0
ASIDE_S = 3600.0


class Entry(Protocol):
    """Something to keep."""

    def weight(self) -> int:
        """Characters of text that waiting in the queue keeps in memory. Must be cheap."""

    def write(self, connection: sqlite3.Connection) -> None:
        """Write it, inside a transaction that is not its own."""


class _Awaited:
    """An entry that somebody waits for."""

    def __init__(self, entry: Entry) -> None:
        self.told: Future[bool] = Future()
        self._entry = entry

    def weight(self) -> int:
        return self._entry.weight()

    def write(self, connection: sqlite3.Connection) -> None:
        self._entry.write(connection)


def _tell(batch: Iterable[Entry], written: bool) -> None:
    for entry in batch:
        if isinstance(entry, _Awaited):
            with suppress(InvalidStateError):  # nobody waits any more
                entry.told.set_result(written)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of all entries so far: ``dropped`` before the queue, ``failed`` behind it."""

    written: int
    dropped: int
    failed: int
    waiting: int


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait. One entry is always taken, however long it is."""

    entries: int = QUEUE_ENTRIES
    characters: int = QUEUE_CHARACTERS


LIMITS = QueueLimits()


class Writer:
    """``start`` it once, ``submit`` from one thread (the event loop), ``close`` it at the end.

    ``gather_s`` is how long entries are gathered into one transaction. ``wall`` gives Unix
    seconds, ``now`` seconds that never go back.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: Retention = KEPT,
        limits: QueueLimits = LIMITS,
        gather_s: float = GATHER_S,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._retention = retention
        self._limits = limits
        self._gather_s = gather_s
        self._now = now
        self._wall = wall
        self._queue: deque[Entry] = deque()
        self._wake = Event()
        self._closing = Event()
        self._give_up_at = inf
        self._thread = Thread(target=self._live, name="store-writer", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._file: database.Identity | None = None
        self._log: database.Identity | None = None
        self._tidy_at = -inf
        self._aside_at = -inf
        # Each number has one thread that changes it, so none needs a lock. The first three are
        # the submitter's.
        self._dropped = 0
        self._taken_in = 0
        self._shut = False
        self._hurried = False
        self._let_go = 0
        self._written = 0
        self._failed = 0
        self._complained_at = -inf
        self._dropped_told = 0
        self._ailing = False

    @property
    def counts(self) -> Counts:
        """As they are now; from any thread."""
        return Counts(self._written, self._dropped, self._failed, len(self._queue))

    def start(self) -> None:
        self._thread.start()

    def submit(self, entry: Entry) -> bool:
        """Take an entry for writing; ``False`` when it was dropped. Never waits, never raises."""
        queue, weight = self._queue, entry.weight()
        waiting = self._taken_in - self._let_go
        if (
            self._shut
            or len(queue) >= self._limits.entries
            or (waiting and waiting + weight > self._limits.characters)
        ):
            self._dropped += 1
            return False
        self._taken_in += weight
        queue.append(entry)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def keep(self, entry: Entry) -> Future[bool]:
        """Take an entry for writing at once; what is returned tells whether it was written.

        Never waits, never raises. Writing is not put off for other work.
        """
        awaited = _Awaited(entry)
        self._hurried = True
        if not self.submit(awaited):
            awaited.told.set_result(False)
        return awaited.told

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is waiting and end; whether all of it was written. Waits that long at most.

        Not for the event loop's thread. Entries that come later are dropped.
        """
        failed_before = self._failed
        self._shut = True
        self._give_up_at = self._now() + timeout_s
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 2 * database.BUSY_S)
        lost = self._failed - failed_before + len(self._queue)
        if lost:
            log.warning("%s: the last %d decisions could not be written.", self.path, lost)
        return not lost

    def _live(self) -> None:
        try:
            while not self._is_done():
                if self._now() >= self._tidy_at and not self._closing.is_set():
                    self._tidy()
                if self._wake.wait(max(0.0, self._tidy_at - self._now())):
                    self._gather()
                    self._wake.clear()
                    self._drain()
        finally:
            self._failed += len(self._queue)
            _tell(self._queue, False)
            self._queue.clear()
            self._hang_up()

    def _gather(self) -> None:
        """Let a busy moment pass: requests go first, their bookkeeping when nothing more comes.

        At most ``GATHERINGS`` times ``gather_s``, not once the queue is half full, and not while
        somebody waits for an entry to be written.
        """
        seen = 0
        for _ in range(GATHERINGS):
            if self._hurried:
                self._hurried = False
                return
            if self._closing.wait(self._gather_s) or not seen < len(self._queue):
                return
            seen = len(self._queue)
            if 2 * seen > self._limits.entries:
                return

    def _is_done(self) -> bool:
        return self._closing.is_set() and (not self._queue or self._is_late())

    def _is_late(self) -> bool:
        """Whether ``close`` has waited as long as it would."""
        return self._now() >= self._give_up_at

    def _drain(self) -> None:
        """Write what is waiting, batch after batch."""
        while self._queue and not self._is_late():
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            weight = sum(entry.weight() for entry in batch)
            self._keep(batch)
            self._let_go += weight
        if self._dropped > self._dropped_told and not self._shut:
            self._complain("the queue was full")

    def _keep(self, batch: Sequence[Entry]) -> None:
        """Write a batch, or count it as failed; the numbers are those of the module's docstring."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                self._commit(batch)
            except Exception as error:  # whatever an entry does, the thread lives on
                kind = database.trouble(error)
                if kind is Trouble.LOCKED and not self._is_late():  # 2
                    if pause > SILENT_PAUSE_S:
                        self._complain(f"{error}; {len(batch) + len(self._queue)} are waiting")
                    self._rest(pause)
                    pause = min(2 * pause, LAST_PAUSE_S)
                    continue
                if kind is Trouble.DAMAGED and self._set_aside(error):  # 3
                    continue
                if kind is Trouble.ENTRY and len(batch) > 1:  # 4
                    for entry in batch:
                        self._keep([entry])
                    return
                self._failed += len(batch)  # 5
                _tell(batch, False)
                if kind is Trouble.ENTRY:
                    self._complain("an entry is at fault", error)
                else:
                    self._hang_up()
                    self._complain(str(error))
                return
            self._written += len(batch)
            _tell(batch, True)
            self._recovered()
            return

    def _commit(self, batch: Sequence[Entry]) -> None:
        """All of a batch in one transaction, or an exception and nothing of it."""
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for entry in batch:
                entry.write(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one when somebody has removed or replaced the file.

        The log of the file that was there before must go then, or it would be read into the new.
        """
        if self._connection is not None and self._file != database.identity(self.path):
            self._hang_up()
            database.remove_log(self.path, self._log)
        if self._connection is None:
            self._connection = database.open_to_write(self.path)
            self._file = database.identity(self.path)
            self._log = database.identity(database.log_of(self.path))
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _set_aside(self, error: Exception) -> bool:
        """Make place for a new database; not again and again, should the disk be at fault."""
        self._hang_up()
        if self._now() - self._aside_at < ASIDE_S:
            return False
        self._aside_at = self._now()
        try:
            database.set_aside(self.path, str(error))
        except OSError:
            return False
        return True

    def _tidy(self) -> None:
        """Forget what is over the limits, once a day; new entries do not wait for the end of it."""
        self._tidy_at = self._now() + DAY_S
        try:
            while not self._closing.is_set():
                if not forget(self._connected(), self._retention, self._wall()):
                    break
                self._drain()
        except Exception as error:  # the thread lives on, and tries again
            self._tidy_at = self._now() + TIDY_AGAIN_S
            kind = database.trouble(error)
            if kind is Trouble.DAMAGED:
                self._set_aside(error)
            elif kind is not Trouble.LOCKED:
                self._hang_up()
            self._complain(str(error), error if kind is Trouble.ENTRY else None)

    def _rest(self, pause_s: float) -> None:
        """Wait before trying again; no longer than until the end that ``close`` has set."""
        if self._closing.is_set():
            time.sleep(max(0.0, min(pause_s, self._give_up_at - self._now())))
        else:
            self._closing.wait(pause_s)

    def _complain(self, reason: str, bug: Exception | None = None) -> None:
        """Tell the log, once a minute; of a bug also where it is."""
        if self._now() - self._complained_at < COMPLAINT_S:
            return
        self._complained_at = self._now()
        self._dropped_told = self._dropped
        self._ailing = True
        log.warning(
            "%s cannot be written: %s. Requests are answered as ever; %d decisions were not kept "
            "so far.",
            self.path,
            reason,
            self._dropped + self._failed,
            exc_info=bug,
        )

    def _recovered(self) -> None:
        if self._ailing:
            self._ailing = False
            lost = self._dropped + self._failed
            log.info("%s is written again; %d decisions were not kept.", self.path, lost)
