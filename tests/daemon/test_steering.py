"""What a person can set about memory, seen through a daemon: each setting shows its effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.states import Residency
from tests.support.daemon import Running, backend_of, running
from tests.support.make_gguf import SPEECH, make
from tests.support.upstream import Stream, Upstream

HELLO = [{"role": "user", "content": "Say hello."}]
SMALL = {"ash": 8, "beech": 9, "cedar": 10}
ONE_FITS, TWO_FIT = 0.07, 0.12
"""Gigabytes for models of some 50 MB each."""


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    for name, megabytes in SMALL.items():
        make(folder / f"{name}.gguf", megabytes, SPEECH)
    return folder


def over(forest: Path, gigabytes: float = TWO_FIT, **more: Any) -> dict[str, Any]:
    """Settings of a daemon over the forest in so much memory."""
    vram = {"max_total_gb": gigabytes, **more.pop("vram", {})}
    model = {"context": 512, **more.pop("model", {})}
    return {"provider": "managed", "models_dir": forest, "vram": vram, "model": model, **more}


async def ask(daemon: Running, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 3, **more}
    async with daemon.client() as client:
        return await client.post("/v1/chat/completions", json=body)


def state(daemon: Running, name: str) -> Residency:
    return daemon.engine.planner.state(ModelRef("managed", name))


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < within_s
        await asyncio.sleep(0.02)


async def test_a_keep_alive_of_nothing_unloads_a_model_after_its_answer(forest: Path) -> None:
    async with running(**over(forest, model={"keep_alive": 0})) as daemon:
        assert (await ask(daemon, "ash")).status_code == 200
        await until(lambda: state(daemon, "ash") is Residency.UNLOADED)
        [last] = [e for e in daemon.engine.scheduler.history.events if e.kind == "unload"]
        assert last.why == "idle, and its keep-alive is 0 s"


async def test_a_model_may_have_a_keep_alive_of_its_own(forest: Path) -> None:
    models = {"ash": {"keep_alive": "500ms"}}
    async with running(**over(forest, models=models)) as daemon:
        for name in ("ash", "beech"):
            assert (await ask(daemon, name)).status_code == 200
        await until(lambda: state(daemon, "ash") is Residency.UNLOADED)
        assert state(daemon, "beech") is Residency.READY


async def test_the_pinned_model_is_loaded_at_start_and_never_makes_room(forest: Path) -> None:
    async with running(**over(forest, ONE_FITS, pinned_model="ash")) as daemon:
        await until(lambda: state(daemon, "ash") is Residency.READY)
        refused = await ask(daemon, "beech")
        assert refused.status_code == 507
        assert "held by models that stay" in refused.json()["error"]["message"]
        assert state(daemon, "ash") is Residency.READY


async def test_who_unpins_what_the_settings_pin_is_obeyed(forest: Path) -> None:
    async with running(**over(forest, ONE_FITS, pinned_model="ash")) as daemon:
        await until(lambda: state(daemon, "ash") is Residency.READY)
        async with daemon.client() as client:
            assert (await client.post("/admin/models/ash/unpin")).json()["pinned"] is False
        await daemon.engine.catalogue.refresh()
        assert (await ask(daemon, "beech")).status_code == 200


async def test_models_can_be_loaded_before_anybody_asks(forest: Path) -> None:
    models = {"managed/beech": {"preload": True}}
    async with running(**over(forest, models=models)) as daemon:
        await until(lambda: state(daemon, "beech") is Residency.READY)
        assert state(daemon, "ash") is Residency.UNLOADED


async def test_without_auto_unload_nothing_makes_room(forest: Path) -> None:
    vram = {"auto_unload_enabled": False}
    async with running(**over(forest, ONE_FITS, vram=vram)) as daemon:
        assert (await ask(daemon, "ash")).status_code == 200
        refused = await ask(daemon, "beech")
        assert refused.status_code == 507
        assert state(daemon, "ash") is Residency.READY


@pytest.mark.parametrize(("strategy", "goes"), [("lru", "ash"), ("largest", "beech")])
async def test_the_strategy_says_who_goes(forest: Path, strategy: str, goes: str) -> None:
    vram = {"unload_strategy": strategy}
    async with running(**over(forest, vram=vram)) as daemon:
        for name in ("ash", "beech", "cedar"):
            assert (await ask(daemon, name)).status_code == 200
        gone = [name for name in ("ash", "beech") if state(daemon, name) is Residency.UNLOADED]
        assert gone == [goes]


async def test_a_request_that_waits_too_long_is_refused(forest: Path) -> None:
    async with running(**over(forest, ONE_FITS, queue_wait_s=4.0)) as daemon:
        async with daemon.engine.scheduler.lease(ModelRef("managed", "beech"), "somebody"):
            refused = await ask(daemon, "ash")
        assert refused.status_code == 503
        assert "ROUTER_QUEUE_WAIT_S" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1


async def test_a_full_queue_says_when_to_come_again(forest: Path) -> None:
    async with running(**over(forest, ONE_FITS, queue_size=1)) as daemon:
        async with daemon.engine.scheduler.lease(ModelRef("managed", "beech"), "somebody"):
            waiting = asyncio.create_task(ask(daemon, "ash"))
            await until(lambda: len(daemon.engine.planner.line) == 1)
            refused = await ask(daemon, "cedar")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await waiting).status_code == 200


async def test_a_backend_that_manages_its_own_memory_is_asked_no_more_at_once_than_set() -> None:
    async with Upstream(Stream(delay_s=0.05)) as up:
        backend = backend_of(up.base_url, concurrency=2)
        async with running(backend=[backend]) as daemon:
            answers = await asyncio.gather(*(ask(daemon, "a") for _ in range(8)))
            assert [one.status_code for one in answers] == [200] * 8
            assert up.peak_in_flight == 2


async def test_eight_requests_of_an_agent_hold_up_a_person_by_one(forest: Path) -> None:
    keys = "agent:aaaa,person:pppp"
    async with Upstream(Stream(delay_s=0.1)) as up:
        settings = {"backend": [backend_of(up.base_url, concurrency=1)], "api_keys": keys}
        async with running(**settings) as daemon:
            begin = time.monotonic()

            async def one(key: str) -> float:
                body = {"model": "a", "messages": HELLO}
                headers = {"Authorization": f"Bearer {key}"}
                async with daemon.client(headers=headers) as client:
                    assert (await client.post("/v1/chat/completions", json=body)).is_success
                return time.monotonic() - begin

            agent = [asyncio.create_task(one("aaaa")) for _ in range(8)]
            await until(lambda: len(daemon.engine.planner.line) == 7)
            person = await one("pppp")
            ends = sorted(await asyncio.gather(*agent))
            assert ends[0] < person < ends[2]


async def test_the_devices_are_looked_at_as_often_as_set() -> None:
    async with Upstream() as up:
        settings = {"backend": [backend_of(up.base_url)], "vram": {"monitor_interval": 0.05}}
        async with running(**settings) as daemon:
            await until(lambda: len(daemon.engine.machines.monitor.history) > 5, 5.0)


async def test_what_was_measured_is_known_after_a_restart(forest: Path, tmp_path: Path) -> None:
    settings = over(forest, database=tmp_path / "kept.db")
    ref = ModelRef("managed", "ash")
    async with running(**settings) as daemon:
        expected = daemon.engine.demands.of(ref)
        assert expected
        assert expected.source == "estimated"
        assert (await ask(daemon, "ash")).status_code == 200
        held = sum(daemon.engine.planner.seat(ref).seen.values())
    async with running(**settings) as daemon:
        known = daemon.engine.demands.of(ref)
        assert known
        assert known.source == "measured"
        assert known.bytes == pytest.approx(held, rel=0.05)


async def test_a_client_that_waits_hears_how_long(forest: Path) -> None:
    async with running(**over(forest), wait={"comment_s": 0.05}) as daemon:
        body = {"model": "cedar", "messages": HELLO, "stream": True, "max_tokens": 2}
        async with daemon.client() as client:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                said = b"".join([part async for part in response.aiter_bytes()]).decode()
        assert float(response.headers["x-smarterrouter-expected-wait"]) > 0
        assert ": loading cedar, about " in said
        assert said.rstrip().endswith("data: [DONE]")


async def test_an_outcome_tells_the_wait_and_the_load_apart(forest: Path) -> None:
    async with running(**over(forest)) as daemon:
        first = await ask(daemon, "ash")
        again = await ask(daemon, "ash")
        assert "x-smarterrouter-expected-wait" in first.headers
        assert "x-smarterrouter-expected-wait" not in again.headers
        async with daemon.client() as client:
            name = first.headers["x-smarterrouter-decision"]
            for _ in range(50):
                kept = (await client.get(f"/admin/decisions/{name}")).json()
                if kept["outcomes"]:
                    break
                await asyncio.sleep(0.1)
    [outcome] = kept["outcomes"]
    assert 0 < outcome["load_s"] <= outcome["duration_s"]
    assert outcome["queue_s"] < 0.5
