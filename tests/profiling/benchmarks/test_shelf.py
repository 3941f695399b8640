"""Imported tables together: names, matches, choices by hand, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import Raw
from msgspec.structs import replace

from smarterrouter.domain.benchmarks import RowChoice
from smarterrouter.errors import BadRequest
from smarterrouter.profiling.benchmarks.shelf import Shelf, no_such_row, opened, table

SAMPLES = Path(__file__).parent / "samples"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@dataclass(frozen=True)
class Model:
    id: str
    parameters: int | None = None
    quantization: str | None = None
    architecture: str | None = None


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.fixture
def shelf() -> Shelf:
    kept = [table(sample(name), name, 1.0) for name in ("arena_2025.csv", "open_llm_v2.csv")]
    return Shelf(opened(kept))


def test_a_table_is_called_after_its_source_or_else_after_its_file() -> None:
    assert table(sample("open_llm_v2.csv"), "/a/july.csv", 1.0).name == "open-llm-leaderboard"
    assert table(sample("open_llm_v2.jsonl"), "/a/june.jsonl", 1.0).name == "open-llm-leaderboard"
    other = b"model,HumanEval\n" + b"".join(b"m%d,%d\n" % (n, 40 + n) for n in range(9))
    assert table(other, "/home/i/code-scores.csv", 1.0).name == "code-scores"
    assert table(other, "https://tables.example/of/2025.csv?key=1", 1.0).name == "2025"
    with pytest.raises(BadRequest):
        table(b"a,b\n1,2\n", "x.csv", 1.0)


def test_each_table_is_matched_by_itself(shelf: Shelf) -> None:
    matches = shelf.matches(Model("llama3.1:8b"))
    assert [m.row.model_name for m in matches if m.row] == ["llama-3.1-8b-instruct", LLAMA]
    assert [m.row for m in shelf.matches(Model("heard-of-nowhere"))] == [None, None]


def test_a_choice_counts_in_its_own_table_alone(shelf: Shelf) -> None:
    odd = Model("my-tune")
    chosen = RowChoice(model=odd.id, table="open-llm-leaderboard", row=LLAMA)
    arena, board = Shelf(shelf.tables, [chosen]).matches(odd)
    assert (arena.row, arena.corrected) == (None, False)
    assert board.row
    assert (board.row.model_name, board.corrected, board.score) == (LLAMA, True, 1.0)
    none = RowChoice(model="llama3.1:8b", table="open-llm-leaderboard", row="")
    arena, board = Shelf(shelf.tables, [none]).matches(Model("llama3.1:8b"))
    assert arena.row
    assert (board.row, board.corrected) == (None, True)


def test_published_scores_are_there_for_matched_models_alone(shelf: Shelf) -> None:
    models = [Model("qwen2.5:7b"), Model("smollm2:135m"), Model("heard-of-nowhere")]
    published = shelf.published(models)
    assert set(published) == {"qwen2.5:7b", "smollm2:135m"}
    for group, said in published["qwen2.5:7b"].items():
        assert said.probability > published["smollm2:135m"][group].probability


def test_the_report_tells_every_table_and_every_model(shelf: Shelf) -> None:
    report = shelf.report([Model("gemma2:2b"), Model("heard-of-nowhere")], used=False)
    assert (report["schema"], report["used"]) == (1, False)
    assert [t["rows"] for t in report["tables"]] == [3, 11]  # type: ignore[index,attr-defined]
    known, unknown = report["models"]  # type: ignore[misc]
    assert [m["row"] for m in known["matches"]] == [None, "google/gemma-2-2b-it"]
    assert known["matches"][0]["nearest"] == ("gemma-2-9b-it",)
    assert known["priors"]["formatting"]["why"].startswith("published: IFEval")
    assert (unknown["priors"], [m["row"] for m in unknown["matches"]]) == ({}, [None, None])


def test_whoever_names_a_row_that_is_nowhere_gets_the_likest(shelf: Shelf) -> None:
    assert shelf.tables_with(LLAMA.upper()) == [("open-llm-leaderboard", LLAMA)]
    assert shelf.tables_with("llama") == []
    assert LLAMA in no_such_row(shelf, "Meta/Llama-3.1-8B-Instruct").message
    assert "Rows like it" not in no_such_row(shelf, "nonsense").message


def test_a_table_in_another_form_is_left_out(shelf: Shelf) -> None:
    kept = table(sample("arena_2025.csv"), "a.csv", 1.0)
    assert opened([replace(kept, rows=Raw(b'{"rows": 1}'))]) == ()
