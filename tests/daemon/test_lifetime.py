"""The daemon as a process: how it ends, what it leaves behind, and when it does not begin."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.children import alive, children, survivors
from tests.support.daemon import CLEAN, Process, served

REPOSITORY = Path(__file__).parents[2]
IMPORTABLE = {"PYTHONPATH": str(REPOSITORY)}
HELLO = [{"role": "user", "content": "Say hello."}]


def few_models(tmp_path: Path, made_models: Path) -> Path:
    """A small folder of models that nobody else has."""
    models = tmp_path / "few-models"
    models.mkdir()
    for name in ("tiny-5m", "endless-20m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    return models


@pytest.fixture
def folder(tmp_path: Path, made_models: Path) -> Path:
    return few_models(tmp_path, made_models)


@pytest.fixture
def daemon(folder: Path, tmp_path: Path) -> Iterator[Process]:
    with served(tmp_path, "--models-dir", str(folder), env=IMPORTABLE) as process:
        yield process


def answered(daemon: Process, model: str) -> None:
    with daemon.client() as client:
        body = {"model": model, "messages": HELLO, "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def serve(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``serve`` where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "smarterrouter", "serve", *arguments],
        cwd=cwd,
        env={**CLEAN, **IMPORTABLE},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Its one sentence, log lines left out."""
    [sentence] = [line for line in result.stderr.splitlines() if line.startswith("smarterrouter:")]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return sentence


def test_no_child_outlives_a_daemon_that_was_killed(daemon: Process, folder: Path) -> None:
    answered(daemon, "tiny-5m")
    answered(daemon, "endless-20m")
    assert len(children(folder)) == 2
    daemon.kill()
    assert survivors(folder, timeout_s=5) == []


def test_no_child_outlives_a_daemon_killed_while_it_was_loading(
    daemon: Process, folder: Path
) -> None:
    body = {"model": "tiny-5m", "messages": HELLO}
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK, f"{daemon.url}/v1/chat/completions", json.dumps(body)],
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 10
    while not (begun := psutil.Process(daemon.process.pid).children()):
        assert time.monotonic() < until
    daemon.kill()
    asking.wait(10)
    assert survivors(folder, *begun, timeout_s=5) == []


ASK = """
import sys, urllib.request
url, body = sys.argv[1:]
headers = {"Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=10)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_daemon_told_to_stop_ends_its_children_and_goes_quietly(
    daemon: Process, folder: Path, number: signal.Signals
) -> None:
    answered(daemon, "tiny-5m")
    [process] = children(folder)
    daemon.process.send_signal(number)
    daemon.process.wait(15)
    assert not alive(process)
    assert "Traceback" not in daemon.log.read_text()


def test_a_daemon_told_to_stop_exits_with_0(daemon: Process) -> None:
    daemon.process.terminate()
    assert daemon.process.wait(15) == 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of a daemon that was told to stop in the middle of a stream."""

    lines: list[str]
    problem: Exception | None
    seconds: float
    left: list[psutil.Process]
    log: str


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, made_models: Path) -> Stopped:
    """Takes as long as a daemon gives a stream to end by itself, so it is done once."""
    tmp_path = tmp_path_factory.mktemp("stopped")
    models = few_models(tmp_path, made_models)
    body = {"model": "endless-20m", "messages": HELLO, "stream": True, "max_tokens": 100_000}
    lines: list[str] = []
    problem = None
    with (
        served(tmp_path, "--models-dir", str(models), env=IMPORTABLE) as daemon,
        daemon.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        coming = answer.iter_lines()
        lines.append(next(coming))
        daemon.process.terminate()
        told = time.monotonic()
        try:
            lines += [line for line in coming if line]
        except httpx.TransportError as error:
            problem = error
        daemon.process.wait(30)
        seconds = time.monotonic() - told
        return Stopped(lines, problem, seconds, children(models), daemon.log.read_text())


def test_a_daemon_told_to_stop_during_a_stream_is_gone_within_15_seconds(stopped: Stopped) -> None:
    assert stopped.lines[0].startswith("data: ")
    assert stopped.seconds < 15
    assert stopped.left == []


def test_a_stream_that_has_to_end_with_the_daemon_says_so(stopped: Stopped) -> None:
    assert stopped.problem is None
    assert stopped.lines[-1] == "data: [DONE]" or stopped.lines[-2] == "event: error"
    assert "Traceback" not in stopped.log


def test_the_second_daemon_on_a_port_says_what_is_in_the_way(
    daemon: Process, folder: Path, tmp_path: Path
) -> None:
    port = daemon.url.rpartition(":")[2]
    second = serve("--port", port, "--models-dir", str(folder), cwd=tmp_path)
    assert second.returncode == 2
    assert f"Port {port} is in use on 127.0.0.1" in said(second)
    assert "--port" in said(second)


def test_a_folder_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    result = serve("--port", "0", "--models-dir", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert result.returncode == 2
    assert said(result) == (
        f"smarterrouter: {tmp_path}/nowhere is not a folder. Give one with GGUF files."
    )
    assert result.stderr.count("\n") == 1
