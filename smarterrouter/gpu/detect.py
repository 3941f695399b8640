"""Which probes this machine is looked at with.

Decides nothing by what is there now: a probe tells of no device until its kind appears, so that a
driver loaded after us is seen too.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from smarterrouter.domain.ports import GpuProbe


def probes(
    root: Path = Path("/sys"),
    node: str = "local",
    *,
    pids: Callable[[], Iterable[int]] | None = None,
    apu_bytes: int | None = None,
    system: str = sys.platform,
    machine: str | None = None,
) -> tuple[GpuProbe, ...]:
    """Every way of seeing this machine's devices, in the order in which they are listed.

    ``root`` is /sys, with /proc beside it. ``pids`` tells whose memory is asked for where all
    processes would be too many to look at, ``apu_bytes`` what an APU has where the user knows.
    """
    from smarterrouter.gpu.host import HostMemory

    if system == "darwin":
        if (machine or platform.machine()) != "arm64":
            return (HostMemory(root, node),)
        from smarterrouter.gpu.apple import AppleGpu

        return (AppleGpu(node),)  # its memory is the machine's RAM: that is listed once

    from smarterrouter.gpu.amdgpu import AmdGpus
    from smarterrouter.gpu.intel import IntelGpus
    from smarterrouter.gpu.nvml import NvidiaGpus

    return (
        NvidiaGpus(node),
        AmdGpus(root, node, apu_bytes, pids),
        IntelGpus(root, node, pids),
        HostMemory(root, node),
    )
