"""One at a time over a database, among all processes of this machine: a lock on a file beside it.

Decides nothing else. The system gives the lock back when its holder ends, however it ends. Where
there are no such locks (Windows), or the folder cannot be written to, nobody is held up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smarterrouter.errors import Conflict


@contextmanager
def only_one(database: Path, refusal: str) -> Iterator[None]:
    """Hold the lock within the block. Raises ``Conflict`` with ``refusal`` if another has it."""
    try:
        import fcntl

        database.parent.mkdir(parents=True, exist_ok=True)
        file = database.with_name(f"{database.name}.lock").open("w")
    except (ImportError, OSError):
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(refusal) from None
        except OSError:
            pass
        yield
