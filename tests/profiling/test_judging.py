"""A judge over kept answers: what it says is kept once, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Model
from smarterrouter.errors import BackendTimeout, BadRequest
from smarterrouter.profiling.asking import Reply, question
from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.checkers.specs import Judged
from smarterrouter.profiling.findings import evidence, found
from smarterrouter.profiling.judge import Ask, JudgeReport
from smarterrouter.profiling.judging import judge, judged
from smarterrouter.profiling.measuring import undisturbed
from smarterrouter.profiling.runner import Runner
from smarterrouter.profiling.task import Said, Task
from smarterrouter.routing.quality import ProfiledQuality
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.fakes.rig import FakeRig, model, said, tasks

OPEN = tuple(
    Task(id=f"poem-{n}", level="easy", group="writing", prompt=f"Poem {n}?", check=Judged())
    for n in range(12)
)
GOOD, POOR = "A fine poem about rain.", "no"


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Profiles]:
    writer = Writer(tmp_path / "kept.db")
    writer.start()
    yield Profiles(tmp_path / "kept.db", writer)
    writer.close()


class Wall:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def profiled(notes: Profiles) -> None:
    rig = FakeRig(
        [model("good"), model("poor")],
        lambda request, model: said(GOOD if model.id == "good" else POOR),
    )
    options = Options(tasks=tasks(4), always=OPEN)
    await Runner(Bench(rig=rig, notes=notes, clock=Wall(), options=options)).run()


def preferring_good(count: list[int]) -> Ask:
    async def ask(turns: Sequence[tuple[str, str]]) -> str:
        count.append(1)
        text = turns[-1][1]
        return (
            '{"better": "A"}' if text.index(GOOD) < text.index(f"\n{POOR}\n") else '{"better": "B"}'
        )

    return ask


async def nonsense(turns: Sequence[tuple[str, str]]) -> str:
    return "Both are lovely, but who am I to say?"


async def first(turns: Sequence[tuple[str, str]]) -> str:
    return '{"better": "A"}'


async def late(turns: Sequence[tuple[str, str]]) -> str:
    raise BackendTimeout("it took too long.")


async def refusing(turns: Sequence[tuple[str, str]]) -> str:
    raise BadRequest("I do not judge.")


async def asked(notes: Profiles, ask: Ask) -> JudgeReport:
    return await judge(notes, OPEN, ask, "the judge", timeout_s=5.0)


def scores(notes: Profiles) -> dict[str, set[float | None]]:
    ours = {task.key for task in OPEN}
    told: dict[str, set[float | None]] = {}
    for answer in notes.answers():
        if answer.task in ours:
            told.setdefault(answer.subject, set()).add(answer.score)
    return told


async def test_answers_wait_for_a_judge_and_are_no_evidence_until_then(notes: Profiles) -> None:
    await profiled(notes)
    assert scores(notes) == {"good": {None}, "poor": {None}}
    everything = found(notes.models(), notes.figures(), notes.answers())
    assert {item.group for item in evidence(everything)} == {"math", "logic"}


async def test_a_judge_that_can_be_trusted_scores_both_and_is_asked_once(notes: Profiles) -> None:
    await profiled(notes)
    count: list[int] = []
    report = await asked(notes, preferring_good(count))
    assert report.trusted, report.why
    assert len(count) == 2 * len(OPEN), "each pair in both orders"
    assert scores(notes) == {"good": {1.0}, "poor": {0.0}}
    await asked(notes, preferring_good(count))
    assert len(count) == 2 * len(OPEN), "verdicts are kept"
    items = evidence(found(notes.models(), notes.figures(), notes.answers()))
    assert {item.judged for item in items if item.group == "writing"} == {True}


async def test_judged_scores_do_not_move_a_model_s_overall_score(notes: Profiles) -> None:
    await profiled(notes)

    def overall() -> object:
        items = evidence(found(notes.models(), notes.figures(), notes.answers()))
        return ProfiledQuality([(item.group or "", item) for item in items]).known("good", "math")

    before = overall()
    await asked(notes, preferring_good([]))
    assert overall() == before


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (nonsense, "answered nonsense"),
        (first, "prefers whatever stands first"),
        (refusing, "refused the question"),
    ],
)
async def test_a_judge_that_is_no_good_changes_nothing_and_that_is_told(
    notes: Profiles, ask: Ask, says: str
) -> None:
    await profiled(notes)
    before = found(notes.models(), [], [])
    report = await asked(notes, ask)
    assert not report.trusted
    assert says in report.why
    assert scores(notes) == {"good": {None}, "poor": {None}}
    assert found(notes.models(), [], []) == before
    kept = [figures for figures in notes.figures() if figures.identity == "judge"]
    assert [figures.step for figures in kept] == ["the judge"]


async def test_what_timed_out_is_asked_again_the_next_time(
    notes: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smarterrouter.profiling.judge import running

    monkeypatch.setattr(running, "FIRST_WAIT_S", 0.0)
    await profiled(notes)
    report = await asked(notes, late)
    assert "timed out" in report.why
    assert notes.verdicts("the judge") == []
    count: list[int] = []
    assert (await asked(notes, preferring_good(count))).trusted
    assert len(count) == 2 * len(OPEN)


async def test_waiting_for_peoples_requests_is_no_time_out(notes: Profiles) -> None:
    """The judge's own limit counts from when it is asked; until then it may take as it takes."""
    await profiled(notes)
    rig = Busy([model("judge")], lambda request, model: said('{"better": "A"}'))
    [own] = rig.there

    async def local(turns: Sequence[tuple[str, str]]) -> str:
        request = question(own.id, [Said("user", turns[-1][1])], 64)
        return (await undisturbed(rig, lambda: rig.ask(request, own, LIMIT_S))).text

    report = await judge(notes, OPEN[:1], local, "judge")
    assert report.counts.failures == {}
    assert len(rig.asked) == 2, "a pair in both orders"


LIMIT_S = 0.25


class Busy(FakeRig):
    """Somebody asks it something, for longer than a judge has."""

    async def quiet(self) -> None:
        await asyncio.sleep(2 * LIMIT_S)

    async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
        async with asyncio.timeout(limit_s):
            return await super().ask(request, model, limit_s)


def test_only_tasks_without_a_checker_need_a_judge() -> None:
    assert judged((*OPEN, *tasks(2))) == OPEN
