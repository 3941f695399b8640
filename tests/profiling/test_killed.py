"""``kill -9`` at any moment: no answer that counted is lost, none counts twice."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from smarterrouter.profiling.findings import found
from smarterrouter.profiling.report import Report, report
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.fakes.rig import tasks
from tests.support.profile_child import profiled

REPOSITORY = Path(__file__).parents[2]


def child(database: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.profile_child", str(database)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def notes(database: Path) -> Profiles:
    return Profiles(database, Writer(database))


def table(database: Path) -> Report:
    """What is known in the end, without what the clock alone decides."""
    kept = notes(database)
    made = report(found(kept.models(), kept.figures(), kept.answers()), kept.figures(), tasks())
    for one in made["models"]:
        del one["at"], one["parallel"]
        for candidate in one["candidates"]:
            del candidate["seconds"]
    return made


def killed(database: Path, after_s: float) -> set[tuple[str, str, str]]:
    """Let it run for a while after it has begun, and kill it: the answers that it said count."""
    process = child(database)
    assert process.stdout
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    lines = [line.split() for line in (first + rest).splitlines()]
    return {(line[0], line[1], line[2]) for line in lines if len(line) == 3}


def test_ten_kills_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    database, chance = tmp_path / "kept.db", random.Random(4)
    counted: set[tuple[str, str, str]] = set()
    for _ in range(10):
        counted |= killed(database, chance.uniform(0.0, 0.04))
        kept = {(a.subject, a.task_id, str(a.score)) for a in notes(database).answers()}
        assert counted <= kept
    last = child(database)
    last.communicate(timeout=60)
    assert last.returncode == 0
    answers = notes(database).answers()
    assert max(Counter((a.identity, a.subject, a.task) for a in answers).values()) == 1
    asyncio.run(profiled(tmp_path / "whole.db", 0.0))
    assert table(database) == table(tmp_path / "whole.db")
