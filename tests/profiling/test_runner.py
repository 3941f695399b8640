"""Whole runs over models that answer as they are told, on a real database."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.models import Model
from smarterrouter.domain.profiles import Depth
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    InsufficientVram,
    ModelNotFound,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.profiling import measuring
from smarterrouter.profiling.asking import Reply
from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.events import Answered, Event, ModelEnded, Planned, Skipped
from smarterrouter.profiling.findings import found
from smarterrouter.profiling.report import Report, report
from smarterrouter.profiling.runner import Runner
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.fakes.rig import FakeRig, model, right, said, tasks

TASKS = tasks()
A, B = model("a", 1), model("b", 2)
GOOD, BAD = 0.95, 0.05


class Wall:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Profiles]:
    writer = Writer(tmp_path / "kept.db")
    writer.start()
    yield Profiles(tmp_path / "kept.db", writer)
    writer.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PAUSES_S", (0.0, 0.0, 0.0))


async def run(
    rig: FakeRig, notes: Profiles, **wishes: object
) -> tuple[dict[str, str | None], list[Event]]:
    told: list[Event] = []
    options = Options(**{"tasks": TASKS, **wishes})  # type: ignore[arg-type]
    bench = Bench(rig=rig, notes=notes, clock=Wall(), options=options, tell=told.append)
    return dict(await Runner(bench).run()), told


def table(notes: Profiles) -> Report:
    """What is known, without times of day."""
    made = report(found(notes.models(), notes.figures(), notes.answers()), notes.figures(), TASKS)
    for one in made["models"]:
        del one["at"], one["parallel"]  # by the clock
        for candidate in one["candidates"]:
            del candidate["seconds"]
    return made


# a whole run


async def test_every_step_is_kept_and_the_better_model_comes_out_ahead(notes: Profiles) -> None:
    rig = FakeRig([A, B], right({"a": GOOD, "b": BAD}))
    outcome, _ = await run(rig, notes)
    assert outcome == {"a": None, "b": None}
    made = table(notes)
    first, second = made["models"]
    assert (first["model"], first["done"], first["depth"]) == ("a", True, "full")
    assert first["load"]["cold"] == first["load"]["warm"] == (1.5, 1.5)
    assert first["speed"]["decode_tps"] == pytest.approx(100)
    assert first["speed"]["prefill_tps"] == pytest.approx(1000)
    assert "parallel" in {figures.step for figures in notes.figures()}
    assert first["memory"]["usual"]["devices"] == {"ram": 11}
    assert first["memory"]["larger"]["devices"] == {"ram": 11}
    assert first["abilities"]["tools"]["able"] is False
    means = [one["candidates"][0]["overall"]["mean"] for one in (first, second)]
    assert means[0] > 0.8 > 0.2 > means[1]
    assert made["best"]["overall"]["subject"] == "a"
    assert made["best"]["math"]["subject"] == "a"


async def test_each_model_is_loaded_before_the_next_one_begins(notes: Profiles) -> None:
    rig = FakeRig([A, B], right({}))
    await run(rig, notes)
    order = [name for name, _ in rig.asked]
    assert order == sorted(order)


async def test_no_more_is_asked_at_once_than_the_model_answers(notes: Profiles) -> None:
    rig = FakeRig([A], right({}), answer_s=0.001)
    rig.at_once = 3
    told: list[Event] = []
    quick = Options(tasks=TASKS, depth=Depth.QUICK)
    await Runner(Bench(rig=rig, notes=notes, clock=Wall(), options=quick, tell=told.append)).run()
    assert rig.most_at_once == 3


async def test_a_quick_run_asks_the_quick_tasks_alone(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes, depth=Depth.QUICK)
    quick = {task.prompt for task in TASKS if task.quick}
    assert set(rig.questions("a")) <= quick
    [one] = table(notes)["models"]
    assert one["memory"]["larger"] is None
    assert {figures.step for figures in notes.figures()}.isdisjoint({"parallel"})


async def test_an_embedding_model_is_weighed_and_asked_for_vectors_alone(notes: Profiles) -> None:
    rig = FakeRig([model("e", embeds=True)], right({}))
    await run(rig, notes)
    [one] = table(notes)["models"]
    assert rig.asked == []
    assert (one["dimensions"], one["abilities"]["embedding"]["able"]) == (384, True)
    assert (one["speed"], one["candidates"], one["footprint_bytes"]) == (None, [], 10**9 + 10)


async def test_a_model_that_can_think_and_not_think_is_two_candidates(notes: Profiles) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        thinks = b"true" in bytes(request.fields.get("chat_template_kwargs", b""))
        return said("Yes." if thinks else "No.", reasoning="hm" if thinks else "")

    await run(FakeRig([A], says), notes)
    [one] = table(notes)["models"]
    scores = {c["subject"]: c["overall"]["mean"] for c in one["candidates"]}
    assert scores == {"a": 1.0, "a#no-think": 0.0}


# what an answer counts


@pytest.mark.parametrize(
    ("reply", "score", "why"),
    [
        (said("Yes", finish="length"), None, "cut off after 10 tokens"),
        (said("<think>No, no.</think>Yes."), 1.0, ""),
        (said("<think>Yes, so"), 0.0, "the answer is empty"),
        (BackendTimeout("a had not answered after 9 s."), None, "had not answered"),
        (BadRequest("too long"), None, "too long"),
        (InsufficientVram("no room for so long a context"), None, "no room"),
    ],
)
async def test_what_an_answer_counts(
    notes: Profiles, reply: Reply | Exception, score: float | None, why: str
) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        if isinstance(reply, Exception) and request.messages[-1].text.startswith("Question"):
            raise reply
        return reply if isinstance(reply, Reply) else said("Yes")

    outcome, _ = await run(FakeRig([A], says), notes, tasks=TASKS[:4])
    assert outcome == {"a": None}
    answers = notes.answers()
    assert answers
    assert {answer.score for answer in answers} == {score}
    assert all(why in answer.why for answer in answers)


async def test_a_task_that_does_not_fit_the_context_is_not_asked(notes: Profiles) -> None:
    long = tasks(1, ("math",))[0]
    long = type(long)(
        id="long", level="easy", check=long.check, group="math", prompt="word " * 10_000
    )
    rig = FakeRig([A], right({}))
    await run(rig, notes, tasks=(), always=(long,))
    [answer] = notes.answers()
    assert answer.score is None
    assert "do not fit its context of 8192" in answer.why


# going on, and beginning anew


async def test_a_run_that_is_broken_off_goes_on_where_it_was(notes: Profiles) -> None:
    whole = FakeRig([A, B], right({"a": 0.7, "b": 0.4}), answer_s=0.002)
    for after_s in (0.05, 0.15, 0.25):
        breaking = asyncio.create_task(run(whole, notes))
        await asyncio.sleep(after_s)
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
    await run(whole, notes)
    asked = Counter(whole.questions("a") + whole.questions("b"))
    assert max(Counter((a.subject, a.task) for a in notes.answers()).values()) == 1
    assert sum(asked.values()) <= len(notes.answers()) + 3 * whole.at_once, "kept answers stay"


async def test_an_interrupted_run_ends_with_the_same_table(notes: Profiles, tmp_path: Path) -> None:
    says = right({"a": 0.7, "b": 0.4})
    broken = FakeRig([A, B], says, answer_s=0.001)
    for after_s in (0.03, 0.06, 0.12):
        breaking = asyncio.create_task(run(broken, notes))
        await asyncio.sleep(after_s)
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
    await run(broken, notes)
    writer = Writer(tmp_path / "other.db")
    writer.start()
    other = Profiles(tmp_path / "other.db", writer)
    await run(FakeRig([A, B], says), other)
    assert table(notes) == table(other)
    writer.close()


async def test_what_is_profiled_is_passed_over_and_what_is_new_is_not(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes)
    rig.asked.clear()
    _, told = await run(rig, notes)
    assert rig.asked == []
    assert told[0] == Skipped("a", "profiled already; --force does it anew")
    rig.there = [model("a", 1, digest="2"), B]
    outcome, _ = await run(rig, notes)
    assert list(outcome) == ["a", "b"], "a has another file now"


async def test_a_full_profile_follows_a_quick_one_and_keeps_its_answers(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes, depth=Depth.QUICK)
    before = rig.questions("a")
    await run(rig, notes)
    asked = Counter(rig.questions("a"))
    assert set(before) < set(asked)
    assert max(asked.values()) == 1
    assert table(notes)["models"][0]["depth"] == "full"


async def test_a_full_profile_measures_anew_what_a_quick_one_did_in_passing(
    notes: Profiles,
) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes, depth=Depth.QUICK)
    quick = table(notes)["models"][0]
    await run(rig, notes)
    full = table(notes)["models"][0]
    assert (len(quick["load"]["cold"]), len(full["load"]["cold"])) == (1, 2)
    assert quick["memory"]["larger"] is None
    assert full["memory"]["larger"]["context"] == 16384
    loaded = len(rig.loaded)
    await run(rig, notes, always=tasks(2, ("own",)))
    assert len(rig.loaded) == loaded, "nothing but the tasks is done again"


async def test_a_quick_look_at_tasks_of_ones_own_leaves_a_full_profile_full(
    notes: Profiles,
) -> None:
    rig = FakeRig([A, model("e", embeds=True)], right({}))
    await run(rig, notes)
    own = tasks(2, ("own",))
    assert list((await run(rig, notes, depth=Depth.QUICK, always=own))[0]) == ["a"]
    assert {one.depth for one in notes.models()} == {Depth.FULL}
    assert (await run(rig, notes, always=own))[0] == {}


async def test_models_that_were_looked_at_quickly_are_compared_with_each_other(
    notes: Profiles,
) -> None:
    rig = FakeRig([A, B], right({"a": 1.0, "b": 0.0}))
    await run(rig, notes, depth=Depth.QUICK)
    made = report(found(notes.models(), notes.figures(), notes.answers()), notes.figures(), TASKS)
    why = [one["candidates"][0]["settled"]["why"] for one in made["models"]]
    assert "ahead of b" in why[0]
    assert "behind a" in why[1]


async def test_force_begins_anew_and_restart_only_what_is_unfinished(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes)
    rig.asked.clear()
    await run(rig, notes, restart=True)
    assert rig.asked == []
    await run(rig, notes, force=True)
    assert rig.questions("a")


async def test_tasks_of_ones_own_are_asked_in_full_also_of_a_model_that_is_done(
    notes: Profiles,
) -> None:
    rig = FakeRig([A], right({}))
    await run(rig, notes)
    own = tasks(20, ("planning",))
    await run(rig, notes, always=own)
    assert {task.prompt for task in own} <= set(rig.questions("a"))
    rig.asked.clear()
    await run(rig, notes, always=own)
    assert rig.asked == []


async def test_scores_that_had_settled_are_not_opened_again_by_models_that_came_later(
    notes: Profiles,
) -> None:
    many = tasks(12, GROUPS)
    rig = FakeRig([A], right({"a": 0.5, "b": 0.42, "c": 0.5}))
    await run(rig, notes, tasks=many)
    assert len(set(rig.questions("a"))) < len(many), "the first model has stopped early"
    rig.there = [A, B, model("c", 3)]
    await run(rig, notes, tasks=many)
    rig.asked.clear()
    own = tasks(20, ("own",))
    await run(rig, notes, tasks=many, always=own)
    assert set(rig.questions("a")) == {task.prompt for task in own}


# what goes wrong


async def test_a_model_that_fails_is_told_and_the_others_go_on(
    notes: Profiles, caplog: pytest.LogCaptureFixture
) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        if model.id == "a":
            raise Unavailable("its backend is away.")
        return said("Yes")

    caplog.set_level(logging.CRITICAL)
    rig = FakeRig([A, B], says)
    outcome, told = await run(rig, notes)
    assert outcome == {"a": "its backend is away.", "b": None}
    ended = [event for event in told if isinstance(event, ModelEnded)]
    assert [(one.model, one.failure) for one in ended] == list(outcome.items())
    rig.says = right({})
    again, _ = await run(rig, notes)
    assert again == {"a": None}, "the next run tries it again"


async def test_a_failure_that_passes_is_not_noticed(notes: Profiles) -> None:
    count = 0

    def says(request: ChatRequest, model: Model) -> Reply:
        nonlocal count
        count += 1
        if count % 5 == 0:
            raise Unavailable("restarting.")
        return said("Yes")

    outcome, _ = await run(FakeRig([A], says), notes)
    assert outcome == {"a": None}
    assert {answer.score for answer in notes.answers()} == {1.0}


async def test_a_backend_that_hangs_gives_no_answers_and_is_asked_again_later(
    notes: Profiles,
) -> None:
    hangs = False

    def says(request: ChatRequest, model: Model) -> Reply:
        nonlocal hangs
        hangs = hangs or request.messages[-1].text.startswith("Question 5")
        if hangs:
            raise BackendTimeout("a had not answered after 9 s.")
        return said("Yes")

    rig = FakeRig([A], says)
    outcome, _ = await run(rig, notes)
    assert outcome == {"a": "a had not answered after 9 s."}
    assert {answer.score for answer in notes.answers()} == {1.0}
    rig.says = right({"a": 1.0})
    assert (await run(rig, notes))[0] == {"a": None}
    assert {answer.score for answer in notes.answers()} == {1.0}
    assert any("Question 5" in answer.prompt for answer in notes.answers())


async def test_a_prompt_that_always_fails_is_unmeasured_and_the_others_go_on(
    notes: Profiles,
) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        if "Question 4 of math" in request.messages[-1].text:
            raise BackendError("a failed (500).")
        return said("Yes")

    assert (await run(FakeRig([A], says), notes))[0] == {"a": None}
    scores = {answer.prompt[:18]: answer.score for answer in notes.answers()}
    assert scores.pop("Question 4 of math") is None
    assert set(scores.values()) == {1.0}


@pytest.mark.parametrize("error", [BackendError("it was killed."), Unavailable("restarting.")])
async def test_a_failure_that_passes_says_nothing_of_what_a_model_can_do(
    notes: Profiles, error: SmarterRouterError
) -> None:
    seen: Counter[str] = Counter()

    def says(request: ChatRequest, model: Model) -> Reply:
        [probe] = {"tools", "response_format"} & request.fields.keys() or {""}
        seen[probe] += 1
        if probe and seen[probe] == 1:
            raise error
        if probe == "tools":
            call = {"function": {"name": "get_weather", "arguments": {"city": "Lisbon"}}}
            return Reply(text="", calls=(call,))
        return said('{"wheels": 2}' if probe else "Yes")

    assert (await run(FakeRig([A], says), notes))[0] == {"a": None}
    able = {n: one["able"] for n, one in table(notes)["models"][0]["abilities"].items()}
    assert able == {"tools": True, "json": True, "vision": False, "thinking": False}


async def test_an_error_that_stays_is_a_no(notes: Profiles) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        if "tools" in request.fields:
            raise BackendError("a failed (500). tools are not supported")
        return said("Yes")

    assert (await run(FakeRig([A], says), notes))[0] == {"a": None}
    assert table(notes)["models"][0]["abilities"]["tools"]["able"] is False


async def test_what_nobody_foresaw_ends_one_model_and_not_the_night(
    notes: Profiles, caplog: pytest.LogCaptureFixture
) -> None:
    def says(request: ChatRequest, model: Model) -> Reply:
        if model.id == "a":
            raise ZeroDivisionError
        return said("Yes")

    caplog.set_level(logging.CRITICAL)
    outcome, _ = await run(FakeRig([A, B], says), notes)
    assert outcome["b"] is None
    assert "smarterrouter itself failed: ZeroDivisionError()" in str(outcome["a"])


async def test_who_is_disturbed_asks_again(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    rig.disturbances = 7
    outcome, _ = await run(rig, notes)
    assert outcome == {"a": None}
    assert rig.disturbances == 0
    assert all(answer.score is not None for answer in notes.answers())


# plans


async def test_a_plan_says_how_long_and_does_nothing(notes: Profiles) -> None:
    rig = FakeRig([A, B], right({}))
    rig.elsewhere = {"b": "far away"}
    told: list[Event] = []
    bench = Bench(
        rig=rig, notes=notes, clock=Wall(), options=Options(tasks=TASKS), tell=told.append
    )
    [(planned, seconds)] = await Runner(bench).plan()
    assert (planned.id, rig.asked, rig.loaded) == ("a", [], [])
    assert seconds > 4.0
    assert told == [Skipped("b", "far away; name it with --model to profile it")]
    outcome, _ = await run(rig, notes, wanted=("b",))
    assert list(outcome) == ["b"]


async def test_a_plan_counts_tasks_of_ones_own_in_full(notes: Profiles) -> None:
    async def seconds(depth: Depth, own: int) -> float:
        options = Options(depth=depth, tasks=TASKS, always=tasks(own, ("own",)))
        bench = Bench(rig=FakeRig([A], right({})), notes=notes, clock=Wall(), options=options)
        [(_, planned)] = await Runner(bench).plan()
        return planned

    for depth in (Depth.QUICK, Depth.FULL):
        none, some, more = [await seconds(depth, own) for own in (0, 4, 8)]
        assert some - none == pytest.approx(more - some)
        assert some - none == pytest.approx(4 / 2 * (0.4 * 64 / 100), rel=0.2)


async def test_a_name_that_is_not_there_is_told_before_anything_is_done(notes: Profiles) -> None:
    rig = FakeRig([A], right({}))
    with pytest.raises(ModelNotFound, match=r"There is no model 'c'\. Known models: a"):
        await run(rig, notes, wanted=("a", "c"))
    assert rig.loaded == []


async def test_progress_counts_down(notes: Profiles) -> None:
    _, told = await run(FakeRig([A], right({})), notes)
    left = [event.left for event in told if isinstance(event, Answered)]
    assert left == sorted(left, reverse=True)
    [planned] = [event for event in told if isinstance(event, Planned)]
    assert [name for name, _ in planned.models] == ["a"]
