"""What can be seen, on this machine, of a llama-server that somebody else runs.

Decides which processes are its models': children of whoever listens at its port, that were given
the model's name with ``--alias``. Looks through all processes, so it is asked from a thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import psutil

LOOPBACK = ("localhost", "::1")
_CARDS = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/dxg")


@dataclass(frozen=True, slots=True)
class Served:
    """A llama-server: its pid, the folder it was started in, and its models' pids by name."""

    pid: int
    folder: Path | None
    models: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def port_here(url: str) -> int | None:
    """The port on this machine that ``url`` is; ``None`` where it is, or may be, another one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host not in LOOPBACK and not host.startswith("127."):
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


def look(port: int) -> Served | None:
    """Who listens at ``port``; ``None`` where no llama-server of this user does."""
    import psutil

    running = {process.pid: process for process in psutil.process_iter(["ppid", "cmdline"])}
    named = {pid: alias for pid, it in running.items() if (alias := _alias(it))}
    parents = {running[pid].info["ppid"] for pid in named}
    for pid, process in running.items():
        if (pid in parents or _is_llama(process)) and _listens(process, port):
            below = {alias: pid for pid, alias in named.items() if _below(running[pid], process)}
            return Served(pid, _folder(process), {name: (pid,) for name, pid in below.items()})
    return None


def lies_in_ram(pids: Iterable[int]) -> bool:
    """Whether those processes surely hold their model in RAM: none of them has a card open.

    Off Linux nobody can see that, and it is not sure.
    """
    return sys.platform == "linux" and not any(map(_has_card, pids))


def _has_card(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any(_target(f"{folder}/{one}").startswith(_CARDS) for one in os.listdir(folder))
    except OSError:
        return True  # another user's: nobody knows


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


def _alias(process: psutil.Process) -> str | None:
    words = process.info["cmdline"] or []
    at = words.index("--alias") + 1 if "--alias" in words else len(words)
    return words[at] if at < len(words) else None


def _is_llama(process: psutil.Process) -> bool:
    words = process.info["cmdline"] or [""]
    return "llama" in PurePath(words[0]).name.lower()


def _below(process: psutil.Process, parent: psutil.Process) -> bool:
    return bool(process.info["ppid"] == parent.pid)


def _listens(process: psutil.Process, port: int) -> bool:
    import psutil

    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


def _folder(process: psutil.Process) -> Path | None:
    import psutil

    try:
        return Path(process.cwd())
    except psutil.Error:
        return None
