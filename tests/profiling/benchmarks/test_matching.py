from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.profiling.benchmarks.formats import V2, BenchmarkRow
from smarterrouter.profiling.benchmarks.matching import Match, match


@dataclass(frozen=True)
class Model:
    id: str
    parameters: int | None = None
    quantization: str | None = None
    architecture: str | None = None


def row(name: str, billions: float | None = None, **more: object) -> BenchmarkRow:
    parameters = round(billions * 1e9) if billions else None
    made = BenchmarkRow(V2, name, {"IFEval": 50.0}, parameters=parameters)
    return BenchmarkRow(**{f: getattr(made, f) for f in made.__struct_fields__} | more)  # type: ignore[arg-type]


def found(local: str | Model, *rows: BenchmarkRow) -> str | None:
    taken = match(Model(local) if isinstance(local, str) else local, rows).row
    return taken.model_name if taken else None


SAME = [
    ("qwen2.5:7b-instruct-q4_K_M", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5-7b-instruct@q4_k_m", "Qwen/Qwen2.5-7B-Instruct"),
    ("hf.co/someone/Qwen2.5-7B-Instruct-GGUF:Q4_K_M", "Qwen/Qwen2.5-7B-Instruct"),
    ("/models/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5-coder:7b", "Qwen/Qwen2.5-Coder-7B-Instruct"),
    ("qwen2.5-coder:7b-base-q8_0", "Qwen/Qwen2.5-Coder-7B"),
    ("Qwen2.5-Math-7B-Instruct.Q6_K", "Qwen/Qwen2.5-Math-7B-Instruct"),
    ("qwen2.5vl:7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ("Qwen_Qwen3-8B-Q4_K_M", "Qwen/Qwen3-8B"),
    ("qwen/qwen3-8b", "Qwen/Qwen3-8B"),
    ("Qwen3-30B-A3B-UD-Q4_K_XL", "qwen3-30b-a3b"),
    ("Qwen3-30B-A3B-Instruct-2507-Q4_K_M", "qwen3-30b-a3b-instruct-2507"),
    ("Qwen3-4B-Thinking-2507-Q8_0", "Qwen/Qwen3-4B-Thinking-2507"),
    ("llama3.1:8b", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
    ("llama3.1:8b-instruct-q8_0", "meta-llama/Llama-3.1-8B-Instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q4_K_M-00001-of-00002.gguf", "llama-3.1-8b-instruct"),
    ("llama-3-1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
    ("llama3:70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
    ("llama3:8b-text", "meta-llama/Meta-Llama-3-8B"),
    ("llama2:7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
    ("llama3.2-vision:11b", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
    ("codellama:7b-instruct", "meta-llama/CodeLlama-7b-Instruct-hf"),
    ("Mistral-7B-Instruct-v0.3.Q4_K_M", "mistralai/Mistral-7B-Instruct-v0.3"),
    ("mistral:7b-instruct-v0.2-q4_0", "mistralai/Mistral-7B-Instruct-v0.2"),
    ("mistral-nemo:12b", "mistralai/Mistral-Nemo-Instruct-2407"),
    ("mistral-small:24b", "mistralai/Mistral-Small-24B-Instruct-2501"),
    ("mixtral:8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("mixtral:8x22b-instruct-v0.1-q4_K_M", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
    ("gemma2:9b", "google/gemma-2-9b-it"),
    ("google/gemma-3-12b", "google/gemma-3-12b-it"),
    ("google_gemma-3-12b-it-qat-Q4_0", "google/gemma-3-12b-it-qat"),
    ("gemma3n:e4b", "google/gemma-3n-E4B-it"),
    ("phi3:mini", "microsoft/Phi-3-mini-4k-instruct"),
    ("phi3:14b", "microsoft/Phi-3-medium-4k-instruct"),
    ("phi3:3.8b-mini-128k-instruct-q4_0", "microsoft/Phi-3-mini-128k-instruct"),
    ("phi4:14b", "microsoft/phi-4"),
    ("phi3.5:3.8b", "microsoft/Phi-3.5-mini-instruct"),
    ("DeepSeek-R1-Distill-Qwen-14B-Q5_K_M", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
    ("deepseek-r1:14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
    ("deepseek-r1:70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"),
    ("deepseek-r1:671b", "deepseek-r1"),
    ("deepseek-coder-v2:16b", "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct-16B"),
    ("deepseek-llm:7b-chat", "deepseek-ai/deepseek-llm-7b-chat"),
    ("hermes-3-llama-3.1-8b", "NousResearch/Hermes-3-Llama-3.1-8B"),
    ("nous-hermes2-mixtral:8x7b-dpo", "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO"),
    ("smollm2:1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    ("SmolLM2-135M-Instruct.Q4_1", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ("granite3.1-dense:8b", "ibm-granite/granite-3.1-8b-instruct"),
    ("yi:34b-chat-v1.5", "01-ai/Yi-1.5-34B-Chat"),
    ("vicuna:13b-v1.5", "lmsys/vicuna-13b-v1.5"),
    ("solar:10.7b", "upstage/SOLAR-10.7B-Instruct-v1.0"),
    ("internlm2.5-7b-chat", "internlm/internlm2_5-7b-chat"),
    ("openchat:7b-v3.5-0106", "openchat/openchat-3.5-0106"),
    ("gpt-oss:20b", "openai/gpt-oss-20b"),
    ("command-r:35b-08-2024-q4_0", "CohereForAI/c4ai-command-r-08-2024"),
    ("wizardlm2:7b", "WizardLM-2-7B"),
    ("glm4:9b", "THUDM/glm-4-9b-chat"),
    ("mistral-small-2506", "mistral-small-2506"),
    ("Command-A-03-2025.Q4_K_M", "command-a-03-2025"),
    ("stablelm2:1.6b-chat", "stabilityai/stablelm-2-1_6b-chat"),
]

OTHER = [
    ("qwen2.5:7b", "Qwen/Qwen2-7B-Instruct"),
    ("qwen2:7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen:7b", "Qwen/Qwen1.5-7B-Chat"),
    ("llama3:8b", "meta-llama/Llama-3.1-8B-Instruct"),
    ("llama3.1:70b", "meta-llama/Llama-3.3-70B-Instruct"),
    ("gemma2:2b", "google/gemma-2b-it"),
    ("mistral:7b-instruct-v0.3", "mistralai/Mistral-7B-Instruct-v0.2"),
    ("mistral:7b", "mistralai/Mistral-7B-Instruct-v0.1"),
    ("yi:34b", "01-ai/Yi-1.5-34B-Chat"),
    ("qwen2.5:7b", "Qwen/Qwen2.5-14B-Instruct"),
    ("qwen2.5:1.5b", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("llama3.2:3b", "meta-llama/Llama-3.2-1B-Instruct"),
    ("qwen2.5:7b", "Qwen/Qwen2.5-Coder-7B-Instruct"),
    ("qwen2.5-coder:7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5:7b", "Qwen/Qwen2.5-Math-7B-Instruct"),
    ("qwen2.5:7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ("qwen3:4b", "Qwen/Qwen3-4B-Thinking-2507"),
    ("Qwen3-30B-A3B-Q4_K_M", "qwen3-30b-a3b-instruct-2507"),
    ("Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B"),
    ("qwen3:32b", "Qwen/Qwen3-30B-A3B"),
    ("Qwen3-30B-A3B-Q4_K_M", "Qwen/Qwen3-32B"),
    ("mixtral:8x7b", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
    ("mistral:7b-instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("gemma3n:e4b", "google/gemma-3-4b-it"),
    ("gemma3n:e4b", "google/gemma-3n-E2B-it"),
    ("llama3.1:8b", "NousResearch/Hermes-3-Llama-3.1-8B"),
    ("Hermes-3-Llama-3.1-8B.Q4_K_M", "meta-llama/Llama-3.1-8B-Instruct"),
    ("llama3.1:70b", "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF"),
    ("Dolphin_Llama-3.1-8B-Q4_K_M", "meta-llama/Llama-3.1-8B-Instruct"),
    ("huihui_ai/qwen2.5-abliterate:7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("Qwen2.5-7B-Instruct-Uncensored", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5:7b", "somebody/Qwen2.5-7B-Instruct-slerp"),
    ("DeepSeek-R1-Distill-Qwen-14B", "Qwen/Qwen2.5-14B-Instruct"),
    ("DeepSeek-R1-Distill-Llama-8B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),
    ("DeepSeek-R1-Distill-Llama-8B", "meta-llama/Llama-3.1-8B-Instruct"),
    ("deepseek-r1:14b", "deepseek-r1"),
    ("deepseek-r1:8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    ("deepseek-r1:671b", "deepseek-r1-0528"),
    ("deepseek-v3:671b", "deepseek-v3-0324"),
    ("phi3:mini", "microsoft/Phi-3-medium-4k-instruct"),
    ("phi3:mini-128k", "microsoft/Phi-3-mini-4k-instruct"),
    ("phi4-mini:3.8b", "microsoft/phi-4"),
    ("Qwen2.5-7B-Base", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen2.5:7b-instruct", "Qwen/Qwen2.5-7B"),
    ("codellama:7b", "meta-llama/Llama-2-7b-chat-hf"),
    ("tinyllama:1.1b", "meta-llama/Llama-3.2-1B-Instruct"),
    ("gpt-oss:20b", "openai/gpt-oss-120b"),
    ("mixtral:latest", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("mistral-small:latest", "mistralai/Mistral-Small-24B-Instruct-2501"),
    ("my-own-model", "Qwen/Qwen2.5-7B-Instruct"),
    ("", "Qwen/Qwen2.5-7B-Instruct"),
]


@pytest.mark.parametrize(("local", "published"), SAME)
def test_two_names_of_one_model_match(local: str, published: str) -> None:
    got = match(Model(local), [row(published)])
    assert got.row is not None, got.why
    assert 0.5 < got.score <= 1


@pytest.mark.parametrize(("local", "published"), OTHER)
def test_names_of_two_models_do_not_match(local: str, published: str) -> None:
    got = match(Model(local), [row(published)])
    assert got.row is None
    assert got.score == 0
    assert got.why


ALIKE = [
    {name for _, name in SAME if name.lower().endswith("llama-3.1-8b-instruct")},
    {name for _, name in SAME if "Phi-3-mini" in name},
]


@pytest.mark.parametrize(("local", "published"), SAME)
def test_the_right_row_is_found_among_all_others(local: str, published: str) -> None:
    alike = next((names for names in ALIKE if published in names), {published})
    assert found(local, *[row(name) for _, name in SAME]) in alike


def test_sizes_come_from_parameters_where_the_name_has_none() -> None:
    rows = [row("Qwen/Qwen2.5-7B-Instruct", 7.616), row("Qwen/Qwen2.5-3B-Instruct", 3.086)]
    assert found(Model("qwen2.5:latest", 7_615_616_512), *rows) == "Qwen/Qwen2.5-7B-Instruct"
    assert found(Model("qwen2.5:latest", 3_085_938_688), *rows) == "Qwen/Qwen2.5-3B-Instruct"
    assert found(Model("qwen2.5:latest"), *rows) is None


@pytest.mark.parametrize(("billions", "same"), [(10.0, True), (9.3, True), (9.1, False)])
def test_sizes_may_be_eight_per_cent_apart(billions: float, same: bool) -> None:
    got = found(Model("mistral-medium-x", round(billions * 1e9)), row("mistral-medium-x", 10.0))
    assert (got is not None) is same


def test_instruct_is_preferred_to_base() -> None:
    rows = [row("Qwen/Qwen2.5-7B", tuned=False), row("Qwen/Qwen2.5-7B-Instruct", tuned=True)]
    assert found("qwen2.5:7b", *rows) == "Qwen/Qwen2.5-7B-Instruct"
    assert found("qwen2.5:7b-base", *rows) == "Qwen/Qwen2.5-7B"


def test_base_alone_serves_with_a_lower_score_and_says_so() -> None:
    got = match(Model("qwen2.5:7b"), [row("Qwen/Qwen2.5-7B", tuned=False)])
    assert got.row is not None
    assert got.score < 0.7
    assert "base" in got.why


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        ("llama", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        ("qwen3", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"),
        (None, None),
    ],
)
def test_the_architecture_tells_what_a_distillate_is_of(
    architecture: str | None, published: str | None
) -> None:
    rows = [
        row("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        row("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"),
    ]
    local = Model("deepseek-r1:8b", 8_000_000_000, architecture=architecture)
    assert found(local, *rows) == published


def test_a_mixture_may_be_told_by_the_architecture() -> None:
    table = row("Qwen/Qwen3-30B-A3B", 30.5)
    dense, mixture = "qwen3", "qwen3moe"
    assert found(Model("qwen3:30b", 30_500_000_000, architecture=mixture), table)
    assert found(Model("qwen3:30b", 30_500_000_000, architecture=dense), table) is None


def test_of_several_releases_none_is_taken_for_a_name_without_one() -> None:
    rows = [row("Mistral-Large-Instruct-2407"), row("Mistral-Large-Instruct-2411")]
    got = match(Model("mistral-large:123b"), rows)
    assert got.row is None
    assert "release" in got.why
    assert set(got.nearest) == {r.model_name for r in rows}
    assert found("mistral-large:123b-instruct-2411-q4_K_M", *rows) == rows[1].model_name


def test_a_merge_matches_only_its_own_name() -> None:
    merge = row("somebody/Qwen2.5-7B-Instruct", merged=True)
    assert found("qwen2.5:7b-instruct", merge) is None
    assert found("elsewhere/qwen2.5-7b-instruct", merge) == merge.model_name


def test_the_makers_own_row_comes_first() -> None:
    rows = [
        row("zzz/Qwen2.5-7B-Instruct", scores={"IFEval": 9.0, "BBH": 9.0}),
        row("Qwen/Qwen2.5-7B-Instruct", official=True),
    ]
    assert found("qwen2.5:7b", *rows) == "Qwen/Qwen2.5-7B-Instruct"


def test_a_row_measured_unquantised_comes_first() -> None:
    rows = [
        row("Qwen/Qwen2.5-7B-Instruct", precision="bfloat16"),
        row("Qwen/Qwen2.5-7B-Instruct-GPTQ", precision="GPTQ"),
    ]
    assert found("qwen2.5:7b", *rows) == "Qwen/Qwen2.5-7B-Instruct"


def test_none_says_why_and_what_came_nearest() -> None:
    rows = [row("Qwen/Qwen2.5-14B-Instruct"), row("Qwen/Qwen2-7B-Instruct"), row("google/gemma-2b")]
    got = match(Model("qwen2.5:7b"), rows)
    assert got.row is None
    assert got.nearest == ("Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2-7B-Instruct")
    assert got.why == "Qwen/Qwen2.5-14B-Instruct comes nearest, but differs in size"


def test_a_finetune_under_its_short_name_is_shown_the_long_one() -> None:
    rows = [row("NousResearch/Hermes-3-Llama-3.1-8B"), row("google/gemma-2-9b-it")]
    got = match(Model("hermes3:8b"), rows)
    assert got.row is None
    assert got.nearest == ("NousResearch/Hermes-3-Llama-3.1-8B",)


def test_the_owner_may_name_the_row() -> None:
    rows = [row("Qwen/Qwen2.5-7B-Instruct"), row("Qwen/Qwen2-7B-Instruct")]
    got = match(Model("house-model"), rows, {"house-model": "qwen/qwen2-7b-instruct"})
    assert got == Match("house-model", rows[1], 1.0, "set by hand", (), True)


def test_the_owner_may_say_that_no_row_fits() -> None:
    got = match(Model("qwen2.5:7b"), [row("Qwen/Qwen2.5-7B-Instruct")], {"qwen2.5:7b": ""})
    assert got.row is None
    assert got.corrected


def test_a_correction_to_a_row_that_is_not_there_is_not_passed_over() -> None:
    rows = [row("Qwen/Qwen2.5-7B-Instruct")]
    got = match(Model("qwen2.5:7b"), rows, {"qwen2.5:7b": "Qwen/Qwen2.5-7B-Instrukt"})
    assert got.row is None
    assert "Instrukt" in got.why
    assert got.nearest == ("Qwen/Qwen2.5-7B-Instruct",)


def test_without_rows_nothing_matches() -> None:
    assert match(Model("qwen2.5:7b"), []).why == "no row is of its family"


@given(st.text(max_size=80), st.text(max_size=80), st.none() | st.integers(0, 10**13))
def test_matching_never_fails(local: str, published: str, parameters: int | None) -> None:
    got = match(Model(local, parameters), [row(published or "x")])
    assert 0 <= got.score <= 1
    assert (got.row is None) == (got.score == 0)


@given(st.sampled_from([name for _, name in SAME]))
def test_every_published_name_matches_itself(name: str) -> None:
    assert found(name, row(name)) == name
