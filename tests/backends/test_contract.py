"""What every kind of backend must do, asked of each kind in turn.

A new kind joins with one class like ``OpenAISite``, which says what is behind its backend and
how that is watched and broken, and with its name in ``SITES``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from smarterrouter.backends.control import ServerOptions
from smarterrouter.backends.llamacpp import LlamaCppBackend, LlamaCppOptions
from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.ollama.backend import OllamaBackend, OllamaOptions
from smarterrouter.backends.openai import OpenAIBackend
from smarterrouter.backends.wire import Timeouts
from smarterrouter.daemon.decode import decode
from smarterrouter.domain import sse
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.collect import Collector
from smarterrouter.domain.devices import HOST, GpuDevice
from smarterrouter.domain.models import Capability, Model, ModelRef, Placement, Placing
from smarterrouter.domain.ports import Backend, Blocks
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    ModelNotFound,
    Unavailable,
)
from tests.support.children import child, children, peek
from tests.support.llama_binary import NO_BINARY, RealRouter, find_llama_server
from tests.support.llama_router import LlamaRouter, Router
from tests.support.ollama import Endless as EndlessAnswer
from tests.support.ollama import Ollama, OllamaModel
from tests.support.upstream import (
    Endless,
    Refuse,
    Status,
    Stream,
    Upstream,
    llamacpp_model,
    vllm_model,
)

HELLO = [{"role": "user", "content": "Say hello."}]
CHAT, EMBEDDING = frozenset({Capability.CHAT}), frozenset({Capability.EMBEDDING})
RAM = GpuDevice("ram", "local", HOST, "host RAM", 64 << 30)
CARDS = tuple(
    GpuDevice(f"nvidia{i}", "local", "nvidia", "NVIDIA RTX 9", 24 << 30) for i in range(2)
)
TIMEOUTS = Timeouts(first_byte_s=20.0, stall_s=10.0)


# --- the kinds ----------------------------------------------------------------------------------


class Site(ABC):
    """A backend of one kind, and the truth about what is behind it.

    ``chat``, ``endless`` and ``vectors`` are models by the backend's own name: one that begins
    its answer with ``says``, one that never ends and one that embeds. ``about`` gives each
    model's trained context, served context and capabilities. ``loads_by_itself`` says that a
    request is enough to load its model, ``shows_processes`` that a loaded model's can be seen.
    """

    chat: str
    says: str
    endless: str
    vectors: str
    about: ClassVar[Mapping[str, tuple[int | None, int | None, frozenset[Capability]]]]
    listing_needs_it_alive = True
    loads_by_itself = False
    shows_processes = False

    def __init__(self, folder: Path, made_models: Path) -> None:
        self.folder = folder
        self.made_models = made_models

    @abstractmethod
    async def start(self) -> None:
        """Bring up what the backend talks to."""

    @abstractmethod
    def backend(self, prefix: str) -> Backend:
        """A backend called ``b`` that knows nothing yet."""

    @abstractmethod
    async def generating(self) -> bool:
        """Whether an answer of ``endless`` is being made at this moment."""

    async def silent(self, within_s: float) -> None:
        """Wait until nothing is being made any more."""
        async with asyncio.timeout(within_s):
            while await self.generating():
                await asyncio.sleep(0.01)

    @abstractmethod
    def unknown_fields(self) -> dict[str, Any]:
        """Fields that nobody on our side knows."""

    @abstractmethod
    def arrived(self, fields: dict[str, Any], answer: bytes) -> bool:
        """Whether those fields reached what is behind the backend."""

    @abstractmethod
    def fault(self) -> tuple[str, dict[str, Any], str]:
        """A model, fields that it refuses, and its words."""

    @abstractmethod
    async def die(self) -> None:
        """What is behind the backend goes away without farewell."""

    @abstractmethod
    async def stop(self) -> None:
        """After the backend has been closed: end the rest, and find nothing left."""


class OpenAISite(Site):
    """The scripted upstream on a real socket."""

    chat, says, endless, vectors = "talker", "Hello world", "endless", "text-embedder"
    about: ClassVar = {
        "talker": (8192, None, CHAT),
        "endless": (4096, 4096, CHAT),
        "text-embedder": (None, None, EMBEDDING),
        "picky": (None, None, CHAT),
    }

    async def start(self) -> None:
        self.up = Upstream(
            models=[
                llamacpp_model("talker"),
                vllm_model("endless", 4096),
                "text-embedder",
                "picky",
            ],
            by_model={
                "endless": [Endless(delay_s=0.005)],
                "picky": [Status(400, message="temperature must be a number")],
            },
            api_key="secret",
        )
        await self.up.start()

    def backend(self, prefix: str) -> Backend:
        return OpenAIBackend(ServerOptions("b", self.up.url, "secret", prefix), TIMEOUTS)

    async def generating(self) -> bool:
        return not self.up.requests[-1].ended.is_set()

    def unknown_fields(self) -> dict[str, Any]:
        return {"chat_template_kwargs": {"depth": [1, 2.5, None]}, "guided_choice": ["ä", "b"]}

    def arrived(self, fields: dict[str, Any], answer: bytes) -> bool:
        return fields.items() <= self.up.requests[-1].body.items()

    def fault(self) -> tuple[str, dict[str, Any], str]:
        return "picky", {"temperature": "hot"}, "temperature must be a number"

    async def die(self) -> None:
        await self.up.stop()

    async def stop(self) -> None:
        async with asyncio.timeout(1):
            for request in self.up.requests:
                await request.ended.wait()
        await self.up.stop()


class ManagedSite(Site):
    """Real llama.cpp children over a folder of its own."""

    chat, says, endless, vectors = "tiny-5m", "Hello from tiny 5m", "endless-20m", "vectors"
    about: ClassVar = {
        "tiny-5m": (2048, 512, CHAT),
        "endless-20m": (2048, 2048, CHAT),
        "vectors": (2048, 512, EMBEDDING),
    }
    listing_needs_it_alive = False
    shows_processes = True

    async def start(self) -> None:
        self.models = self.folder / "models"
        self.models.mkdir()
        for name in ("tiny-5m", "endless-20m"):
            (self.models / f"{name}.gguf").symlink_to(self.made_models / f"{name}.gguf")
        beside = self.models / "beside" / "kept.not-gguf"
        beside.parent.mkdir()
        beside.symlink_to(self.made_models / "tiny-20m.gguf")
        self.presets = self.folder / "presets.ini"
        self.presets.write_text(
            f"[*]\nctx-size = 512\n[endless-20m]\nctx-size = 2048\n"
            f"[vectors]\nmodel = {beside}\nembeddings = true\n"
        )

    def backend(self, prefix: str) -> Backend:
        options = ManagedOptions("b", self.models, self.presets, prefix=prefix)
        return ManagedBackend(options, TIMEOUTS)

    async def generating(self) -> bool:
        [slot] = await peek(await child(self.models), "slots")
        return bool(slot["is_processing"])

    def unknown_fields(self) -> dict[str, Any]:
        return {"timings_per_token": True, "max_tokens": 4}

    def arrived(self, fields: dict[str, Any], answer: bytes) -> bool:
        return answer.count(b'"timings"') >= fields["max_tokens"]

    def fault(self) -> tuple[str, dict[str, Any], str]:
        return "tiny-5m", {"temperature": "hot"}, "type must be number, but is string"

    async def die(self) -> None:
        for process in children(self.models):
            process.kill()

    async def stop(self) -> None:
        assert not children(self.models)


class LlamaCppSite(Site):
    """A llama-server in router mode. What is not loaded it knows little about."""

    chat, says, endless, vectors = "tiny-5m", "Hello from tiny 5m", "endless-20m", "vectors"
    about: ClassVar = {
        "tiny-5m": (None, None, CHAT),
        "endless-20m": (None, None, CHAT),
        "vectors": (None, None, EMBEDDING),
    }
    loads_by_itself = True
    shows_processes = shutil.which("llama-server") is not None  # which the double's children are
    router_type: ClassVar[type[Router]] = LlamaRouter

    async def start(self) -> None:
        models, presets = self.folder / "models", self.folder / "presets.ini"
        models.mkdir()
        for name in ("tiny-5m", "endless-20m"):
            (models / f"{name}.gguf").symlink_to(self.made_models / f"{name}.gguf")
        presets.write_text(
            f"[*]\nctx-size = 512\nparallel = 1\nstop-timeout = 1\n"
            f"[endless-20m]\ncontext-shift = true\n"
            f"[vectors]\nmodel = {self.made_models / 'tiny-20m.gguf'}\n"
            f"embeddings = true\npooling = mean\n"
        )
        self.router = self.router_type(models, presets, api_key="secret")
        await self.router.start()

    def backend(self, prefix: str) -> Backend:
        return LlamaCppBackend(LlamaCppOptions("b", self.router.url, "secret", prefix), TIMEOUTS)

    async def generating(self) -> bool:
        async with self.router.client() as client:
            slots = await client.get("/slots", params={"model": self.endless})
        return any(slot["is_processing"] for slot in slots.raise_for_status().json())

    def unknown_fields(self) -> dict[str, Any]:
        return {"timings_per_token": True, "max_tokens": 4}

    def arrived(self, fields: dict[str, Any], answer: bytes) -> bool:
        return answer.count(b'"timings"') >= fields["max_tokens"]

    def fault(self) -> tuple[str, dict[str, Any], str]:
        return "tiny-5m", {"temperature": "hot"}, "type must be number, but is string"

    async def die(self) -> None:
        await self.router.stop()

    async def restarted(self, change: tuple[str, str]) -> None:
        """Start the router anew, with something else in its presets."""
        await self.router.stop()
        presets = self.router.presets
        assert presets
        presets.write_text(presets.read_text().replace(*change))
        await self.router.start()

    async def stop(self) -> None:
        await self.router.stop()
        assert not children(self.folder)


class RealLlamaCppSite(LlamaCppSite):
    """The real binary."""

    router_type = RealRouter
    shows_processes = True


class OllamaSite(Site):
    """Ollama's API and scheduler on a real socket."""

    chat, says, endless, vectors = "talker:latest", "Hello from talker", "endless:8b", "embedder:1b"
    about: ClassVar = {
        "talker:latest": (32_768, None, CHAT | {Capability.TOOLS}),
        "endless:8b": (4096, None, CHAT),
        "embedder:1b": (512, None, EMBEDDING),
    }
    loads_by_itself = True

    async def start(self) -> None:
        self.ollama = Ollama(
            OllamaModel(name=self.chat),
            OllamaModel(name=self.endless, context_length=4096, capabilities=("completion",)),
            OllamaModel(name=self.vectors, context_length=512, capabilities=("embedding",)),
        )
        self.ollama.play(EndlessAnswer(delay_s=0.005), model=self.endless)
        await self.ollama.start()

    def backend(self, prefix: str) -> Backend:
        return OllamaBackend(OllamaOptions("b", self.ollama.url, "secret", prefix), TIMEOUTS)

    async def generating(self) -> bool:
        return self.endless in self.ollama.generating()

    def unknown_fields(self) -> dict[str, Any]:
        return {"depth": [1, 2.5, None], "guided_choice": ["ä", "b"]}

    def arrived(self, fields: dict[str, Any], answer: bytes) -> bool:
        return fields.items() <= self.ollama.requests[-1].body.items()

    def fault(self) -> tuple[str, dict[str, Any], str]:
        return self.chat, {"options": {"seed": "many"}}, 'option "seed" must be of type integer'

    async def die(self) -> None:
        await self.ollama.stop()

    async def stop(self) -> None:
        async with asyncio.timeout(1):
            for request in self.ollama.requests:
                await request.ended.wait()
        await self.ollama.stop()


ROUTERS = {"llamacpp": LlamaCppSite, "llamacpp-real": RealLlamaCppSite}
SITES: dict[str, type[Site]] = {
    "openai": OpenAISite,
    "managed": ManagedSite,
    "ollama": OllamaSite,
    **ROUTERS,
}
SKIPPED = {"llamacpp-real": pytest.mark.skipif(find_llama_server() is None, reason=NO_BINARY)}


@pytest.fixture(params=[pytest.param(name, marks=SKIPPED.get(name, ())) for name in SITES])
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, made_models: Path
) -> AsyncIterator[Site]:
    """What is behind a backend. Whatever the test leaves open is a warning, hence a failure."""
    place = SITES[request.param](tmp_path, made_models)
    await place.start()
    yield place
    await place.stop()
    gc.collect()


@pytest.fixture
async def backend(site: Site) -> AsyncIterator[Backend]:
    made = site.backend("")
    yield made
    await made.aclose()


# --- asking -------------------------------------------------------------------------------------


async def ready(backend: Backend, name: str) -> Model:
    """The model, listed and loaded."""
    [model] = [model for model in await backend.models() if model.ref.name == name]
    await backend.load(name)
    return model


async def blocks(
    backend: Backend, model: Model, endpoint: Endpoint = Endpoint.CHAT, **fields: Any
) -> list[bytes]:
    """The whole answer as it came."""
    if endpoint is Endpoint.CHAT:
        fields = {"messages": HELLO, **fields}
    request = decode(json.dumps({"model": model.id, **fields}).encode(), endpoint, "test")
    async with backend.stream(request, model) as answer:
        return [block async for block in answer]


def chunks(answer: list[bytes]) -> list[dict[str, Any]]:
    datas = [data for block in answer for data in sse.datas(block)]
    return [json.loads(data) for data in datas if data != sse.DONE]


def collected(answer: list[bytes]) -> dict[str, Any]:
    collector = Collector()
    for block in answer:
        for data in sse.datas(block):
            if data != sse.DONE:
                collector.add(data)
    body: dict[str, Any] = json.loads(collector.body())
    return body


async def drained(answer: Blocks) -> None:
    async for _ in answer:
        pass


def endless(model: Model) -> Any:
    body = {"model": model.id, "messages": HELLO, "stream": True}
    return decode(json.dumps(body).encode(), Endpoint.CHAT, "test")


# --- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "home/"])
async def test_models_are_listed_with_what_is_known_of_them(site: Site, prefix: str) -> None:
    backend = site.backend(prefix)
    found = {model.ref.name: model for model in await backend.models()}
    await backend.aclose()
    assert {
        name: (model.context_length, model.served_context, model.capabilities)
        for name, model in found.items()
    } == site.about
    for name, model in found.items():
        assert model.ref == ModelRef("b", name)
        assert model.id == prefix + name
        assert not model.capabilities & model.uncertain


async def test_loading_and_unloading_twice_changes_nothing(site: Site, backend: Backend) -> None:
    model = await ready(backend, site.chat)
    again = await asyncio.gather(backend.load(site.chat), backend.load(site.chat))
    for held in again:
        assert held is None or held.bytes > 0
        assert held is None or Capability.LOAD in backend.capabilities
    assert await blocks(backend, model, max_tokens=4)
    await backend.unload(site.chat)
    await backend.unload(site.chat)
    await backend.load(site.chat)
    assert await blocks(backend, model, max_tokens=4)


@pytest.mark.parametrize("devices", [(RAM,), (RAM, *CARDS)], ids=["without cards", "with cards"])
async def test_a_model_lies_on_devices_of_its_node_if_anybody_can_tell(
    site: Site, backend: Backend, devices: tuple[GpuDevice, ...]
) -> None:
    model = await ready(backend, site.chat)
    reached = backend.reach(site.chat, devices)
    assert set(reached) <= {device.id for device in devices}
    assert len(set(reached)) == len(reached)
    assert isinstance(backend.placing, Placing)
    if Capability.LOAD not in backend.capabilities:
        assert reached == ()
    elif devices == (RAM,):
        assert reached == ("ram",)
    await backend.load(site.chat, Placement(dict.fromkeys(reached, 1 << 30)))
    assert await blocks(backend, model, max_tokens=4)


async def test_a_layout_tells_how_large_a_model_is_or_that_nobody_knows(
    site: Site, backend: Backend
) -> None:
    model = await ready(backend, site.chat)
    backend.reach(site.chat, (RAM,))
    layout = backend.layout(site.chat, 1)
    if Capability.LOAD not in backend.capabilities:
        assert layout is None
    if layout is not None:
        assert 0 < layout.shape.weights_bytes <= (model.size_bytes or layout.shape.weights_bytes)
        assert layout.context > 0
        assert layout.parallel > 0
    assert backend.layout("nobody") is None


async def test_a_request_needs_context_only_where_a_load_can_choose_it(
    site: Site, backend: Backend
) -> None:
    model = await ready(backend, site.chat)
    need = backend.context_need(endless(model), model)
    assert need >= 0
    if Capability.LOAD not in backend.capabilities:
        assert need == 0


async def test_a_loaded_models_processes_are_told_where_they_can_be_seen(
    site: Site, backend: Backend
) -> None:
    await ready(backend, site.chat)
    pids = backend.processes(site.chat)
    assert bool(pids) == site.shows_processes
    assert all(psutil.Process(pid).memory_info().rss > 1e6 for pid in pids)
    assert backend.processes("nobody") == ()
    await backend.unload(site.chat)
    assert backend.processes(site.chat) == ()
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_model_tells_how_many_requests_it_answers_at_once_or_nothing(
    site: Site, backend: Backend
) -> None:
    await ready(backend, site.chat)
    for model in await backend.models():
        assert model.slots is None or model.slots > 0
        assert model.held is None or model.resident


@pytest.mark.parametrize("prefix", ["", "home/"])
async def test_a_stream_is_whole_events_under_the_clients_name_for_the_model(
    site: Site, prefix: str
) -> None:
    backend = site.backend(prefix)
    answer = await blocks(backend, await ready(backend, site.chat), stream=True)
    await backend.aclose()
    assert all(block.endswith(b"\n\n") for block in answer)
    assert answer[-1].endswith(sse.DONE_EVENT)
    assert b"".join(answer).count(sse.DONE) == 1
    assert {chunk["model"] for chunk in chunks(answer)} == {prefix + site.chat}
    assert collected(answer)["choices"][0]["message"]["content"].startswith(site.says)


async def test_an_answer_for_a_client_without_streaming_tells_its_usage(
    site: Site, backend: Backend
) -> None:
    answer = collected(await blocks(backend, await ready(backend, site.chat)))
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] > 0


async def test_texts_are_completed(site: Site, backend: Backend) -> None:
    model = await ready(backend, site.chat)
    answer = await blocks(
        backend, model, Endpoint.COMPLETIONS, prompt="alpha", max_tokens=3, stream=True
    )
    assert answer[-1].endswith(sse.DONE_EVENT)
    assert "".join(c["text"] for chunk in chunks(answer) for c in chunk["choices"]).strip()


@pytest.mark.parametrize("prefix", ["", "home/"])
async def test_an_embedding_is_one_body_with_a_vector_for_each_text(
    site: Site, prefix: str
) -> None:
    backend = site.backend(prefix)
    model = await ready(backend, site.vectors)
    texts = ["alpha bravo", "alpha bravo", "zulu"]
    [body] = await blocks(backend, model, Endpoint.EMBEDDINGS, input=texts)
    await backend.aclose()
    answer = json.loads(body)
    assert answer["model"] == model.id
    same, again, other = (item["embedding"] for item in answer["data"])
    assert len(same) == len(again) == len(other) > 0
    assert same == pytest.approx(again, abs=1e-4)
    assert same != pytest.approx(other, abs=1e-2)


async def test_fields_nobody_knows_reach_the_model(site: Site, backend: Backend) -> None:
    fields = site.unknown_fields()
    answer = await blocks(backend, await ready(backend, site.chat), stream=True, **fields)
    assert site.arrived(fields, b"".join(answer))


async def test_answers_may_follow_each_other_without_a_pause(site: Site, backend: Backend) -> None:
    model = await ready(backend, site.chat)
    for stream in (True, True, False, True):
        assert await blocks(backend, model, max_tokens=3, stream=stream)


async def test_leaving_a_stream_stops_the_generation_within_a_second(
    site: Site, backend: Backend
) -> None:
    model = await ready(backend, site.endless)
    async with backend.stream(endless(model), model) as answer:
        for _ in range(3):
            assert await anext(answer)
        assert await site.generating()
    await site.silent(within_s=1.0)


async def test_a_cancelled_request_stops_the_generation_too(site: Site, backend: Backend) -> None:
    model = await ready(backend, site.endless)
    begun = asyncio.Event()

    async def listen() -> None:
        async with backend.stream(endless(model), model) as answer:
            async for _ in answer:
                begun.set()

    listening = asyncio.create_task(listen())
    await begun.wait()
    assert await site.generating()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await site.silent(within_s=1.0)


async def test_a_request_at_fault_is_refused_in_the_backends_words(
    site: Site, backend: Backend
) -> None:
    name, fields, words = site.fault()
    model = await ready(backend, name)
    with pytest.raises(BadRequest, match=words):
        await blocks(backend, model, **fields)


async def test_a_model_that_is_not_there_is_not_found(site: Site, backend: Backend) -> None:
    model = await ready(backend, site.chat)
    if Capability.LOAD in backend.capabilities:
        with pytest.raises(ModelNotFound, match="nobody"):
            await backend.load("nobody")
    await backend.unload(site.chat)
    if site.loads_by_itself:
        assert await blocks(backend, model)
    elif Capability.UNLOAD in backend.capabilities:
        with pytest.raises(Unavailable, match="not running"):
            await blocks(backend, model)


async def test_death_in_the_middle_of_an_answer_is_an_error_and_then_unavailable(
    site: Site, backend: Backend
) -> None:
    model = await ready(backend, site.endless)
    async with backend.stream(endless(model), model) as answer:
        assert await anext(answer)
        await site.die()
        with pytest.raises(BackendError):
            await drained(answer)
    with pytest.raises((BackendError, Unavailable)):
        await blocks(backend, model)
    if site.listing_needs_it_alive:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await backend.models()


async def test_closing_ends_what_is_running_and_may_be_done_twice(site: Site) -> None:
    backend = site.backend("")
    model = await ready(backend, site.endless)
    async with backend.stream(endless(model), model) as answer:
        assert await anext(answer)
        async with asyncio.timeout(5):
            await backend.aclose()
        with pytest.raises(BackendError):
            await drained(answer)
    await backend.aclose()


async def test_closing_what_was_never_used_is_no_trouble(site: Site) -> None:
    await site.backend("").aclose()


# --- what only a scripted upstream can show -----------------------------------------------------


async def test_a_connection_closed_behind_our_back_costs_a_second_try_and_not_the_answer() -> None:
    async with Upstream(Stream(), Refuse(), Stream()) as up:
        backend = OpenAIBackend(ServerOptions("b", up.url), TIMEOUTS)
        [model] = await backend.models()
        assert await blocks(backend, model)
        assert collected(await blocks(backend, model))["choices"][0]["message"]["content"]
        await backend.aclose()
    assert len(up.requests) == 3


async def test_a_server_that_always_hangs_up_is_asked_no_more_than_twice() -> None:
    async with Upstream(Refuse()) as up:
        backend = OpenAIBackend(ServerOptions("b", up.url), TIMEOUTS)
        [model] = await backend.models()
        with pytest.raises(BackendError, match="without an answer"):
            await blocks(backend, model)
        await backend.aclose()
    assert len(up.requests) <= 2


# --- what only a router can show ----------------------------------------------------------------


@pytest.fixture(params=[pytest.param(name, marks=SKIPPED.get(name, ())) for name in ROUTERS])
async def routed(
    request: pytest.FixtureRequest, tmp_path: Path, made_models: Path
) -> AsyncIterator[LlamaCppSite]:
    place = ROUTERS[request.param](tmp_path, made_models)
    await place.start()
    yield place
    await place.stop()


async def test_a_router_tells_more_of_a_model_once_it_is_loaded(routed: LlamaCppSite) -> None:
    async with aclosing(routed.backend("")) as backend:
        before = {model.ref.name: model for model in await backend.models()}
        assert Capability.TOOLS in before["tiny-5m"].uncertain
        assert not any(model.resident for model in before.values())
        held = await backend.load("tiny-5m")
        [after] = [model for model in await backend.models() if model.resident]
    assert (after.ref.name, after.uncertain) == ("tiny-5m", frozenset())
    assert (after.context_length, after.served_context) == (2048, 512)
    assert after.slots == 1
    assert (after.held is None) == (held is None) == (not routed.shows_processes)


async def test_a_router_on_this_machine_shows_what_a_model_holds_in_ram(
    routed: LlamaCppSite,
) -> None:
    if not routed.shows_processes:
        pytest.skip("the double's children are the wheel's, which do not show their names")
    async with aclosing(routed.backend("")) as backend:
        await backend.models()
        held = await backend.load("tiny-5m")
        assert backend.processes("tiny-5m") == (routed.router.process("tiny-5m").pid,)
        assert backend.processes("endless-20m") == ()
        await backend.load("endless-20m")
        found = {model.ref.name: model for model in await backend.models()}
    small, large = found["tiny-5m"], found["endless-20m"]
    assert held
    assert small.held
    assert large.held
    assert (held.source, small.held.source) == ("measured", "measured")
    assert small.size_bytes
    assert small.size_bytes < held.bytes < small.size_bytes + 150e6
    assert large.held.bytes > small.held.bytes
    assert found["vectors"].held is None


async def test_a_routers_models_are_laid_out_before_they_are_loaded(routed: LlamaCppSite) -> None:
    async with aclosing(routed.backend("")) as backend:
        models = {model.ref.name: model for model in await backend.models()}
        assert models["tiny-5m"].slots == 1
        assert backend.reach("tiny-5m", (RAM,)) == ("ram",)
        in_ram = backend.layout("tiny-5m")
        assert backend.reach("tiny-5m", (RAM, *CARDS)) == ("nvidia0", "nvidia1")
        on_card = backend.layout("tiny-5m")
    assert in_ram
    assert on_card
    assert (in_ram.context, in_ram.parallel, in_ram.on_gpu) == (512, 1, False)
    assert len(in_ram.shape.layers) > 0
    assert on_card.on_gpu
    assert replace(on_card, on_gpu=False) == in_ram
    assert backend.placing is Placing.SPREAD


async def test_of_a_router_whose_files_are_elsewhere_a_layout_is_known_once_it_is_loaded(
    routed: LlamaCppSite,
) -> None:
    there = LlamaCppOptions("b", routed.router.url, "secret", node="attic")
    async with aclosing(LlamaCppBackend(there, TIMEOUTS)) as backend:
        await backend.models()
        assert backend.layout("tiny-5m") is None
        await backend.load("tiny-5m")
        layout = backend.layout("tiny-5m")
    assert layout
    assert 5e6 < layout.shape.weights_bytes < 6e6
    assert (layout.context, layout.shape.layers) == (512, ())


async def test_the_context_that_a_router_chose_is_known_as_soon_as_its_model_is_loaded(
    routed: LlamaCppSite,
) -> None:
    await routed.restarted(("ctx-size = 512\n", "ctx-size = 0\n"))
    async with aclosing(routed.backend("")) as backend:
        await backend.models()
        backend.reach("tiny-5m", (RAM,))
        before = backend.layout("tiny-5m")
        await backend.load("tiny-5m")
        after = backend.layout("tiny-5m")
        await backend.unload("tiny-5m")
        await backend.models()
        assert backend.layout("tiny-5m") == after
    assert before
    assert after
    assert (before.context, after.context) == (2048, 2048)


async def test_an_unload_that_is_never_seen_to_be_done_is_told(routed: LlamaCppSite) -> None:
    await routed.restarted(("stop-timeout = 1\n", "stop-timeout = 8\n"))
    options = LlamaCppOptions("b", routed.router.url, "secret")
    hasty = replace(options, load_timeout_s=0.3)
    async with (
        aclosing(LlamaCppBackend(options, TIMEOUTS)) as backend,
        aclosing(LlamaCppBackend(hasty, TIMEOUTS)) as impatient,
    ):
        await ready(backend, "tiny-5m")
        await impatient.models()
        process = routed.router.process("tiny-5m")
        process.suspend()
        with pytest.raises(BackendTimeout, match=r"did not unload tiny-5m within 0\.3 s"):
            await impatient.unload("tiny-5m")
        process.resume()
        await backend.unload("tiny-5m")
        assert not process.is_running()


async def test_listing_a_routers_models_loads_none_of_them(routed: LlamaCppSite) -> None:
    async with aclosing(routed.backend("")) as backend:
        for _ in range(2):
            assert len(await backend.models()) == len(routed.about)
    assert await routed.router.loaded() == set()


async def test_a_router_whose_model_crashes_lists_it_as_gone(routed: LlamaCppSite) -> None:
    async with aclosing(routed.backend("")) as backend:
        model = await ready(backend, routed.endless)
        async with backend.stream(endless(model), model) as answer:
            assert await anext(answer)
            await routed.router.crash(routed.endless)
            with pytest.raises(BackendError, match="broke off"):
                await drained(answer)
        assert not any(model.resident for model in await backend.models())


async def test_a_load_that_fails_in_a_router_is_an_error_with_its_exit_code(
    routed: LlamaCppSite,
) -> None:
    (routed.router.models / "tiny-5m.gguf").unlink()
    async with aclosing(routed.backend("")) as backend:
        await backend.models()
        for _ in range(2):
            with pytest.raises(BackendError, match=r"tiny-5m failed to load.*exit code 1"):
                await backend.load("tiny-5m")
