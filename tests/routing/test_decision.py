"""What is chosen, what is refused, and that every score is the sum of its named terms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from smarterrouter.domain.benchmarks import Published
from smarterrouter.domain.decision import Difficulty, PromptFeatures
from smarterrouter.domain.evidence import Evidence
from smarterrouter.domain.models import Capability, Model, ModelProfile, ModelRef
from smarterrouter.domain.quantisation import quantisation_loss
from smarterrouter.routing.decision import Contender, Policy, objection, price_per_second, route
from smarterrouter.routing.quality import ProfiledQuality, prior
from smarterrouter.routing.seconds import Standing, expected, load_seconds

ASKED = PromptFeatures(
    category="factual",
    group="knowledge",
    difficulty=Difficulty.MEDIUM,
    difficulty_score=0.5,
    prompt_tokens=100,
    answer_tokens=200,
    needs=frozenset({Capability.CHAT}),
)


def model(name: str, billions: float | None = 8, **more: object) -> Model:
    size = None if billions is None else int(billions * 1e9)
    fields: dict[str, object] = {
        "capabilities": frozenset({Capability.CHAT}),
        "parameters": size,
        "size_bytes": None if size is None else int(size * 0.6),
    }
    return Model(ModelRef("x", name), name, **(fields | more))  # type: ignore[arg-type]


def here(one: Model, **profile: float) -> Contender:
    return Contender(one, Standing(resident=True), ModelProfile(**profile) if profile else None)


def away(one: Model, load_s: float, room_s: float = 0.0) -> Contender:
    return Contender(one, Standing(resident=False, load_s=load_s, room_s=room_s))


def chosen(contenders: list[Contender], preference: float = 0.5, **asked: object) -> str:
    seen = structs.replace(ASKED, **asked)  # type: ignore[arg-type]
    best = route(seen, contenders, Policy(preference)).chosen
    assert best
    return best.model


def test_the_larger_model_answers_the_hard_prompt_and_the_smaller_one_the_trivial() -> None:
    pool = [here(model("small", 1)), here(model("large", 30))]
    assert chosen(pool, difficulty_score=0.9) == "large"
    assert chosen(pool, difficulty_score=0.02, answer_tokens=500) == "small"


def test_seconds_of_swapping_count() -> None:
    loaded, better = here(model("loaded", 7)), model("better", 8)
    assert chosen([loaded, away(better, load_s=60)]) == "loaded"
    assert chosen([loaded, here(better)]) == "better"


def test_pushing_another_model_out_counts_as_its_reload() -> None:
    cheap, dear = away(model("cheap"), 5.0), away(model("dear"), 5.0, room_s=30.0)
    assert chosen([cheap, dear]) == "cheap"


def test_quality_preference_turns_seconds_into_quality() -> None:
    pool = [here(model("small", 1), decode_tps=100), here(model("large", 70), decode_tps=4)]
    assert chosen(pool, preference=0.0) == "small"
    assert chosen(pool, preference=1.0) == "large"


def test_a_second_costs_ten_times_more_a_quarter_of_the_way_to_fast() -> None:
    assert price_per_second(0.5) == pytest.approx(0.001)
    assert price_per_second(0.25) == pytest.approx(0.01)
    assert price_per_second(0.0) == pytest.approx(0.1)
    assert price_per_second(1.0) == pytest.approx(0.00001)


def test_a_model_whose_speed_is_unknown_goes_behind_its_equal() -> None:
    unknown = model("a-unknown", None)
    known = replace(unknown, id="known", size_bytes=100_000_000)
    assert chosen([here(unknown), here(known)]) == "known"


def test_an_unproven_capability_goes_behind_a_proven_one() -> None:
    may = model("a-may", uncertain=frozenset({Capability.TOOLS}))
    can = model("can", capabilities=frozenset({Capability.CHAT, Capability.TOOLS}))
    needs = frozenset({Capability.CHAT, Capability.TOOLS})
    assert chosen([here(may), here(can)], needs=needs) == "can"
    assert chosen([here(may), here(model("cannot"))], needs=needs) == "a-may"


@pytest.mark.parametrize(
    ("given", "asked", "reason"),
    [
        (model("m"), {"needs": frozenset({Capability.VISION})}, "cannot see images"),
        (model("m"), {"needs": frozenset({Capability.TOOLS})}, "cannot call tools"),
        (model("m"), {"needs": frozenset({Capability.EMBEDDING})}, "makes no embeddings"),
        (model("m", capabilities=frozenset({Capability.EMBEDDING})), {}, "embeddings only"),
        (model("ranker", capabilities=frozenset()), {}, "cannot chat"),
        (model("m", context_length=120), {}, "about 100 tokens in the prompt, 120 in the model"),
        (model("m", context_length=9999, served_context=120), {}, "context too short"),
    ],
)
def test_what_a_model_cannot_do_rejects_it_with_the_reason(
    given: Model, asked: dict[str, object], reason: str
) -> None:
    seen = structs.replace(ASKED, **asked)  # type: ignore[arg-type]
    decision = route(seen, [here(given)], Policy())
    assert decision.chosen is None
    [rejected] = decision.rejected
    assert reason in rejected.reason


def test_a_model_there_can_never_be_room_for_is_rejected_for_that() -> None:
    big = Contender(model("big"), Standing(resident=False, obstacle="needs 9 GB"))
    decision = route(ASKED, [big, here(model("small"))], Policy())
    assert decision.chosen is not None
    assert decision.chosen.model == "small"
    [rejected] = decision.rejected
    assert (rejected.model, rejected.reason, rejected.room) == ("big", "needs 9 GB", True)


def test_a_short_answer_fits_where_a_long_one_would_not() -> None:
    tight = model("tight", context_length=120)
    assert objection(tight, structs.replace(ASKED, max_tokens=10)) is None
    assert objection(tight, structs.replace(ASKED, max_tokens=1000)) is not None


def test_the_decision_says_why_in_a_sentence() -> None:
    decision = route(ASKED, [here(model("a", 30)), here(model("b", 1))], Policy())
    assert decision.why().startswith("a for a medium knowledge prompt")
    assert "ahead of b" in decision.why()
    tools = frozenset({Capability.CHAT, Capability.TOOLS})
    can, may = model("can", capabilities=tools), model("may", uncertain=tools)
    asked = structs.replace(ASKED, needs=tools)
    assert route(asked, [here(may), here(can)], Policy()).why().endswith(": unproven.")
    level = route(ASKED, [here(model("a")), here(model("b"))], Policy())
    assert level.why().endswith(", level with b.")
    alone = route(ASKED, [here(model("a"))], Policy())
    assert "the only model" in alone.why()
    assert route(ASKED, [], Policy()).why().endswith(": there is none.")


@given(
    st.lists(
        st.tuples(st.floats(0.1, 400), st.booleans(), st.floats(0, 100), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_candidates_come_best_first_and_their_terms_add_up(
    pool: list[tuple[float, bool, float, bool]], preference: float, difficulty: float
) -> None:
    contenders = [
        here(model(str(n), size)) if resident else away(model(str(n), size if known else None), s)
        for n, (size, resident, s, known) in enumerate(pool)
    ]
    seen = structs.replace(ASKED, difficulty_score=difficulty)
    decision = route(seen, contenders, Policy(preference))
    scores = [candidate.score for candidate in decision.candidates]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) + len(decision.rejected) == len(pool)
    for candidate in decision.candidates:
        assert 0 <= candidate.quality <= 1
        assert candidate.score == sum(term.value for term in candidate.terms)
        names = [term.name for term in candidate.terms]
        assert len(names) == len(set(names))


@given(st.floats(0, 1), st.floats(1, 300), st.floats(1, 300))
def test_more_parameters_never_lower_the_prior(hard: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert prior(model("l", low)).at(hard) <= prior(model("h", high)).at(hard) + 1e-12


def test_coarse_weights_lower_the_prior() -> None:
    losses = [quantisation_loss(q) for q in ("IQ1_S", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0")]
    assert losses == sorted(losses, reverse=True)
    assert quantisation_loss(None) == quantisation_loss("F16") == 0.0


def test_evidence_of_the_group_counts_more_the_more_there_is() -> None:
    def known(right: int) -> float:
        general = [("writing", Evidence("p", "writing", {"m": 0.0}))] * 20
        maths = [("math", Evidence("p", "math", {"m": 1.0}))] * right
        knowledge = ProfiledQuality([*general, *maths]).known("m", "math")
        assert knowledge
        return knowledge.at(0.5)

    assert known(1) < known(4) < known(16)
    assert known(1) < 0.5


def test_a_model_without_evidence_keeps_its_prior() -> None:
    quality = ProfiledQuality([("math", Evidence("p", "math", {"m": 1.0}))])
    assert quality.known("other", "math") is None


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen2.5:7b-instruct-q4_K_M", 7),
        ("hf.co/x/Qwen3-30B-A3B-GGUF:Q4_K_M", 30),
        ("SmolLM2-135M-Instruct", 0.135),
        ("qwen3:0.6b", 0.6),
        ("mixtral:8x7b", 47.6),
        ("llama3", None),
        ("some-4bit-model-32k", None),
        ("gemma-3n-e4b", None),
        ("model-0b", None),
    ],
)
def test_a_size_that_only_the_name_tells_counts(name: str, billions: float | None) -> None:
    nameless = replace(model("x"), parameters=None, id=name)
    like = replace(model("x"), parameters=int((billions or 7) * 1e9), id="x")
    assert prior(nameless).ability == pytest.approx(prior(like).ability)
    assert ("by its name" in prior(nameless).why) == (billions is not None)


def published(**probabilities: float) -> dict[str, dict[str, Published]]:
    return {"m": {group: Published(p, 4.0, "published") for group, p in probabilities.items()}}


def test_published_scores_stand_beside_the_size_of_a_model_nobody_measured() -> None:
    def supposed(probability: float) -> float:
        return ProfiledQuality((), published(math=probability)).of(model("m", 8), "math").at(0.5)

    by_size = prior(model("m", 8)).at(0.5)
    assert 0.5 < supposed(0.5) < by_size < supposed(0.97) < 0.97
    elsewhere = ProfiledQuality((), published(math=0.5)).of(model("m", 8), "logic")
    assert elsewhere == prior(model("m", 8))


def test_published_scores_say_of_a_profiled_model_only_where_it_is_better_than_elsewhere() -> None:
    def rate(said: dict[str, dict[str, Published]], answers: int = 0) -> float:
        general = [("writing", Evidence("p", "writing", {"m": n % 2})) for n in range(40)]
        maths = [("math", Evidence("p", "math", {"m": 0.0}))] * answers
        knowledge = ProfiledQuality([*general, *maths], said).known("m", "math")
        assert knowledge
        return knowledge.at(0.5)

    even, leaning = published(math=0.9, writing=0.9), published(math=0.97, writing=0.6)
    assert rate(even) == pytest.approx(rate({}))
    assert rate(leaning) > rate({}) + 0.05
    assert rate(leaning, answers=3) < rate({})


def test_measured_figures_beat_guesses() -> None:
    one = model("m", 8)
    guessed = expected(one, None, ASKED, Standing(resident=True))
    measured = expected(one, ModelProfile(decode_tps=10), ASKED, Standing(resident=True))
    assert guessed
    assert measured
    assert "guessed" in str(guessed)
    assert "measured" in str(measured)
    assert measured.decode == pytest.approx(20.0)
    assert load_seconds(one, ModelProfile(load_seconds=3.5)) == 3.5


def test_nothing_is_guessed_where_nothing_is_known() -> None:
    assert expected(model("m", None), None, ASKED, Standing(resident=True)) is None
    assert load_seconds(model("m", None)) is None
