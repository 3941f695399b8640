"""Asks a llama.cpp which cards it can use. Takes up to seconds, so it is asked from a thread.

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
