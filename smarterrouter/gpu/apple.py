"""The GPU of an Apple machine with its own processor, whose memory is the machine's RAM.

Decides how much of the RAM counts as the GPU's: the limit that a person has set
(``sysctl iogpu.wired_limit_mb``, macOS 14 and later), else 75 %. What macOS itself allows differs
by version and machine (two thirds to 84 % have been reported) and only Metal could tell; a limit
that is set is exact.

Used is what the whole machine holds on to: wired, active and compressed pages. It can exceed the
total; then nothing is free.

Written from the documented texts of ``sysctl`` and ``vm_stat``, and tested on such texts. It has
never run on an Apple machine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot

APPLE = "apple"
SOURCE = "sysctl, vm_stat"
SYSCTL = (
    "/usr/sbin/sysctl",
    "hw.memsize",
    "hw.optional.arm64",
    "machdep.cpu.brand_string",
    "iogpu.wired_limit_mb",
)
VM_STAT = ("/usr/bin/vm_stat",)
HELD = ("Pages wired down", "Pages active", "Pages occupied by compressor")
TIMEOUT_S = 2.0

Read = Callable[[tuple[str, ...]], str]
"""Runs a command and returns what it printed; nothing when it cannot be run."""


class AppleGpu:
    """See ``ports.GpuProbe``. One device, ``apple0``; none on other machines.

    With a ``read`` of one's own it looks wherever it runs. To be asked from one thread at a time.
    """

    def __init__(self, node: str = "local", read: Read | None = None) -> None:
        self._node = node
        self._read = read or (run if sys.platform == "darwin" else _nothing)
        self._device: GpuDevice | None = None

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        told = _fields(self._read(SYSCTL))
        total = _total(told)
        if told.get("hw.optional.arm64") == "1" and total:
            name = told.get("machdep.cpu.brand_string") or "Apple GPU"
            known = self._device or GpuDevice("apple0", self._node, APPLE, name, total)
            self._device = replace(known, total_bytes=total)
        if self._device is None:
            return ()
        used = _used(self._read(VM_STAT)) if total else None
        free = None if used is None or total is None else max(0, total - used)
        return (MemorySnapshot(self._device, used, free, SOURCE),)


def run(command: tuple[str, ...]) -> str:
    """See ``Read``. What it printed counts, even if it failed: sysctl does over one unknown name,
    and an older macOS does not know the limit.
    """
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, by their whole paths
            command, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def _nothing(command: tuple[str, ...]) -> str:
    return ""


def _fields(text: str) -> dict[str, str]:
    rows = [row.partition(":") for row in text.splitlines()]
    return {key.strip(): value.strip() for key, _, value in rows}


def _count(text: str | None) -> int | None:
    """``vm_stat`` ends its figures with a full stop."""
    plain = (text or "").removesuffix(".")
    return int(plain) if re.fullmatch(r"[0-9]{1,20}", plain) else None


def _total(told: dict[str, str]) -> int | None:
    memory = _count(told.get("hw.memsize"))
    limit = _count(told.get("iogpu.wired_limit_mb"))
    if memory is None:
        return None
    return min(memory, limit << 20) if limit else memory * 3 // 4


def _used(text: str) -> int | None:
    """Bytes; ``None`` when any of the figures is missing."""
    page = re.search(r"page size of ([0-9]{1,9}) bytes", text)
    told = _fields(text)
    counts = [_count(told.get(key)) for key in HELD]
    pages = [count for count in counts if count is not None]
    if page is None or len(pages) < len(HELD):
        return None
    return sum(pages) * int(page[1])
