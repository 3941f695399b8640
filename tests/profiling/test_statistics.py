"""Intervals, the order of asking, and the promises of early stopping on models of known quality."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import combinations
from random import Random
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarterrouter.profiling.statistics import (
    LOOKS,
    Item,
    Scores,
    gap,
    in_order,
    interval,
    next_tasks,
    quota,
    standings,
)
from smarterrouter.profiling.statistics.intervals import below, quantile
from tests.profiling.synthetic import (
    BUNDLED,
    Exam,
    Figures,
    Run,
    World,
    anywhere,
    asked,
    drawn,
    in_thirds,
    measured,
    wilson_width,
)

score = st.one_of(st.sampled_from([0.0, 1.0, 0.5, None]), st.floats(0, 1))
TRUE = [share / 100 for share in range(2, 99)]


# Intervals


@given(st.lists(score, max_size=60), st.floats(0.5, 0.999))
def test_an_interval_holds_its_mean_and_lies_within_0_and_1(
    scores: list[float | None], confidence: float
) -> None:
    found = interval(scores, confidence)
    measured = [one for one in scores if one is not None]
    assert found.count == len(measured)
    assert 0 <= found.low < found.high <= 1
    if measured:
        assert found.mean == pytest.approx(math.fsum(measured) / len(measured))
        assert found.low <= found.mean <= found.high


@given(st.lists(score, max_size=30))
def test_unmeasured_answers_and_the_order_of_scores_change_nothing(
    scores: list[float | None],
) -> None:
    measured = [one for one in scores if one is not None]
    assert interval(scores) == interval(measured) == interval(measured[::-1])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(2, 5))
def test_more_answers_of_the_same_kind_make_it_narrower(scores: list[float], times: int) -> None:
    assert interval(scores * times).width < interval(scores).width


def test_nothing_asked_is_nothing_known() -> None:
    assert interval([None]) == interval([])
    assert (interval([]).mean, interval([]).low, interval([]).high) == (None, 0, 1)


@pytest.mark.parametrize(
    ("share", "a", "b", "x"),
    [
        (0.3, 1.0, 1.0, 0.3),
        (0.25, 2.0, 1.0, 0.5),
        (0.5, 40.5, 40.5, 0.5),
        (0.6875, 2.0, 3.0, 0.5),
        (0.5, 0.5, 0.5, 0.5),
        (1 / 3, 0.5, 0.5, 0.25),
    ],
)
def test_quantiles_are_those_of_the_beta_distribution(
    share: float, a: float, b: float, x: float
) -> None:
    assert quantile(share, a, b) == pytest.approx(x, abs=1e-9)
    assert below(quantile(share, a, b), a, b) == pytest.approx(share, abs=1e-9)


def exact_cover(asked: int, true: float, confidence: float) -> float:
    """How likely an interval of ``asked`` right-or-wrong answers holds the truth."""
    total = 0.0
    for right in range(asked + 1):
        found = interval([1.0] * right + [0.0] * (asked - right), confidence)
        if found.low <= true <= found.high:
            total += math.comb(asked, right) * true**right * (1 - true) ** (asked - right)
    return total


@pytest.mark.parametrize("asked", [5, 7, 8, 11, 14, 20, 40])
def test_intervals_after_a_look_cover_every_true_value(asked: int) -> None:
    """Counted out, not drawn; also where the truth is near 0 or 1."""
    cover = [exact_cover(asked, true, LOOKS[0].confidence) for true in TRUE]
    assert min(cover) >= 0.935
    assert sum(cover) / len(cover) >= 0.965


@pytest.mark.parametrize("asked", [7, 8, 14, 40, 100])
def test_intervals_after_a_look_are_hardly_wider_than_wilsons(asked: int) -> None:
    for right in range(asked + 1):
        scores = [1.0] * right + [0.0] * (asked - right)
        for look in LOOKS:
            assert interval(scores, look.confidence).width <= 1.35 * wilson_width(scores)


def test_scores_that_vary_little_give_narrower_intervals_once_there_are_enough() -> None:
    few, many = [0.4, 0.6] * 3, [0.4, 0.6] * 30
    assert interval(many).width < 0.6 * interval([0.0, 1.0] * 30).width
    assert interval(few).width > 0.6 * interval([0.0, 1.0] * 3).width


RARELY: dict[str, Callable[[Random], float]] = {
    "0.95, now and then 0": lambda rng: 0.95 * (rng.random() < 0.95),
    "0.1, now and then 1": lambda rng: 1.0 if rng.random() < 0.1 else 0.1,
    "halves": lambda rng: rng.choice((0.0, 0.5, 1.0, 1.0)),
    "anywhere": lambda rng: rng.betavariate(1.3, 0.7),
}
MEANS = {"0.95, now and then 0": 0.9025, "0.1, now and then 1": 0.19, "halves": 0.625}


@pytest.mark.parametrize("asked", [8, 14, 40])
@pytest.mark.parametrize("kind", RARELY)
def test_intervals_of_scores_between_0_and_1_cover_their_mean(kind: str, asked: int) -> None:
    rng, runs, held = Random(6), 300, 0
    for _ in range(runs):
        found = interval([RARELY[kind](rng) for _ in range(asked)])
        held += found.low <= MEANS.get(kind, 0.65) <= found.high
    assert held / runs >= 0.95


def test_all_looks_together_keep_to_five_percent() -> None:
    """Whoever picks the worst of the looks still finds the truth in 95 of 100 intervals."""
    rng, missed, runs = Random(5), 0, 20_000
    limits = [quantile_of_normal(look.confidence) for look in LOOKS]
    for _ in range(runs):
        walk, before = 0.0, 0.0
        for look, limit in zip(LOOKS, limits, strict=True):
            walk += rng.gauss(0, math.sqrt(look.share - before))
            before = look.share
            if abs(walk) / math.sqrt(look.share) > limit:
                missed += 1
                break
    assert missed / runs <= 0.0535


def quantile_of_normal(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


# In which order, and how many


def bundle(sizes: tuple[int, ...] = BUNDLED) -> tuple[Item, ...]:
    return tuple(
        Item(f"{group}-{place}", f"g{group}", ("easy", "medium", "hard")[place % 3])
        for group, size in enumerate(sizes)
        for place in range(size)
    )


@pytest.mark.parametrize("seed", range(5))
def test_levels_are_mixed_at_every_point_of_a_group(seed: int) -> None:
    for members in in_order(bundle(), seed).values():
        for upto in range(1, len(members) + 1):
            levels = Counter(item.level for item in members[:upto])
            assert all(abs(levels[level] - upto / 3) <= 2 for level in LEVELS)


LEVELS = ("easy", "medium", "hard")


def test_no_level_is_preferred_over_all_groups() -> None:
    order = in_order(bundle((12,) * 300))
    early = Counter(item.level for members in order.values() for item in members[:7])
    assert all(abs(early[level] - 700) < 70 for level in LEVELS)


@given(st.permutations(bundle((5, 8))), st.integers(0, 3))
def test_the_order_depends_on_the_seed_alone(items: list[Item], seed: int) -> None:
    assert in_order(items, seed) == in_order(bundle((5, 8)), seed)


@given(st.integers(1, 200))
def test_quotas_grow_to_all(size: int) -> None:
    quotas = [quota(look, size) for look in LOOKS]
    assert quotas == sorted(quotas)
    assert quotas[0] >= 1
    assert quotas[-1] == size


# Comparing


def test_a_prompt_that_both_answered_counts_only_as_far_as_they_differ() -> None:
    items = bundle((40,))
    keys = [item.key for item in items]
    one = {key: float(place % 2) for place, key in enumerate(keys)}
    alike = gap(items, one | {keys[0]: 1.0}, one)
    unlike = gap(items, one | {keys[0]: 1.0}, {key: 1 - each for key, each in one.items()})
    assert alike is not None
    assert unlike is not None
    assert alike.error < 0.3 * unlike.error


def test_few_prompts_alike_prove_nothing() -> None:
    items = bundle((4,))
    scores = {item.key: 1.0 for item in items}
    found = gap(items, scores, scores)
    assert found is not None
    assert found.certainty == 0.5
    assert found.risk > 0.2


@given(st.data())
def test_a_gap_is_the_same_seen_from_either_side(data: st.DataObject) -> None:
    items = bundle((6, 9))
    one, other = (data.draw(some_scores(items)) for _ in range(2))
    here, there = gap(items, one, other), gap(items, other, one)
    assert (here is None) == (there is None)
    if here and there:
        assert here.ahead == pytest.approx(-there.ahead, abs=1e-12)
        assert here.error == pytest.approx(there.error)
        assert 0.5 <= here.certainty <= 1
        assert 0 <= here.risk <= 0.5


def some_scores(items: tuple[Item, ...]) -> st.SearchStrategy[Scores]:
    return st.dictionaries(st.sampled_from([item.key for item in items]), score)


# When to stop


@settings(max_examples=40)
@given(st.data(), st.integers(1, 8))
def test_it_never_fails_whatever_was_scored(data: st.DataObject, at_once: int) -> None:
    items = bundle((1, 4, 9))
    scores = {name: data.draw(some_scores(items)) for name in ("a", "b", "c")}
    found = next_tasks(items, scores, "b", at_once=at_once)
    assert len(found.ask) <= at_once
    assert not {item.key for item in found.ask} & set(scores["b"])
    assert found.done == (set(found.groups) == {"g0", "g1", "g2"})
    for standing in standings(items, scores).values():
        for group in standing.groups.values():
            assert group.interval.low <= group.score <= group.interval.high


@pytest.mark.parametrize("seed", range(4))
def test_interruptions_and_batches_change_no_decision(seed: int) -> None:
    exam = drawn(World(qualities=(0.5, 0.52, 0.7), spread=1, bent=1, unmeasured=0.1), Random(seed))
    whole = asked(exam, seed=seed)
    for at_once in (3, 8):
        piecemeal = asked(exam, at_once=at_once, seed=seed)
        assert {m: dict(s) for m, s in piecemeal.scores.items()} == whole.scores


@pytest.mark.parametrize("seed", range(4))
def test_the_same_scores_in_another_order_give_the_same_decision(seed: int) -> None:
    exam = drawn(World(qualities=(0.5, 0.55, 0.6), draw=anywhere, bent=1), Random(seed))
    scores = dict(asked(exam).scores)
    keys = list(scores["m2"])
    scores["m2"] = {key: scores["m2"][key] for key in keys[: 100 + 5 * seed]}
    rng = Random(seed)
    shuffled = {
        name: dict(rng.sample(list(own.items()), len(own)))
        for name, own in rng.sample(list(scores.items()), len(scores))
    }
    items = rng.sample(exam.items, len(exam.items))
    assert next_tasks(items, shuffled, "m2") == next_tasks(exam.items, scores, "m2")


def test_batches_are_spread_over_the_groups() -> None:
    found = next_tasks(bundle(), {}, "a", at_once=14)
    assert len({item.group for item in found.ask}) == 14
    assert found.overall is None
    assert not found.groups


def test_an_unmeasured_answer_is_not_asked_for_again() -> None:
    items = bundle((4,))
    scores: Scores = {item.key: None for item in items}
    found = next_tasks(items, {"a": scores}, "a")
    assert found.done
    assert found.groups["g0"].asked == 4
    assert standings(items, {"a": scores})["a"].overall.mean is None


def run_of(qualities: tuple[float, ...], seed: int = 1, **more: Any) -> Run:
    return asked(drawn(World(qualities=qualities, **more), Random(seed)))


def test_models_far_apart_are_asked_little_more_than_half() -> None:
    assert run_of((0.2, 0.8)).spent < 0.6


def test_models_close_together_are_asked_more() -> None:
    close = [run_of((0.5, 0.5, 0.5, 0.5), seed).spent for seed in range(8)]
    far = [run_of((0.2, 0.4, 0.6, 0.8), seed).spent for seed in range(8)]
    assert sum(close) / 8 > sum(far) / 8 + 0.05


def test_models_that_do_alike_on_the_same_prompts_are_settled_sooner() -> None:
    answers = {
        item.key: float((place + group) % 2)
        for group, members in enumerate(in_order(bundle()).values())
        for place, item in enumerate(members)
    }
    opposite = {key: 1 - one for key, one in answers.items()}
    prefix = {i.key for m in in_order(bundle()).values() for i in m[: quota(LOOKS[0], len(m))]}
    seen = {key: answers[key] for key in prefix}
    assert next_tasks(bundle(), {"a": answers, "b": seen}, "b").overall is not None
    assert next_tasks(bundle(), {"a": opposite, "b": seen}, "b").overall is None


def test_few_prompts_are_all_asked() -> None:
    exam = drawn(World(qualities=(0.5,), sizes=(8, 8)), Random(1))
    assert len(asked(exam).scores["m0"]) == 16


def test_a_model_that_was_barely_asked_holds_nobody_up() -> None:
    exam = drawn(World(qualities=(0.5, 0.5)), Random(3))
    few = dict(list(exam.answers["m0"].items())[:20])
    half = {key: exam.answers["m1"][key] for key in asked_alone(exam, "m1")}
    found = next_tasks(exam.items, {"m0": few, "m1": half}, "m1")
    assert found.done
    assert found.overall is not None
    assert found.overall.certainty is None


def asked_alone(exam: Exam, model: str) -> Scores:
    own: dict[str, float | None] = {}
    while ask := next_tasks(exam.items, {model: own}, model).ask:
        own |= {item.key: exam.answers[model][item.key] for item in ask}
    return own


def test_a_settled_group_says_why_and_how_sure_it_is() -> None:
    run = run_of((0.2, 0.8))
    found = next_tasks(run.exam.items, run.scores, "m1")
    assert found.done
    assert found.overall is not None
    assert "sure that it is ahead of m0" in found.overall.why
    assert found.overall.certainty is not None
    assert found.overall.certainty > 0.99
    one = found.groups["g0"]
    assert "% sure that it is the best of g0 so far" in one.why
    assert one.certainty is not None
    assert 7 <= one.asked <= one.of == 12


@pytest.mark.parametrize("bent", [0.0, 0.6, 1.5])
def test_drawn_scores_are_nearer_to_the_truth_than_means_are(bent: float) -> None:
    drawn_off, mean_off = 0.0, 0.0
    for seed in range(8):
        run = run_of((0.3, 0.5, 0.7), seed, bent=bent)
        for model, standing in standings(run.exam.items, run.scores).items():
            for group, found in standing.groups.items():
                truth = run.exam.truth(model, group)
                drawn_off += (found.score - truth) ** 2
                mean_off += ((found.interval.mean or 0.0) - truth) ** 2
    assert drawn_off < mean_off * {0.0: 0.5, 0.6: 0.7, 1.5: 0.97}[bent]


def test_models_that_truly_differ_by_group_are_drawn_less() -> None:
    items = bundle((20, 20))
    scores = {
        name: {item.key: float((item.group == "g0") == turn) for item in items}
        for name, turn in (("a", True), ("b", False))
    }
    groups = standings(items, scores)["a"].groups
    assert groups["g0"].score > 0.85
    assert groups["g1"].score < 0.15


# What is promised, on models of known quality


def ladder(*qualities: float, **more: Any) -> Callable[[Random], World]:
    """Models in an order that is drawn anew each time."""
    return lambda rng: World(qualities=rng.sample(qualities, len(qualities)), **more)


def scattered(models: int, **more: Any) -> Callable[[Random], World]:
    """Any qualities, close or not."""
    return lambda rng: World(qualities=[rng.uniform(0.02, 0.98) for _ in range(models)], **more)


def sizes(rng: Random) -> World:
    qualities = rng.sample((0.2, 0.35, 0.5, 0.65), 4)
    return World(qualities=qualities, sizes=[rng.randint(8, 40) for _ in range(10)], spread=1)


STEPS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
PROMISED: dict[str, Callable[[Random], World]] = {
    "two, prompts alike hard": ladder(0.5, 0.65),
    "two near 0": ladder(0.02, 0.17),
    "two near 1": ladder(0.83, 0.98, spread=1.0, bent=0.3),
    "two of endless prompts": ladder(0.425, 0.575, spread=1.5, bent=0.6, endless=True),
    "three in the middle": ladder(0.35, 0.5, 0.65),
    "four, much spread, endless": ladder(0.2, 0.35, 0.5, 0.65, spread=2.0, drift=1.0, endless=True),
    "six": ladder(*STEPS, spread=1.5, drift=1.0, bent=0.6),
    "six, some unmeasured": ladder(*STEPS, spread=0.5, unmeasured=0.05),
    "five, scored in thirds": ladder(0.2, 0.35, 0.5, 0.65, 0.8, spread=1.0, draw=in_thirds),
    "two, scored anywhere": ladder(0.5, 0.65, draw=anywhere, endless=True),
    "groups of 8 to 40": sizes,
    "eight anywhere": scattered(8, spread=1.0, bent=0.3),
}
OTHERS: dict[str, Callable[[Random], World]] = {
    "four alike, .5, no spread": ladder(0.5, 0.5, 0.5, 0.5),
    "four alike, .5, spread": ladder(0.5, 0.5, 0.5, 0.5, spread=1.5),
    "four alike, .8, spread": ladder(0.8, 0.8, 0.8, 0.8, spread=1.0),
    "eight anywhere, no spread": scattered(8),
    "eight at the ends": ladder(0.02, 0.03, 0.05, 0.1, 0.9, 0.95, 0.97, 0.98, spread=1.0),
    "much bent (1 logit)": ladder(0.35, 0.5, 0.65, bent=1.0),
    "very much bent (2)": ladder(0.35, 0.5, 0.65, bent=2.0),
    "112 prompts": ladder(0.35, 0.5, 0.65, sizes=(8,) * 14),
    "one group of 40": ladder(0.45, 0.6, sizes=(40,)),
}


@cache
def promised(name: str) -> Figures:
    return measured(PROMISED[name], runs=50 if name.startswith("two") else 25, seed=4)


@pytest.mark.parametrize("name", PROMISED)
def test_promises_hold(name: str) -> None:
    """With margins for so few runs; ``test_figures_of_many_runs`` has the figures themselves."""
    found = promised(name)
    assert found.cover >= 0.91
    assert found.group_cover >= 0.955
    assert found.width <= 1.2
    assert found.width_of_all <= 1.5
    assert found.group_width <= 1.3
    assert found.saved >= 0.40
    assert found.wrong <= 0.03
    assert found.group_wrong <= found.group_wrong_of_all + 0.01


def test_promises_hold_over_all_kinds_of_models() -> None:
    every = [promised(name) for name in PROMISED]
    assert sum(found.cover for found in every) / len(every) >= 0.955
    assert sum(found.wrong for found in every) / len(every) <= 0.01


def test_few_are_ranked_wrong_that_are_15_points_apart() -> None:
    """The hardest case: chances near one half, all prompts alike, nothing to pair."""
    found = measured(PROMISED["two, prompts alike hard"], runs=800, seed=9, only_order=True)
    assert found.pairs == 800
    assert found.wrong <= 0.0125
    assert found.saved >= 0.42


def test_certainty_is_not_overstated() -> None:
    """Of models called better with some certainty, at least as many are."""
    rng, stated, true = Random(2), [], []
    for seed in range(150):
        exam = drawn(scattered(3)(rng), rng)
        run = asked(exam, seed=seed)
        for one, other in combinations(exam.answers, 2):
            found = gap(exam.items, run.scores[one], run.scores[other])
            assert found is not None
            stated.append(found.certainty)
            true.append((found.ahead > 0) == (exam.truth(one) > exam.truth(other)))
    assert sum(true) / len(true) >= sum(stated) / len(stated) - 0.01


@pytest.mark.bench
def test_figures_of_many_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of decision 14."""
    with capsys.disabled():
        print("\n" + HEAD)
        for name, world in (PROMISED | OTHERS).items():
            models = len(world(Random(0)).qualities)
            order = measured(world, runs=3000 // models, seed=11, only_order=True)
            found = measured(world, runs=100, seed=12)
            print(row(name, order, found), flush=True)
            if name in PROMISED:
                assert order.wrong <= 0.01
                assert order.saved >= 0.40
                assert found.cover >= 0.94
                assert found.group_cover >= 0.95


HEAD = (
    "| models | saved | wrong | all asked | covers | width | of all | group covers | width "
    "| of all | group wrong | all asked | drawn, all asked |\n|" + "---|" * 13
)


def row(name: str, order: Figures, found: Figures) -> str:
    shares = [order.saved, order.wrong, order.wrong_of_all]
    cells = [f"{order.saved:.1%}", *(f"{share:.2%}" for share in shares[1:])]
    cells += [f"{found.cover:.1%}", f"{found.width:.2f}", f"{found.width_of_all:.2f}"]
    cells += [f"{found.group_cover:.1%}", f"{found.group_width:.2f}"]
    cells += [f"{found.group_width_of_all:.2f}", f"{found.group_wrong:.1%}"]
    cells += [f"{found.group_wrong_of_all:.1%}", f"{found.group_wrong_drawn:.1%}"]
    return f"| {name} | " + " | ".join(cell.replace("%", " %") for cell in cells) + " |"
