"""The host's RAM under limits, and what processes hold of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.gpu.host import HostMemory, process_memory

GIB = 1 << 30
MIB = 1 << 20
UNLIMITED_V1 = "9223372036854771712"

# Takes 64 MiB, maps a file of 32 MiB and reads it, and starts a child that does the same.
HOLDER = """
import mmap, subprocess, sys
own = bytearray(b"x" * (64 << 20))
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[::4096])
if len(sys.argv) > 2:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]],
                             stdin=sys.stdin, stdout=subprocess.PIPE)
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What stands for /sys, with /proc beside it."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path / "sys"


def member(root: Path, *lines: str) -> None:
    (root.parent / "proc/self/cgroup").write_text("\n".join(lines) + "\n")


def group(root: Path, path: str, **files: object) -> None:
    """A control group; ``memory_max`` is its file memory.max. A mapping is a file of pairs."""
    folder = root / "fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        text = value
        if isinstance(value, dict):
            text = "\n".join(f"{key} {size}" for key, size in value.items())
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def ram(root: Path) -> MemorySnapshot:
    [snapshot] = HostMemory(root).snapshots()
    return snapshot


def total(root: Path) -> int | None:
    return ram(root).device.total_bytes


def test_without_limits_the_machine_counts(root: Path) -> None:
    snapshot = ram(root)
    assert snapshot.device.id == "ram"
    assert snapshot.device.total_bytes == psutil.virtual_memory().total
    assert snapshot.used_bytes
    assert snapshot.free_bytes
    assert snapshot.used_bytes + snapshot.free_bytes == snapshot.device.total_bytes
    assert snapshot.processes is None


def test_this_machine_can_be_looked_at() -> None:
    [snapshot] = HostMemory().snapshots()
    assert snapshot.free_bytes


def test_a_container_counts_without_its_file_cache(root: Path) -> None:
    member(root, "0::/")
    stat = {"anon": 300 * MIB, "inactive_file": 150 * MIB, "active_file": 50 * MIB}
    group(root, "", memory_max=GIB, memory_current=500 * MIB, memory_stat=stat)
    snapshot = ram(root)
    assert snapshot.device.total_bytes == GIB
    assert snapshot.used_bytes == 300 * MIB
    assert snapshot.free_bytes == GIB - 300 * MIB


def test_the_tightest_group_on_the_way_up_counts(root: Path) -> None:
    member(root, "0::/pod/box/leaf")
    group(root, "pod", memory_max=2 * GIB, memory_current=GIB, memory_stat={})
    group(root, "pod/box", memory_max=GIB, memory_current=200 * MIB, memory_stat={})
    group(root, "pod/box/leaf", memory_max="max", memory_current=100 * MIB, memory_stat={})
    group(root, "other", memory_max=MIB, memory_current=0, memory_stat={})
    snapshot = ram(root)
    assert (snapshot.device.total_bytes, snapshot.used_bytes) == (GIB, 200 * MIB)


def test_a_fuller_group_above_leaves_less_free(root: Path) -> None:
    member(root, "0::/pod/box")
    group(root, "pod", memory_max=2 * GIB, memory_current=2 * GIB - 100 * MIB, memory_stat={})
    group(root, "pod/box", memory_max=GIB, memory_current=200 * MIB, memory_stat={})
    snapshot = ram(root)
    assert snapshot.device.total_bytes == GIB
    assert snapshot.free_bytes == 100 * MIB
    assert snapshot.used_bytes == GIB - 100 * MIB


def test_memory_above_the_throttling_mark_is_not_counted_on(root: Path) -> None:
    member(root, "0::/slice")
    group(root, "slice", memory_max="max", memory_high=GIB, memory_current=0, memory_stat={})
    assert total(root) == GIB


def test_a_path_outside_of_the_container_ends_at_its_root(root: Path) -> None:
    member(root, "0::/../../elsewhere")
    group(root, "", memory_max=GIB, memory_current=0, memory_stat={})
    assert total(root) == GIB


def test_the_first_version_of_control_groups_is_understood(root: Path) -> None:
    member(root, "9:name=systemd:/", "4:cpu,memory:/docker/a1", "0::/")
    stat = {"total_inactive_file": 100 * MIB, "total_active_file": 0, "inactive_file": 1}
    group(root, "memory", memory_limit_in_bytes=UNLIMITED_V1)
    group(
        root,
        "memory/docker/a1",
        memory_limit_in_bytes=GIB,
        memory_usage_in_bytes=400 * MIB,
        memory_stat=stat,
    )
    snapshot = ram(root)
    assert (snapshot.device.total_bytes, snapshot.used_bytes) == (GIB, 300 * MIB)


def test_a_container_that_only_sees_its_own_group_as_root_is_limited(root: Path) -> None:
    member(root, "4:memory:/docker/a1")
    group(root, "memory", memory_limit_in_bytes=GIB, memory_usage_in_bytes=MIB, memory_stat={})
    assert total(root) == GIB


@pytest.mark.parametrize("limit", ["max", UNLIMITED_V1, "", "nonsense"])
def test_no_limit_is_the_machine(root: Path, limit: str) -> None:
    member(root, "0::/")
    group(root, "", memory_max=limit, memory_current=MIB, memory_stat={})
    assert total(root) == psutil.virtual_memory().total


def test_a_limit_whose_use_is_not_told_is_still_a_limit(root: Path) -> None:
    member(root, "0::/")
    group(root, "", memory_max=64 * MIB)
    assert total(root) == 64 * MIB


@contextmanager
def holder(file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    file = tmp_path / "mapped"
    file.write_bytes(os.urandom(32 * MIB))
    return file


def test_mapped_files_are_resident_but_not_private(mapped: Path) -> None:
    with holder(mapped) as process:
        held = process_memory([process.pid])
    assert held
    assert 64 * MIB < held.private_bytes < 96 * MIB
    assert held.rss_bytes >= held.private_bytes + 32 * MIB


def test_descendants_are_counted_once_each(mapped: Path) -> None:
    with holder(mapped, HOLDER) as process:
        [child] = psutil.Process(process.pid).children()
        alone = process_memory([child.pid])
        both = process_memory([process.pid])
        assert process_memory([process.pid, child.pid]) == both
    assert alone
    assert both
    assert both.private_bytes > alone.private_bytes + 64 * MIB


def test_processes_that_are_gone_hold_nothing_that_is_known(mapped: Path) -> None:
    with holder(mapped) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_memory([process.pid]) is None  # dead, and nobody has asked for its code
    assert process_memory([process.pid]) is None
    assert process_memory([]) is None


def test_those_that_are_left_are_counted(mapped: Path) -> None:
    with holder(mapped) as gone:
        gone.kill()
    with holder(mapped) as process:
        assert process_memory([gone.pid, process.pid])
