"""What there is to compute with: how many threads, and which cards a llama.cpp can use.

It is asked for its cards, which takes up to seconds: from a thread, then.

The wheel is asked in a process of its own: with CUDA it would never let go of a card again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from smarterrouter.backends.managed.cards import ORDERED, Card, read_list, read_told

TIMEOUT_S = 15.0
_TELL = """
import json, xllamacpp
fields = ("name", "description", "device_id")
told = [
    {**{field: str(one.get(field) or "") for field in fields}, "type": one["type"].name}
    for one in xllamacpp.get_device_info()
]
print("\\n" + json.dumps(told))
"""


def threads() -> int:
    """How many threads a model gets that computes on the CPU: half of the cores.

    llama.cpp's threads wait for one another by spinning. With one for each core, two models at
    work (or anything else that wants a core) slow each other ten times and more: see
    docs/benchmarks.md.
    """
    import psutil

    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, cores // 2)


def cards_of(server: Path | None) -> tuple[Card, ...]:
    """The cards of the binary, or of the wheel where there is none; asked once for each build.

    Raises ``OSError``, ``ValueError`` or ``subprocess.SubprocessError`` when it does not say.
    """
    return _asked(server, server.stat().st_mtime_ns if server else 0)


@lru_cache(maxsize=16)
def _asked(server: Path | None, mtime_ns: int) -> tuple[Card, ...]:
    """A failure is not remembered."""
    if server is not None:
        return read_list(_answer(str(server), "--list-devices"))
    said = _answer(sys.executable, "-P", "-c", _TELL)
    return read_told(json.loads(said.splitlines()[-1]))


def _answer(*command: str) -> str:
    done = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        check=True,
        env={**os.environ, **ORDERED},
    )
    return done.stdout.decode(errors="replace")
