"""A model's code is run here and nowhere else: under bubblewrap, with little time and memory.

Decides whether that can be done on this machine (``find``), what the code sees (the system's
programs and Python's, read-only; no network, no home, no variables), and when it is stopped. Not
what its output is worth: that is the checkers'.

Limits of the kernel hold for each process; what all of them take together is looked at every
``LOOK_S``. Whatever ends a run ends the namespace of its processes, so that none is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from smarterrouter.errors import ConfigError, Unavailable

MIB = 1024 * 1024
LOOK_S = 0.05
NOBODY = 65534
HALTED_S = 0.2
INSTEAD = "Leave --allow-code off: code is then checked by parsing."
WORK = "/tmp/work"  # noqa: S108 - in the sandbox, which has a /tmp of its own
HOME = "/tmp/home"  # noqa: S108

_KILLED_BY_CPU_TIME = 128 + 24
_OPEN_FILES = 128
_SPARE_TASKS = 32
"""Threads count for the kernel's limit, but not for ours: so many are allowed on top."""
_PRELUDE = """
ulimit -c 0 && ulimit -n {files} && ulimit -v {kib} && ulimit -S -t {cpu} && ulimit -H -t {cpu_hard}
if [ $? -ne 0 ]; then exit 96; fi
if (ulimit -u {tasks}) 2>/dev/null; then ulimit -u {tasks}; else ulimit -p {tasks}; fi
exec "$@"
"""


class Stop(StrEnum):
    """What a run was ended for."""

    TIME = "time"
    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. Memory and processes are those of all it starts, taken together."""

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * MIB
    processes: int = 32
    output_bytes: int = 64 * 1024
    disk_bytes: int = 64 * MIB

    def exceeded(self, stop: Stop) -> str:
        """What the code did, for the owner: the end of a sentence."""
        return {
            Stop.TIME: f"did not end within {self.seconds:g} s",
            Stop.MEMORY: f"took more than {self.memory_bytes // MIB} MiB of memory",
            Stop.PROCESSES: f"started more than {self.processes} processes",
            Stop.OUTPUT: f"wrote more than {self.output_bytes // 1024} KiB",
        }[stop]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run. ``exit_code`` is 128 and the signal after one, ``None`` if stopped."""

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    stopped: Stop | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """bubblewrap as it works on this machine; ``python`` is the interpreter in it."""

    bwrap: str
    python: str
    sights: tuple[str, ...]
    """bwrap's arguments for what can be seen in it."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, str] | None = None,
        stdin: str = "",
        limits: Limits | None = None,
    ) -> Ran:
        """Run ``argv`` in a folder with ``files`` (text by relative path), and wait for its end.

        Raises ``Unavailable`` with bwrap's words if it could not set the sandbox up.
        """
        limits = limits or Limits()
        with contextlib.ExitStack() as stack:
            given = _readable(stack, stdin.encode())
            rules = _readable(stack, _refused_calls(os.uname().machine))
            texts = {n: _readable(stack, text.encode()) for n, text in (files or {}).items()}
            status, report = _pipe(stack)
            stack.callback(os.close, report)
            command = [
                *(self.bwrap, *_WALLS, "--json-status-fd", str(report), *self.sights),
                *_room(texts, limits),
                *(("--seccomp", str(rules)) if os.fstat(rules).st_size else ()),
                *("--", "/bin/sh", "-c", _prelude(limits), "sh", *argv),
            ]
            process = await _started(command, given, (report, rules, *texts.values()))
            ran = await _watched(process, limits)
            if ran.stopped is None and not _was_set_up(status):
                words = ran.stderr.strip() or f"bwrap ended with {ran.exit_code}"
                raise Unavailable(f"The sandbox could not be set up: {words}")
            return ran


async def find(path: str | None = None) -> Sandbox:
    """The sandbox of this machine, tried out; ``path`` is where bwrap is looked for (``PATH``).

    Raises ``ConfigError`` saying why there is none and what to do.
    """
    if sys.platform != "linux":
        raise ConfigError(f"Code is run under bubblewrap, which needs Linux. {INSTEAD}")
    bwrap = shutil.which("bwrap", path=path)
    if bwrap is None:
        raise ConfigError(
            "Code is run under bubblewrap, and bwrap was not found: "
            f"install the package bubblewrap. {INSTEAD}"
        )
    refusals = []
    for python, prefix in _interpreters():
        sandbox = Sandbox(bwrap, python, tuple(_sights(prefix)))
        words = await _tried(sandbox)
        if words is None:
            return sandbox
        refusals.append(words)
    raise ConfigError(_refusal(refusals[0]))


async def _tried(sandbox: Sandbox) -> str | None:
    """Why it does not work, if it does not. What is parsed here must be run by the same Python."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        ran = await sandbox.run([sandbox.python, "-I", "-S", "-c", code])
    except (Unavailable, OSError, ValueError) as error:  # uvloop cannot start it as nobody
        return str(error)
    if ran.stdout.split() == [str(part) for part in sys.version_info[:2]]:
        return None
    return ran.stderr.strip() or f"a trial printed {ran.stdout!r} ({ran.stopped})"


def _interpreters() -> Iterator[tuple[str, Path]]:
    """Our own, and for root the system's: nobody, who runs the code then, may not see root's."""
    prefix = Path(sys.base_prefix).resolve()
    if not Path(os.path.expanduser("~")).resolve().is_relative_to(prefix):
        yield str(Path(sys.executable).resolve()), prefix
    yield "/usr/bin/python3", Path("/usr")


def _refusal(words: str) -> str:
    why = ""
    if "Unknown option" in words:
        why = "Version 0.8 or later is needed. "
    elif "Can't find source path" in words and os.geteuid() == 0:
        why = "Root's runs are done by nobody, who must be able to read Python: be another user. "
    elif any(one in words for one in ("namespace", "uid map", "not permitted", "RTM_NEWADDR")):
        why = "User namespaces seem to be forbidden on this machine or in this container. "
    return f"bubblewrap cannot be used: {words.rstrip('.')}. {why}{INSTEAD}"


# What is seen in the sandbox.

_WALLS = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
    *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
    *("--die-with-parent", "--new-session", "--clearenv"),
    *("--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", HOME, "--setenv", "TZ", "UTC"),
    *("--setenv", "LC_ALL", "C.UTF-8", "--setenv", "MALLOC_ARENA_MAX", "1"),
)


def _sights(prefix: Path) -> Iterator[str]:
    """Programs and libraries, of /etc only what finds them, and the interpreter.

    That may be in somebody's home: then nothing else of the home is seen.
    """
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            yield from ("--symlink", os.readlink(name), name)
        elif os.path.isdir(name):
            yield from ("--ro-bind", name, name)
    for name in ("/etc/ld.so.cache", "/etc/alternatives", "/nix/store", "/gnu/store"):
        yield from ("--ro-bind-try", name, name)
    if not prefix.is_relative_to("/usr"):
        yield from ("--ro-bind", str(prefix), str(prefix))
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from ("--size", str(MIB), "--tmpfs", "/dev/shm", "--remount-ro", "/dev")  # noqa: S108


def _room(texts: Mapping[str, int], limits: Limits) -> Iterator[str]:
    """The one place that can be written to."""
    yield from ("--size", str(limits.disk_bytes), "--tmpfs", "/tmp")  # noqa: S108
    yield from ("--dir", HOME, "--dir", WORK)
    for name, fd in texts.items():
        yield from ("--perms", "0644", "--file", str(fd), f"{WORK}/{name}")
    yield from ("--remount-ro", "/", "--chdir", WORK)


def _prelude(limits: Limits) -> str:
    """Before Linux 5.14 the kernel counts all processes of the user: there we only look."""
    text = _PRELUDE.format(
        files=_OPEN_FILES,
        kib=limits.memory_bytes // 1024,
        cpu=limits.cpu_seconds,
        cpu_hard=limits.cpu_seconds + 1,
        tasks=limits.processes + _SPARE_TASKS,
    )
    release = os.uname().release.split("-")[0].split(".")
    if tuple(int(part) for part in release[:2] if part.isdigit()) >= (5, 14):
        return text
    return "\n".join(line for line in text.splitlines() if not line.startswith("if (ulimit"))


_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS = {
    # Memory that belongs to no process: memfd_create, memfd_secret, shmget, msgget.
    # The user's keys: add_key, request_key, keyctl. Doors to the kernel that nothing here
    # needs: io_uring_setup, bpf, perf_event_open, userfaultfd.
    "x86_64": (319, 447, 29, 68, 248, 249, 250, 425, 321, 298, 323),
    "aarch64": (279, 447, 194, 186, 217, 218, 219, 425, 280, 241, 282),
}
_X32 = 0x40000000


class _Owner(TypedDict, total=False):
    user: int
    group: int
    extra_groups: Sequence[int]


def _nobody() -> _Owner:
    """Root gives the run away before it begins.

    Within the sandbox, its owner would still be root to the kernel: free to change the machine's
    settings in /proc/sys, and without a limit to its processes.
    """
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": ()}


def _refused_calls(machine: str) -> bytes:
    """A seccomp program that refuses ``_CALLS``; empty where their numbers are not known."""
    if machine not in _CALLS:
        return b""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # EPERM
    calls = [(equal, number) for number in _CALLS[machine]]
    tests = [(at_least, _X32), *calls]
    lines = [(load, 0, 0, 4), (equal, 0, len(tests) + 2, _AUDIT[machine]), (load, 0, 0, 0)]
    lines += [(code, len(tests) - at, 0, value) for at, (code, value) in enumerate(tests)]
    lines += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


# One run.


class _Stopped(Exception):
    def __init__(self, why: Stop) -> None:
        super().__init__(why)
        self.why = why


async def _started(
    command: Sequence[str], stdin: int, handed: Sequence[int]
) -> asyncio.subprocess.Process:
    """bwrap, begun. If that is cancelled, it is ended properly: asyncio would only kill bwrap."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=handed,
            env={},
            cwd="/",
            **_nobody(),
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        _kill(process)
        await process.communicate()
        raise


async def _watched(process: asyncio.subprocess.Process, limits: Limits) -> Ran:
    """Wait for its end, or bring it about: at a limit, and when the waiting is cancelled."""
    started = asyncio.get_running_loop().time()
    out, err = bytearray(), bytearray()
    stopped: Stop | None = None
    try:
        async with asyncio.timeout(limits.seconds), asyncio.TaskGroup() as group:
            guard = group.create_task(_guard(process.pid, limits))
            readers = [
                group.create_task(_read(process.stdout, out, err, limits.output_bytes)),
                group.create_task(_read(process.stderr, err, out, limits.output_bytes)),
            ]
            await asyncio.wait(readers)
            await process.wait()
            guard.cancel()
    except* _Stopped as several:
        first = several.exceptions[0]
        stopped = first.why if isinstance(first, _Stopped) else None
    except* TimeoutError:
        stopped = Stop.TIME
    finally:
        _kill(process)
        await process.communicate()  # to the end of its pipes: then nobody holds them
    code = process.returncode if stopped is None else None
    if code == _KILLED_BY_CPU_TIME:
        code, stopped = None, Stop.TIME
    took = asyncio.get_running_loop().time() - started
    return Ran(code, out.decode(errors="replace"), err.decode(errors="replace"), took, stopped)


async def _read(
    stream: asyncio.StreamReader | None, into: bytearray, other: bytearray, most: int
) -> None:
    """Keep what comes, until both streams together are over ``most`` bytes."""
    assert stream is not None
    while piece := await stream.read(8192):
        room = most - len(into) - len(other)
        into += piece[:room]
        if len(piece) > room:
            raise _Stopped(Stop.OUTPUT)


async def _guard(pid: int, limits: Limits) -> None:
    """Look at all processes of the run again and again, and object when they are too much."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        pages = 0
        for others, one in enumerate(_below(pid)):  # bwrap's own is the first
            pages += _resident_pages(one)
            if others > limits.processes:
                raise _Stopped(Stop.PROCESSES)
            if pages * page > limits.memory_bytes:
                raise _Stopped(Stop.MEMORY)
        await asyncio.sleep(LOOK_S)


def _below(pid: int) -> Iterator[int]:
    """Its children, theirs, and so on."""
    waiting = [pid]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in os.listdir(tasks):
                children = [int(child) for child in (tasks / task / "children").read_text().split()]
                waiting += children
                yield from children


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _kill(process: asyncio.subprocess.Process) -> None:
    """End bwrap and the first process in the namespace, which takes all the others with it.

    bwrap alone would do, were it not for its first milliseconds: then that process does not yet
    end with it. So bwrap is halted first, lest it start one while we look.
    """
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGSTOP)
        until = time.monotonic() + HALTED_S
        while not _halted(process.pid) and time.monotonic() < until:
            time.sleep(0.001)
        if first := next(_below(process.pid), None):
            os.kill(first, signal.SIGKILL)
        process.kill()


def _halted(pid: int) -> bool:
    """Stopped, or at its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def _was_set_up(status: int) -> bool:
    """bwrap reports an exit code only of what it could start."""
    with contextlib.suppress(BlockingIOError):
        lines = os.read(status, 4096).decode().splitlines()
        return any("exit-code" in json.loads(line) for line in lines)
    return False


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    stack.callback(os.close, reading)
    return reading, writing


def _readable(stack: contextlib.ExitStack, content: bytes) -> int:
    """A file in memory that whoever gets it can only read: it would be memory without a limit."""
    fd = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
