"""Runs inside a child process: starts one llama.cpp server that cannot outlive its daemon.

Decides nothing about models; it is handed a complete plan as JSON on the command line:
``{"command": [...]}`` for a llama-server binary, or ``{"params": {...}}`` for the xllamacpp wheel.
The key that clients must show is in ``LLAMA_API_KEY``: other users can read a command line.

On Linux the kernel kills the child when the daemon dies, however it dies. Elsewhere the child
watches its standard input, which closes with the daemon.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    plan, parent = json.loads(sys.argv[1]), int(sys.argv[2])
    linux = sys.platform == "linux"
    if linux:
        die_with(parent)
    if "params" in plan:
        watch_stdin(lambda: os._exit(1))
        serve_wheel(plan["params"])
    elif linux:
        os.execv(plan["command"][0], plan["command"])  # noqa: S606
    else:
        sys.exit(keep(plan["command"]))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; leave if it is dead already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the daemon was gone before its child began")


def watch_stdin(then: Any) -> None:
    """Call ``then`` when standard input closes, from a thread of its own."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        then()

    threading.Thread(target=wait, daemon=True).start()


def keep(command: list[str]) -> int:
    """Run the server below this process, and end it when the daemon goes away."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    watch_stdin(server.kill)
    return server.wait()


def serve_wheel(params: dict[str, Any]) -> None:
    """Serve with the llama.cpp of the xllamacpp wheel, until killed.

    ``params`` maps ``CommonParams`` attributes (dots for nested ones) to plain values; a value
    ``{"enum": [type, member]}`` names a member of one of the wheel's own enumerations.
    """
    import xllamacpp

    common = xllamacpp.CommonParams()
    common.api_keys = [os.environ["LLAMA_API_KEY"]]
    for path, value in params.items():
        target = common
        *parents, last = path.split(".")
        for name in parents:
            target = getattr(target, name)
        if isinstance(value, dict):
            enum, member = value["enum"]
            value = getattr(getattr(xllamacpp, enum), member)
        elif path == "model_alias":
            value = set(value)
        elif path == "tensor_split":
            every = len(target.tensor_split)
            value = [float(part) for part in value] + [0.0] * (every - len(value))
        setattr(target, last, value)
    server = xllamacpp.Server(common)
    while server:
        time.sleep(3600)


if __name__ == "__main__":
    main()
