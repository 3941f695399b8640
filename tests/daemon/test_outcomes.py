"""What is kept of requests: their outcomes, in the database and in /admin/stats."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Running, backend_of, running
from tests.support.upstream import BreakOff, Endless, Status, Stream, Upstream

SECRET = "My password is swordfish."
HELLO = [{"role": "user", "content": SECRET}]


async def ask(daemon: Running, **more: Any) -> Any:
    async with daemon.client() as client:
        body = {"model": "smarterrouter/main", "messages": HELLO, **more}
        return await client.post("/v1/chat/completions", json=body)


async def outcomes(daemon: Running, count: int) -> list[dict[str, Any]]:
    """The outcomes of every decision, as soon as so many are written."""
    async with asyncio.timeout(5), daemon.client() as client:
        while daemon.engine.writer.counts.written < count:
            await asyncio.sleep(0.02)
        listed = (await client.get("/admin/decisions")).json()["decisions"]
        kept = [await client.get(f"/admin/decisions/{one['id']}") for one in reversed(listed)]
    return [outcome for answer in kept for outcome in answer.json()["outcomes"]]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_kept_with_its_tokens_and_times(stream: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if stream else {}
    async with Upstream(Stream(["Hi", " you"], start_delay_s=0.1)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await ask(daemon, stream=stream, **options)
            [kept] = await outcomes(daemon, 1)
    assert kept["request_id"] == answer.headers["x-request-id"]
    assert (kept["model"], kept["backend"], kept["virtual_model"]) == (
        "a",
        "up",
        "smarterrouter/main",
    )
    assert (kept["status"], kept["error"], kept["streamed"]) == ("ok", None, stream)
    assert kept["completion_tokens"] > 0
    assert kept["prompt_tokens"] > 0
    assert 0.1 <= kept["ttft_s"] <= kept["duration_s"] < 5
    assert kept["response_id"] in answer.text


async def test_a_failure_a_cascade_and_a_hang_up_are_told_apart() -> None:
    async with Upstream(Status(500)) as bad, Upstream(Stream(["Fine"])) as good:
        bad.models, good.models = ["a"], ["b"]
        backends = [backend_of(bad.url, "bad"), backend_of(good.url, "good")]
        async with running(backend=backends) as daemon:
            await ask(daemon)
            good.play(BreakOff(after=1))
            await ask(daemon, model="b", stream=True)
            good.play(Endless())
            async with daemon.client() as client:
                body = {"model": "b", "messages": HELLO, "stream": True}
                async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    await anext(answer.aiter_bytes())
            cascade, broken, left = await outcomes(daemon, 3)
    assert (cascade["model"], cascade["tried"], cascade["status"]) == ("b", ["a"], "ok")
    assert (broken["status"], broken["error"]) == ("error", "backend_error")
    assert (left["status"], left["ttft_s"] is not None) == ("hung_up", True)


@pytest.mark.parametrize("store_prompts", [False, True])
async def test_prompts_are_kept_only_where_the_user_says_so(
    tmp_path: Path, store_prompts: bool
) -> None:
    database = tmp_path / "kept.db"
    settings = {"database": database, "store_prompts": store_prompts}
    async with Upstream() as up, running(backend=[backend_of(up.url)], **settings) as daemon:
        await ask(daemon)
        await outcomes(daemon, 1)
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert ("swordfish" in dump) is store_prompts


async def test_stats_add_up() -> None:
    async with Upstream(Stream(["Hi"])) as up, running(backend=[backend_of(up.url)]) as daemon:
        for _ in range(3):
            await ask(daemon)
        await outcomes(daemon, 3)
        async with daemon.client() as client:
            stats = (await client.get("/admin/stats")).json()
            later = (await client.get("/admin/stats", params={"since": 4e9})).json()
    assert stats["schema"] == 1
    assert stats["totals"]["requests"] == 3
    assert [(one["model"], one["requests"]) for one in stats["models"]] == [("a", 3)]
    assert stats["store"] == {"written": 3, "dropped": 0, "failed": 0, "waiting": 0}
    assert later["totals"]["requests"] == 0


async def test_a_database_that_cannot_be_written_breaks_no_request(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    settings = {"database": in_the_way / "kept.db"}
    async with Upstream() as up, running(backend=[backend_of(up.url)], **settings) as daemon:
        answer = await ask(daemon)
        async with asyncio.timeout(5):
            while not daemon.engine.writer.counts.failed:
                await asyncio.sleep(0.02)
    assert answer.status_code == 200
