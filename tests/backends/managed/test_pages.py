"""Whether a model's pages are gone from memory is told as it is, on real files."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smarterrouter.backends.managed import pages

SIZE = 16 << 20
PROBES = 16
HOLD = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
if sys.argv[2] == "little":
    view.madvise(mmap.MADV_RANDOM)
    view[0]
else:
    sum(view[::mmap.PAGESIZE])
print("held", flush=True)
sys.stdin.read()
"""


def written(path: Path) -> Path:
    path.write_bytes(os.urandom(SIZE))
    return path


def in_memory(path: Path) -> float:
    """Which part of it can be read without the disk, asked otherwise than ``drop`` asks."""
    there = 0
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for number in range(PROBES):
            try:
                os.preadv(file.fileno(), [bytearray(1)], number * SIZE // PROBES, os.RWF_NOWAIT)
                there += 1
            except BlockingIOError:
                pass
    return there / PROBES


@contextmanager
def held(path: Path, part: str = "all") -> Iterator[None]:
    """Mapped by another process that has read all of it, or a little."""
    command = [sys.executable, "-c", HOLD, str(path), part]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder where a plain drop of a plain file works, as it does not everywhere."""
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system cannot drop a file's pages, or not tell that it has")
    plain = written(tmp_path / "plain")
    with plain.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        part = in_memory(plain)
    except OSError as error:
        pytest.skip(f"the file system of {tmp_path} does not tell what is in memory: {error}")
    if part > 0.5:
        pytest.skip(f"the file system of {tmp_path} does not drop a file's pages")
    plain.unlink()
    return tmp_path


def test_a_file_that_was_read_is_dropped(disk: Path) -> None:
    path = written(disk / "model.gguf")
    assert pages.drop([path])
    path.read_bytes()
    assert in_memory(path) == 1
    assert pages.drop([path])
    assert in_memory(path) < 0.5


def test_a_file_that_was_just_written_is_dropped_too(disk: Path) -> None:
    path = written(disk / "model.gguf")
    assert pages.drop([path])
    assert in_memory(path) < 0.5


def test_one_that_may_only_be_read_is_dropped_too(disk: Path) -> None:
    path = written(disk / "model.gguf")
    path.chmod(0o400)
    assert pages.drop([path])
    assert in_memory(path) < 0.5


def test_what_another_process_holds_is_not_said_to_be_dropped(disk: Path) -> None:
    path = written(disk / "model.gguf")
    with held(path):
        assert not pages.drop([path])
        assert in_memory(path) == 1
    assert pages.drop([path])


def test_a_little_that_another_process_holds_does_not_matter(disk: Path) -> None:
    path = written(disk / "model.gguf")
    assert pages.drop([path])
    with held(path, "little"):
        assert pages.drop([path])


def test_every_part_of_a_split_model_counts(disk: Path) -> None:
    parts = [written(disk / f"model-0000{number}-of-00003.gguf") for number in (1, 2, 3)]
    assert pages.drop(parts)
    assert all(in_memory(part) < 0.5 for part in parts)
    with held(parts[1]):
        assert not pages.drop(parts)
        assert in_memory(parts[2]) < 0.5
    assert pages.drop(parts)


def test_more_than_one_window_is_looked_at(disk: Path) -> None:
    path = disk / "model.gguf"
    with path.open("wb") as file:
        file.truncate(2 * pages.WINDOW_BYTES + mmap.PAGESIZE + 1)
    path.read_bytes()
    assert pages.drop([path])
    with held(path):
        assert not pages.drop([path])


def test_a_file_system_in_memory_drops_nothing() -> None:
    mounts = Path("/proc/mounts")
    found = [line.split() for line in mounts.read_text().splitlines()] if mounts.exists() else []
    if not any(mount[1:3] == ["/dev/shm", "tmpfs"] for mount in found):
        pytest.skip("there is no tmpfs at /dev/shm")
    path = Path(f"/dev/shm/smarterrouter-test-{os.getpid()}.gguf")
    try:
        assert not pages.drop([written(path)])
    finally:
        path.unlink(missing_ok=True)


def test_a_file_that_is_not_there_is_not_dropped(tmp_path: Path) -> None:
    assert not pages.drop([tmp_path / "model.gguf"])
