"""A run of profiling in a process of its own, to be killed: models that answer as they are told.

python -m tests.support.profile_child DATABASE
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.events import Answered, Event
from smarterrouter.profiling.runner import Runner
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.fakes.rig import FakeRig, model, right, tasks

MODELS = [model("a", 1), model("b", 2)]
SHARES = {"a": 0.7, "b": 0.4}


class Monotonic:
    def now(self) -> float:
        return time.monotonic()


def told(event: Event) -> None:
    """Say which answer counts, when it does."""
    if isinstance(event, Answered):
        print(event.subject, event.task_id, event.score, flush=True)


async def profiled(database: Path, answer_s: float) -> None:
    writer = Writer(database)
    writer.start()
    rig = FakeRig(MODELS, right(SHARES), answer_s)
    bench = Bench(
        rig=rig,
        notes=Profiles(database, writer),
        clock=Monotonic(),
        options=Options(tasks=tasks()),
        tell=told,
    )
    await Runner(bench).run()
    writer.close()


if __name__ == "__main__":
    asyncio.run(profiled(Path(sys.argv[1]), 0.01))
