"""The host's RAM as a device: where models live when there is no GPU.

A container's memory limit counts as the total where it is lower than the machine's.
"""

from __future__ import annotations

from pathlib import Path

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class HostMemory:
    """See ``ports.GpuProbe``. One device, ``ram``."""

    def __init__(self, node: str = "local", limits: tuple[Path, ...] = CGROUP_LIMITS) -> None:
        self._node = node
        self._limits = limits

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        import psutil

        memory = psutil.virtual_memory()
        total = min([memory.total, *self._container_limits()])
        free = min(memory.available, total)
        device = GpuDevice("ram", self._node, "host", "host RAM", total)
        return (MemorySnapshot(device, total - free, free, "psutil"),)

    def _container_limits(self) -> list[int]:
        found = []
        for path in self._limits:
            try:
                text = path.read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                found.append(int(text))
        return found
