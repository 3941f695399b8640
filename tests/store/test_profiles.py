"""What profiling keeps: written when it says so, once for each thing, and read as it was."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from smarterrouter.domain.profiles import Answer, Depth, Figures, PairVerdict, ProfiledModel
from smarterrouter.errors import Unavailable
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Profiles]:
    writer = Writer(tmp_path / "kept.db")
    writer.start()
    yield Profiles(tmp_path / "kept.db", writer)
    writer.close()


def answer(task: str = "t1", identity: str = "o/a|1", **changes: object) -> Answer:
    told: dict[str, object] = {
        "identity": identity,
        "subject": "a",
        "task": task,
        "task_id": f"math-{task}",
        "group": "math",
        "level": "easy",
        "prompt": "What is 2 + 2?",
        "score": 1.0,
        "how": "checked",
        "why": "4",
        "text": "It is 4.",
        "prompt_tokens": 9,
        "answer_tokens": None,
        "seconds": 0.5,
        "at": 100.0,
    }
    return msgspec.convert(told | changes, Answer)


def model(identity: str = "o/a|1", **changes: object) -> ProfiledModel:
    told: dict[str, object] = {
        "identity": identity,
        "model": "a",
        "backend": "o",
        "depth": Depth.FULL,
        "done": True,
        "failure": None,
        "at": 100.0,
        "capabilities": ("chat", "tools"),
    }
    return ProfiledModel(**told | changes)  # type: ignore[arg-type]


async def test_an_answer_is_written_when_keeping_it_returns(kept: Profiles, tmp_path: Path) -> None:
    began = time.monotonic()
    await kept.keep(answer())
    assert time.monotonic() - began < 1.0
    with sqlite3.connect(tmp_path / "kept.db") as other:
        assert other.execute("SELECT count(*) FROM profile_answers").fetchone() == (1,)


async def test_everything_comes_back_as_it_was(kept: Profiles) -> None:
    figures = Figures(identity="o/a|1", step="speed", body=msgspec.Raw(b'{"x":[1,2.5]}'), at=1.0)
    said = PairVerdict(
        judge="j", key="k", task="t", first="a", second="b", verdict=None, why="?", at=1.0
    )
    unmeasured = answer("t2", score=None, how="checked", why="cut off")
    for record in (answer(), unmeasured, model(), figures, said):
        await kept.keep(record)
    assert kept.answers("o/a|1") == [answer(), unmeasured]
    assert kept.models() == [model()]
    assert kept.figures() == [figures]
    assert (kept.verdicts("j"), kept.verdicts("k")) == ([said], [])


async def test_the_same_thing_counts_once(kept: Profiles) -> None:
    await asyncio.gather(*(kept.keep(answer(score=score)) for score in (0.0, 1.0)))
    await kept.keep(model(done=False))
    await kept.keep(model())
    assert [one.score for one in kept.answers()] == [1.0]
    assert [one.done for one in kept.models()] == [True]


async def test_one_model_can_be_forgotten(kept: Profiles) -> None:
    for record in (answer(), answer(identity="o/b|2"), model(), model("o/b|2")):
        await kept.keep(record)
    await kept.forget("o/a|1")
    assert [one.identity for one in kept.answers()] == ["o/b|2"]
    assert [one.identity for one in kept.models()] == ["o/b|2"]


def test_before_anything_is_written_there_is_nothing(tmp_path: Path) -> None:
    kept = Profiles(tmp_path / "none.db", Writer(tmp_path / "none.db"))
    assert (kept.models(), kept.answers(), kept.figures()) == ([], [], [])


async def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    writer = Writer(tmp_path / "folder.db")
    writer.start()
    with pytest.raises(Unavailable, match="cannot be written"):
        await Profiles(tmp_path / "folder.db", writer).keep(answer())
    writer.close()
    with pytest.raises(Unavailable, match="cannot be written"):
        await Profiles(tmp_path / "folder.db", writer).keep(answer())
