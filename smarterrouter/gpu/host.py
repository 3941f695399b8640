"""The host's RAM as a device, and what single processes hold of it.

Decides which limit counts: the machine's memory, or the least that a control group on the way
from this process up to the root allows. File pages that can be dropped at once are not in use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarterrouter.domain.devices import HOST, GpuDevice, MemorySnapshot

if TYPE_CHECKING:
    import psutil

RAM = "ram"


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a version of control groups keeps its figures."""

    limits: tuple[str, ...]
    current: str
    droppable: tuple[str, ...]


_V2 = _Files(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))
_V1 = _Files(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


@dataclass(frozen=True, slots=True)
class _Room:
    """Something that limits our memory, and what is in use of it where it tells."""

    total: int
    used: int | None


class HostMemory:
    """See ``ports.GpuProbe``. One device, ``ram``; used and free make up its total.

    Where a container's limit is tighter than the machine, ``used`` is what the container uses.
    ``root`` is /sys; /proc is looked for beside it.
    """

    def __init__(self, root: Path = Path("/sys"), node: str = "local") -> None:
        self._root = root
        self._node = node

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        import psutil

        memory = psutil.virtual_memory()
        machine = _Room(memory.total, memory.total - memory.available)
        rooms = [machine, *_control_groups(self._root)]
        total = min(room.total for room in rooms)
        # The tightest place counts: a machine may be fuller than the container on it.
        free = min(room.total - room.used for room in rooms if room.used is not None)
        free = max(0, min(free, total))
        device = GpuDevice(RAM, self._node, HOST, "host RAM", total)
        return (MemorySnapshot(device, total - free, free, "psutil"),)


def _control_groups(root: Path) -> Iterator[_Room]:
    """The limits of every control group that this process is in, from its own to the root."""
    mount = root / "fs/cgroup"
    for line in (_read(root.parent / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            yield from _upwards(mount, path, _V2)
        elif "memory" in controllers.split(","):
            yield from _upwards(mount / "memory", path, _V1)


def _upwards(mount: Path, path: str, files: _Files) -> Iterator[_Room]:
    """In a container the path may be the host's, and its own group what is mounted as root."""
    folder = mount.joinpath(*(part for part in path.split("/") if part not in ("", ".", "..")))
    for group in (folder, *folder.parents):
        limits = [size for name in files.limits if (size := _size(group / name)) is not None]
        if limits:
            yield _Room(min(limits), _in_use(group, files))
        if group == mount:
            return


def _in_use(group: Path, files: _Files) -> int | None:
    current = _size(group / files.current)
    if current is None:
        return None
    pairs = (line.split() for line in (_read(group / "memory.stat") or "").splitlines())
    stat = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    return max(0, current - sum(stat.get(name, 0) for name in files.droppable))


def _size(path: Path) -> int | None:
    """Bytes, or ``None`` where the file is missing or says ``max``."""
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


# --- single processes ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What processes hold of RAM. ``rss_bytes`` has everything that lies there for them, mapped
    files too; ``private_bytes`` has only what goes when they go."""

    rss_bytes: int
    private_bytes: int


def process_memory(pids: Collection[int]) -> ProcessMemory | None:
    """What these processes and all below them hold together; ``None`` when all are gone.

    Also ``None`` where one of them may not be looked at. Looks through all processes of the
    machine: milliseconds, so not for the event loop.
    """
    import psutil

    rss = private = 0
    try:
        for process in _family(pids):
            held = _held(process)
            rss += held.rss_bytes
            private += held.private_bytes
    except psutil.AccessDenied:
        return None
    return ProcessMemory(rss, private) if rss else None


def _family(pids: Collection[int]) -> set[psutil.Process]:
    import psutil

    family: set[psutil.Process] = set()
    for pid in pids:
        try:
            top = psutil.Process(pid)
            family |= {top, *top.children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    return family


def _held(process: psutil.Process) -> ProcessMemory:
    """Nothing for one that has ended, reaped or not."""
    import psutil

    try:
        info: Any = process.memory_info()
        if hasattr(info, "shared"):
            private = info.rss - info.shared
        else:  # macOS: what would be free if it ended; slower to find out
            private = process.memory_full_info().uss
    except psutil.NoSuchProcess:
        return ProcessMemory(0, 0)
    return ProcessMemory(info.rss, max(0, private))
