"""What the daemon costs, against figures that were promised: one run on loopback.

Decides how each figure is taken: direct and through the daemon in turn, round after round, and
the median of what the rounds say; "direct again" beside "direct" is the noise of the machine.
Requests through the daemon ask for ``smarterrouter/main``, with routing, lease and decision on
and every prompt a cache miss. Says nothing about models: the upstream answers from memory.

    python -m tests.benchmarks.bench [--quick] [--strict] [--json build/bench.json]

Exit code 0 when every figure was measured; 1 when one was not, or with ``--strict`` missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VIRTUAL = "smarterrouter/main"
SERVE = f"{sys.executable} -m smarterrouter serve --host 127.0.0.1 --port {{port}}"
PACKAGES = ("aiohttp", "litestar", "uvicorn", "uvloop", "httptools", "msgspec", "typer", "rich")
talk = Console(stderr=True, highlight=False)

Json = dict[str, Any]


class NotMeasuredError(Exception):
    """A figure could not be taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and what it should be: ``at_most`` or ``at_least``, or neither to just know it.

    ``value`` is None when it could not be measured; ``note`` then says why.
    """

    name: str
    unit: str
    value: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    rounds: list[Any] = field(default_factory=list)

    @property
    def met(self) -> bool | None:
        """None where nothing was promised or nothing was measured."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Requests are per round."""

    rounds: int
    one: int
    eight: int
    streams: int
    starts: int


FULL = Size(rounds=9, one=600, eight=3000, streams=600, starts=21)
QUICK = Size(rounds=5, one=200, eight=1000, streams=250, starts=15)


# --- processes ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Ours without any ``ROUTER_`` setting, and with the checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **more}


@contextmanager
def running(
    name: str, command: list[str], folder: Path, env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process for as long as the block lasts, and the file its talk goes to."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


Started = tuple[subprocess.Popen[bytes], Path]


def await_answer(url: str, started: Started, wanted: str = "", patience_s: float = 30.0) -> None:
    """Until a GET answers 200 and says ``wanted``; else why it did not."""
    process, log = started
    deadline = time.monotonic() + patience_s
    seen = "no answer"
    with httpx.Client(timeout=2, trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                answer = client.get(url)
            except httpx.HTTPError as error:
                seen = str(error)
            else:
                if answer.status_code == 200 and wanted in answer.text:
                    return
                seen = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(0.05)
    ended = "" if process.returncode is None else f", it ended with {process.returncode}"
    tail = log.read_text(errors="replace")[-1500:]
    raise NotMeasuredError(f"{tail}\n{url} is not ready{ended}: {seen}")


@dataclass(frozen=True, slots=True)
class Rig:
    """A bare upstream and a daemon in front of it, both ready."""

    upstream: str
    daemon: str

    def direct(self, model: str, **how: Any) -> Json:
        return load(f"{self.upstream}/v1/chat/completions", model=model, **how)

    def routed(self, **how: Any) -> Json:
        return load(f"{self.daemon}/v1/chat/completions", model=VIRTUAL, **how)

    def health(self, **how: Any) -> Json:
        """The no-op route, once the daemon has written down what came before."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            while client.get(f"{self.daemon}/admin/stats").json()["store"]["waiting"]:
                time.sleep(0.05)
        return load(f"{self.daemon}/health", get=True, **how)


@contextmanager
def rig(serve: str, models: str) -> Iterator[Rig]:
    """Start both with settings from the environment alone, away from the user's own data."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        below, above = free_port(), free_port()
        script = [sys.executable, str(HERE / "bare_upstream.py"), "--port", str(below)]
        settings = environment(
            ROUTER_PROVIDER="openai",
            ROUTER_OPENAI_BASE_URL=f"http://127.0.0.1:{below}/v1",
            ROUTER_DATABASE=str(folder / "bench.db"),
            ROUTER_PROFILE_ON_START="false",
            ROUTER_LOG_LEVEL="warning",
        )
        first = models.split(",")[0]
        bare = running("upstream", [*script, "--models", models], folder, settings)
        await_answer(f"http://127.0.0.1:{below}/v1/models", stack.enter_context(bare), first)
        command = shlex.split(serve.format(port=above))
        daemon = stack.enter_context(running("daemon", command, folder, settings))
        await_answer(f"http://127.0.0.1:{above}/health", daemon)
        await_answer(f"http://127.0.0.1:{above}/v1/models", daemon, first)
        yield Rig(f"http://127.0.0.1:{below}", f"http://127.0.0.1:{above}")


def load(url: str, *, get: bool = False, stream: bool = False, **options: Any) -> Json:
    """One run of the load generator; any fault or cached answer spoils it."""
    command = [sys.executable, str(HERE / "load.py"), "--url", url]
    command += ["--get"] * get + ["--stream"] * stream
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NotMeasuredError(done.stderr[-1000:])
    found: Json = json.loads(done.stdout)
    if found["errors"] or found["cached"]:
        raise NotMeasuredError(f"{url}: {found['cached']} cached, faults {found['faults']}")
    return found


# --- figures ------------------------------------------------------------------------------------


def median(values: list[float], digits: int = 3) -> float:
    return round(statistics.median(values), digits)


def added_latency(at: Rig, size: Size, stream: bool) -> list[Figure]:
    """p50 at one connection through the daemon, less the mean of the directs before and after."""
    how: Json = {"stream": stream, "connections": 1, "requests": size.one, "warmup": 50}
    rounds = []
    for _ in range(size.rounds):
        before = at.direct("bench-a", **how)
        routed = at.routed(**how)
        rounds.append({"direct": before, "routed": routed, "again": at.direct("bench-a", **how)})
    direct = [statistics.mean((r["direct"]["p50_ms"], r["again"]["p50_ms"])) for r in rounds]
    added = [r["routed"]["p50_ms"] - d for r, d in zip(rounds, direct, strict=True)]
    noise = [abs(r["again"]["p50_ms"] - r["direct"]["p50_ms"]) for r in rounds]
    kind = "stream" if stream else "JSON"
    note = f"direct {median(direct)}, routed {median([r['routed']['p50_ms'] for r in rounds])}"
    return [
        Figure(f"added p50, {kind}", "ms", median(added), 1.5, None, note, rounds),
        Figure(f"  noise: direct vs direct, {kind}", "ms", median(noise)),
    ]


def throughput(at: Rig, size: Size, stream: bool) -> list[Figure]:
    """Requests a second at eight connections, against the daemon's own no-op route."""
    how: Json = {"connections": 8, "requests": size.eight, "warmup": 200}
    rounds = []
    for _ in range(size.rounds):
        health = at.health(**how)
        rounds.append({"health": health, "routed": at.routed(stream=stream, **how)})
    ratios = [r["routed"]["rps"] / r["health"]["rps"] for r in rounds]
    speed = median([r["routed"]["rps"] for r in rounds], 0)
    note = f"routed {speed:g}/s, /health {median([r['health']['rps'] for r in rounds], 0):g}/s"
    name = f"throughput at 8 vs /health, {'stream' if stream else 'JSON'}"
    return [Figure(name, "x", median(ratios), None, 0.3, note, rounds)]


def long_streams(at: Rig, size: Size) -> list[Figure]:
    """Streams of 100 chunks a second at four connections, against direct."""
    how: Json = {"stream": True, "connections": 4, "requests": size.streams, "warmup": 20}
    rounds = []
    for _ in range(size.rounds):
        before = at.direct("chunks-100", **how)
        routed = at.routed(**how)
        rounds.append({"direct": before, "routed": routed, "again": at.direct("chunks-100", **how)})
    direct = [statistics.mean((r["direct"]["rps"], r["again"]["rps"])) for r in rounds]
    ratios = [r["routed"]["rps"] / d for r, d in zip(rounds, direct, strict=True)]
    noise = [abs(1 - r["again"]["rps"] / r["direct"]["rps"]) for r in rounds]
    speed = median([r["routed"]["rps"] for r in rounds], 0)
    note = f"routed {speed:g}/s, direct {median(direct, 0):g}/s"
    return [
        Figure("100-chunk streams at 4 vs direct", "x", median(ratios), None, 0.5, note, rounds),
        Figure("  noise: 1 - direct / direct", "", median(noise)),
    ]


TRIVIAL = '''
import typer

app = typer.Typer()


@app.command()
def hello(name: str = "world") -> None:
    """Say hello."""
    print(f"hello {name}")


if __name__ == "__main__":
    app(prog_name="hello")
'''
# What an installed console script holds.
ENTRY = """
import sys
from smarterrouter.cli.main import main
if __name__ == "__main__":
    sys.argv[0] = "smarterrouter"
    sys.exit(main())
"""


def wall_s(command: list[str], folder: Path) -> float:
    """Seconds from start to exit of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=False)
    elapsed = time.perf_counter() - started
    if done.returncode:
        raise NotMeasuredError(done.stderr.decode(errors="replace")[-1000:])
    return elapsed


def help_time(size: Size) -> list[Figure]:
    """``smarterrouter --help`` against the smallest Typer program, in turn, either one first."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        commands: dict[str, list[str]] = {}
        for label, source in (("ours", ENTRY), ("trivial", TRIVIAL)):
            (folder / f"{label}.py").write_text(source, encoding="utf-8")
            commands[label] = [sys.executable, str(folder / f"{label}.py"), "--help"]
            wall_s(commands[label], folder)
        rounds: list[Json] = []
        for turn in range(size.starts):
            order = ("ours", "trivial") if turn % 2 else ("trivial", "ours")
            rounds.append({label: wall_s(commands[label], folder) for label in order})
    ratios = [r["ours"] / r["trivial"] for r in rounds]
    ours, trivial = (median([r[k] * 1000 for r in rounds], 0) for k in ("ours", "trivial"))
    note = f"ours {ours:g} ms, trivial {trivial:g} ms"
    return [
        Figure("--help vs a trivial Typer program", "x", median(ratios), 1.3, None, note, rounds)
    ]


HEAVY = ("litestar", "textual")
PROFILES = {
    "schema": 1,
    "models": [{"model": "small", "parameters": 1_000_000_000}, {"model": "large"}],
    "evidence": [
        {
            "prompt": "Write a Python function that sorts a list.",
            "scores": {"small": 0, "large": 1},
        },
        {"prompt": "What is the capital of France?", "scores": {"small": 1, "large": 1}},
    ],
}


def heavy_imports() -> list[Figure]:
    """How many of the heavy packages ``smarterrouter route`` imports, by ``-X importtime``."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "ours.py").write_text(ENTRY, encoding="utf-8")
        (folder / "profiles.json").write_text(json.dumps(PROFILES), encoding="utf-8")
        prompt = {"id": "1", "prompt": "Write a function that reverses a string."}
        (folder / "prompts.jsonl").write_text(json.dumps(prompt) + "\n", encoding="utf-8")
        command = [sys.executable, "-X", "importtime", str(folder / "ours.py"), "route"]
        command += ["--batch", "prompts.jsonl", "--profiles", "profiles.json", "--jsonl"]
        settings = environment(ROUTER_DATABASE=str(folder / "bench.db"))
        done = subprocess.run(
            command, cwd=folder, env=settings, capture_output=True, text=True, check=False
        )
    lines = done.stderr.splitlines()
    if done.returncode:
        talked = [line for line in lines if not line.startswith("import time:")]
        raise NotMeasuredError("\n".join(talked)[-1000:])
    routed = [json.loads(line) for line in done.stdout.splitlines()]
    if [line.get("id") for line in routed] != ["1"]:
        raise NotMeasuredError(f"route --batch answered {done.stdout[:300]!r}")
    tops = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    found = sorted(tops.intersection(HEAVY))
    note = ", ".join(found) or f"{len(lines)} modules"
    return [Figure("litestar, textual imported by `route`", "", len(found), 0, None, note, routed)]


# --- the run ------------------------------------------------------------------------------------


def attempt(title: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    """The figures, or one that says why there are none."""
    talk.print(f"[dim]measuring {title} …[/dim]")
    try:
        return measure()
    except NotMeasuredError as error:
        talk.print(f"{title}: not measured: {error}", markup=False, style="red")
        return [Figure(title, "", note=str(error))]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        talk.print(traceback.format_exc(), markup=False)
        return [Figure(title, "", note=traceback.format_exc(limit=1))]


def with_rig(
    serve: str, models: str, parts: dict[str, Callable[[Rig], list[Figure]]]
) -> list[Figure]:
    """All parts on one rig; each is tried even if another one fails."""

    def measure() -> list[Figure]:
        with rig(serve, models) as at:
            at.routed(stream=True, connections=4, requests=300)
            tries = [attempt(name, partial(part, at)) for name, part in parts.items()]
        return [figure for found in tries for figure in found]

    return attempt(f"the daemon over {models}", measure)


def all_figures(serve: str, size: Size) -> list[Figure]:
    short = {
        "latency, stream": lambda at: added_latency(at, size, stream=True),
        "latency, JSON": lambda at: added_latency(at, size, stream=False),
        "throughput, stream": lambda at: throughput(at, size, stream=True),
        "throughput, JSON": lambda at: throughput(at, size, stream=False),
    }
    return [
        *with_rig(serve, "bench-a,bench-b", short),
        *with_rig(serve, "chunks-100", {"100-chunk streams": lambda at: long_streams(at, size)}),
        *attempt("--help", lambda: help_time(size)),
        *attempt("imports of `route`", heavy_imports),
    ]


def said(command: list[str]) -> str | None:
    """What a command prints, or None where it cannot be run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def processor() -> str | None:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return said(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or None


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> Json:
    """Where and of what these figures were taken."""
    changed = said(["git", "status", "--porcelain", "--untracked-files=no"])
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": said(["git", "rev-parse", "HEAD"]),
        "changed": None if changed is None else bool(changed),
    }


VERDICTS = {True: "[green]met[/green]", False: "[red]missed[/red]", None: ""}


def table(figures: list[Figure], facts: Json) -> Table:
    title = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}"
    drawn = Table(title=title, title_justify="left")
    for column, side in (("figure", "left"), ("value", "right"), ("target", "right"), ("", "left")):
        drawn.add_column(column, justify=side)  # type: ignore[arg-type]
    drawn.add_column("measured", style="dim")
    for figure in figures:
        missing = figure.value is None
        value = "[red]not measured[/red]" if missing else f"{figure.value:g} {figure.unit}"
        note = (figure.note.strip().splitlines() or [""])[-1 if missing else 0]
        drawn.add_row(figure.name, value, figure.target, VERDICTS[figure.met], note[:60])
    return drawn


def write(path: Path, figures: list[Figure], facts: Json) -> None:
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    body = {"schema": 1, "machine": facts, "figures": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def stop(number: int, _frame: FrameType | None) -> None:
    """A polite kill ends like Ctrl-C: through every ``finally``."""
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--strict", action="store_true", help="a missed target fails the run")
    parser.add_argument("--serve", default=SERVE, help="what starts the daemon on {port}")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    facts = machine()
    figures = all_figures(given.serve, QUICK if given.quick else FULL)
    width = None if sys.stdout.isatty() else 130
    Console(highlight=False, width=width).print(table(figures, facts))
    write(given.json, figures, facts)
    talk.print(f"[dim]all rounds: {given.json}[/dim]")
    missed = any(figure.met is False for figure in figures)
    unmeasured = any(figure.value is None for figure in figures)
    return 1 if unmeasured or (given.strict and missed) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
