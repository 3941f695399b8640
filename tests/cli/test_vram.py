"""``smarterrouter vram`` against a daemon that serves, and how its tables look at 80 columns."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from smarterrouter.cli.main import app
from smarterrouter.cli.render import DASH
from smarterrouter.cli.vram_table import MOST_AWAY, gb, length, view
from tests.support.daemon import CLEAN, Process, served

REPOSITORY = Path(__file__).parents[2]
HELLO = [{"role": "user", "content": "Say hello."}]
runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made_models: Path) -> Path:
    models = tmp_path_factory.mktemp("few") / "models"
    models.mkdir()
    for name in ("tiny-5m", "tiny-20m", "endless-20m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    return models


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Process]:
    """Two of the three small models fit."""
    with serving(folder) as process:
        yield process


def serving(folder: Path) -> Any:
    env = {
        "PYTHONPATH": str(REPOSITORY),
        "ROUTER_VRAM_MAX_TOTAL_GB": "0.15",
        "ROUTER_MODEL_CONTEXT": "512",
    }
    return served(folder.parent, "--models-dir", str(folder), env=env)


def vram(daemon: Process, *arguments: str) -> Result:
    return runner.invoke(app, ["vram", *arguments], env={"ROUTER_URL": daemon.url})


def drawn(report: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(view(report))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


# --- against a daemon ---------------------------------------------------------------------------


def test_models_are_loaded_shown_and_unloaded(daemon: Process) -> None:
    loaded = vram(daemon, "load", "tiny-5m")
    assert loaded.exit_code == 0, loaded.stderr
    told = r"loaded tiny-5m in \d+\.\d s, 0\.\d\d GB measured on ram\n"
    assert re.fullmatch(told, loaded.stdout)
    assert "tiny-5m was loaded already, 0." in vram(daemon, "load", "managed/tiny-5m").stdout

    shown = vram(daemon)
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert re.search(r"tiny-5m +ready +0\.\d\d +measured +0/1", shown.stdout)
    assert re.search(r"tiny-20m +unloaded +0\.\d\d +estimated", shown.stdout)

    gone = vram(daemon, "unload", "tiny-5m")
    assert re.fullmatch(r"unloaded tiny-5m in \d+\.\d s, 0\.\d\d GB\n", gone.stdout)
    assert vram(daemon, "unload", "tiny-5m").stdout == "tiny-5m was not loaded\n"


def test_who_was_unloaded_to_make_room_is_told_and_kept(daemon: Process) -> None:
    for name in ("tiny-5m", "tiny-20m"):
        assert vram(daemon, "load", name).exit_code == 0
    loaded = vram(daemon, "load", "endless-20m")
    assert re.search(r"; tiny-(5|20)m was unloaded to make room\n$", loaded.stdout)
    history = vram(daemon, "history")
    assert max(map(len, history.stdout.splitlines())) <= 80
    assert "to make room for" in history.stdout
    newest = json.loads(vram(daemon, "history", "--json", "--limit", "1").stdout)
    assert [one["model"] for one in newest["history"]] == ["endless-20m"]


def test_a_pin_holds_until_it_is_taken_away(daemon: Process) -> None:
    assert vram(daemon, "pin", "tiny-5m").stdout.startswith("pinned; ")
    refused = vram(daemon, "unload", "tiny-5m")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Unpin it first" in refused.stderr
    assert "may go again" in vram(daemon, "unpin", "tiny-5m").stdout
    assert vram(daemon, "unload", "tiny-5m").exit_code == 0


def test_a_model_in_use_is_not_unloaded(daemon: Process) -> None:
    body = {"model": "endless-20m", "messages": HELLO, "stream": True, "max_tokens": 100_000}
    with daemon.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            refused = vram(daemon, "unload", "endless-20m")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "is answering 1 request" in refused.stderr


def test_json_is_one_document_with_a_schema(daemon: Process) -> None:
    report = json.loads(vram(daemon, "--json").stdout)
    assert report["schema"] == 1
    assert {"devices", "budget_bytes", "models", "queue"} < report.keys()
    for arguments in (["load", "tiny-5m", "--json"], ["--json", "load", "tiny-5m"]):
        entry = json.loads(vram(daemon, *arguments).stdout)
        assert (entry["schema"], entry["model"], entry["state"]) == (1, "tiny-5m", "ready")


@pytest.mark.parametrize("verb", ["load", "unload", "pin", "unpin"])
def test_an_unknown_model_is_told_which_there_are(daemon: Process, verb: str) -> None:
    result = vram(daemon, verb, "org/none:7b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "smarterrouter: There is no model 'org/none:7b'. Known models: endless-20m, tiny-20m, "
        "tiny-5m.\n"
    )


def test_an_address_may_stand_before_or_after_what_is_done(daemon: Process) -> None:
    for arguments in (["--url", daemon.url, "history"], ["history", "--url", daemon.url]):
        result = runner.invoke(app, ["vram", *arguments], env={"ROUTER_URL": None})
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--json"], ["load", "a"], ["unload", "a"], ["pin", "a"], ["history"]]
)
def test_without_a_daemon_it_says_how_to_start_one(arguments: list[str]) -> None:
    for env in ({"ROUTER_PORT": "9"}, {"ROUTER_URL": "http://127.0.0.1:9"}):
        result = runner.invoke(app, ["vram", *arguments], env=env)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "127.0.0.1:9" in result.stderr
        assert "smarterrouter serve" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--watch"], ["--watch", "--json"], ["--watch", "history"], ["load"], ["melt"]]
)
def test_wrong_usage_is_exit_code_2(daemon: Process, arguments: list[str]) -> None:
    result = vram(daemon, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_watching_goes_on_while_the_daemon_is_away_and_ends_with_ctrl_c(folder: Path) -> None:
    with serving(folder) as daemon, Terminal("vram", "--watch", "--url", daemon.url) as terminal:
        terminal.shows("No model is loaded")
        daemon.process.terminate()
        terminal.shows("No smarterrouter answers at")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
        assert "Traceback" not in terminal.text


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smarterrouter", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**CLEAN, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(theirs)
        self._screen = ours
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        os.close(self._screen)

    def shows(self, text: str, within_s: float = 20.0) -> None:
        until = time.monotonic() + within_s
        while text not in self.text:
            assert time.monotonic() < until, self.text
            time.sleep(0.05)

    def _read(self) -> None:
        try:
            while block := os.read(self._screen, 65536):
                self.text += block.decode(errors="replace")
        except OSError:  # the other end is closed
            pass


# --- how it looks -------------------------------------------------------------------------------


def device(name: str = "nvidia0", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": "NVIDIA GeForce RTX 4090",
        "total_bytes": 24_000_000_000,
        "used_bytes": 12_200_000_000,
        "own_bytes": 10_200_000_000,
        "foreign_bytes": 2_000_000_000,
        "budget_bytes": 21_600_000_000,
        "gone": False,
        **more,
    }


def model(name: str, **more: Any) -> dict[str, Any]:
    return {
        "model": name,
        "backend": "desk",
        "managed": True,
        "state": "unloaded",
        "devices": [],
        "bytes": 5_100_000_000,
        "bytes_source": "estimated",
        "leases": 0,
        "concurrency": None,
        "pinned": False,
        "last_used_s": None,
        "failure": None,
        **more,
    }


def report(*models: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"devices": [device()], "models": list(models), "queue": [], **more}


def test_a_bar_tells_ours_others_and_free_apart_without_colours() -> None:
    head, bar, *_ = drawn(report()).splitlines()
    assert head.startswith("nvidia0  NVIDIA GeForce RTX 4090 ")
    assert head.endswith("24.0 GB, 21.6 for models")
    cells, key = bar[:30], bar[30:]
    assert [cells.count(mark) for mark in "█▒·"] == [13, 2, 15]
    assert key == "  █ models 10.2  ▒ others 2.0  · free 11.8 GB"


def test_what_is_not_known_of_a_device_is_said() -> None:
    blind = device(used_bytes=None, foreign_bytes=None)
    assert "? unknown 13.8 GB" in drawn(report(devices=[blind]))
    gone = device(gone=True, budget_bytes=0)
    assert "it has gone" in drawn(report(devices=[gone]))
    shared = device(total_bytes=None, budget_bytes=None, foreign_bytes=None)
    assert "its size is not known" in drawn(report(devices=[shared]))
    assert "without counting" in drawn(report(devices=[]))


def test_loaded_models_come_before_those_that_are_not() -> None:
    here = model(
        "org/a-very-long-name-of-a-model-indeed:70b-instruct-q4_K_M",
        state="ready",
        devices=[{"id": "nvidia0", "bytes": 6}, {"id": "desk/nvidia1", "bytes": 6}],
        bytes_source="measured",
        leases=2,
        concurrency=4,
        pinned=True,
        last_used_s=0.0,
    )
    idle = model("phi", state="ready", last_used_s=300.0, devices=[{"id": "nvidia0", "bytes": 1}])
    devices = [device(), device("desk/nvidia1")]
    shown = drawn(report(model("away"), here, idle, devices=devices))
    assert re.search(r"ready +5.1 +measured +nvidia0.* 2/4 +yes +in use", shown)
    assert re.search(r"phi +ready .*5 min", shown)
    assert shown.index("phi") < shown.index("away")


def test_too_many_models_that_are_not_loaded_are_only_counted() -> None:
    many = [model(f"model-{number}") for number in range(MOST_AWAY + 1)]
    shown = drawn(report(*many))
    assert "No model is loaded." in shown
    assert "21 more are not loaded" in shown
    assert "model-3" not in shown
    assert "model-3" in drawn(report(*many[:-1]))


def test_empty_states_are_told_in_words() -> None:
    assert "There is no model." in drawn(report())
    assert "No model is loaded." in drawn(report(model("a")))


def test_who_waits_and_what_failed_is_told() -> None:
    queue = [{"model": "phi", "waiting": 2, "oldest_s": 12.4}]
    failed = model("qwen", state="failed", failure="It would not start.")
    shown = drawn(report(failed, queue=queue))
    assert "2 requests wait for phi, for 12 s so far" in shown
    assert "qwen failed: It would not start." in shown
    assert "wait" not in drawn(report(failed))


def test_a_backend_that_manages_itself_is_one_line() -> None:
    own = [model(name, managed=False, state="ready", backend="up") for name in "ab"]
    shown = " ".join(drawn(report(*own)).split())
    assert "up (2 models) manages its own memory" in shown
    assert "none is set" in shown
    assert "No model is loaded" not in shown
    limited = [{**one, "concurrency": 3} for one in own]
    assert "applies (3 a model)" in " ".join(drawn(report(*limited)).split())


def test_a_name_that_two_backends_have_is_told_with_its_backend() -> None:
    shown = drawn(report(model("a"), model("a", backend="attic"), model("b")))
    assert "desk/a" in shown
    assert "attic/a" in shown
    assert "desk/b" not in shown


@pytest.mark.parametrize(
    ("figure", "told"),
    [(None, DASH), (0, "0.0"), (46_000_000, "0.05"), (5_140_000_000, "5.1"), (24 * 10**9, "24.0")],
)
def test_gigabytes(figure: int | None, told: str) -> None:
    assert gb(figure) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.34, "0.3 s"), (12.4, "12 s"), (300, "5 min"), (11_520, "3.2 h")],
)
def test_lengths_of_time(seconds: float, told: str) -> None:
    assert length(seconds) == told
