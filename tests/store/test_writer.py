"""The writer among full disks, locks, damage and violent ends: real files, threads, processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smarterrouter.errors import Unavailable
from smarterrouter.store.database import open_to_read
from smarterrouter.store.queries import Queries
from smarterrouter.store.writer import Counts, QueueLimits, Writer
from tests.store.records import ask, count, is_sound, record, until

ROOT = Path(__file__).parent.parent.parent
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
LOG = "smarterrouter.store.writer"

Start = Callable[..., Writer]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "smarterrouter.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """A writer at work; ended at the end of the test."""
    begun: list[Writer] = []

    def starting(at: Path = path, **options: object) -> Writer:
        writer = Writer(at, **{"gather_s": 0.0} | options)  # type: ignore[arg-type]
        begun.append(writer)
        writer.start()
        return writer

    yield starting
    for writer in begun:
        writer.close(0.0)


def child(deed: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.children", deed, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The file in the hands of another process."""
    with child("hold", path) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


def told_by(deed: str, path: Path) -> dict[str, int]:
    with child(deed, path) as other:
        said, _ = other.communicate(timeout=20)
    answer: dict[str, int] = json.loads(said)
    return answer


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.name == LOG]
    return [text for text in found if "cannot be written" in text]


def test_what_is_submitted_is_in_the_file_after_close(path: Path, start: Start) -> None:
    writer = start()
    assert all(writer.submit(record(str(number))) for number in range(600))
    assert writer.close()
    assert writer.counts == Counts(written=600, dropped=0, failed=0, waiting=0)
    assert count(path, "outcomes") == count(path, "decisions") == 600
    assert is_sound(path)
    assert os.listdir(path.parent) == [path.name]


def test_what_is_submitted_is_soon_in_the_file_without_close(path: Path, start: Start) -> None:
    writer = start()
    for number in range(3):
        writer.submit(record(str(number)))
        until(lambda done=number + 1: writer.counts.written == done)
        assert count(path) == number + 1


def test_entries_are_gathered_into_one_transaction(path: Path, start: Start) -> None:
    writer = start(gather_s=5.0)
    for number in range(20):
        writer.submit(record(str(number)))
        time.sleep(0.005)
    assert writer.counts == Counts(written=0, dropped=0, failed=0, waiting=20)
    assert writer.close()
    assert count(path) == 20


def test_submitting_costs_microseconds(start: Start) -> None:
    writer = start()
    records = [record(str(number), text="word " * 2000) for number in range(3000)]
    begun = time.perf_counter()
    for one in records:
        writer.submit(one)
    assert (time.perf_counter() - begun) / len(records) < 100e-6
    assert writer.close(8.0)


def test_after_close_entries_are_dropped(start: Start) -> None:
    writer = start()
    assert writer.close()
    assert not writer.submit(record())
    assert writer.close()
    assert writer.counts.dropped == 1


def test_a_writer_that_was_never_started_can_be_closed(path: Path) -> None:
    assert Writer(path).close()
    writer = Writer(path)
    writer.submit(record())
    assert not writer.close()
    assert not path.exists()


def test_a_full_queue_drops_and_counts(path: Path) -> None:
    writer = Writer(path, limits=QueueLimits(entries=3))
    assert [writer.submit(record(str(number))) for number in range(5)] == [True] * 3 + [False] * 2
    assert writer.counts == Counts(written=0, dropped=2, failed=0, waiting=3)


def test_a_queue_is_full_when_its_texts_are_long(path: Path, start: Start) -> None:
    writer = Writer(path, gather_s=0.0, limits=QueueLimits(characters=100))
    assert writer.submit(record("long", text="x" * 1000))
    assert not writer.submit(record("second", text="x"))
    writer.start()
    until(lambda: writer.counts.written == 1)
    until(lambda: writer.submit(record("third", text="x" * 60)))
    assert writer.close()


def test_two_daemons_may_write_to_one_file(path: Path, start: Start) -> None:
    writers = [start(), start()]
    for number in range(200):
        for place, writer in enumerate(writers):
            writer.submit(record(f"{place}-{number}"))
    for writer in writers:
        assert writer.close()
    assert count(path) == 400


class Broken:
    """An entry that cannot be written."""

    def weight(self) -> int:
        return 0

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO outcomes (request_id) VALUES ('half')")


def test_one_bad_entry_fails_alone(
    path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    writer = start(gather_s=0.2)
    for number in range(6):
        writer.submit(Broken() if number == 3 else record(str(number)))
    assert not writer.close()
    assert (writer.counts.written, writer.counts.failed) == (5, 1)
    assert count(path) == 5
    [bug] = [one for one in caplog.records if one.exc_info]
    assert "entry" in bug.getMessage()


def test_a_locked_file_makes_entries_wait_and_nobody_else(
    path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    writer = start()
    writer.submit(record("first"))
    until(lambda: writer.counts.written == 1)
    with held(path):
        begun = time.monotonic()
        for number in range(20):
            assert writer.submit(record(str(number)))
        assert time.monotonic() - begun < 0.1
        assert Queries(path).stats().totals.requests == 1
        until(lambda: complaints(caplog))
        assert (writer.counts.written, writer.counts.failed) == (1, 0)
    until(lambda: writer.counts.written == 21)
    assert "locked" in complaints(caplog)[0]
    assert count(path) == 21


def test_a_file_that_is_locked_from_the_start_is_waited_for(path: Path, start: Start) -> None:
    path.parent.mkdir()
    with held(path):
        writer = start()
        writer.submit(record())
        with pytest.raises(Unavailable, match="locked"):
            open_to_read(path, busy_s=0.4)
        assert writer.counts.written == 0
    until(lambda: writer.counts.written == 1)


def test_close_does_not_wait_longer_than_it_was_told_for_a_lock(path: Path, start: Start) -> None:
    writer = start()
    until(path.exists)
    with held(path):
        for number in range(600):
            writer.submit(record(str(number)))
        begun = time.monotonic()
        assert not writer.close(0.3)
        assert time.monotonic() - begun < 1.5
        assert writer.counts == Counts(written=0, dropped=0, failed=600, waiting=0)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("only root may make a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_up(folder: Path) -> Path:
    """A file that takes all the room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return ballast


def test_a_full_disk_is_logged_once_and_counted_and_gets_over(
    tiny_disk: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tiny_disk / "smarterrouter.db"
    writer = start(path)
    writer.submit(record("before"))
    until(lambda: writer.counts.written == 1)
    ballast = fill_up(tiny_disk)
    for number in range(40):
        writer.submit(record(f"full-{number}", text="word " * 200, keep=True))
        time.sleep(0.003)
    until(lambda: writer.counts.failed + writer.counts.written == 41)
    assert writer.counts.failed >= 30
    assert len(complaints(caplog)) == 1
    assert "full" in complaints(caplog)[0]
    ballast.unlink()
    written = writer.counts.written
    writer.submit(record("after"))
    until(lambda: writer.counts.written == written + 1)
    assert "is written again" in caplog.messages[-1]
    assert writer.close()
    assert is_sound(path)
    assert count(path) == writer.counts.written


def test_a_disk_that_is_full_from_the_start_gets_over(tiny_disk: Path, start: Start) -> None:
    ballast = fill_up(tiny_disk)
    writer = start(tiny_disk / "new" / "smarterrouter.db")
    writer.submit(record("full"))
    until(lambda: writer.counts.failed == 1)
    ballast.unlink()
    writer.submit(record("after"))
    until(lambda: writer.counts.written == 1)
    assert writer.close()


@POSIX
def test_a_file_that_may_not_grow_fails_whole_batches_and_stays_sound(path: Path) -> None:
    told = told_by("write_within_limits", path)
    assert not told["closed"]
    assert told["failed"] > 0 < told["written"]
    assert told["failed"] + told["written"] == 600
    assert is_sound(path)
    assert count(path, "outcomes") == count(path, "decisions") == told["written"]


@POSIX
def test_a_folder_without_rights_breaks_nothing() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        for path in (folder / "smarterrouter.db", folder / "deeper" / "smarterrouter.db"):
            told = told_by("write_as_nobody", path)
            assert told == {"closed": False, "written": 0, "failed": 3}
        assert not list(folder.iterdir())


@POSIX
def test_a_violent_end_loses_nothing_that_was_told_to_be_written(path: Path, start: Start) -> None:
    with child("write_for_ever", path) as other:
        assert other.stdout
        told = 0
        while told < 300:
            told = int(other.stdout.readline())
        other.send_signal(signal.SIGKILL)
    assert is_sound(path)
    found = count(path)
    assert found >= told
    assert count(path, "decisions") == found
    writer = start()
    writer.submit(record("after"))
    assert writer.close()
    assert count(path) == found + 1
    assert Queries(path).stats().totals.requests == found + 1


def test_a_file_that_is_no_database_is_moved_aside(
    path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    writer = start()
    writer.submit(record())
    assert writer.close()
    [aside] = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == b"no database" * 500
    assert any("is damaged" in text and aside.name in text for text in caplog.messages)
    assert count(path) == 1


def test_damage_that_is_found_while_writing_costs_no_entry(path: Path, start: Start) -> None:
    writer = start()
    for number in range(300):
        writer.submit(record(str(number)))
    assert writer.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
    writer = start()
    for number in range(10):
        writer.submit(record(str(number)))
    assert writer.close()
    assert writer.counts.written == 10
    assert count(path) == 10
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


@POSIX
def test_damage_again_and_again_moves_only_one_file_an_hour(path: Path, start: Start) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    writer = start()
    writer.submit(record("1"))
    until(lambda: writer.counts.written == 1)
    other = path.with_name("other")
    other.write_bytes(b"no database" * 500)
    other.replace(path)
    writer.submit(record("2"))
    until(lambda: writer.counts.failed == 1)
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


@POSIX
def test_a_backup_that_is_put_in_place_is_written_on(path: Path, start: Start) -> None:
    writer = start()
    writer.submit(record("1"))
    assert writer.close()
    backup = shutil.copy(path, path.with_name("backup"))
    writer = start()
    for number in range(2, 50):
        writer.submit(record(str(number)))
    until(lambda: writer.counts.written == 48)
    os.replace(backup, path)
    writer.submit(record("after"))
    assert writer.close()
    assert is_sound(path)
    assert count(path, "outcomes") == count(path, "decisions") == 2


@POSIX
def test_a_file_that_was_removed_is_made_anew(path: Path, start: Start) -> None:
    writer = start()
    writer.submit(record("1"))
    until(lambda: writer.counts.written == 1)
    for file in path.parent.iterdir():
        file.unlink()
    writer.submit(record("2"))
    until(lambda: writer.counts.written == 2)
    assert ask(path, "SELECT request_id FROM outcomes") == [("request-2",)]


def test_a_newer_version_that_takes_over_the_file_breaks_nothing(
    path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    writer = start()
    writer.submit(record("1"))
    assert writer.close()
    ask(path, "PRAGMA user_version = 99")
    writer = start()
    writer.submit(record("2"))
    assert not writer.close()
    assert writer.counts.failed == 1
    assert "newer smarterrouter" in complaints(caplog)[0]
