"""A model's files as the system sees them: what tells one content from another, and their pages.

Decides nothing. A fingerprint reads a few megabytes, however large the files are.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

SAMPLES, SAMPLE_BYTES = 32, 1 << 16
KEPT = 0.05  # of the pages; with no more than these in memory, a load is one from the disk
WINDOW_BYTES = 1 << 26


def fingerprint(paths: Iterable[Path]) -> str | None:
    """Another one for another content, as good as surely; ``None`` when a file cannot be read.

    Weights that were trained on or quantised anew differ everywhere, so samples suffice.
    """
    try:
        found = [path.stat() for path in paths]
        told = [
            _sampled(path, stat.st_size, stat.st_mtime_ns)
            for path, stat in zip(paths, found, strict=True)
        ]
    except OSError:
        return None
    return hashlib.sha256("".join(told).encode()).hexdigest()[:24]


def drop(paths: Iterable[Path]) -> bool:
    """Have the system forget what it has read of the files; whether it then has, but for a little.

    It keeps what another process has mapped, and what lies on a file system in memory. False as
    well where it cannot be told, or does not tell: Linux says of files that are another's, and
    that we may not write, that all of them is there.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    kept = pages = 0
    try:
        for path in paths:
            with path.open("rb") as file:
                with suppress(OSError):  # some systems refuse it where we may only read
                    os.fdatasync(file.fileno())  # what is not on the disk yet is not forgotten
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                for there in _resident(file.fileno()):
                    kept += len(there) - there.count(0)
                    pages += len(there)
    except (AttributeError, OSError, ValueError):  # no mincore; no such file; one that shrinks
        return False
    return kept <= KEPT * pages


def _resident(file: int) -> Iterator[bytes]:
    """A byte for each page, window by window: 0 where the system has none of it in memory."""
    libc, size = ctypes.CDLL(None, use_errno=True), os.fstat(file).st_size
    for offset in range(0, size, WINDOW_BYTES):
        length = min(WINDOW_BYTES, size - offset)
        # ctypes takes only the address of what can be written: a private copy, never made
        with mmap.mmap(file, length, access=mmap.ACCESS_COPY, offset=offset) as window:
            start = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(window)))
            there = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
            if libc.mincore(start, ctypes.c_size_t(length), there):
                raise OSError(ctypes.get_errno(), "mincore")
        yield there.raw


@lru_cache(maxsize=1024)
def _sampled(path: Path, size: int, mtime_ns: int) -> str:
    del mtime_ns  # a file that was written since is read again
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(number * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
