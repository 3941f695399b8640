from __future__ import annotations

import math
from pathlib import Path

import pytest

from smarterrouter.domain.benchmarks import Published
from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.quantisation import quantisation_loss
from smarterrouter.profiling.benchmarks import formats, priors
from smarterrouter.profiling.benchmarks.formats import BenchmarkRow
from smarterrouter.profiling.benchmarks.matching import Match
from smarterrouter.profiling.benchmarks.priors import MOST_PROMPTS, SHARES, yardstick
from smarterrouter.routing import quality

SAMPLES = Path(__file__).parent / "samples"
TABLE = [
    BenchmarkRow("t", f"m{n}", {"IFEval": 20.0 + 8 * n, "arena": 1000.0 + 50 * n}, precision="")
    for n in range(9)
]
MEDIAN = TABLE[4]


def prior_of(
    row: BenchmarkRow | None, quantization: str | None = None, score: float = 1.0
) -> dict[str, Published]:
    match = Match("local", row, score if row else 0.0, "")
    return priors.priors([(match, yardstick(TABLE))], quantization)


def with_scores(**scores: float) -> BenchmarkRow:
    return BenchmarkRow("t", "m", scores)


def test_every_group_has_benchmarks_and_no_other_has() -> None:
    assert set(SHARES) == set(GROUPS)
    assert all(0 < share <= 1 for shares in SHARES.values() for share in shares.values())


def test_every_benchmark_with_a_share_is_one_that_is_read() -> None:
    read = set(formats.BENCHMARKS.values())
    named = {b for shares in SHARES.values() for b in shares if not b.startswith("arena")}
    assert named <= read
    assert read - named == {"HellaSwag"}  # it tells nothing of any group


@pytest.mark.parametrize("group", ["formatting", "advice"])
def test_a_better_score_gives_a_better_prior(group: str) -> None:
    found = [prior_of(row)[group].probability for row in TABLE]
    assert found == sorted(found)
    assert found[0] < found[-1] - 0.1


@pytest.mark.parametrize("group", ["formatting", "advice", "writing", "extraction"])
def test_the_median_model_gets_the_prior_by_size_of_a_model_of_7b(group: str) -> None:
    by_size = quality.Knowledge(quality.ABILITY_PER_DOUBLING * math.log2(7), "").at(0.5)
    assert prior_of(MEDIAN)[group].probability == pytest.approx(by_size, abs=0.02)


def test_four_hundred_elo_are_odds_of_ten() -> None:
    found = prior_of(with_scores(arena=MEDIAN.scores["arena"] - 200))["writing"].probability
    middle = prior_of(MEDIAN)["writing"].probability
    odds = (middle / (1 - middle)) / (found / (1 - found))
    assert odds == pytest.approx(math.sqrt(10))


def test_a_score_far_out_is_reined_in() -> None:
    lowest = prior_of(with_scores(arena=150.0))["writing"].probability
    assert lowest == prior_of(with_scores(arena=400.0))["writing"].probability
    assert lowest >= 0.5


@pytest.mark.parametrize("score", [0.0, 0.3, 100.0])
def test_the_ends_of_the_scale_give_a_probability(score: float) -> None:
    assert 0 < prior_of(with_scores(IFEval=score))["formatting"].probability < 1


def test_chance_is_taken_off() -> None:
    rows = [BenchmarkRow("t", f"m{n}", {"Winogrande": 40.0 + n}) for n in range(9)]
    assert not yardstick(rows)  # they all guess, so they are all alike


def test_coarse_weights_cost() -> None:
    exact, coarse = prior_of(MEDIAN), prior_of(MEDIAN, "Q2_K")
    assert coarse["formatting"].probability < exact["formatting"].probability - 0.04
    assert prior_of(MEDIAN, "Q8_0") == exact


def test_what_was_measured_quantised_is_not_discounted_again() -> None:
    row = BenchmarkRow("t", "m", MEDIAN.scores, precision="4bit")
    assert prior_of(row, "Q4_K_M") == prior_of(MEDIAN)


@pytest.mark.parametrize(
    ("quantization", "like"), [("UD-Q2_K_XL", "Q2_K"), ("4-bit", "Q4_0"), ("awq", "Q4_0")]
)
def test_other_names_of_quantisations_are_known(quantization: str, like: str) -> None:
    assert quantisation_loss(quantization) == quantisation_loss(like)


def test_a_prior_weighs_a_few_prompts_and_less_if_the_match_is_unsure() -> None:
    sure, unsure = prior_of(MEDIAN), prior_of(MEDIAN, score=0.5)
    assert set(sure) == set(unsure)
    assert all(0 < unsure[g].weight < sure[g].weight <= MOST_PROMPTS for g in sure)
    assert sure["formatting"].weight == MOST_PROMPTS
    assert unsure["formatting"].weight == MOST_PROMPTS / 2


def test_a_benchmark_far_from_the_group_weighs_less() -> None:
    found = prior_of(with_scores(IFEval=50.0))
    assert found["planning"].weight < found["extraction"].weight < found["formatting"].weight


def test_two_tables_count_together() -> None:
    good, bad = with_scores(arena=1400.0), with_scores(IFEval=20.0)
    found = priors.priors(
        [(Match("m", row, 1.0, ""), yardstick(TABLE)) for row in (good, bad)], None
    )
    one, other = prior_of(good)["summarising"], prior_of(bad)["summarising"]
    assert other.probability < found["summarising"].probability < one.probability
    assert found["summarising"].weight > max(one.weight, other.weight)
    assert "IFEval 20" in found["summarising"].why
    assert "arena 1400" in found["summarising"].why


def test_groups_without_a_benchmark_have_no_prior() -> None:
    assert "math" not in prior_of(MEDIAN)
    assert "code_write" not in prior_of(MEDIAN)


def test_without_a_match_there_is_no_prior() -> None:
    assert prior_of(None) == {}
    assert priors.priors([]) == {}


def test_a_table_of_few_models_says_nothing() -> None:
    assert yardstick(TABLE[:7]) == {}
    assert set(yardstick(TABLE[:8])) == {"IFEval", "arena"}


def test_a_table_in_which_all_are_alike_says_nothing() -> None:
    assert yardstick([MEDIAN] * 20) == {}


def test_the_sample_of_the_open_llm_leaderboard_orders_models_as_it_does() -> None:
    rows = formats.parse((SAMPLES / "open_llm_v2.csv").read_bytes(), "sample")
    middles = yardstick(rows)
    found = {
        row.model_name: priors.priors([(Match(row.model_name, row, 1.0, ""), middles)])
        for row in rows
    }
    large, small = found["Qwen/Qwen2.5-14B-Instruct"], found["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert set(GROUPS) - set(large) == {"writing", "roleplay"}  # it tells nothing of these
    for group in ("math", "logic", "knowledge", "formatting", "extraction", "planning"):
        assert large[group].probability > small[group].probability + 0.1
