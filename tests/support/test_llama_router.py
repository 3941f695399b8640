"""The double of llama-server's router mode and the real one, held to the same behaviour."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.children import alive
from tests.support.llama_binary import NO_BINARY, RealRouter, find_llama_server
from tests.support.llama_router import LlamaRouter, Router

CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny-5m", "messages": [{"role": "user", "content": "Say hello."}]}
ENDLESS = {**HELLO, "model": "endless-20m", "stream": True}
PRESETS = """
[*]
ctx-size = 512
parallel = 1
stop-timeout = 1
[endless-20m]
context-shift = true
[vectors]
model = {vectors}
embeddings = true
pooling = mean
"""
NAMES = ["broken", "endless-20m", "tiny-20m", "tiny-5m", "vectors"]

real = pytest.mark.skipif(find_llama_server() is None, reason=NO_BINARY)


@pytest.fixture(params=[LlamaRouter, pytest.param(RealRouter, marks=real)])
async def router(
    request: pytest.FixtureRequest, tmp_path: Path, made_models: Path
) -> AsyncIterator[Router]:
    """A router for two models at a time. The file of ``broken`` breaks after it was listed."""
    models = tmp_path / "models"
    models.mkdir()
    for name in ("tiny-5m", "tiny-20m", "endless-20m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    broken = models / "broken.gguf"
    broken.write_bytes((made_models / "tiny-5m.gguf").read_bytes())
    presets = tmp_path / "presets.ini"
    presets.write_text(PRESETS.format(vectors=made_models / "tiny-20m.gguf"))
    async with request.param(models, presets, models_max=2, api_key="secret") as made:
        broken.write_bytes(b"no model")
        yield made


@pytest.fixture
async def client(router: Router) -> AsyncIterator[httpx.AsyncClient]:
    async with router.client() as made:
        yield made


async def listed(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await client.get("/models")
    return {item["id"]: item for item in answer.json()["data"]}


async def until(client: httpx.AsyncClient, name: str, value: str) -> dict[str, Any]:
    """The model's entry once its status is that."""
    async with asyncio.timeout(5):
        while (item := (await listed(client))[name])["status"]["value"] != value:
            await asyncio.sleep(0.01)
    return item


async def load(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    assert (await client.post("/models/load", json={"model": name})).status_code == 200
    return await until(client, name, "loaded")


def refused(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["type"]
    return answer.status_code, error["message"]


# --- what it says -------------------------------------------------------------------------------


async def test_it_lists_every_model_in_order_under_both_paths(client: httpx.AsyncClient) -> None:
    for path in ("/models", "/v1/models"):
        answer = (await client.get(path)).json()
        assert answer["object"] == "list"
        assert [item["id"] for item in answer["data"]] == NAMES


async def test_of_a_model_that_is_not_loaded_it_tells_no_more_than_its_start(
    client: httpx.AsyncClient,
) -> None:
    item = (await listed(client))["vectors"]
    assert item["status"]["value"] == "unloaded"
    assert "failed" not in item["status"]
    assert "--embeddings" in item["status"]["args"]
    assert item["architecture"]["input_modalities"] == ["text"]
    assert "meta" not in item


async def test_it_tells_with_which_flags_and_file_a_model_starts(
    router: Router, client: httpx.AsyncClient
) -> None:
    before = (await listed(client))["tiny-5m"]["status"]["args"]
    running = (await load(client, "tiny-5m"))["status"]["args"]
    for args in (before, running):
        told = {word: args[i + 1] for i, word in enumerate(args[:-1]) if word.startswith("--")}
        assert (told["--alias"], told["--ctx-size"], told["--parallel"]) == ("tiny-5m", "512", "1")
        assert Path(told["--model"]) == router.models / "tiny-5m.gguf"
        assert {"--host", "--port"} <= told.keys()


async def test_of_a_loaded_model_it_tells_size_and_contexts(client: httpx.AsyncClient) -> None:
    meta = (await load(client, "tiny-5m"))["meta"]
    assert {field: meta[field] for field in ("n_ctx", "n_ctx_train", "ftype")} == {
        "n_ctx": 512,
        "n_ctx_train": 2048,
        "ftype": "F16",
    }
    assert 2_000_000 < meta["n_params"] < 3_000_000
    assert 5_000_000 < meta["size"] < 6_000_000


async def test_it_is_healthy_and_says_that_it_is_a_router(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    about = (await client.get("/props")).json()
    assert about["role"] == "router"
    assert about["max_instances"] == 2
    assert about["models_autoload"] is True
    assert about["default_generation_settings"]["n_ctx"] == 0
    assert about["build_info"]


async def test_without_its_key_it_answers_nothing_but_its_health(router: Router) -> None:
    async with httpx.AsyncClient(base_url=router.url, trust_env=False, verify=False) as stranger:
        assert (await stranger.get("/health")).status_code == 200
        answers = [
            await stranger.get("/models"),
            await stranger.get("/v1/models", headers={"Authorization": "Bearer wrong"}),
            await stranger.get("/props"),
            await stranger.post(CHAT, json=HELLO),
        ]
        assert [refused(answer) for answer in answers] == [(401, "Invalid API Key")] * 4
        assert (await stranger.get("/models", headers={"X-Api-Key": "secret"})).status_code == 200


# --- loading and unloading ----------------------------------------------------------------------


async def test_success_is_told_before_a_load_or_an_unload_is_done(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/models/load", json={"model": "tiny-20m"})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert (await listed(client))["tiny-20m"]["status"]["value"] == "loading"
    await until(client, "tiny-20m", "loaded")
    answer = await client.post("/models/unload", json={"model": "tiny-20m"})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    item = await until(client, "tiny-20m", "unloaded")
    assert "failed" not in item["status"]
    assert "meta" not in item


async def test_loading_what_runs_and_unloading_what_does_not_is_refused(
    client: httpx.AsyncClient,
) -> None:
    async def told(what: str, name: str) -> tuple[int, str]:
        return refused(await client.post(f"/models/{what}", json={"model": name}))

    assert await told("unload", "tiny-5m") == (400, "model is not running")
    await client.post("/models/load", json={"model": "tiny-5m"})
    assert await told("load", "tiny-5m") == (400, "model is already running")
    await until(client, "tiny-5m", "loaded")
    assert await told("load", "tiny-5m") == (400, "model is already running")
    assert await told("load", "nobody") == (404, "File Not Found")
    assert await told("unload", "nobody") == (400, "model is not found")


async def test_a_load_that_fails_is_told_in_the_listing_and_to_who_waits(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/models/load", json={"model": "broken"})
    assert answer.json() == {"success": True}
    status = (await until(client, "broken", "unloaded"))["status"]
    assert (status["failed"], status["exit_code"]) == (True, 1)
    answer = await client.post(CHAT, json={**HELLO, "model": "broken"})
    assert refused(answer) == (500, "model name=broken failed to load")


async def test_unloading_a_model_that_is_loading_kills_it(client: httpx.AsyncClient) -> None:
    await client.post("/models/load", json={"model": "tiny-20m"})
    answer = await client.post("/models/unload", json={"model": "tiny-20m"})
    assert answer.json() == {"success": True}
    status = (await until(client, "tiny-20m", "unloaded"))["status"]
    assert status["failed"] is True
    await load(client, "tiny-20m")


async def test_the_least_recently_used_model_makes_room(
    router: Router, client: httpx.AsyncClient
) -> None:
    await load(client, "tiny-5m")
    await load(client, "tiny-20m")
    assert (await client.post(CHAT, json={**HELLO, "max_tokens": 1})).status_code == 200
    await load(client, "vectors")
    assert await router.loaded() == {"tiny-5m", "vectors"}


async def test_while_every_model_is_answering_a_load_is_refused_and_a_request_waits(
    router: Router,
) -> None:
    await router.stop()
    router.models_max = 1
    await router.start()
    async with router.client() as client:
        async with client.stream("POST", CHAT, json={**ENDLESS, "max_tokens": 300}) as answer:
            parts = answer.aiter_raw()
            await anext(parts)
            refusal = await client.post("/models/load", json={"model": "tiny-5m"})
            assert refused(refusal) == (500, "model limit reached, try again later")
            waiting = asyncio.create_task(client.post(CHAT, json=HELLO))
            assert b"[DONE]" in b"".join([part async for part in parts])
        assert (await waiting).status_code == 200
        assert await router.loaded() == {"tiny-5m"}


# --- requests -----------------------------------------------------------------------------------


async def test_a_request_loads_its_model(router: Router, client: httpx.AsyncClient) -> None:
    answer = (await client.post(CHAT, json=HELLO)).json()
    assert answer["choices"][0]["message"]["content"].startswith("Hello from tiny 5m")
    answer = (await client.post("/v1/embeddings", json={"model": "vectors", "input": "a"})).json()
    assert len(answer["data"][0]["embedding"]) > 100
    assert await router.loaded() == {"tiny-5m", "vectors"}
    texts = {"model": "tiny-5m", "prompt": "alpha", "max_tokens": 2}
    assert (await client.post("/v1/completions", json=texts)).json()["choices"][0]["text"]


async def test_whoever_looks_at_a_model_loads_it_unless_told_not_to(
    router: Router, client: httpx.AsyncClient
) -> None:
    for path in ("/props", "/slots"):
        answer = await client.get(path, params={"model": "tiny-5m", "autoload": "false"})
        assert refused(answer) == (400, "model is not loaded")
    answer = await client.post(CHAT, params={"autoload": "false"}, json=HELLO)
    assert refused(answer) == (400, "model is not loaded")
    assert await router.loaded() == set()
    props = (await client.get("/props", params={"model": "tiny-5m"})).json()
    assert props["default_generation_settings"]["n_ctx"] == 512
    assert props["total_slots"] == 1
    assert props["modalities"]["vision"] is False
    assert props["chat_template_caps"]["supports_tools"] is False
    assert await router.loaded() == {"tiny-5m"}
    [slot] = (await client.get("/slots", params={"model": "tiny-5m"})).json()
    assert slot["is_processing"] is False


async def test_with_autoload_off_only_a_load_loads(router: Router) -> None:
    await router.stop()
    router.autoload = False
    await router.start()
    async with router.client() as client:
        answer = await client.post(CHAT, json=HELLO)
        assert refused(answer) == (400, "model is not loaded")
        answer = await client.get("/props", params={"model": "tiny-5m"})
        assert refused(answer) == (400, "model is not loaded")
        await load(client, "tiny-5m")
        assert (await client.post(CHAT, json=HELLO)).status_code == 200


async def test_what_it_cannot_place_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json={**HELLO, "model": "nobody"})
    assert refused(answer) == (400, "model 'nobody' not found")
    answer = await client.post(CHAT, json={"messages": []})
    assert refused(answer) == (400, "model name is missing from the request")
    answer = await client.get("/slots")
    assert refused(answer) == (400, "model name is missing from the request")
    assert refused(await client.get("/nothing")) == (404, "File Not Found")
    status, said = refused(await client.post(CHAT, content=b"nonsense"))
    assert (status, "parse" in said) == (400, True)


async def test_the_models_own_refusals_are_handed_on(client: httpx.AsyncClient) -> None:
    status, said = refused(await client.post(CHAT, json={**HELLO, "temperature": "hot"}))
    assert status == 400
    assert "type must be number, but is string" in said


async def test_a_stream_comes_event_by_event(client: httpx.AsyncClient) -> None:
    await load(client, "endless-20m")
    began = time.monotonic()
    async with client.stream("POST", CHAT, json=ENDLESS) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        parts = answer.aiter_raw()
        first = [await anext(parts) for _ in range(5)]
    assert all(part.startswith(b"data: {") and part.endswith(b"\n\n") for part in first)
    assert b'"model":"endless-20m"' in first[0]
    assert time.monotonic() - began < 1


async def test_after_an_answer_of_a_model_the_connection_is_closed_without_a_word(
    router: Router, client: httpx.AsyncClient
) -> None:
    await load(client, "tiny-5m")
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    body = json.dumps(HELLO).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: here\r\nConnection: keep-alive\r\n"
    head += f"Authorization: Bearer secret\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(2):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"0\r\n\r\n")
    assert b"connection: close" not in answer.lower()


async def test_whoever_hangs_up_stops_the_generation(client: httpx.AsyncClient) -> None:
    async def busy() -> bool:
        [slot] = (await client.get("/slots", params={"model": "endless-20m"})).json()
        return bool(slot["is_processing"])

    async with client.stream("POST", CHAT, json=ENDLESS) as answer:
        parts = answer.aiter_raw()
        await anext(parts)
        assert await busy()
    async with asyncio.timeout(1):
        while await busy():
            await asyncio.sleep(0.01)


# --- when something dies ------------------------------------------------------------------------


async def test_an_answer_whose_model_dies_ends_cleanly_with_a_remark_in_it(
    router: Router, client: httpx.AsyncClient
) -> None:
    async with client.stream("POST", CHAT, json=ENDLESS) as answer:
        parts = answer.aiter_raw()
        await anext(parts)
        await router.crash("endless-20m")
        rest = b"".join([part async for part in parts])
    assert rest.endswith(b"proxy error: Failed to read connection")
    assert b"[DONE]" not in rest
    status = (await listed(client))["endless-20m"]["status"]
    assert (status["value"], status["failed"], status["exit_code"]) == ("unloaded", True, 1)
    answer = await client.post(CHAT, json={**ENDLESS, "stream": False, "max_tokens": 1})
    assert answer.status_code == 200


async def test_a_model_that_dies_before_its_answer_begins_is_an_error_without_json(
    router: Router, client: httpx.AsyncClient
) -> None:
    await load(client, "endless-20m")
    asking = asyncio.create_task(client.post(CHAT, json={**ENDLESS, "stream": False}))
    async with router.client() as other:
        while not (await other.get("/slots", params={"model": "endless-20m"})).json()[0][
            "is_processing"
        ]:
            await asyncio.sleep(0.01)
    await router.crash("endless-20m")
    answer = await asking
    assert answer.status_code == 500
    assert answer.content == b"proxy error: Failed to read connection"


async def test_an_answer_whose_model_is_unloaded_ends_early_and_cleanly(
    client: httpx.AsyncClient,
) -> None:
    async with client.stream("POST", CHAT, json=ENDLESS) as answer:
        parts = answer.aiter_raw()
        await anext(parts)
        unloaded = await client.post("/models/unload", json={"model": "endless-20m"})
        assert unloaded.json() == {"success": True}
        rest = b"".join([part async for part in parts])
    assert b"[DONE]" not in rest
    await until(client, "endless-20m", "unloaded")


async def test_it_comes_back_at_its_old_address_with_nothing_loaded(router: Router) -> None:
    async with router.client() as client:
        await load(client, "tiny-5m")
    process, url = router.process("tiny-5m"), router.url
    await router.stop()
    assert not alive(process)
    async with router.client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")
    await router.start()
    assert router.url == url
    assert await router.loaded() == set()
