"""Profiling of real llama.cpp models through a real daemon; and who goes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from smarterrouter.assembly.profiler import ASKED_FOR_IDLE_S
from smarterrouter.assembly.rig import EngineRig, is_near
from smarterrouter.domain.models import Model
from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.checkers.specs import Exact
from smarterrouter.profiling.rig import Disturbed
from smarterrouter.profiling.runner import Runner
from smarterrouter.profiling.task import Task
from smarterrouter.store.only_one import only_one
from tests.support.daemon import Running, backend_of, running
from tests.support.upstream import Upstream

HELLO = [{"role": "user", "content": "Say hello."}]
CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "England": "London"}
EASY = tuple(
    Task(
        id=f"capital-{land.lower()}",
        level="easy",
        group="knowledge",
        prompt=f"What is the capital of {land}?",
        check=Exact(answers=[city], rivals=[c for c in CAPITALS.values() if c != city]),
        max_tokens=256,
    )
    for land, city in CAPITALS.items()
)


@pytest.fixture
def folder(tmp_path: Path, made_models: Path, smollm2: Path) -> Path:
    """Two made models and a real one."""
    models = tmp_path / "three"
    models.mkdir()
    for name in ("tiny-5m", "tiny-60m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    (models / "smollm2.gguf").symlink_to(smollm2)
    return models


@asynccontextmanager
async def daemon_over(folder: Path, **more: Any) -> AsyncIterator[Running]:
    backends = [{"name": "ours", "kind": "managed", "models_dir": folder}]
    quiet = {"on_start": False}
    settings = {"backend": backends, "model": {"context": 512}, "profile": quiet, **more}
    async with running(**settings) as daemon:
        yield daemon


def outside(daemon: Running, model: Model) -> int:
    """What the model's processes hold, as the system says."""
    pids = daemon.engine.backends[model.ref.backend].processes(model.ref.name)
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


async def ended(client: httpx.AsyncClient, task: str, limit_s: float = 120.0) -> dict[str, Any]:
    """The run's status once it is over."""
    until = time.monotonic() + limit_s
    while True:
        status: dict[str, Any] = (await client.get(f"/admin/profiling_status/{task}")).json()
        if status["state"] != "running":
            return status
        assert time.monotonic() < until, status
        await asyncio.sleep(0.1)


async def test_three_real_models_are_told_apart(folder: Path) -> None:
    async with daemon_over(folder) as daemon:
        engine = daemon.engine
        rig = EngineRig(engine)
        held: dict[str, int] = {}
        weigh = rig.weigh

        class Watching(EngineRig):
            async def weigh(self, model: Model) -> Any:
                found = await weigh(model)
                held.setdefault(model.id, outside(daemon, model))
                return found

        bench = Bench(
            rig=Watching(engine),
            notes=engine.notes,
            clock=engine.clock,
            options=Options(always=EASY),
        )
        assert set((await Runner(bench).run()).values()) == {None}
        await engine.learn()
        async with daemon.client() as client:
            report = (await client.get("/admin/profiles")).json()
            body = {"model": "smarterrouter/quality", "messages": HELLO, "max_tokens": 4}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            decision = (
                await client.get("/admin/explain?prompt=What+is+the+capital+of+Spain")
            ).json()
    of = {one["model"]: one for one in report["models"]}
    by_size = ("tiny-5m", "tiny-60m", "smollm2")
    rates = [of[name]["speed"]["decode_tps"] for name in by_size]
    assert rates == sorted(rates, reverse=True)
    footprints = [of[name]["footprint_bytes"] for name in by_size]
    assert footprints == sorted(footprints)
    for name, count in zip(by_size, footprints, strict=True):
        assert count == pytest.approx(held[name], rel=0.1)
        load = of[name]["load"]
        assert all(s > 0 for kind in ("cold", "warm", "unknown") for s in load[kind])
        assert len(load["cold"]) == len(load["warm"])
        assert len(load["cold"]) + len(load["unknown"]) == 2, "some systems keep a file's pages"
        assert of[name]["memory"]["why_not_larger"] is None
        larger = of[name]["memory"]["larger"]
        assert larger["context"] == 2 * of[name]["memory"]["usual"]["context"]
        assert [row["requests"] for row in of[name]["parallel"]] == [2, 4]
    assert of["smollm2"]["abilities"]["vision"]["able"] is False
    scores = {n: c["overall"]["mean"] for n in by_size for c in of[n]["candidates"]}
    assert scores["smollm2"] >= 0.75
    assert scores["tiny-5m"] == scores["tiny-60m"] == 0.0
    assert report["best"]["knowledge"]["subject"] == "smollm2"
    assert answer["model"] == "smollm2", "routing goes by it"
    [terms] = [c["terms"] for c in decision["decision"]["candidates"] if c["model"] == "smollm2"]
    assert "profiled: " in terms[0]["why"]


async def test_a_run_on_demand_can_be_followed_and_broken_off(folder: Path) -> None:
    async with daemon_over(folder) as daemon, daemon.client() as client:
        wish = {"models": ["tiny-5m"], "quick": True}
        planned = (await client.post("/admin/reprofile?dry_run=true", json=wish)).json()
        assert [one["model"] for one in planned["models"]] == ["tiny-5m"]
        task = (await client.post("/admin/reprofile", json=wish)).json()["task"]
        second = await client.post("/admin/reprofile", json=wish)
        assert (second.status_code, second.json()["error"]["code"]) == (409, "conflict")
        assert (await client.get("/health")).json()["profiling"]["task"] == task
        status = await ended(client, task)
        assert (status["state"], status["progress"]["done"]) == ("done", ["tiny-5m"])
        wish["models"] = ["smollm2"]
        task = (await client.post("/admin/reprofile", json=wish)).json()["task"]
        await client.delete(f"/admin/profiling_status/{task}")
        assert (await ended(client, task))["state"] == "cancelled"
        assert (await client.get("/health")).json()["profiling"] == {"state": "idle"}
        assert (await client.get("/admin/profiling_status/none")).status_code == 404


async def test_a_wrong_name_fails_the_run_with_a_sentence(folder: Path) -> None:
    async with daemon_over(folder) as daemon, daemon.client() as client:
        task = (await client.post("/admin/reprofile", json={"models": ["nobody"]})).json()["task"]
        status = await ended(client, task)
        wrong = await client.post("/admin/reprofile", json={"prompts": "group = 3"})
        huge = await client.post("/admin/reprofile", json={"prompts": "#" * (1 << 21)})
        with only_one(daemon.engine.database, "held by the test"):
            task = (await client.post("/admin/reprofile", json={"quick": True})).json()["task"]
            held = await ended(client, task)
        assert (await client.get("/health")).json()["profiling"] == {"state": "idle"}
    assert (held["state"], "is profiling here already" in held["why"]) == ("failed", True)
    assert (huge.status_code, "larger than 1 MB" in huge.text) == (400, True)
    assert status["state"] == "failed"
    assert "There is no model 'nobody'" in status["why"]
    assert wrong.status_code == 400


async def test_who_asks_meanwhile_goes_first(folder: Path) -> None:
    async with daemon_over(folder) as daemon, daemon.client() as client:
        wish = {"models": ["smollm2"], "quick": True}
        task = (await client.post("/admin/reprofile", json=wish)).json()["task"]
        engine = daemon.engine
        async with asyncio.timeout(30):
            while not any(seat.leases for seat in engine.planner.seats.values()):
                await asyncio.sleep(0.01)
        began = time.monotonic()
        body = {"model": "tiny-5m", "messages": HELLO, "max_tokens": 4}
        answer = await client.post("/v1/chat/completions", json=body)
        took = time.monotonic() - began
        leases = {ref.name for ref, seat in engine.planner.seats.items() if seat.leases}
        await client.delete(f"/admin/profiling_status/{task}")
        await ended(client, task)
    assert answer.status_code == 200
    assert took < 3.0
    assert leases == set(), "what was being asked was given up"
    assert ASKED_FOR_IDLE_S >= 1.0


async def test_profiling_gives_way_and_does_not_begin_while_somebody_is_served(
    folder: Path,
) -> None:
    async with daemon_over(folder) as daemon:
        rig = EngineRig(daemon.engine)
        [model] = [one for one in rig.models() if one.id == "tiny-5m"]
        with daemon.engine.completions.traffic.one(), pytest.raises(Disturbed):
            await rig.load(model)
        assert await rig.load(model) > 0


async def test_new_models_are_profiled_while_nobody_asks_anything(folder: Path) -> None:
    for name in ("tiny-60m", "smollm2"):
        (folder / f"{name}.gguf").unlink()
    profile = {"on_start": True, "idle_s": 0.2}
    async with daemon_over(folder, profile=profile) as daemon, daemon.client() as client:
        async with asyncio.timeout(60):
            while True:
                models = (await client.get("/admin/profiles")).json()["models"]
                if [one["model"] for one in models if one["done"]] == ["tiny-5m"]:
                    break
                await asyncio.sleep(0.1)
    assert models[0]["depth"] == "quick"


async def test_one_setting_turns_that_off(folder: Path) -> None:
    profile = {"on_start": False, "idle_s": 0.0}
    async with daemon_over(folder, profile=profile) as daemon, daemon.client() as client:
        await asyncio.sleep(0.5)
        assert (await client.get("/admin/profiles")).json()["models"] == []


async def test_a_server_elsewhere_is_left_out_unless_it_is_named() -> None:
    async with Upstream(models=["cloud"]) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            assert EngineRig(daemon.engine).left_out() == {}


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://192.168.1.7:1234", True),
        ("http://desk:1234", True),
        ("http://desk.local:1234", True),
        ("http://[::1]:80", True),
        ("https://api.example.com/v1", False),
        ("https://8.8.8.8", False),
    ],
)
def test_which_addresses_are_near(url: str, near: bool) -> None:
    assert is_near(url) is near
