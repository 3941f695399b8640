from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smarterrouter.errors import BadRequest, PayloadTooLarge, SmarterRouterError
from smarterrouter.profiling.benchmarks.formats import ARENA, OTHER, V1, V2, BenchmarkRow, parse
from smarterrouter.profiling.benchmarks.tables import LARGEST

SAMPLES = Path(__file__).parent / "samples"
QWEN = BenchmarkRow(
    V2,
    "Qwen/Qwen2.5-7B-Instruct",
    {"IFEval": 71, "BBH": 33, "MATH Lvl 5": 44, "GPQA": 6.5, "MUSR": 9, "MMLU-PRO": 38},
    parameters=7_616_000_000,
    precision="bfloat16",
    tuned=True,
    official=True,
)


def sample(name: str) -> dict[str, BenchmarkRow]:
    return {row.model_name: row for row in parse((SAMPLES / name).read_bytes(), name)}


def text(content: str) -> tuple[BenchmarkRow, ...]:
    return parse(content.encode(), "table")


@pytest.mark.parametrize(
    "name",
    ["open_llm_v2.csv", "open_llm_v2_page.json", "open_llm_v2.jsonl", "open_llm_api.json"],
)
def test_every_form_of_the_open_llm_leaderboard_gives_the_same_row(name: str) -> None:
    assert sample(name)[QWEN.model_name] == QWEN


def test_rows_tell_base_models_merges_and_unknown_sizes() -> None:
    rows = sample("open_llm_v2.csv")
    assert rows["Qwen/Qwen2.5-7B"].tuned is False
    assert rows["somebody/Qwen2.5-7B-Instruct-Llama-slerp"].merged
    assert rows["microsoft/Phi-3-medium-4k-instruct"].parameters is None
    assert rows["NousResearch/Hermes-3-Llama-3.1-8B"].family == "llama"


def test_a_row_that_the_leaderboard_has_flagged_is_passed_over() -> None:
    assert "somebody/boasting-7b" not in sample("open_llm_v2.csv")


def test_the_first_edition_is_read() -> None:
    row = sample("open_llm_v1.csv")["mistralai/Mistral-7B-Instruct-v0.2"]
    assert row.source == V1
    assert row.scores == {
        "ARC": 63,
        "HellaSwag": 84.1,
        "MMLU": 60.2,
        "TruthfulQA": 67.5,
        "Winogrande": 77,
        "GSM8K": 40.3,
    }


def test_the_arenas_first_csv_is_read() -> None:
    rows = sample("arena_2023.csv")
    assert rows["Llama-2-7b-chat"].scores == {"arena": 1018, "MT-bench": 6.2, "MMLU": 45}
    assert rows["Mistral-7B-Instruct-v0.1"].scores == {"arena": 1023}
    assert {row.source for row in rows.values()} == {ARENA}
    assert all(row.tuned for row in rows.values())


def test_the_arenas_later_csv_is_read_by_its_key() -> None:
    rows = sample("arena_2025.csv")
    assert set(rows) == {"llama-3.1-8b-instruct", "gemma-2-9b-it", "mixtral-8x7b-instruct-v0.1"}
    assert rows["llama-3.1-8b-instruct"].scores == {"MMLU": pytest.approx(73.1)}


def test_the_arenas_categories_come_together_in_one_row() -> None:
    row = sample("arena_page.json")["qwen2.5-7b-instruct"]
    assert row.scores == {
        "arena": 1180.5,
        "arena:coding": 1192.5,
        "arena:creative_writing": 1172.5,
    }


def test_of_several_dates_the_last_counts() -> None:
    assert sample("arena_page.json")["phi-4"].scores["arena"] == 1205.5


def test_the_arenas_json_of_ratings_is_read() -> None:
    row = sample("arena_catalog.json")["llama-3.1-8b-instruct"]
    assert row.scores == {
        "arena": 1176.25,
        "arena:instruction_following": 1181.25,
        "arena:chinese": 1156.25,
        "arena:hard_prompts": 1179.25,
    }


@pytest.mark.parametrize(
    "content",
    [
        '{"m-7b": {"rating": 1200, "rating_q975": 1210}}',
        '{"full": {"m-7b": {"rating": 1200}}}',
        '[{"model": "m-7b", "elo": "1,200"}]',
        '{"data": [{"name": "m-7b", "rating": 1200}]}',
        '{"headers": ["Model", "Arena Score"], "data": [["m-7b", 1200]]}',
        '{"columns": ["Model", "Arena Score"], "data": [["[m-7b](http://x.test/)", 1200]]}',
        '{"Model": {"0": "m-7b"}, "Arena Score": {"0": 1200}}',
        '{"Model": ["m-7b"], "Arena Score": [1200]}',
        '[{"rows": [{"row": {"model_name": "m-7b", "rating": 1200}}]}]',
        '{"model_name": "m-7b", "rating": 1200, "x": NaN}\n{"model_name": "other"}',
        "Model\tArena Elo\nm-7b\t1200",
        "Model;Arena Elo rating;Votes\n<a href='x'>m-7b</a>;1200;7",
        "\ufeffmodel,score,votes\r\nm-7b,1200,500\r\n",
    ],
)
def test_ratings_are_read_in_many_shapes(content: str) -> None:
    [row] = text(content)
    assert (row.source, row.model_name, row.scores) == (ARENA, "m-7b", {"arena": 1200})


@pytest.mark.parametrize(
    "cell", ["[" * 4000, "[a](" * 1000, "<" * 4000, "<a " * 1300, "&lt;" * 999]
)
def test_a_cell_made_to_be_slow_is_not(cell: str) -> None:
    began = time.process_time()
    text("Model,elo\n" + f"{cell},1200\n" * 500)
    assert time.process_time() - began < 2


def test_any_table_with_a_known_benchmark_is_read_in_per_cent() -> None:
    rows = text("name,HumanEval,GSM8K (5-shot),Colour\na-7b,0.5,71%,red\nb-7b,0.75,80,blue")
    assert [row.scores for row in rows] == [
        {"HumanEval": 50, "GSM8K": 71},
        {"HumanEval": 75, "GSM8K": 80},
    ]
    assert rows[0].source == OTHER


@pytest.mark.parametrize("value", ["-", "", "None", "nan", "inf", "-3", "101", "true", "[1]"])
def test_a_score_that_is_none_is_left_out(value: str) -> None:
    [row] = text(f"fullname,IFEval,BBH\na-7b,{value},20")
    assert row.scores == {"BBH": 20}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"PAR1....", "Parquet"),
        (pickle.dumps({"full": 1}), "pickle"),
        (pickle.dumps({"full": 1}, protocol=2), "pickle"),
        (b"\x1f\x8b\x08\x00", "packed"),
        (b"PK\x03\x04", "packed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"\n <!doctype html><html>", "/resolve/"),
        (b"\xff\xfe\x00\x00", "UTF-8"),
        (b"a\0b", "UTF-8"),
        (b"{not json", "not JSON"),
        (b'{"a": 1}\n{"b":', "not JSON"),
        (b"[" * 100_000, "JSON"),
        (b'a,"' + b"x" * 200_000 + b'"\n1,2', "not CSV"),
        (b"", "Expected"),
        (b"name,colour\nsky,blue", "Expected"),
        (b"name,rating\na film,4.5", "Expected"),
        (b'{"hub": {"0": 512}, "fullname": {"0": "a-7b"}}', "Expected"),
        (b"[1, 2]", "Expected"),
        (b"{}", "Expected"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(raw: bytes, expected: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(raw, "the-file")
    assert refused.value.message.startswith("the-file ")
    assert expected in refused.value.message


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for protocol in range(6):
        with pytest.raises(BadRequest):
            parse(pickle.dumps(Trap(), protocol=protocol), "elo_results.pkl")
    assert not (tmp_path / "sprung").exists()


def test_a_file_too_large_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="64 MB"):
        parse(bytes(LARGEST + 1), "huge.csv")


@pytest.mark.parametrize("depth", [1, 20, 300, 480, 600, 1000, 100_000])
def test_pages_within_pages_give_rows_or_an_error_of_our_own(depth: int) -> None:
    deep = "[" + '{"rows":[' * depth + '{"model":"m-7b","elo":1200}' + "]}" * depth + "]"
    try:
        names = [row.model_name for row in text(deep)]
    except BadRequest:
        names = []
    assert names == ["m-7b"] or depth > 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["rows", "row", "data", "headers", "model", "name", "evaluations"])
            | st.sampled_from(["rating", "IFEval", "fullname", "category", "Type", "metadata"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@example({"rows": [[]]})
@example({"model": [], "data": {"a": 1}})
def test_any_json_gives_rows_or_an_error_of_our_own(value: object) -> None:
    try:
        rows = parse(json.dumps(value).encode(), "x")
    except SmarterRouterError:
        return
    assert all(row.model_name and row.scores for row in rows)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: ("Model,elo\n" + t).encode()))
def test_any_bytes_give_rows_or_an_error_of_our_own(raw: bytes) -> None:
    try:
        rows = parse(raw, "x")
    except SmarterRouterError:
        return
    assert all(row.model_name and row.scores for row in rows)
