"""Four backends of four kinds behind one daemon, and what happens when one goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from smarterrouter.backends import nearby
from tests.support.daemon import Running, backend_of, running, served
from tests.support.llama_router import LlamaRouter
from tests.support.ollama import Ollama, OllamaModel
from tests.support.upstream import Stream, Upstream

HELLO = [{"role": "user", "content": "Say hello."}]
NAMES = {"qwen:4b": "ollama", "tiny-20m": "llamacpp", "cloud": "openai", "tiny-5m": "managed"}


@dataclass
class House:
    daemon: Running
    ollama: Ollama
    cloud: Upstream


def folder_with(folder: Path, made_models: Path, name: str) -> Path:
    folder.mkdir()
    (folder / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    return folder


@pytest.fixture
async def house(tmp_path: Path, made_models: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ollama = await enter(Ollama(OllamaModel(name="qwen:4b")))
        router = await enter(LlamaRouter(folder_with(tmp_path / "routed", made_models, "tiny-20m")))
        cloud = await enter(Upstream(Stream(["From afar"]), models=["cloud"]))
        ours = folder_with(tmp_path / "ours", made_models, "tiny-5m")
        daemon = await enter(
            running(
                backend=[
                    {"name": "ollama", "kind": "ollama", "url": ollama.url},
                    {"name": "llamacpp", "kind": "llamacpp", "url": router.url},
                    backend_of(cloud.url, "openai"),
                    {"name": "managed", "kind": "managed", "models_dir": ours},
                ]
            )
        )
        yield House(daemon, ollama, cloud)


async def ask(daemon: Running, model: str, **more: Any) -> httpx.Response:
    async with daemon.client() as client:
        body = {"model": model, "messages": HELLO, "max_tokens": 8, **more}
        return await client.post("/v1/chat/completions", json=body)


async def test_each_kind_answers_and_is_listed(house: House) -> None:
    answers = await asyncio.gather(*(ask(house.daemon, name) for name in NAMES))
    async with house.daemon.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
    assert [answer.status_code for answer in answers] == [200] * 4, [a.text for a in answers]
    told = {answer.json()["model"]: answer.headers["x-smarterrouter-backend"] for answer in answers}
    assert told == NAMES
    assert {
        one["id"]: one["owned_by"] for one in listed if one["owned_by"] in told.values()
    } == NAMES
    assert {one["id"] for one in listed if one["loaded"]} >= set(NAMES)


async def test_one_goes_and_comes_back_while_the_others_serve(house: House) -> None:
    assert (await ask(house.daemon, "qwen:4b")).status_code == 200
    await house.ollama.stop()
    answers = await asyncio.gather(*(ask(house.daemon, "smarterrouter/main") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert "ollama" not in {answer.headers["x-smarterrouter-backend"] for answer in answers}
    away = await ask(house.daemon, "qwen:4b")
    assert away.status_code == 503
    assert "ollama" in away.json()["error"]["message"]
    await house.ollama.start()
    await house.daemon.engine.catalogue.refresh()
    again = await ask(house.daemon, "qwen:4b")
    assert again.status_code == 200, again.text


async def test_a_backend_that_fails_a_request_is_asked_whether_it_is_still_there(
    house: House,
) -> None:
    catalogue = house.daemon.engine.catalogue
    await house.cloud.stop()
    await asyncio.sleep(2.1)
    answer = await ask(house.daemon, "cloud")
    assert answer.status_code == 503
    async with asyncio.timeout(3):
        while "openai" not in catalogue.problems:
            await asyncio.sleep(0.02)
    assert "cloud" not in {model.id for model in catalogue.models}


async def test_the_same_weights_on_two_backends_are_one_model_with_two_homes() -> None:
    shared = OllamaModel(name="qwen:4b")
    async with Ollama(shared) as one, Ollama(shared) as other:
        backends = [
            {"name": "desk", "kind": "ollama", "url": one.url},
            {"name": "attic", "kind": "ollama", "url": other.url},
        ]
        async with running(backend=backends) as daemon:
            async with daemon.client() as client:
                listed = (await client.get("/v1/models/qwen:4b")).json()
            await one.stop()
            answer = await ask(daemon, "qwen:4b")
            named = await ask(daemon, "attic/qwen:4b")
    assert listed["homes"] == ["desk", "attic"]
    assert answer.headers["x-smarterrouter-backend"] == "attic"
    assert named.status_code == 200


async def test_a_name_without_a_tag_is_the_latest_as_it_is_for_ollama() -> None:
    async with Ollama(OllamaModel(name="qwen")) as ollama:
        backends = [{"name": "desk", "kind": "ollama", "url": ollama.url}]
        async with running(backend=backends) as daemon:
            answer = await ask(daemon, "qwen")
    assert answer.json()["model"] == "qwen:latest"


async def test_other_weights_of_the_same_name_are_told_apart() -> None:
    async with (
        Ollama(OllamaModel(name="qwen:4b", digest="a" * 64)) as one,
        Ollama(OllamaModel(name="qwen:4b", digest="b" * 64)) as other,
    ):
        backends = [
            {"name": "desk", "kind": "ollama", "url": one.url},
            {"name": "attic", "kind": "ollama", "url": other.url},
        ]
        async with running(backend=backends) as daemon:
            ids = [model.id for model in daemon.engine.catalogue.models]
    assert ids == ["desk/qwen:4b", "attic/qwen:4b"]


async def test_a_model_that_ollama_has_loaded_already_costs_no_load() -> None:
    async with Ollama(OllamaModel(name="qwen:4b")) as ollama:
        async with httpx.AsyncClient() as client:
            await client.post(f"{ollama.url}/api/generate", json={"model": "qwen:4b"})
        backends = [{"name": "desk", "kind": "ollama", "url": ollama.url}]
        async with running(backend=backends) as daemon:
            assert daemon.engine.loaded() == {"qwen:4b"}
            answer = await ask(daemon, "qwen:4b")
        assert answer.status_code == 200
        assert ollama.loads_of("qwen:4b") == 1


async def test_serve_finds_an_ollama_by_itself(tmp_path: Path) -> None:
    async with Ollama(OllamaModel(name="qwen:4b")) as ollama:
        env = {"OLLAMA_HOST": ollama.url.removeprefix("http://")}

        def serve_and_ask() -> tuple[Any, str]:
            with served(tmp_path, env=env) as process, process.client() as client:
                body = {"model": "smarterrouter/main", "messages": HELLO}
                answer = client.post("/v1/chat/completions", json=body)
                return answer.json(), process.log.read_text()

        answer, log = await asyncio.to_thread(serve_and_ask)
    assert answer["model"] == "qwen:4b"
    assert "found Ollama" in log


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":9000", "http://127.0.0.1:9000"),
        ("9000", "http://127.0.0.1:9000"),
        ("desk:9000", "http://desk:9000"),
        ("https://desk.example/", "https://desk.example"),
        ("http://desk:80", "http://desk:80"),
    ],
)
def test_ollamas_own_variable_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, host: str, place: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert nearby.places()["ollama"] == place


async def test_a_model_there_is_no_room_for_is_a_507_and_explain_says_so(
    tmp_path: Path, made_models: Path
) -> None:
    folder = folder_with(tmp_path / "ours", made_models, "tiny-5m")
    backends = [{"name": "managed", "kind": "managed", "models_dir": folder}]
    async with running(backend=backends, vram={"max_total_gb": 0.001}) as daemon:
        answers = [await ask(daemon, name) for name in ("tiny-5m", "smarterrouter/main")]
        async with daemon.client() as client:
            explained = await client.get("/admin/explain", params={"prompt": "Say hello."})
    assert [answer.status_code for answer in answers] == [507, 507]
    assert "for models" in answers[0].json()["error"]["message"]
    [rejected] = explained.json()["decision"]["rejected"]
    assert rejected["reason"].startswith("needs")


async def test_a_backend_that_was_away_is_back_within_seconds() -> None:
    async with Ollama(OllamaModel(name="qwen:4b")) as ollama:
        backends = [{"name": "desk", "kind": "ollama", "url": ollama.url}]
        async with running(backend=backends) as daemon:
            await ollama.stop()
            await daemon.engine.catalogue.refresh()
            assert (await ask(daemon, "qwen:4b")).status_code == 503
            await ollama.start()
            async with asyncio.timeout(8):
                while (await ask(daemon, "smarterrouter/main")).status_code != 200:
                    await asyncio.sleep(0.1)


async def test_what_one_backend_cannot_do_another_is_asked_for() -> None:
    async with (
        Ollama(OllamaModel(name="qwen:70b", parameter_size="70B")) as ollama,
        Upstream(Stream(["Fine"]), models=["cloud"]) as cloud,
    ):
        backends = [
            {"name": "desk", "kind": "ollama", "url": ollama.url},
            backend_of(cloud.url, "openai"),
        ]
        async with running(backend=backends) as daemon:
            alone = await ask(daemon, "qwen:70b", n=2)
            routed = await ask(daemon, "smarterrouter/quality", n=2)
    assert alone.status_code == 400
    assert alone.json()["error"]["code"] == "unsupported"
    assert routed.headers["x-smarterrouter-backend"] == "openai"
