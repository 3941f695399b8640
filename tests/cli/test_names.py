"""Names are shown as they are: no markup or emoji is read out of them, and no terminal's orders."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from smarterrouter.cli.benchmark_table import show_benchmarks
from smarterrouter.cli.render import show_decision, show_findings, show_models
from smarterrouter.cli.vram_table import show_history, view

ORDERS = "\x1b]0;owned\x07"
ODD = ["[bold]x[/bold]", "[/x]", "q[bold]w[red]", ":smile:", "a\\[b]"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def words(text: str) -> list[str]:
    assert "\x1b" not in text
    return text.split()


@pytest.mark.parametrize("name", ODD)
def test_a_decision(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    candidate = {
        "model": name,
        "score": 0.5,
        "resident": True,
        "expected_seconds": 1.0,
        "terms": [{"name": "quality", "value": 0.5, "why": f"why {name} {ORDERS}"}],
    }
    decision = {
        "model": name,
        "needs": ["chat"],
        "group": "math",
        "category": "analysis",
        "difficulty": "easy",
        "difficulty_score": 0.1,
        "prompt_tokens": 5,
        "candidates": [candidate],
        "rejected": [{"model": name, "reason": f"reason {name}"}],
        "why": f"chosen {name}",
    }
    show_decision(decision, explain=False)
    assert words(capsys.readouterr().out) == [name]
    show_decision(decision, explain=True)
    assert words(capsys.readouterr().out).count(name) == 5


@pytest.mark.parametrize("name", ODD)
def test_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"id": name, "homes": [name], "meta": {"ftype": name}, "capabilities": [name]}
    show_models([one])
    assert words(capsys.readouterr().out).count(name) == 4


def test_findings(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings([{"status": "ok", "check": ORDERS, "found": ORDERS, "remedy": ORDERS}])
    assert "owned" in "".join(words(capsys.readouterr().out))


@pytest.mark.parametrize("name", ODD)
def test_memory(name: str) -> None:
    model = {
        "model": name,
        "backend": name,
        "managed": True,
        "state": "ready",
        "devices": [{"id": name, "bytes": 1}],
        "bytes": 1,
        "bytes_source": name,
        "leases": 0,
        "concurrency": None,
        "pinned": False,
        "last_used_s": None,
        "failure": f"failure {name} {ORDERS}",
    }
    device = {
        "id": name,
        "name": name,
        "total_bytes": 10,
        "own_bytes": 1,
        "foreign_bytes": 1,
        "budget_bytes": 5,
        "gone": False,
    }
    report = {
        "devices": [device, {**device, "id": f"{ORDERS}2", "gone": True}],
        "models": [model, {**model, "model": "other", "managed": False}],
        "queue": [{"model": name, "waiting": 1, "oldest_s": 1.0}],
    }
    out = io.StringIO()
    Console(file=out, width=160, highlight=False).print(view(report))
    shown = words(out.getvalue())
    # The device's id and name; the model, by what it was weighed, and where it is; that it failed,
    # and of what; the backend that manages itself.
    assert shown.count(name) == 8
    assert f"{name}," in shown


@pytest.mark.parametrize("name", ODD)
def test_history(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    one: dict[str, Any] = {"at": 0.0, "kind": "load", "bytes": None, "seconds": None}
    show_history([{**one, "model": name, "why": f"for {name} {ORDERS}"}])
    assert words(capsys.readouterr().out).count(name) == 2


@pytest.mark.parametrize("name", ODD)
def test_benchmarks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"name": name, "rows": 3, "at": 0.0, "place": f"{name} {ORDERS}", "compares": True}
    match = {"table": "t", "row": name, "corrected": False, "score": 1.0, "why": "", "nearest": ""}
    none = {**match, "row": None, "why": f"not {name}"}
    models = [{"model": name, "matches": [match]}, {"model": f"2{name}", "matches": [none]}]
    show_benchmarks({"tables": [table], "models": models, "used": True})
    shown = words(capsys.readouterr().out)
    assert shown.count(name) == 5
    assert f"2{name}" in shown
