"""``smarterrouter profile`` on the command line: what is kept, shown, shared, and refused."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from msgspec import Raw
from typer.testing import CliRunner

from smarterrouter.assembly.known import findings, known
from smarterrouter.cli.main import app
from smarterrouter.cli.profile_screen import Screen
from smarterrouter.cli.profile_table import show_plan
from smarterrouter.domain.profiles import Figures
from smarterrouter.profiling.events import Noted, StepBegan
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


def test_a_database_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "kept.db").write_bytes(b"no database at all, but long enough to be read" * 99)
    for command in (["profile", "show"], ["benchmarks"], ["benchmarks", "drop", "arena"]):
        told = runner.invoke(app, command)
        assert (told.exit_code, "kept.db" in told.stderr) == (3, True), command
        assert "Traceback" not in told.output


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


def test_nothing_of_a_file_with_a_bad_figure_is_kept(tmp_path: Path) -> None:
    models = [{"model": "sound"}, {"model": "m", "size_bytes": 10**30}]
    (tmp_path / "bad.json").write_text(json.dumps({"models": models, "evidence": []}))
    refused = runner.invoke(app, ["profile", "import", "bad.json"])
    assert (refused.exit_code, "bad.json: size_bytes of m is 10" in refused.stderr) == (1, True)
    shown = runner.invoke(app, ["profile", "show"])
    assert "Nothing has been profiled yet" in shown.stdout


def test_a_bad_figure_is_refused_where_one_routes_by_the_file(tmp_path: Path) -> None:
    models = [{"model": "m", "decode_tps": 1e-320, "prefill_tps": 1e-320}]
    (tmp_path / "bad.json").write_text(json.dumps({"models": models, "evidence": []}))
    refused = runner.invoke(app, ["route", "Hello", "--profiles", "bad.json", "--explain"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "bad.json: prefill_tps of m is" in refused.stderr


@pytest.mark.parametrize(
    "body",
    [b'"boo"', b'{"groups": [1], "overall": 3}', b'{"groups": {"math": 7}}', b"null", b"x", b"[1]"],
)
def test_reasons_of_another_form_are_not_known(database: Path, body: bytes) -> None:
    """Also where an import has let them into the database."""

    async def keep(notes: Profiles) -> None:
        for identity in ("imported|b/m", next(m.identity for m in notes.models())):
            step = Figures(identity=identity, step="settled:a", body=Raw(body), at=1e12)
            await notes.keep(step)

    writer = Writer(database)
    writer.start()
    asyncio.run(keep(Profiles(database, writer)))
    writer.close()
    assert runner.invoke(app, ["profile", "show"]).exit_code == 0
    assert runner.invoke(app, ["profile", "show", "a"]).exit_code == 0
    told = runner.invoke(app, ["profile", "show", "a", "--json"])
    [candidate] = json.loads(told.stdout)["profile"]["candidates"]
    assert candidate["settled"] is None
    assert {group["settled"] for group in candidate["groups"].values()} == {None}


def test_reasons_are_told(database: Path) -> None:
    told = runner.invoke(app, ["profile", "show", "a", "--json"])
    [candidate] = json.loads(told.stdout)["profile"]["candidates"]
    reasons = [candidate["settled"], *(one["settled"] for one in candidate["groups"].values())]
    assert any(one and set(one) == {"why", "certainty", "asked", "of"} for one in reasons)


ODD = ["[bold]x[/bold]", "[/x]", "q[bold]w[red]", ":smile:", "a\\[b]"]


@pytest.mark.parametrize("name", ODD)
def test_brackets_in_names_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    figures = {
        "abilities": {"found": {name: {"able": True, "why": f"why {name}"}}},
        "load": {"why": f"load {name}"},
        "memory": {"usual": None, "why": f"memory {name}"},
    }
    content = {
        "models": [{"model": name, "backend": f"on {name}", "figures": figures}],
        "evidence": [
            {"prompt": "p", "group": "math", "scores": {name: 1, f"{name}#no-think": 0.5}}
        ],
    }
    (tmp_path / "odd.json").write_text(json.dumps(content))
    assert runner.invoke(app, ["profile", "import", "odd.json"]).exit_code == 0
    rows = [line.split() for line in runner.invoke(app, ["profile", "show"]).stdout.splitlines()]
    assert [name, "*"] in [row[:2] for row in rows]
    assert [f"{name}#no-think", "*"] in [row[:2] for row in rows]
    assert ["math", name] in [row[:2] for row in rows]
    card = runner.invoke(app, ["profile", "show", name]).stdout
    assert f"{name}  on on {name}, imported" in card
    for told in (f"why {name}", f"load {name}", f"memory {name}"):
        assert told in card
    assert [name] in [line.split() for line in card.splitlines()]
    routed = runner.invoke(app, ["route", "Hello", "--profiles", "odd.json"])
    assert routed.stdout.splitlines() == [name]
    explained = runner.invoke(app, ["route", "Hello", "--profiles", "odd.json", "--explain"])
    assert name in [line.split()[0] for line in explained.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ODD)
def test_brackets_in_a_plan_and_in_what_is_noted_are_shown(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_plan({"models": [{"model": name, "seconds": 60}], "seconds": 60, "left_out": {name: name}})
    lines = capsys.readouterr().out.splitlines()
    assert name in [line.split()[0] for line in lines if line.strip()]
    assert lines[-1] == f"{name}: {name}"
    with Screen() as screen:
        screen.tell(Noted(name, f"noted {name}"))
    assert f"noted {name}" in capsys.readouterr().err


def test_brackets_in_the_name_of_a_step_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Screen() as screen:
        screen.tell(StepBegan("[/x] judges"))


def test_a_name_gives_a_terminal_no_orders(tmp_path: Path) -> None:
    scores = {"m\x1b[31m\x1b]0;owned\x07": 1}
    evidence = [{"prompt": "p", "group": "math", "scores": scores}]
    (tmp_path / "odd.json").write_text(json.dumps({"evidence": evidence}))
    assert runner.invoke(app, ["profile", "import", "odd.json"]).exit_code == 0
    shown = runner.invoke(app, ["profile", "show"])
    assert (shown.exit_code, "\x1b" in shown.stdout, "owned" in shown.stdout) == (0, False, True)
