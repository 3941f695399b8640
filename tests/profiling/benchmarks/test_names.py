from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.profiling.benchmarks.names import ModelName, parse


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            "qwen2.5:7b-instruct-q4_K_M",
            {
                "family": "qwen",
                "version": "2.5",
                "size": 7.0,
                "tuning": "instruct",
                "quantization": "q4_k_m",
            },
        ),
        ("llama3.1:latest", {"family": "llama", "version": "3.1", "size": None}),
        (
            "Mistral-7B-Instruct-v0.3.Q4_K_M",
            {"family": "mistral", "version": "0.3", "quantization": "q4_k_m"},
        ),
        (
            "DeepSeek-R1-Distill-Qwen-14B-Q5_K_M",
            {"family": "deepseek", "words": {"r1", "distill", "qwen"}, "size": 14.0},
        ),
        ("hf.co/someone/Qwen2.5-7B-Instruct-GGUF:Q8_0", {"version": "2.5", "quantization": "q8_0"}),
        ("NousResearch/Hermes-3-Llama-3.1-8B", {"family": "llama", "words": {"hermes3"}}),
        ("mixtral:8x7b-instruct-v0.1-q4_0", {"experts": "8x7b", "version": "0.1", "size": None}),
        ("Qwen3-30B-A3B-Instruct-2507", {"size": 30.0, "experts": "a3b", "release": "2507"}),
        ("gemma-3n-E4B-it", {"version": "3n", "experts": "e4b", "tuning": "instruct"}),
        ("Phi-3-mini-128k-instruct", {"grade": "mini", "context": "128k", "version": "3"}),
        ("internlm2_5-7b-chat", {"family": "internlm", "version": "2.5"}),
        ("stablelm-2-1_6b-chat", {"version": "2", "size": 1.6}),
        ("llama3_8b", {"version": "3", "size": 8.0}),
        ("llama-3-1-8b-instruct", {"version": "3.1", "size": 8.0}),
        ("qwen2.5vl:7b", {"version": "2.5", "variant": {"vision"}}),
        ("deepseek-coder-v2:16b", {"version": "2", "variant": {"coder"}, "size": 16.0}),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", {"size": 0.135, "quantization": "q4_1"}),
        ("google_gemma-3-12b-it-IQ4_XS", {"family": "gemma", "words": set()}),
        ("Meta-Llama-3-8B-Instruct-00001-of-00002.gguf", {"family": "llama", "words": set()}),
        ("qwen2.5-7b-instruct@q4_k_m", {"size": 7.0, "quantization": "q4_k_m"}),
        ("TheBloke/Llama-2-7B-Chat-GPTQ", {"version": "2", "quantization": "gptq"}),
        ("Qwen2.5-7B-Instruct-1M", {"context": "1m", "size": 7.0}),
        ("Qwen2.5-7B-Instruct-v2", {"version": "2.5", "words": {"v2"}}),
        ("C:\\models\\Qwen2.5-Math-7B-Instruct.gguf", {"variant": {"math"}}),
        ("Qwen3-4B-Thinking-2507", {"variant": {"thinking"}, "tuning": None}),
        ("gemma-3-4b-pt", {"tuning": "base"}),
        ("llama3:8b-text", {"tuning": "base"}),
        ("", {"family": ""}),
    ],
)
def test_a_name_is_taken_apart(text: str, facts: dict[str, object]) -> None:
    name = parse(text)
    assert {fact: getattr(name, fact) for fact in facts} == facts


@pytest.mark.parametrize(
    "quantization", ["Q4_K_M", "Q8_0", "IQ2_XXS", "Q6_K", "Q5_K_S", "TQ1_0", "BF16", "Q4_0_4_4"]
)
@pytest.mark.parametrize("joint", ["-", ".", ":", "@"])
def test_the_quantisation_is_no_part_of_what_the_model_is(quantization: str, joint: str) -> None:
    bare, quantised = (
        parse("Qwen2.5-7B-Instruct"),
        parse(f"Qwen2.5-7B-Instruct{joint}{quantization}"),
    )
    assert quantised.quantization == quantization.lower()
    assert quantised.line == bare.line
    assert (quantised.size, quantised.tuning) == (bare.size, bare.tuning)


@given(st.text(max_size=400))
def test_any_text_gives_a_name(text: str) -> None:
    assert isinstance(parse(text), ModelName)


PIECES = [
    *("qwen", "Llama-3.1", "v0.3", "2", "5", "7B", "8x7b", "A3B", "Q4_K_M", "instruct", "it"),
    *("-", "_", ":", "/", ".", "@", "\\", "2507", "128k", "1m", "coder", "mini", "gguf", "\n"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_heap_of_pieces_gives_a_name(pieces: list[str]) -> None:
    name = parse("".join(pieces))
    assert name.size is None or name.size >= 0
    assert name.family not in name.words


def test_a_long_name_takes_no_time() -> None:
    assert parse("1_" * 500_000 + "qwen2.5:7b").family == "qwen"
