"""``smarterrouter profile`` on the command line: what is kept, shown, shared, and refused."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smarterrouter.assembly.known import findings, known
from smarterrouter.cli.main import app
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.support.profile_child import profiled

runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("ROUTER_DATABASE", str(tmp_path / "kept.db"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two models have been profiled."""
    asyncio.run(profiled(tmp_path / "kept.db", 0.0))
    return tmp_path / "kept.db"


def test_with_nothing_profiled_it_says_what_to_do() -> None:
    shown = runner.invoke(app, ["profile", "show"])
    assert shown.exit_code == 0
    assert "Nothing has been profiled yet: run `smarterrouter profile`." in shown.stdout
    refused = runner.invoke(app, ["profile", "export", "-"])
    assert (refused.exit_code, refused.stdout) == (1, "")


def test_the_table_has_each_model_and_the_best_of_each_group(database: Path) -> None:
    text = runner.invoke(app, ["profile", "show"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert [row[0] for row in rows[1:4] if row[0] in "ab"] == ["a", "b"]
    assert ["overall", "a"] in [row[:2] for row in rows]
    assert "Nothing was measured of code_write" in text


def test_a_card_has_every_group_with_its_interval(database: Path) -> None:
    text = runner.invoke(app, ["profile", "show", "a"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "100 tokens/s by the backend's counters" in text
    assert "1.50 s and 1.50 s from the disk" in text
    for group in ("math", "logic", "overall"):
        assert any(line.split()[:1] == [group] and "%" in line for line in text.splitlines())
    missing = runner.invoke(app, ["profile", "show", "c"])
    assert missing.exit_code == 1
    assert "c has not been profiled. Profiled: a, b." in missing.stderr


def test_json_is_one_document_with_a_schema(database: Path) -> None:
    whole = json.loads(runner.invoke(app, ["profile", "show", "--json"]).stdout)
    assert (whole["schema"], [one["model"] for one in whole["models"]]) == (1, ["a", "b"])
    one = json.loads(runner.invoke(app, ["profile", "show", "a", "--json"]).stdout)
    overall = one["profile"]["candidates"][0]["overall"]
    assert overall["low"] < overall["mean"] < overall["high"]


def test_what_is_exported_can_be_imported_and_routed_by(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = runner.invoke(app, ["profile", "export", "friends.json", "--own"])
    assert written.exit_code == 0
    assert "2 models and" in written.stderr
    before = known(findings(Profiles(database, Writer(database))))
    other = tmp_path / "other.db"
    monkeypatch.setenv("ROUTER_DATABASE", str(other))
    imported = runner.invoke(app, ["profile", "import", "friends.json"])
    assert imported.exit_code == 0
    assert "Imported: a, b." in imported.stderr
    after = known(findings(Profiles(other, Writer(other))))
    assert after.profiles == before.profiles
    assert before.quality
    assert after.quality
    assert after.quality.known("a", "math") == before.quality.known("a", "math")
    assert " *" in runner.invoke(app, ["profile", "show"]).stdout
    decided = runner.invoke(app, ["route", "What is 2 + 2?", "--profiles", "friends.json"])
    assert decided.stdout.strip() in ("a", "b")


def test_prompts_of_ones_own_stay_here_unless_they_are_asked_for(database: Path) -> None:
    text = runner.invoke(app, ["profile", "export", "-"]).stdout
    assert "Question" not in text
    assert json.loads(text)["evidence"] == []
    assert "Question" in runner.invoke(app, ["profile", "export", "-", "--own"]).stdout


def test_a_plan_names_the_models_and_does_nothing(tmp_path: Path, made_models: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny-5m.gguf").symlink_to(made_models / "tiny-5m.gguf")
    arguments = ["profile", "--models-dir", str(folder), "--dry-run", "--json"]
    plan = json.loads(runner.invoke(app, arguments).stdout)
    assert [one["model"] for one in plan["models"]] == ["tiny-5m"]
    assert plan["seconds"] > 0
    text = runner.invoke(app, arguments[:-1]).stdout
    assert "Nothing was done." in text


def test_what_is_wrong_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = runner.invoke(app, ["profile", "--models-dir", str(tmp_path / "empty")])
    assert (empty.exit_code, "There is no model to profile" in empty.stderr) == (3, True)
    nobody = runner.invoke(app, ["profile", "--url", "http://127.0.0.1:9"])
    assert nobody.exit_code == 3
    both = runner.invoke(app, ["profile", "--models-dir", "empty", "--url", "http://127.0.0.1:9"])
    assert (both.exit_code, "Give --models-dir" in both.stderr) == (1, True)
    (tmp_path / "none.json").write_text('{"models": [], "evidence": []}')
    none = runner.invoke(app, ["profile", "import", "none.json"])
    assert (none.exit_code, "has no model" in none.stderr) == (1, True)
    lost = runner.invoke(app, ["profile", "import", "nowhere.json"])
    assert (lost.exit_code, "nowhere.json cannot be read" in lost.stderr) == (1, True)
    assert os.listdir(tmp_path / "empty") == []
