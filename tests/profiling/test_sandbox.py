from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smarterrouter.errors import ConfigError, Unavailable
from smarterrouter.profiling.sandbox import MIB, Limits, Ran, Sandbox, Stop, find

SHORT = Limits(seconds=1.0, memory_bytes=256 * MIB, processes=16, output_bytes=16 * 1024)


@pytest.fixture
async def sandbox() -> Sandbox:
    try:
        return await find()
    except ConfigError as error:
        pytest.skip(error.message)


async def python(sandbox: Sandbox, code: str, limits: Limits = SHORT) -> Ran:
    ran = await sandbox.run(
        [sandbox.python, "-I", "-S", "-c", textwrap.dedent(code)], limits=limits
    )
    after = await sandbox.run(["echo", "well"])
    assert (after.stdout, after.stopped) == ("well\n", None), "the next run is as the first"
    return ran


def alive(mark: str) -> list[int]:
    """Processes with ``mark`` among their arguments, waited for: the kernel ends them in time."""
    until = time.monotonic() + 2.0
    while (found := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def _marked(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def test_output_and_exit_code_come_back(sandbox: Sandbox) -> None:
    ran = await sandbox.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (ran.exit_code, ran.stdout, ran.stderr, ran.stopped) == (3, "out\n", "err\n", None)
    assert 0 < ran.seconds < 10


async def test_files_and_stdin_are_there_and_the_files_may_be_changed(sandbox: Sandbox) -> None:
    ran = await sandbox.run(
        ["sh", "-c", "cat; cat a.txt deep/er/b.txt; echo more >> a.txt; cat a.txt; pwd"],
        files={"a.txt": "one\n", "deep/er/b.txt": "zwölf\n"},
        stdin="said\n",
    )
    assert ran.stdout == "said\none\nzwölf\none\nmore\n/tmp/work\n"


async def test_a_run_sees_nothing_of_the_run_before(sandbox: Sandbox) -> None:
    await sandbox.run(["sh", "-c", "echo here > /tmp/left; echo here > left"])
    ran = await sandbox.run(["sh", "-c", "ls /tmp/left left"])
    assert (ran.stdout, ran.exit_code) == ("", 2)


async def test_what_cannot_be_started_is_a_failure_of_its_own(sandbox: Sandbox) -> None:
    ran = await sandbox.run(["no-such-program"])
    assert ran.exit_code == 127


async def test_a_sandbox_that_cannot_be_set_up_is_no_run(sandbox: Sandbox) -> None:
    with pytest.raises(Unavailable, match="could not be set up: bwrap: "):
        await sandbox.run(["true"], files={"../../usr/x": "not to be put there"})


LIMITED = {
    "a loop": ("while True: pass", Stop.TIME),
    "a sleep": ("import time; time.sleep(60)", Stop.TIME),
    "a loop that catches all": (
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try:
                while True: pass
            except BaseException: pass
        """,
        Stop.TIME,
    ),
    "a fork bomb": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "any"),
    "a fork bomb of shells": (
        "import os; os.execv('/bin/sh', ['sh', '-c', 'b() { b | b & }; b; sleep 9'])",
        "any",
    ),
    "many sleepers": (
        """
        import subprocess, time
        many = [subprocess.Popen(['sleep', '60']) for _ in range(20)]
        time.sleep(60)
        """,
        Stop.PROCESSES,
    ),
    "memory in many processes": (
        """
        import os, time
        for _ in range(6):
            if not os.fork():
                held = bytearray(b'x') * (60 << 20)
                time.sleep(60)
        time.sleep(60)
        """,
        Stop.MEMORY,
    ),
    "shared memory in many processes": (
        """
        import mmap, os, time
        for _ in range(6):
            if not os.fork():
                held = mmap.mmap(-1, 60 << 20)
                for at in range(0, len(held), 4096): held[at] = 1
                time.sleep(60)
        time.sleep(60)
        """,
        Stop.MEMORY,
    ),
    "endless output": ("while True: print('x' * 10000)", Stop.OUTPUT),
    "endless complaints": ("import os\nwhile True: os.write(2, b'x' * 65536)", Stop.OUTPUT),
    "a process that goes on": (
        "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)",
        Stop.TIME,
    ),
}


@pytest.mark.parametrize("name", LIMITED)
async def test_what_exceeds_a_limit_is_stopped(sandbox: Sandbox, name: str) -> None:
    code, stop = LIMITED[name]
    mark = f"run-{os.getpid()}-{time.monotonic_ns()}"
    ran = await python(sandbox, f"{textwrap.dedent(code)}\n# {mark}")
    assert ran.stopped in (set(Stop) if stop == "any" else {stop}), ran
    assert ran.exit_code is None
    assert ran.seconds < 5
    assert len(ran.stdout) + len(ran.stderr) <= SHORT.output_bytes
    assert not alive(mark)


FAILING = {
    "a list that doubles": ("x = [0]\nwhile True: x += x", "MemoryError"),
    "one large map": ("import mmap; mmap.mmap(-1, 1 << 34)", "Cannot allocate memory"),
    "memory of no process": ("import os; os.memfd_create('x')", "Operation not permitted"),
    "a big file": (
        "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "No space left on device",
    ),
    "a big file in shared memory": (
        "f = open('/dev/shm/big', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "No space left on device",
    ),
    "a file at the root": ("open('/x', 'w')", "Read-only file system"),
    "a file among the devices": ("open('/dev/x', 'w')", "Read-only file system"),
    "a file among the programs": ("open('/usr/bin/x', 'w')", "Read-only file system"),
    "the accounts": ("open('/etc/passwd')", "No such file or directory"),
    "a setting of the kernel": (
        "import os; os.open('/proc/sys/vm/swappiness', os.O_WRONLY)",
        "Read-only file system|Permission denied",
    ),
    "deep recursion": ("f = lambda: f()\nf()", "RecursionError"),
    "stdin": ("input()", "EOFError"),
    "a namespace of its own": (
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'no')",
        "Errno 28|Errno 1]",
    ),
}


@pytest.mark.parametrize("name", FAILING)
async def test_what_is_not_allowed_fails(sandbox: Sandbox, name: str) -> None:
    code, complaint = FAILING[name]
    limits = Limits(seconds=5.0, memory_bytes=256 * MIB, disk_bytes=8 * MIB)
    ran = await python(sandbox, code, limits)
    assert ran.exit_code == 1, ran
    assert any(words in ran.stderr for words in complaint.split("|")), ran.stderr


async def test_a_crash_is_told_by_its_signal(sandbox: Sandbox) -> None:
    ran = await python(sandbox, "import os; os.kill(os.getpid(), 11)")
    assert ran.exit_code == 128 + 11


async def test_time_of_the_processor_is_limited_too(sandbox: Sandbox) -> None:
    ran = await python(sandbox, "while True: pass", Limits(seconds=8.0, cpu_seconds=1))
    assert ran.stopped is Stop.TIME
    assert ran.seconds < 4


async def test_the_home_folder_is_neither_seen_nor_touched(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    home = Path.home()
    before = sorted(os.listdir(home))
    mark = f"written-{os.getpid()}"
    ran = await python(
        sandbox,
        f"""
        import os, pathlib
        for home in ({str(home)!r}, {str(tmp_path)!r}, os.path.expanduser('~')):
            try: (pathlib.Path(home) / {mark!r}).write_text('x')
            except OSError: pass
            else: print('wrote', home)
        for folder, _, files in os.walk({str(home)!r}):
            if {str(Path(sandbox.python).parent.parent)!r} not in folder and files:
                print('saw', folder, files)
        """,
    )
    assert ran.stdout == "wrote /tmp/home\n", "its own home is an empty one"
    assert sorted(os.listdir(home)) == before
    assert not os.listdir(tmp_path)


async def test_the_environment_is_not_seen(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hush")
    ran = await python(
        sandbox,
        """
        import glob
        for name in ['/proc/self/environ', *glob.glob('/proc/[0-9]*/environ')]:
            try: print(open(name).read())
            except OSError: pass
        """,
    )
    assert "HOME=" in ran.stdout
    assert "hush" not in ran.stdout


async def test_processes_of_the_machine_are_not_seen(sandbox: Sandbox) -> None:
    ran = await python(
        sandbox, "import os; print(len([n for n in os.listdir('/proc') if n.isdigit()]))"
    )
    assert int(ran.stdout) <= 3


async def test_no_socket_gets_through(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            server.accept()[0].close()
        ran = await python(
            sandbox, f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)"
        )
        assert "Connection refused" in ran.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_no_socket_file_gets_through(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hidden, socket.socket(socket.AF_UNIX) as abstract:
        names = [str(tmp_path / "s"), f"\0smarterrouter-{os.getpid()}"]
        for one, name in zip((hidden, abstract), names, strict=True):
            one.bind(name)
            one.listen()
        ran = await python(
            sandbox,
            f"""
            import socket
            for name in {names!r}:
                try: socket.socket(socket.AF_UNIX).connect(name)
                except OSError: continue
                print('through')
            """,
        )
    assert (ran.exit_code, ran.stdout) == (0, "")


async def test_a_daemon_left_behind_ends_with_the_run(sandbox: Sandbox) -> None:
    mark = f"daemon-{os.getpid()}-{time.monotonic_ns()}"
    ran = await sandbox.run(
        ["sh", "-c", f"setsid sh -c 'sleep 60; : {mark}' >&- 2>&- & echo started"]
    )
    assert (ran.exit_code, ran.stdout) == (0, "started\n")
    assert ran.seconds < 5
    assert not alive(mark)


async def test_cancellation_ends_the_run(sandbox: Sandbox) -> None:
    mark = f"cancelled-{os.getpid()}-{time.monotonic_ns()}"
    task = asyncio.create_task(sandbox.run(["sh", "-c", f"sleep 60; : {mark}"]))
    while not _marked(mark):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(mark)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01])
async def test_cancellation_during_the_start_ends_it_too(sandbox: Sandbox, after_s: float) -> None:
    mark = f"early-{os.getpid()}-{time.monotonic_ns()}"
    task = asyncio.create_task(sandbox.run(["sh", "-c", f"sleep 60; : {mark}"]))
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    assert not alive(mark)


async def test_ten_runs_at_a_time_do_not_disturb_each_other(sandbox: Sandbox) -> None:
    async def one(number: int) -> Ran:
        command = "while :; do :; done" if number == 3 else f"echo {number} > f; sleep 0.2; cat f"
        return await sandbox.run(["sh", "-c", command], limits=Limits(seconds=3, cpu_seconds=1))

    runs = await asyncio.gather(*map(one, range(10)))
    assert [ran.stdout.strip() for ran in runs] == [str(n) if n != 3 else "" for n in range(10)]
    assert [number for number, ran in enumerate(runs) if ran.stopped] == [3]


async def test_no_file_descriptor_is_left_open(sandbox: Sandbox) -> None:
    await sandbox.run(["true"])
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        await sandbox.run(["true"], files={"a": "b"})
        await sandbox.run(["sleep", "9"], limits=Limits(seconds=0.1))
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_without_bubblewrap_the_refusal_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="install the package bubblewrap"):
        await find(str(tmp_path))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that anybody may look into: root's runs are nobody's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def fake_bwrap(folder: Path, script: str) -> str:
    (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bwrap").chmod(0o755)
    return str(folder)


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@linux
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("setting up uid map: Permission denied", "User namespaces seem to be forbidden"),
        ("Unknown option --disable-userns", r"Version 0\.8 or later is needed"),
        ("Something else", "bwrap: Something else"),
    ],
)
async def test_a_bubblewrap_that_fails_is_quoted(folder: Path, words: str, reason: str) -> None:
    path = fake_bwrap(folder, f"echo 'bwrap: {words}' >&2; exit 1")
    with pytest.raises(ConfigError, match=reason) as caught:
        await find(path)
    assert words in caught.value.message
    assert "--allow-code" in caught.value.message


@linux
async def test_a_bubblewrap_that_runs_nothing_is_not_believed(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        await find(fake_bwrap(folder, "exit 0"))
