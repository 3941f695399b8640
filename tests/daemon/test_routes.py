"""What else the daemon answers: malformed requests, model lists, admin routes, keys."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from smarterrouter.profiling.benchmarks.shelf import table
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.writer import Writer
from tests.support.daemon import backend_of, running
from tests.support.upstream import Raw, Upstream, llamacpp_model, vllm_model

SAMPLES = Path(__file__).parents[1] / "profiling" / "benchmarks" / "samples"
HELLO = [{"role": "user", "content": "Say hello."}]

MALFORMED: list[tuple[bytes, str]] = [
    (b"{", "not a JSON object"),
    (b"[]", "not a JSON object"),
    (b'"hello"', "not a JSON object"),
    (b"", "not a JSON object"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "'model' is missing"),
    (b'{"model": "a"}', "'messages' is missing"),
    (b'{"model": "a", "messages": []}', "'messages' is empty"),
    (b'{"model": "a", "messages": "hi"}', "'messages' is malformed"),
    (b'{"model": "a", "messages": [{"content": "x"}]}', "role"),
    (b'{"model": "a", "messages": [{"role": "user", "content": 5}]}', "content"),
    (b'{"model": 7, "messages": [{"role": "user", "content": "x"}]}', "'model' is malformed"),
    (b'{"model":"a","stream":"yes","messages":[{"role":"user","content":"x"}]}', "'stream'"),
    (b'{"model":"a","max_tokens":"x","messages":[{"role":"user","content":"x"}]}', "'max_tokens'"),
    (b'{"model":"a","messages":[{"role":"user","content":"\xff\xfe"}]}', "malformed"),
    (b'{"model":"a","messages":' + b"[" * 100_000, "not a JSON object"),
]


@pytest.mark.parametrize(("body", "told"), MALFORMED, ids=[told for _, told in MALFORMED])
async def test_a_malformed_request_is_told_what_is_wrong(body: bytes, told: str) -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            answer = await client.post("/v1/chat/completions", content=body)
            healthy = await client.get("/health")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"
    assert healthy.status_code == 200
    assert not up.requests


async def test_a_body_that_is_too_long_is_refused_and_the_daemon_serves_on() -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)], max_body_mb=1) as daemon:
        long = {"model": "a", "messages": [{"role": "user", "content": "x" * 1_100_000}]}
        async with daemon.client() as client:
            refused = await client.post("/v1/chat/completions", json=long)
            fine = await client.post("/v1/chat/completions", json={"model": "a", "messages": HELLO})
    assert refused.status_code == 413
    assert "ROUTER_MAX_BODY_MB" in refused.json()["error"]["message"]
    assert fine.status_code == 200


async def test_two_thousand_messages_are_answered() -> None:
    turns = [{"role": "user", "content": f"turn {n}"} for n in range(2000)]
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            body = {"model": "smarterrouter/main", "messages": turns}
            answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert len(up.requests[0].body["messages"]) == 2000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_another_method_is_refused_in_openai_s_form(path: str) -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            answer = await client.get(path)
    assert answer.status_code == 405
    assert "POST" in answer.json()["error"]["message"]


async def test_an_unknown_path_is_not_found_in_openai_s_form() -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            answer = await client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_models_are_listed_with_what_clients_read() -> None:
    models = [vllm_model("big", 16384), llamacpp_model("small", 4096)]
    async with Upstream(models=models) as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            entries = {m["id"]: m for m in (await client.get("/v1/models")).json()["data"]}
            named = (await client.get("/v1/models/up/big")).json()
            unknown = await client.get("/v1/models/up/none")
    assert named == entries["big"]
    assert unknown.status_code == 404
    assert entries["big"]["max_model_len"] == entries["big"]["meta"]["n_ctx"] == 16384
    assert entries["small"]["meta"]["n_params"] == 135_000_000
    assert entries["small"]["capabilities"] == ["chat"]
    assert entries["big"]["loaded"] is True
    assert entries["smarterrouter/main"]["max_model_len"] == 16384
    assert entries["smarterrouter/main"]["owned_by"] == "smarterrouter"


async def test_the_name_apps_see_can_be_chosen() -> None:
    async with Upstream() as up:
        async with running(backend=[backend_of(up.url)], external_model_name="home") as daemon:
            async with daemon.client() as client:
                listed = [m["id"] for m in (await client.get("/v1/models")).json()["data"]]
                body = {"model": "home", "messages": HELLO}
                answer = await client.post("/v1/chat/completions", json=body)
    assert listed[0] == "home"
    assert answer.status_code == 200


async def test_a_backend_that_cannot_be_reached_is_named() -> None:
    async with running(backend=[backend_of("http://127.0.0.1:9", "nowhere")]) as daemon:
        async with daemon.client() as client:
            body = {"model": "smarterrouter/main", "messages": HELLO}
            answer = await client.post("/v1/chat/completions", json=body)
            health = (await client.get("/health")).json()
    assert answer.status_code == 503
    assert "nowhere" in answer.json()["error"]["message"]
    assert (health["status"], health["ready"]) == ("ok", False)
    assert health["profiling"] == {"state": "idle"}


async def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers() -> None:
    async with Upstream(models=[vllm_model("small", 256)]) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            async with daemon.client() as client:
                long = [{"role": "user", "content": "word " * 2000}]
                answer = await client.post(
                    "/v1/chat/completions", json={"model": "small", "messages": long}
                )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "256" in answer.json()["error"]["message"]


async def test_explain_decides_as_a_request_would() -> None:
    async with Upstream(models=["a", "b"]) as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            explained = await client.get("/admin/explain", params={"prompt": "Say hello."})
            body = {"model": "smarterrouter/main", "messages": HELLO}
            answer = await client.post("/v1/chat/completions", json=body)
            decision = answer.headers["x-smarterrouter-decision"]
            kept = (await client.get(f"/admin/decisions/{decision}")).json()["decision"]
            listed = (await client.get("/admin/decisions")).json()["decisions"]
            empty = await client.get("/admin/explain", params={"prompt": " "})
            long = await client.post("/admin/explain", json={"prompt": "word " * 40_000})
            strange = await client.post("/admin/explain", json={"prompt": "hi", "models": []})
    assert long.json()["decision"]["prompt_tokens"] > 40_000
    assert strange.status_code == 400
    told = explained.json()["decision"]
    assert {**told, "id": ""} == {**kept, "id": ""}
    assert [one["id"] for one in listed] == [decision]
    assert empty.status_code == 400


async def test_admin_wants_the_admin_key_where_there_is_one() -> None:
    keys = {"api_keys": "me:sesame", "admin_api_key": "boss"}
    async with Upstream() as up, running(backend=[backend_of(up.url)], **keys) as daemon:
        async with daemon.client() as client:

            async def status(path: str, key: str | None) -> int:
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                return (await client.get(path, headers=headers)).status_code

            assert await status("/admin/decisions", None) == 401
            assert await status("/admin/decisions", "sesame") == 401
            assert await status("/admin/decisions", "boss") == 200
            assert await status("/v1/models", "sesame") == 200
            assert await status("/v1/models", "boss") == 200
            assert await status("/v1/models", "other") == 401
            assert await status("/health", None) == 200


async def test_a_backend_that_comes_back_is_listed_again() -> None:
    up = Upstream()
    await up.start()
    async with running(backend=[backend_of(up.url)]) as daemon:
        await up.stop()
        await daemon.engine.catalogue.refresh()
        assert daemon.engine.catalogue.models == ()
        await up.start()
        await daemon.engine.catalogue.refresh()
        assert [model.id for model in daemon.engine.catalogue.models] == ["a"]
        await up.stop()


async def test_many_requests_at_once_are_all_answered() -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:

            async def one(number: int) -> int:
                body: dict[str, Any] = {"model": "smarterrouter/main", "messages": HELLO}
                body["stream"] = number % 2 == 0
                return (await client.post("/v1/chat/completions", json=body)).status_code

            statuses = await asyncio.gather(*(one(number) for number in range(64)))
    assert set(statuses) == {200}


@pytest.mark.parametrize("name", ["caf\ud800", "nul\x01m", "a\rb", "a\nx-injected: 1"])
async def test_a_model_whose_name_is_no_text_is_left_out(name: str) -> None:
    listing = json.dumps({"data": [{"id": name}, {"id": "fine"}, "odd", {}]}).encode()
    given = Raw([listing], "application/json")
    async with Upstream(list_step=given) as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            listed = (await client.get("/v1/models")).json()["data"]
            body = {"model": "fine", "messages": HELLO}
            answer = await client.post("/v1/chat/completions", json=body)
            unknown = await client.get("/v1/models/none")
    assert [one["id"] for one in listed if one["owned_by"] == "up"] == ["fine"]
    assert answer.status_code == 200
    assert unknown.status_code == 404


async def test_a_model_that_is_listed_twice_is_one_model() -> None:
    async with Upstream(models=["a", "a"]) as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            answer = await client.post(
                "/v1/chat/completions", json={"model": "a", "messages": HELLO}
            )
    assert answer.status_code == 200


async def test_a_list_that_never_ends_holds_up_neither_the_start_nor_the_others() -> None:
    endless = Raw([b" "] * 200, "application/json", delay_s=0.1)
    async with Upstream(models=["fine"]) as good, Upstream(list_step=endless) as slow:
        backends = [backend_of(good.url, "good"), backend_of(slow.url, "slow")]
        began = time.monotonic()
        async with running(backend=backends) as daemon:
            assert time.monotonic() - began < 6.0
            assert [model.id for model in daemon.engine.catalogue.models] == ["fine"]


@pytest.mark.parametrize("prompt", [[1] * 5000, [[1, 2], [3]]])
async def test_a_prompt_of_tokens_counts_its_tokens(prompt: list[object]) -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        async with daemon.client() as client:
            body = {"model": "a", "prompt": prompt}
            answer = await client.post("/v1/completions", json=body)
        [decision] = daemon.engine.completions.decisions
    assert answer.status_code == 200
    assert decision.features.prompt_tokens >= len(prompt)


async def test_secrets_stay_out_of_what_clients_hear() -> None:
    url = "http://user:hunter2@127.0.0.1:9/v1?key=hunter3"
    async with running(backend=[backend_of(url, api_key=" sk-secret\n")]) as daemon:
        async with daemon.client() as client:
            body = {"model": "smarterrouter/main", "messages": HELLO}
            answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 503
    assert not {"hunter2", "hunter3", "sk-secret"} & set(re.split(r"\W", answer.text))
    assert "127.0.0.1:9" in answer.text


async def test_imported_benchmarks_are_matched_counted_and_told(tmp_path: Path) -> None:
    names = ["qwen2.5:7b", "some-odd-model"]
    board = (SAMPLES / "open_llm_v2.csv").read_bytes()
    writer = Writer(tmp_path / "kept.db")
    asked = {"prompt": "Write a Python function that merges two sorted lists."}
    settings = {"database": tmp_path / "kept.db", "profile": {"benchmarks": True}}
    async with Upstream(models=names) as up:
        async with running(backend=[backend_of(up.url)], **settings) as daemon:
            async with daemon.client() as client:
                empty = (await client.get("/admin/benchmarks")).json()
                before = (await client.post("/admin/explain", json=asked)).json()
                writer.start()
                await Profiles(tmp_path / "kept.db", writer).keep(table(board, "b.csv", 1.0))
                writer.close()
                await client.post("/admin/learn", json={})
                told = (await client.get("/admin/benchmarks")).json()
                after = (await client.post("/admin/explain", json=asked)).json()
    assert (empty["tables"], empty["used"]) == ([], True)
    assert [one["matches"][0]["row"] for one in told["models"]] == [
        "Qwen/Qwen2.5-7B-Instruct",
        None,
    ]
    qualities = [
        {one["model"]: one["quality"] for one in answer["decision"]["candidates"]}
        for answer in (before, after)
    ]
    assert qualities[0]["qwen2.5:7b"] == qualities[0]["some-odd-model"]
    assert qualities[1]["qwen2.5:7b"] > qualities[1]["some-odd-model"]
