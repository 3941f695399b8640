"""A model's files as the system sees them: what tells one content from another, and their pages.

Decides nothing. A fingerprint reads a few megabytes, however large the files are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

SAMPLES, SAMPLE_BYTES = 32, 1 << 16


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
    """Have the system forget what it has read of the files; false where it cannot be told."""
    if not hasattr(os, "posix_fadvise"):
        return False
    try:
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    return True


@lru_cache(maxsize=1024)
def _sampled(path: Path, size: int, mtime_ns: int) -> str:
    del mtime_ns  # a file that was written since is read again
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(number * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
