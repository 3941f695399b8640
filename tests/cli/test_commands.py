"""The command line as a person types it: help, versions, wrong usage, exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smarterrouter import __version__
from smarterrouter.cli.main import app
from smarterrouter.cli.memory_checks import nvidia_card
from tests.gpu.trees.grow import grow
from tests.support.daemon import CLEAN

runner = CliRunner()

PROFILES = {
    "schema": 1,
    "models": [
        {"model": "good", "parameters": 8e9, "decode_tps": 40, "capabilities": ["chat", "tools"]},
        {
            "model": "quick",
            "parameters": 1e9,
            "decode_tps": 300,
            "context_length": 2048,
            "capabilities": ["chat"],
        },
    ],
    "evidence": [
        {"prompt": "What is 7 times 8?", "group": "math", "scores": {"good": 1, "quick": 0}},
        {"prompt": "Solve x + 3 = 9.", "scores": {"good": 1, "quick": 0.5}},
        {"prompt": "Write a haiku.", "group": "writing", "scores": {"good": 0.2, "quick": 0.9}},
    ],
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def profiles(tmp_path: Path) -> str:
    path = tmp_path / "profiles.json"
    path.write_text(json.dumps(PROFILES))
    return str(path)


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"smarterrouter {__version__}\n"


def test_help_names_the_commands() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "serve" in result.stdout
    assert "route" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["route"],
        ["route", " "],
        ["serve", "--port", "abc"],
        ["nonsense"],
        ["serve", "--port", "-1"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_serve_without_a_backend_says_what_to_do() -> None:
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == 2
    assert "--models-dir" in result.stderr
    assert "--demo" in result.stderr


def test_serve_refuses_to_face_strangers_without_a_key() -> None:
    result = runner.invoke(app, ["serve", "--host", "0.0.0.0", "--models-dir", "."])
    assert result.exit_code == 2
    assert "ROUTER_API_KEYS" in result.stderr


def test_a_folder_on_the_command_line_goes_before_the_backends_of_the_file() -> None:
    table = "[[backend]]\nname='up'\nkind='openai'\nurl='http://127.0.0.1:9'\n"
    Path("smarterrouter.toml").write_text(table)
    result = runner.invoke(app, ["serve", "--models-dir", "nowhere"])
    assert result.exit_code == 2
    assert "nowhere is not a folder" in result.stderr


def test_route_without_daemon_or_backend_is_exit_code_3() -> None:
    result = runner.invoke(app, ["route", "hello"], env={"ROUTER_PORT": "9"})
    assert result.exit_code == 3
    assert "No daemon" in result.stderr


def test_route_with_a_daemon_that_is_not_there_is_exit_code_3() -> None:
    result = runner.invoke(app, ["route", "hello", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 3
    assert "127.0.0.1:9" in result.stderr


def test_route_prints_the_winner_alone(profiles: str) -> None:
    result = runner.invoke(app, ["route", "What is 12 times 12?", "--profiles", profiles])
    assert result.exit_code == 0
    assert result.stdout == "good\n"


def test_route_without_a_model_that_can_is_exit_code_1_with_the_reasons(profiles: str) -> None:
    arguments = ["route", "word " * 3000, "--profiles", profiles, "--model", "quick"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "quick context too short" in result.stderr


def test_a_prompt_that_is_not_text_is_wrong_usage(profiles: str) -> None:
    arguments = ["route", "-", "--profiles", profiles]
    assert runner.invoke(app, arguments, input=b"\xff\xfe").exit_code == 2
    batch = ["route", "--batch", "-", "--profiles", profiles]
    result = runner.invoke(app, batch, input=b'{"prompt": "\xff\xfe"}\n')
    assert result.exit_code == 1
    assert "not UTF-8" in result.stderr


def test_an_empty_folder_on_the_command_line_is_wrong_usage() -> None:
    assert runner.invoke(app, ["serve", "--models-dir", ""]).exit_code == 2


def test_models_are_listed_without_a_daemon(made_models: Path) -> None:
    env = {"ROUTER_MODELS_DIR": str(made_models), "ROUTER_PORT": "9"}
    shown = runner.invoke(app, ["models"], env=env)
    assert shown.exit_code == 0, shown.stderr
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert "tiny-5m" in shown.stdout
    listed = json.loads(runner.invoke(app, ["models", "--json"], env=env).stdout)
    assert {model["id"] for model in listed["models"]} >= {"tiny-5m", "endless-20m"}


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(made_models: Path) -> None:
    well = {"ROUTER_MODELS_DIR": str(made_models), "ROUTER_PORT": "0"}
    healthy = runner.invoke(app, ["doctor"], env=well)
    assert healthy.exit_code == 0, healthy.stdout
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        Path("file").write_text("no folder")
        ill = {
            "ROUTER_PORT": str(taken.getsockname()[1]),
            "ROUTER_OPENAI_BASE_URL": "127.0.0.1:9",
            "ROUTER_DATABASE": "file/kept.db",
        }
        result = runner.invoke(app, ["doctor", "--json"], env=ill)
    assert result.exit_code == 1
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert findings["settings"]["status"] == "ok"
    assert findings["port"]["status"] == "fail"
    assert f"process {os.getpid()}" in findings["port"]["found"]
    assert findings["backend openai"]["status"] == "fail"
    assert "Start it" in findings["backend openai"]["remedy"]
    assert findings["database"]["status"] == "fail"
    assert "ROUTER_DATABASE" in findings["database"]["remedy"]


def findings(env: dict[str, str]) -> dict[str, dict[str, str]]:
    result = runner.invoke(app, ["doctor", "--json"], env=env)
    assert result.exit_code in (0, 1), result.stderr
    return {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}


def test_the_doctor_tells_of_every_device_what_models_may_have(made_models: Path) -> None:
    found = findings({"ROUTER_MODELS_DIR": str(made_models), "ROUTER_VRAM_MAX_TOTAL_GB": "0.001"})
    assert found["memory ram"]["status"] == "ok"
    assert found["memory ram"]["found"].endswith("GB free, 0.0 GB for models")


def test_the_doctor_names_a_machine_that_does_not_tell_its_memory(made_models: Path) -> None:
    node = "[[node]]\nname = 'desk'\nmetrics_url = 'http://127.0.0.1:9'\nvram_total_gb = 24\n"
    Path("smarterrouter.toml").write_text(node)
    found = findings({"ROUTER_MODELS_DIR": str(made_models)})
    assert found["node desk"]["status"] == "warn"
    assert "127.0.0.1:9" in found["node desk"]["remedy"]
    assert "21.6 GB for models" in found["memory desk/stated"]["found"]


def test_the_doctor_says_when_llama_cpp_cannot_use_the_card_that_is_there(
    made_models: Path, tmp_path: Path
) -> None:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\necho 'Available devices:'\n")
    server.chmod(0o755)
    env = {
        "ROUTER_MODELS_DIR": str(made_models),
        "ROUTER_LLAMA_SERVER": str(server),
        "ROUTER_VRAM_SYSFS": str(grow("rx7900xtx", tmp_path)),
    }
    found = findings(env)
    assert found["memory amd0"]["status"] == "ok"
    assert found["backend managed"]["status"] == "warn"
    assert "ROUTER_LLAMA_SERVER" in found["backend managed"]["remedy"]
    assert "RX 7900 XTX" in found["backend managed"]["remedy"]


def test_a_card_of_nvidia_is_seen_without_its_driver(tmp_path: Path) -> None:
    assert not nvidia_card(tmp_path)
    for name, vendor, kind in (("a", "0x10de", "0x030000"), ("b", "0x10de", "0x040300")):
        device = tmp_path / name / "bus/pci/devices/0000:01:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert nvidia_card(tmp_path / "a")
    assert not nvidia_card(tmp_path / "b")


def test_route_json_is_one_document_whose_scores_add_up(profiles: str) -> None:
    result = runner.invoke(app, ["route", "What is 9 times 9?", "--profiles", profiles, "--json"])
    told = json.loads(result.stdout)
    assert told["schema"] == 1
    decision = told["decision"]
    assert decision["model"] == "good"
    assert (decision["category"], decision["group"]) == ("reasoning", "math")
    assert decision["difficulty"] in ("easy", "medium", "hard")
    assert 0 <= decision["difficulty_score"] <= 1
    for candidate in decision["candidates"]:
        assert candidate["score"] == pytest.approx(sum(t["value"] for t in candidate["terms"]))
        assert all(term["why"] for term in candidate["terms"])


def test_route_explain_fits_eighty_columns_and_says_why(profiles: str) -> None:
    arguments = ["route", "What is 9 times 9?", "--profiles", profiles, "--explain", "--tools"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "quality" in result.stdout
    assert "profiled" in result.stdout
    assert "good for a" in " ".join(result.stdout.split())


def test_a_model_that_cannot_is_rejected_with_the_reason(profiles: str) -> None:
    long = "word " * 3000
    result = runner.invoke(app, ["route", long, "--profiles", profiles, "--json"])
    [rejected] = json.loads(result.stdout)["decision"]["rejected"]
    assert rejected["model"] == "quick"
    assert "2048" in rejected["reason"]


def test_fast_and_quality_weigh_seconds_differently(profiles: str) -> None:
    def chosen(model: str) -> str:
        arguments = ["route", "Who wrote Hamlet?", "--profiles", profiles, "--model", model]
        return runner.invoke(app, arguments).stdout.strip()

    assert chosen("smarterrouter/fast") == "quick"
    assert chosen("smarterrouter/quality") == "good"


def test_a_batch_answers_line_by_line(profiles: str, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [
        {"id": "a", "prompt": "What is 3 times 4?"},
        {"id": 2, "messages": [{"role": "user", "content": "Write a haiku about rain."}]},
        {"prompt": "def f(x): return x\nWhat does this return for 3?"},
    ]
    prompts.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    arguments = ["route", "--batch", str(prompts), "--profiles", profiles, "--jsonl"]
    result = runner.invoke(app, arguments)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in rows] == ["a", 2, 3]
    assert [row["category"] for row in rows] == ["reasoning", "creativity", "coding"]
    fields = {"id", "model", "category", "group", "difficulty", "difficulty_score", "score"}
    assert set(rows[0]) == fields


def test_what_a_batch_asks_of_every_line_counts(profiles: str, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    poem = {"messages": [{"role": "user", "content": "Write a haiku."}]}
    lines = [poem, {**poem, "tools": [{"type": "function", "function": {"name": "f"}}]}]
    prompts.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ["route", "--batch", str(prompts), "--profiles", profiles]

    def models(*more: str) -> list[str]:
        result = runner.invoke(app, [*arguments, *more])
        return [json.loads(line)["model"] for line in result.stdout.splitlines()]

    assert models("--model", "smarterrouter/fast") == ["quick", "good"]
    assert models("--model", "smarterrouter/fast", "--tools") == ["good", "good"]
    assert models("--model", "good") == ["good", "good"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not an object"),
        ('{"id": 1}', "line 1 has neither"),
        ('{"prompt": " "}', "line 1 has neither"),
        ('{"messages": []}', "line 1: 'messages' is empty"),
    ],
)
def test_a_malformed_line_of_a_batch_is_named(
    profiles: str, tmp_path: Path, line: str, told: str
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(line + "\n")
    result = runner.invoke(app, ["route", "--batch", str(prompts), "--profiles", profiles])
    assert result.exit_code == 1
    assert told in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "not a profile file"),
        ('{"models": []}', "evidence"),
        ('{"evidence": [{"prompt": "x", "scores": {"a": 7}}]}', "from 0 to 1"),
        ('{"schema": 9, "evidence": []}', "schema 9"),
    ],
)
def test_a_malformed_profile_file_is_told_what_is_wrong(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    result = runner.invoke(app, ["route", "hello", "--profiles", str(path)])
    assert result.exit_code == 1
    assert told in result.stderr


def test_route_loads_neither_litestar_nor_textual(profiles: str) -> None:
    program = (
        "import sys; from smarterrouter.cli.main import main; sys.argv[1:] = "
        f"['route', 'hello', '--profiles', {profiles!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'litestar', 'textual', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
