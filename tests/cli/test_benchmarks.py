"""``smarterrouter benchmarks``: tables come in, are matched, corrected, counted, and go again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smarterrouter.cli.main import app

SAMPLES = Path(__file__).parents[1] / "profiling" / "benchmarks" / "samples"
BOARD, ARENA = SAMPLES / "open_llm_v2.csv", SAMPLES / "arena_2025.csv"
MODELS = ["qwen2.5:7b-instruct-q4_K_M", "smollm2:135m", "some-odd-model"]
PYTHON = "Write a Python function that merges two sorted lists."

runner = CliRunner()


class Server(BaseHTTPRequestHandler):
    """Lists models as vLLM does, and gives out the leaderboard."""

    def do_GET(self) -> None:
        files = {"/board.csv": BOARD.read_bytes(), "/v1/models": json.dumps(listing()).encode()}
        body = files.get(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


def listing() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "COLUMNS": "80",
        "ROUTER_DATABASE": str(tmp_path / "kept.db"),
        "ROUTER_PROVIDER": "openai",
        "ROUTER_OPENAI_BASE_URL": f"{address}/v1",
        "ROUTER_PORT": "9",
    }.items():
        monkeypatch.setenv(name, value)
    yield address
    server.shutdown()
    server.server_close()


def run(*arguments: str) -> Any:
    return runner.invoke(app, ["benchmarks", *arguments])


def rows_of(model: str) -> list[str | None]:
    report = json.loads(run("--json").stdout)
    [told] = [one for one in report["models"] if one["model"] == model]
    return [one["row"] for one in told["matches"]]


def test_with_nothing_imported_it_says_how() -> None:
    shown = run()
    assert (shown.exit_code, "benchmarks import FILE" in shown.stdout) == (0, True)
    assert json.loads(run("--json").stdout)["tables"] == []
    refused = run("match", "some-odd-model", "--none")
    assert (refused.exit_code, "No table has been imported" in refused.stderr) == (1, True)


def test_a_file_is_matched_to_the_models_that_are_there() -> None:
    imported = run("import", str(BOARD))
    assert imported.exit_code == 0
    assert "11 rows kept as open-llm-leaderboard." in imported.stderr
    assert "ROUTER_PROFILE_BENCHMARKS=true" in imported.stderr
    text = run().stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "Qwen/Qwen2.5-7B-Instruct" in text
    assert "Routing does not count them" in text
    assert [rows_of(name) for name in MODELS] == [
        ["Qwen/Qwen2.5-7B-Instruct"],
        ["HuggingFaceTB/SmolLM2-135M-Instruct"],
        [None],
    ]


def test_an_address_is_read_and_its_secrets_are_not_kept(url: str) -> None:
    assert run("import", f"{url}/board.csv?token=hush").exit_code == 0
    [kept] = json.loads(run("--json").stdout)["tables"]
    assert (kept["rows"], kept["place"]) == (11, f"{url}/board.csv")
    again = run("import", str(BOARD))
    assert f"kept as open-llm-leaderboard in place of {url}/board.csv." in again.stderr
    [kept] = json.loads(run("--json").stdout)["tables"]
    assert kept["place"] == str(BOARD)


def test_without_a_network_only_the_address_fails() -> None:
    run("import", str(ARENA))
    lost = run("import", "http://127.0.0.1:9/board.csv")
    assert (lost.exit_code, "cannot be reached" in lost.stderr) == (3, True)
    assert [one["name"] for one in json.loads(run("--json").stdout)["tables"]] == ["arena"]


def test_they_count_only_where_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def qualities() -> dict[str, float]:
        told = json.loads(runner.invoke(app, ["route", PYTHON, "--json"]).stdout)
        return {one["model"]: one["quality"] for one in told["decision"]["candidates"]}

    run("import", str(BOARD))
    before = qualities()
    assert before[MODELS[0]] == before["some-odd-model"]
    monkeypatch.setenv("ROUTER_PROFILE_BENCHMARKS", "true")
    good, small, odd = (qualities()[name] for name in MODELS)
    assert small < odd == before["some-odd-model"] < good
    explained = runner.invoke(app, ["route", PYTHON, "--explain"]).stdout
    assert "published: BBH" in explained
    assert "Routing counts them" in run().stdout


def test_matches_can_be_corrected_and_given_back() -> None:
    run("import", str(BOARD))
    run("import", str(ARENA))
    told = run("match", "some-odd-model", "google/Gemma-2-9b-IT")
    assert told.exit_code == 0
    assert rows_of("some-odd-model") == [None, "google/gemma-2-9b-it"]
    assert "by hand" in run().stdout
    run("match", "some-odd-model", "--auto")
    assert rows_of("some-odd-model") == [None, None]
    run("match", MODELS[0], "--none")
    assert rows_of(MODELS[0]) == [None, None]
    refused = run("match", MODELS[0], "Qwen2.5-7B-Instruct")
    assert refused.exit_code == 1
    assert "Rows like it: Qwen/Qwen2.5-7B-Instruct" in refused.stderr
    nobody = run("match", "qwen", "google/gemma-2-9b-it")
    assert (nobody.exit_code, "There is no model 'qwen'. Known models:" in nobody.stderr) == (
        1,
        True,
    )
    unclear = run("match", MODELS[0], "google/gemma-2-9b-it", "--none")
    assert (unclear.exit_code, "or --none, or --auto" in unclear.stderr) == (1, True)


def test_a_table_can_be_dropped_with_what_was_said_of_it() -> None:
    run("import", str(BOARD))
    run("match", MODELS[0], "--none")
    wrong = run("drop", "boards")
    assert (wrong.exit_code, "There are open-llm-leaderboard." in wrong.stderr) == (1, True)
    assert run("drop", "open-llm-leaderboard").exit_code == 0
    assert json.loads(run("--json").stdout)["tables"] == []
    run("import", str(BOARD))
    assert rows_of(MODELS[0]) == ["Qwen/Qwen2.5-7B-Instruct"]


def test_a_file_without_scores_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "shopping.csv").write_text("item,price\nmilk,2\n")
    refused = run("import", "shopping.csv")
    assert refused.exit_code == 1
    assert "Open LLM Leaderboard" in refused.stderr
    assert json.loads(run("--json").stdout)["tables"] == []


def test_a_table_of_a_few_rows_says_that_it_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("model,HumanEval\nQwen2.5-7B-Instruct,80\n")
    run("import", "mine.csv")
    assert "too few rows to compare with" in " ".join(run().stdout.split())
    [told] = json.loads(run("--json").stdout)["tables"]
    assert (told["name"], told["compares"]) == ("mine", False)
