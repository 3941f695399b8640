"""What an answer wrote is run apart, in a process of its own that can be ended at any moment.

Decides how long it may take, how much memory, and why it was stopped. It writes no files. Limits
that a system does not have are left out: macOS has none for memory, but all of those for time.
"""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from smarterrouter.errors import Unavailable

MIB = 1024 * 1024
CPU_S = 3
TIME_LIMIT_S = 10.0
"""For a busy machine, too: what never ends is ended by ``CPU_S`` first, also without us."""
MEMORY = 512 * MIB
LEAST_ROOM = 128 * MIB

Work = Callable[[Any], Iterator[object]]
"""Gets its task, and gives what it finds one by one.

Its source is all that is handed on: it imports what it needs, and uses no name outside itself.
"""

_LIMITS = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_CPU": CPU_S, "RLIMIT_AS": MEMORY}
_FLAGS = ("-I", "-S", "-B", "-W", "ignore")
_OUT_OF_MEMORY = 97
_TIMED = (-signal.SIGKILL, -signal.SIGXCPU)


@dataclass(frozen=True, slots=True)
class Ran:
    """``found``: what the work gave, in order; ``stopped``: why that is not all, or empty."""

    found: list[Any]
    stopped: str


def run(work: Work, task: object) -> Ran:
    """Do the work in a process of its own; task and findings must be such as JSON can tell.

    Raises ``Unavailable`` if it could not be begun.
    """
    command = [sys.executable, *_FLAGS, "-c", _program(work)]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, its input is data
            command,
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=TIME_LIMIT_S,
            check=False,
            env={},
        )
        stopped, output = _why(done.returncode, done.stderr), done.stdout
    except subprocess.TimeoutExpired as late:
        stopped, output = f"it does not come to an end in {TIME_LIMIT_S:g} s", late.stdout or b""
    except OSError as error:
        stopped, output = str(error), b""
    begun, *lines = output.split(b"\n")
    if not begun or not lines:
        raise Unavailable(f"It could not be run: {stopped}")
    return Ran([json.loads(line) for line in lines[:-1]], stopped)


def _why(code: int, errors: bytes) -> str:
    """Why the process ended with this code, if not by itself."""
    if code == 0:
        return ""
    if code in _TIMED:
        return f"it does not come to an end in {CPU_S} s"
    if code == _OUT_OF_MEMORY:
        return "it takes too much memory"
    if code < 0:
        return f"it crashes (signal {-code})"
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return last[:200] or f"exit {code}"


@cache
def _program(work: Work) -> str:
    future = "from __future__ import annotations"
    sources = [inspect.getsource(part) for part in (_limit, _main, work)]
    begin = f"_main({work.__name__}, {_LIMITS!r}, {LEAST_ROOM}, {_OUT_OF_MEMORY})"
    return "\n".join([future, *sources, begin])


# What follows runs in the process of its own, and imports for itself.


def _main(work: Work, limits: dict[str, int], room: int, out_of_memory: int) -> None:
    """One line that it has begun, and one for each finding."""
    import json
    import sys

    task = json.load(sys.stdin)
    _limit(limits)
    bytes(room)  # an interpreter that needs all the memory for itself is no fault of the work
    print("begun", flush=True)  # noqa: T201
    try:
        for found in work(task):
            print(json.dumps(found), flush=True)  # noqa: T201
    except MemoryError:
        sys.exit(out_of_memory)


def _limit(limits: dict[str, int]) -> None:
    """Soft and hard: at the hard one for time the system kills, and dumps no core."""
    try:
        import resource
    except ImportError:
        return
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (least, least))
        except (ValueError, OSError):  # this system has no such limit
            continue
