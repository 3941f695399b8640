"""The report on memory, what people ask of models by hand, and the stream that a dashboard reads.

Over real llama.cpp children, and an upstream that manages its own memory.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from smarterrouter.daemon.events import Events
from tests.support.daemon import Running, backend_of, running, served
from tests.support.upstream import Upstream

REPOSITORY = Path(__file__).parents[2]
HELLO = [{"role": "user", "content": "Say hello."}]
DEVICE = {
    "id", "node", "vendor", "name", "total_bytes", "used_bytes", "free_bytes", "foreign_bytes",
    "source",
}  # fmt: skip
MODEL = {
    "model", "backend", "node", "state", "devices", "bytes", "bytes_source", "leases", "pinned",
    "last_used_s", "keep_alive_s",
}  # fmt: skip
ROOM_FOR_TWO_GB = 0.15


@pytest.fixture
def folder(tmp_path: Path, made_models: Path) -> Path:
    """Three small models: two of them fit into ``ROOM_FOR_TWO_GB``."""
    models = tmp_path / "few-models"
    models.mkdir()
    for name in ("tiny-5m", "tiny-20m", "endless-20m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    return models


@asynccontextmanager
async def daemon_over(folder: Path, *more: dict[str, Any], **settings: Any) -> AsyncIterator[House]:
    backends = [{"name": "ours", "kind": "managed", "models_dir": folder}, *more]
    async with running(backend=backends, model={"context": 512}, **settings) as daemon:
        async with daemon.client() as client:
            yield House(daemon, client)


class House:
    def __init__(self, daemon: Running, client: httpx.AsyncClient) -> None:
        self.daemon = daemon
        self.client = client

    async def report(self) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.client.get("/admin/vram")).json()
        return answer

    async def entry(self, name: str) -> dict[str, Any]:
        [found] = [one for one in (await self.report())["models"] if one["model"] == name]
        assert isinstance(found, dict)
        return found

    async def post(self, name: str, verb: str) -> httpx.Response:
        return await self.client.post(f"/admin/models/{name}/{verb}")

    @asynccontextmanager
    async def answering(self, name: str) -> AsyncIterator[None]:
        """The model is in the middle of an answer that does not end."""
        body = {"model": name, "messages": HELLO, "stream": True, "max_tokens": 100_000}
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            while not (await anext(lines)).startswith("data: "):
                pass
            yield

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
        async with self.client.stream("GET", "/admin/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield events_in(answer)


async def events_in(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def told(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


# --- the report ---------------------------------------------------------------------------------


async def test_the_report_tells_devices_models_and_what_is_expected_of_them(folder: Path) -> None:
    async with daemon_over(folder) as house:
        report = await house.report()
    assert report["schema"] == 1
    [ram] = report["devices"]
    assert ram.keys() > DEVICE
    assert (ram["id"], ram["own_bytes"], ram["gone"]) == ("ram", 0, False)
    assert 0 < report["budget_bytes"] == ram["budget_bytes"] < ram["total_bytes"]
    assert ram["recent"][-1][1] > 0
    assert report["queue"] == []
    for model in report["models"]:
        assert model.keys() > MODEL
        assert model["state"] == "unloaded"
        assert model["bytes_source"] == "estimated"
        assert model["bytes"] > 5_000_000
        assert model["last_used_s"] is None
        assert model["managed"] is True


async def test_a_loaded_model_is_told_with_what_it_was_measured_to_hold(folder: Path) -> None:
    async with daemon_over(folder) as house:
        answer = (await house.post("ours/tiny-5m", "load")).json()
        report = await house.report()
        entry = await house.entry("tiny-5m")
    assert answer["schema"] == 1
    assert (answer["state"], answer["bytes_source"]) == ("ready", "measured")
    assert [one["kind"] for one in answer["happened"]] == ["load"]
    assert entry["devices"] == [{"id": "ram", "bytes": entry["bytes"]}]
    assert report["devices"][0]["own_bytes"] == entry["reserved_bytes"]
    assert 5_000_000 < entry["bytes"] <= entry["reserved_bytes"]  # it has room to grow
    assert 0 <= entry["last_used_s"] < 60
    assert entry["keep_alive_s"] == -1
    assert entry["load_s"] > 0


async def test_uses_and_waiters_are_told(folder: Path) -> None:
    async with daemon_over(folder) as house, house.answering("endless-20m"):
        body = {"model": "endless-20m", "messages": HELLO, "max_tokens": 1}
        second = asyncio.create_task(house.client.post("/v1/chat/completions", json=body))
        while not (queue := (await house.report())["queue"]):
            await asyncio.sleep(0.02)
        entry = await house.entry("endless-20m")
        second.cancel()
    assert (queue[0]["model"], queue[0]["waiting"]) == ("endless-20m", 1)
    assert queue[0]["oldest_s"] >= 0
    assert (entry["leases"], entry["concurrency"], entry["waiting"]) == (1, 1, 1)
    assert entry["last_used_s"] == 0


async def test_a_backend_that_manages_its_own_memory_says_so(folder: Path) -> None:
    async with Upstream(models=["org/cloud:7b"]) as up:
        async with daemon_over(folder, backend_of(up.url, concurrency=2)) as house:
            entry = await house.entry("org/cloud:7b")
            answers = [await house.post("org/cloud:7b", verb) for verb in ("load", "unload", "pin")]
    assert (entry["state"], entry["managed"], entry["concurrency"]) == ("ready", False, 2)
    assert entry["bytes"] is entry["bytes_source"] is None
    for status, code, message in map(told, answers):
        assert (status, code) == (409, "conflict")
        assert "manages the memory of org/cloud:7b itself" in message


# --- by hand ------------------------------------------------------------------------------------


async def test_an_unknown_model_is_not_found_with_the_known_names(folder: Path) -> None:
    async with daemon_over(folder) as house:
        answers = [await house.post("nobody/none:7b", verb) for verb in ("load", "unload", "unpin")]
        strange = await house.post("tiny-5m", "dance")
    for status, code, message in map(told, answers):
        assert (status, code) == (404, "model_not_found")
        assert "tiny-20m" in message
    assert strange.status_code == 404


async def test_a_model_in_use_is_not_unloaded_and_an_idle_one_is(folder: Path) -> None:
    async with daemon_over(folder) as house:
        async with house.answering("endless-20m"):
            refused = await house.post("endless-20m", "unload")
        while (await house.entry("endless-20m"))["leases"]:
            await asyncio.sleep(0.02)
        gone = await house.post("endless-20m", "unload")
        again = await house.post("endless-20m", "unload")
        report = await house.report()
    status, code, message = told(refused)
    assert (status, code) == (409, "conflict")
    assert "is answering 1 request" in message
    assert gone.json()["state"] == "unloaded"
    assert [one["kind"] for one in gone.json()["happened"]] == ["unload"]
    assert (again.status_code, again.json()["happened"]) == (200, [])
    assert report["devices"][0]["own_bytes"] == 0


async def test_a_pinned_model_stays_until_it_is_unpinned(folder: Path) -> None:
    async with daemon_over(folder) as house:
        pinned = (await house.post("tiny-5m", "pin")).json()
        refused = await house.post("tiny-5m", "unload")
        unpinned = (await house.post("tiny-5m", "unpin")).json()
        gone = (await house.post("tiny-5m", "unload")).json()
    assert (pinned["pinned"], pinned["state"]) == (True, "ready")
    assert told(refused)[0] == 409
    assert "Unpin it first" in told(refused)[2]
    assert (unpinned["pinned"], unpinned["state"]) == (False, "ready")
    assert gone["state"] == "unloaded"


async def test_a_pinned_model_whose_file_has_gone_can_be_let_go(folder: Path) -> None:
    async with daemon_over(folder) as house:
        await house.post("tiny-5m", "pin")
        (folder / "tiny-5m.gguf").unlink()
        await house.daemon.engine.catalogue.refresh()
        answers = [await house.post("ours/tiny-5m", verb) for verb in ("load", "unpin", "unload")]
    assert [one.status_code for one in answers] == [404, 200, 200]
    assert answers[1].json()["pinned"] is False
    assert answers[2].json()["state"] == "unloaded"


async def test_a_load_that_can_never_fit_is_refused_with_the_sizes(folder: Path) -> None:
    async with daemon_over(folder, vram={"max_total_gb": 0.02}) as house:
        status, code, message = told(await house.post("tiny-20m", "load"))
        pinned = await house.post("tiny-20m", "pin")
        entry = await house.entry("tiny-20m")
    assert (status, code) == (507, "insufficient_vram")
    assert "GB" in message
    assert pinned.status_code == 507
    assert (entry["state"], entry["pinned"]) == ("unloaded", False)


async def test_who_went_to_make_room_is_told(folder: Path) -> None:
    async with daemon_over(folder, vram={"max_total_gb": ROOM_FOR_TWO_GB}) as house:
        for name in ("tiny-5m", "tiny-20m"):
            assert (await house.post(name, "load")).status_code == 200
        answer = (await house.post("endless-20m", "load")).json()
        newest = (await house.client.get("/admin/vram/history", params={"limit": 2})).json()
        every = (await house.client.get("/admin/vram/history")).json()["history"]
    gone = [one for one in answer["happened"] if one["kind"] == "unload"]
    assert [one["model"] for one in gone] == ["tiny-5m"]
    assert answer["happened"][-1]["model"] == "endless-20m"
    assert newest == {"schema": 1, "history": every[:2]}
    assert [one["model"] for one in every] == ["endless-20m", "tiny-5m", "tiny-20m", "tiny-5m"]
    assert every[0].keys() == {"at", "kind", "model", "backend", "why", "seconds", "bytes"}
    assert every[0]["at"] >= every[-1]["at"]


async def test_a_client_that_hangs_up_does_not_cancel_the_load_under_way(folder: Path) -> None:
    async with daemon_over(folder) as house:
        loading = asyncio.create_task(house.post("tiny-20m", "load"))
        while (await house.entry("tiny-20m"))["state"] == "unloaded":
            await asyncio.sleep(0.001)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        while (state := (await house.entry("tiny-20m"))["state"]) == "loading":
            await asyncio.sleep(0.02)
    assert state == "ready"


async def test_a_client_that_hangs_up_while_it_waits_for_room_causes_no_load(folder: Path) -> None:
    async with daemon_over(folder, vram={"max_total_gb": 0.1}) as house:
        async with house.answering("endless-20m"):
            loading = asyncio.create_task(house.post("tiny-20m", "load"))
            while not (await house.report())["queue"]:
                await asyncio.sleep(0.02)
            loading.cancel()
            while (await house.report())["queue"]:
                await asyncio.sleep(0.02)
        entry = await house.entry("tiny-20m")
    assert entry["state"] == "unloaded"


async def test_memory_is_behind_the_admin_key(folder: Path) -> None:
    async with daemon_over(folder, admin_api_key="boss") as house:
        paths = ("/admin/vram", "/admin/vram/history", "/admin/events")
        refused = [(await house.client.get(path)).status_code for path in paths]
        refused.append((await house.post("tiny-5m", "load")).status_code)
        key = {"Authorization": "Bearer boss"}
        open_to = await house.client.get("/admin/vram", headers=key)
    assert refused == [401] * 4
    assert open_to.status_code == 200


# --- events -------------------------------------------------------------------------------------


async def test_a_page_of_another_site_can_move_no_model(folder: Path) -> None:
    async with daemon_over(folder) as house:
        theirs = {"Origin": "https://elsewhere.example"}
        path = "/admin/models/tiny-5m/load"
        status, _, said = told(await house.client.post(path, headers=theirs))
        assert (status, said) == (401, "A page of another site may not do this.")
        ours = {"Origin": house.daemon.url}
        assert (await house.client.post(path, headers=ours)).status_code == 200


async def test_a_listener_hears_the_report_at_once_and_then_what_happens(folder: Path) -> None:
    async with daemon_over(folder) as house, house.listening() as events:
        began = time.monotonic()
        assert (await anext(events))[0] == "vram"
        assert time.monotonic() - began < 1
        loading = asyncio.create_task(house.post("tiny-5m", "load"))
        heard: list[tuple[str, dict[str, Any]]] = []
        while not heard or heard[-1][0] != "history":
            heard.append(await anext(events))
        kind, report = await anext(events)
        await loading
    assert (heard[-1][1]["kind"], heard[-1][1]["model"]) == ("load", "tiny-5m")
    assert kind == "vram"
    assert "ready" in {model["state"] for model in report["models"]}


async def test_a_listener_hears_at_least_every_two_seconds_though_nothing_happens(
    folder: Path,
) -> None:
    async with daemon_over(folder) as house, house.listening() as events:
        await anext(events)
        began = time.monotonic()
        await anext(events)
        await anext(events)
        assert time.monotonic() - began < 6


async def test_changes_are_told_four_times_a_second_at_most(folder: Path) -> None:
    async with daemon_over(folder) as house, house.listening() as events:
        await anext(events)
        heard = 0

        async def count() -> None:
            nonlocal heard
            async for _ in events:
                heard += 1

        counting = asyncio.create_task(count())
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            await house.daemon.engine.look()
            await asyncio.sleep(0.02)
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
    assert 2 <= heard <= 9


async def test_any_number_listen_and_those_who_leave_are_forgotten(folder: Path) -> None:
    async with daemon_over(folder) as house:
        tasks = len(asyncio.all_tasks())
        async with house.client.stream("GET", "/admin/events"):
            async with house.listening() as one, house.listening() as other:
                assert (await anext(one))[0] == (await anext(other))[0] == "vram"
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.05)


async def test_a_listener_that_does_not_read_misses_old_reports_and_holds_nothing(
    folder: Path,
) -> None:
    async with daemon_over(folder) as house:
        events = Events(house.daemon.engine)
        slow = events.listen()
        assert (await anext(slow)).startswith(b"event: vram\n")
        quick = events.listen()
        for _ in range(4):
            await house.daemon.engine.look()
            await anext(quick)
        await house.post("tiny-5m", "load")
        first, second = await anext(slow), await anext(slow)
        events.close()
        assert [block async for block in slow] == []
    assert first.startswith(b"event: history\n")
    assert second.startswith(b"event: vram\n")
    assert b'"ready"' in second


def test_a_daemon_with_a_listener_ends_at_once_when_it_is_told_to(
    folder: Path, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY)}
    with served(tmp_path, "--models-dir", str(folder), env=environment) as daemon:
        with daemon.client() as client, client.stream("GET", "/admin/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: vram"
            daemon.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            for _ in lines:  # it ends well: httpx raises where the last chunk is missing
                pass
        assert daemon.process.wait(15) == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in daemon.log.read_text()
