"""Six models of which two fit, two hundred requests at once, and clients that hang up.

Everything is real: the daemon is a process, each model a llama.cpp of its own, and what they hold
is read from the processes while the storm lasts. How long it may take is measured in the same run:
twice what the requests take when somebody who knows them all sends them model after model.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.support.daemon import Process, served
from tests.support.make_gguf import SPEECH, make

REPOSITORY = Path(__file__).parents[2]
MODELS = {"ash": 24, "beech": 26, "cedar": 28, "elm": 30, "fir": 32, "oak": 34}
"""Megabytes of weights."""

REQUESTS, TOKENS, SERVED_WITHIN_S = 200, 16, 300.0
BUDGET_GB = 0.26
FIRST_WORDS = "Say what comes to your mind, number"


@dataclass(frozen=True, slots=True)
class Request:
    """One of the storm: ``hangs_up_after_s`` is ``None`` for a client that stays."""

    number: int
    model: str
    stream: bool
    hangs_up_after_s: float | None


@dataclass(slots=True)
class Watch:
    """What the daemon's children hold, seen again and again."""

    most_bytes: int = 0
    most_children: int = 0
    samples: int = 0
    seen: set[int] = field(default_factory=set)


def the_storm(seed: int) -> list[Request]:
    """Half of them streams, a tenth of them leaving, mixed at random."""
    chance = random.Random(seed)
    names = [name for name in MODELS for _ in range(REQUESTS // len(MODELS) + 1)]
    chance.shuffle(names)
    return [
        Request(
            number=number,
            model=names[number],
            stream=number % 2 == 0,
            hangs_up_after_s=chance.uniform(0.05, 5.0) if number % 10 == 3 else None,
        )
        for number in range(REQUESTS)
    ]


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    for name, megabytes in MODELS.items():
        make(folder / f"{name}.gguf", megabytes, SPEECH)
    return folder


@contextmanager
def daemon_over(forest: Path, folder: Path) -> Iterator[Process]:
    folder.mkdir()
    env = {
        "PYTHONPATH": str(REPOSITORY),
        "ROUTER_VRAM_MAX_TOTAL_GB": str(BUDGET_GB),
        "ROUTER_MODEL_CONTEXT": "512",
    }
    with served(folder, "--models-dir", str(forest), env=env) as process:
        yield process


@contextmanager
def watched(daemon: Process) -> Iterator[Watch]:
    """Look at the daemon's children ten times a second."""
    watch, over = Watch(), threading.Event()
    parent = psutil.Process(daemon.process.pid)

    def look() -> None:
        while not over.wait(0.1):
            family = {child.pid: child for child in parent.children(recursive=True)}
            held = sum(map(resident, family.values()))
            watch.seen |= set(family)
            watch.most_bytes = max(watch.most_bytes, held)
            watch.most_children = max(watch.most_children, len(family))
            watch.samples += 1

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield watch
    finally:
        over.set()
        looking.join()


def resident(process: psutil.Process) -> int:
    """What a process holds; nothing once it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


@asynccontextmanager
async def a_client(daemon: Process) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=SERVED_WITHIN_S)
    async with aiohttp.ClientSession(daemon.url, connector=connector, timeout=timeout) as client:
        yield client


async def ask(client: aiohttp.ClientSession, request: Request) -> str:
    """What went wrong, or nothing."""
    body = {
        "model": request.model,
        "messages": [{"role": "user", "content": f"{FIRST_WORDS} {request.number}."}],
        "stream": request.stream,
        "max_tokens": TOKENS,
    }
    try:
        async with asyncio.timeout(request.hangs_up_after_s):
            async with client.post("/v1/chat/completions", json=body) as response:
                said = await response.text()
                return fault(request, response.status, said)
    except TimeoutError:
        return "" if request.hangs_up_after_s is not None else "not served in time"
    except aiohttp.ClientError as error:
        return f"{type(error).__name__}: {error}"


def fault(request: Request, status: int, said: str) -> str:
    if status != 200:
        return f"status {status}: {said[:200]}"
    if not request.stream:
        answer = json.loads(said)
        whole = answer["model"] == request.model and answer["choices"][0]["message"]["content"]
        return "" if whole else f"no answer of {request.model}: {said[:200]}"
    ended = said.rstrip().endswith("data: [DONE]") and "event: error" not in said
    return "" if ended else f"broken stream: {said[-200:]}"


async def all_at_once(daemon: Process, requests: Sequence[Request]) -> list[str]:
    async with a_client(daemon) as client:
        return [one for one in await asyncio.gather(*(ask(client, r) for r in requests)) if one]


async def in_clairvoyant_order(daemon: Process, requests: Sequence[Request]) -> list[str]:
    """Two models at a time, all that is asked of them, then the next two: no load is in vain."""
    names = list(MODELS)
    faults = []
    for pair in zip(names[::2], names[1::2], strict=True):
        faults += await all_at_once(daemon, [r for r in requests if r.model in pair])
    return faults


def test_a_storm_of_requests_over_six_models_of_which_two_fit(forest: Path, tmp_path: Path) -> None:
    storm = the_storm(seed=20261123)
    staying = [r for r in storm if r.hangs_up_after_s is None]
    with daemon_over(forest, tmp_path / "known") as daemon:
        began = time.monotonic()
        assert asyncio.run(in_clairvoyant_order(daemon, staying)) == []
        best_s = time.monotonic() - began
    with daemon_over(forest, tmp_path / "storm") as daemon, watched(daemon) as watch:
        began = time.monotonic()
        faults = asyncio.run(all_at_once(daemon, storm))
        took_s = time.monotonic() - began
    print(
        f"{took_s:.1f} s, clairvoyant {best_s:.1f} s ({took_s / best_s:.2f} x), "
        f"{len(watch.seen)} loads, at most {watch.most_bytes / 1e6:.0f} MB "
        f"of {BUDGET_GB * 1000:.0f} in {watch.samples} samples"
    )
    assert faults == []
    assert watch.most_children >= 2
    assert watch.most_bytes <= BUDGET_GB * 1e9
    assert took_s <= min(2 * best_s, SERVED_WITHIN_S)
