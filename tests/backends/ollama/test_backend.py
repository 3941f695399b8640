"""The backend against an Ollama on a real socket (a double of its API and its scheduler)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from smarterrouter.backends.ollama.backend import OllamaBackend, OllamaOptions
from smarterrouter.backends.wire import Timeouts
from smarterrouter.daemon.decode import decode
from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.collect import Collector
from smarterrouter.domain.devices import HOST, GpuDevice
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    ModelRef,
    Placement,
    Placing,
)
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    ModelNotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)
from tests.support.ollama import (
    GIB,
    BreakOff,
    Call,
    Endless,
    ErrorInStream,
    Hang,
    Load,
    Ollama,
    OllamaModel,
    Says,
)
from tests.support.upstream import Raw, Status

HELLO = [{"role": "user", "content": "Say hello."}]
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]
TIMEOUTS = Timeouts(first_byte_s=5.0, stall_s=5.0)
TALKER, THINKER, EMBEDDER = "talker:latest", "thinker:latest", "embedder:latest"


@pytest.fixture
async def ollama() -> AsyncIterator[Ollama]:
    models = (
        OllamaModel(name=TALKER),
        OllamaModel(name=THINKER, capabilities=("completion", "thinking", "vision")),
        OllamaModel(name=EMBEDDER, capabilities=("embedding",), context_length=512, size=GIB),
    )
    async with Ollama(*models) as server:
        yield server


@pytest.fixture
async def backend(ollama: Ollama) -> AsyncIterator[OllamaBackend]:
    made = OllamaBackend(OllamaOptions("o", ollama.url, prefix="home/"), TIMEOUTS)
    yield made
    await made.aclose()


def backend_of(ollama: Ollama, **options: Any) -> AbstractAsyncContextManager[OllamaBackend]:
    return aclosing(OllamaBackend(OllamaOptions("o", ollama.url, **options), TIMEOUTS))


async def find(backend: OllamaBackend, name: str = TALKER) -> Model:
    return next(model for model in await backend.models() if model.ref.name == name)


async def ready(backend: OllamaBackend, name: str = TALKER) -> Model:
    model = await find(backend, name)
    await backend.load(name)
    return model


def request(
    endpoint: Endpoint = Endpoint.CHAT, prompt_tokens: int = 10, **fields: Any
) -> ChatRequest:
    start: Mapping[str, Any] = {"messages": HELLO} if endpoint is Endpoint.CHAT else {}
    raw = json.dumps({"model": "m", **start, **fields}).encode()
    return replace(decode(raw, endpoint, "test"), prompt_tokens=prompt_tokens)


async def blocks(backend: OllamaBackend, model: Model, asked: ChatRequest) -> list[bytes]:
    async with backend.stream(asked, model) as answer:
        return [block async for block in answer]


async def whole(backend: OllamaBackend, model: Model, **fields: Any) -> dict[str, Any]:
    """The answer as the daemon collects it."""
    answer = await blocks(backend, model, request(**fields))
    assert answer[-1].endswith(sse.DONE_EVENT)
    collector = Collector()
    for block in answer:
        assert block.endswith(b"\n\n")
        for data in sse.datas(block):
            if data != sse.DONE:
                collector.add(data)
    body: dict[str, Any] = json.loads(collector.body())
    return body


# --- listing, loading, unloading ----------------------------------------------------------------


async def test_models_are_listed_with_what_is_known_of_them(backend: OllamaBackend) -> None:
    found = {model.ref.name: model for model in await backend.models()}
    assert {name: model.capabilities for name, model in found.items()} == {
        TALKER: {Capability.CHAT, Capability.TOOLS},
        THINKER: {Capability.CHAT, Capability.THINKING, Capability.VISION},
        EMBEDDER: {Capability.EMBEDDING},
    }
    assert found[TALKER].id == "home/talker:latest"
    assert found[TALKER].usable_context == 32768
    assert found[TALKER].digest
    assert found[TALKER].resident is False


async def test_a_model_is_looked_at_once_until_it_changes(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    def looks() -> int:
        return sum(look.path == "/api/show" for look in ollama.lookups)

    for _ in range(3):
        await backend.models()
    assert looks() == 3
    ollama.add(OllamaModel(name=TALKER, digest="new", context_length=1024))
    assert (await find(backend)).context_length == 1024
    assert looks() == 4


async def test_a_model_that_cannot_be_shown_is_left_out(
    ollama: Ollama, backend: OllamaBackend, caplog: pytest.LogCaptureFixture
) -> None:
    ollama.add(OllamaModel(name="broken"))
    shown = ollama.models["broken:latest"]

    class Vanishing(dict[str, OllamaModel]):
        """Listed by ``values``, found by nobody."""

        def items(self) -> Any:
            return [(k, v) for k, v in super().items() if v is not shown]

    ollama.models = Vanishing(ollama.models)
    for _ in range(2):
        assert len(await backend.models()) == 3
    assert caplog.text.count("broken:latest is left out") == 1


async def test_loading_pins_a_model_and_tells_its_footprint(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    await backend.models()
    footprint = await backend.load(TALKER)
    assert footprint == Footprint(ollama.vram_used, "reported", context=8192)
    assert ollama.loads == [Load(TALKER, 8192)]
    assert ollama.requests[-1].body["keep_alive"] == -1
    model = await find(backend)
    assert (model.resident, model.held) == (True, footprint)


async def test_what_has_spilled_into_ram_is_told_by_the_load_and_by_listings() -> None:
    big = OllamaModel(name="big", size=9 * GIB, kv_bytes_per_token=65_536)
    async with Ollama(big, vram_total=(8 * GIB,)) as ollama, backend_of(ollama) as backend:
        footprint = await backend.load("big:latest")
        held = (await find(backend, "big:latest")).held
    assert footprint == held == Footprint(8 * GIB, "reported", 3 * GIB // 2, 8192)


async def test_without_a_card_a_model_holds_ram_and_nothing_counts_as_spilled() -> None:
    models = (OllamaModel(name="a"), OllamaModel(name="e", capabilities=("embedding",), size=GIB))
    async with Ollama(*models, vram_total=()) as ollama, backend_of(ollama) as backend:
        chats = await backend.load("a:latest")
        await backend.load("e:latest")
        embeds = (await find(backend, "e:latest")).held
    assert chats == Footprint(4 * GIB + GIB // 2, "reported", 0, 8192)
    assert embeds == Footprint(GIB + GIB // 2, "reported", 0, 8192)


async def test_what_others_have_loaded_is_told_with_what_it_holds(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    async with backend_of(ollama, context=2048) as other:
        await other.load(EMBEDDER)
    found = {model.ref.name: model.held for model in await backend.models()}
    held = Footprint(ollama.vram_used, "reported", 0, 512)
    assert found == {TALKER: None, THINKER: None, EMBEDDER: held}


async def test_an_embedding_model_loads_without_a_prompt_too(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    assert await backend.load(EMBEDDER)
    assert ollama.loads == [Load(EMBEDDER, 512)]
    await backend.unload(EMBEDDER)
    assert ollama.loaded == {}


async def test_what_is_resident_is_not_loaded_anew(ollama: Ollama, backend: OllamaBackend) -> None:
    other = OllamaBackend(OllamaOptions("p", ollama.url, context=4096), TIMEOUTS)
    await other.load(TALKER)
    await backend.load(TALKER)
    await asyncio.gather(backend.load(TALKER), other.load(TALKER))
    await whole(backend, await find(backend))
    assert ollama.loads == [Load(TALKER, 4096)]
    await other.aclose()


async def test_unloading_returns_when_the_model_is_gone(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    ollama.play(Says(["a"] * 20, delay_s=0.01))
    answering = asyncio.create_task(whole(backend, model))
    await ollama.received(2)
    await asyncio.sleep(0.05)
    await backend.unload(TALKER)
    assert not ollama.loaded
    assert answering.done() or await answering
    await backend.unload(TALKER)
    await backend.unload("nobody")


async def test_an_unload_waits_for_others_who_use_the_model(ollama: Ollama) -> None:
    async with backend_of(ollama) as backend, backend_of(ollama) as other:
        model = await ready(other)
        ollama.play(Says(["a"] * 20, delay_s=0.01))
        answering = asyncio.create_task(whole(other, model))
        await ollama.received(2)
        await backend.unload(TALKER)
        assert not ollama.loaded
        assert (await answering)["choices"]


async def test_a_model_that_does_not_leave_in_time_holds_nobody_knows_what(
    ollama: Ollama,
) -> None:
    async with backend_of(ollama, load_timeout_s=0.3) as backend:
        model = await ready(backend)
        ollama.play(Endless())
        async with backend.stream(request(stream=True), model) as answer:
            assert await anext(answer)
            with pytest.raises(BackendTimeout, match="what it holds is unknown"):
                await backend.unload(TALKER)
            assert list(ollama.loaded) == [TALKER]


async def test_an_ollama_that_does_not_answer_an_unload_is_given_up_in_time(
    ollama: Ollama,
) -> None:
    async with backend_of(ollama, load_timeout_s=0.3) as backend:
        await ready(backend)
        ollama.door = Hang()
        with pytest.raises(BackendTimeout, match="what it holds is unknown"):
            await backend.unload(TALKER)
        ollama.door = None


async def test_an_ollama_that_is_away_has_not_unloaded_anything(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    await ready(backend)
    await ollama.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await backend.unload(TALKER)


async def test_a_model_removed_from_disk_stays_in_memory_and_an_unload_says_so(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    await ready(backend)
    ollama.remove(TALKER)
    with pytest.raises(BackendError, match=r"no longer on disk.*Restart"):
        await backend.unload(TALKER)
    ollama.scheduler.expire(OllamaModel(name=TALKER))
    await backend.unload(TALKER)


async def test_what_is_not_there_is_not_found(backend: OllamaBackend) -> None:
    with pytest.raises(ModelNotFound, match="nobody"):
        await backend.load("nobody")


async def test_a_model_removed_since_is_not_found(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await find(backend)
    ollama.remove(TALKER)
    with pytest.raises(ModelNotFound, match=TALKER):
        await backend.load(TALKER)
    with pytest.raises(ModelNotFound, match=TALKER):
        await whole(backend, model)


async def test_a_failed_load_says_why(ollama: Ollama, backend: OllamaBackend) -> None:
    words = "model requires more system memory than is available"
    ollama.add(OllamaModel(name="huge", load_error=words))
    with pytest.raises(BackendError, match=words):
        await backend.load("huge:latest")


async def test_a_load_that_takes_too_long_is_given_up(ollama: Ollama) -> None:
    ollama.add(OllamaModel(name="slow", load_s=5))
    backend = OllamaBackend(OllamaOptions("o", ollama.url, load_timeout_s=0.2), TIMEOUTS)
    with pytest.raises(BackendTimeout, match="ROUTER_TIMEOUT_LOAD_S"):
        await backend.load("slow:latest")
    await backend.aclose()


async def test_an_eviction_by_ollama_shows_in_the_next_listing(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    ollama.scheduler.expire(ollama.models[TALKER])
    assert (await find(backend)).resident is False
    assert (await whole(backend, model))["choices"]
    assert (await find(backend)).resident is True


async def test_the_version(backend: OllamaBackend, ollama: Ollama) -> None:
    assert await backend.version() == f"Ollama {ollama.version}"


async def test_a_server_that_is_not_there_is_unavailable(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    await ollama.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await backend.models()
    with pytest.raises((Unavailable, BackendError)):
        await whole(backend, model)


async def test_another_kind_of_server_is_told_apart(ollama: Ollama, backend: OllamaBackend) -> None:
    ollama.door = Raw([b"[]"], content_type="application/json")
    with pytest.raises(BackendError, match="Is that its address"):
        await backend.models()


@pytest.mark.parametrize(
    "url", ["localhost:11434", "http://localhost:11434/", "http://localhost:11434/v1"]
)
def test_addresses_as_people_write_them(url: str) -> None:
    assert OllamaBackend(OllamaOptions("o", url), TIMEOUTS).url == "http://localhost:11434"


# --- where it lies, how large it will be --------------------------------------------------------


def device(name: str, vendor: str = "nvidia", node: str = "local") -> GpuDevice:
    return GpuDevice(name, node, vendor, name, 24 * GIB)


def test_a_model_may_lie_on_any_card_of_its_node_and_in_ram_where_there_is_none() -> None:
    backend = OllamaBackend(OllamaOptions("o", "x", node="desk"), TIMEOUTS)
    ram = device("desk/ram", HOST, "desk")
    cards = [device("desk/nvidia0", node="desk"), device("desk/amd0", "amd", "desk")]
    elsewhere = [device("nvidia0"), device("ram", HOST)]
    assert backend.placing is Placing.ROOMIEST
    assert backend.reach(TALKER, [*elsewhere, ram, *cards]) == ("desk/nvidia0", "desk/amd0")
    assert backend.reach(TALKER, [ram, *elsewhere]) == ("desk/ram",)
    assert backend.reach(TALKER, elsewhere) == ()
    assert backend.processes(TALKER) == ()


async def test_the_layout_is_of_the_context_that_would_be_asked_for(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    assert backend.layout(TALKER) is None
    await backend.models()

    def context(name: str = TALKER, need: int = 0) -> int:
        found = backend.layout(name, need)
        assert found
        return found.context

    assert [context(need=need) for need in (0, 8192, 9000, 99_999)] == [8192, 8192, 16384, 32768]
    assert context(EMBEDDER) == 512
    await backend.load(TALKER, Placement(context=9000))
    assert [context(need=need) for need in (0, 16384, 17000)] == [16384, 16384, 32768]
    assert backend.layout("nobody") is None


async def test_the_layout_counts_every_slot_and_grows_as_ollama_does(ollama: Ollama) -> None:
    ollama.scheduler.num_parallel = 4
    async with backend_of(ollama, parallel=4, cache_type="q8_0") as backend:
        found = {model.ref.name: model for model in await backend.models()}
        layout = backend.layout(TALKER)
        embeds = backend.layout(EMBEDDER)
        held = await backend.load(TALKER)
    assert layout
    assert embeds
    assert [found[name].slots for name in (TALKER, EMBEDDER)] == [4, 1]
    assert (layout.context, layout.parallel, embeds.parallel) == (4 * 8192, 4, 1)
    assert (layout.cache_type_k, layout.shape.vocab_size) == ("q8_0", 32_000)
    kept = sum(
        2 * one.kv_heads * (one.key_length + one.value_length) for one in layout.shape.layers
    )
    assert held
    assert held.bytes == layout.shape.weights_bytes + kept * layout.context


async def test_a_model_of_which_too_little_is_told_has_no_layout(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    ollama.add(OllamaModel(name="dark", info={"block_count": None}))
    assert await find(backend, "dark:latest")
    assert backend.layout("dark:latest") is None
    ollama.add(OllamaModel(name="dark", digest="lit"))
    await backend.models()
    assert backend.layout("dark:latest")


# --- answers ------------------------------------------------------------------------------------


async def test_a_chat(ollama: Ollama, backend: OllamaBackend) -> None:
    body = await whole(backend, await ready(backend))
    assert body["model"] == "home/talker:latest"
    assert body["choices"][0]["message"]["content"] == f"Hello from {TALKER}."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] > 0
    assert body["timings"]["predicted_n"] == body["usage"]["completion_tokens"]
    assert ollama.requests[-1].path == "/api/chat"
    assert ollama.requests[-1].body["keep_alive"] == -1


async def test_fields_nobody_knows_arrive(ollama: Ollama, backend: OllamaBackend) -> None:
    fields = {"guided_choice": ["ä", "b"], "depth": [1, 2.5, None]}
    await whole(backend, await ready(backend), **fields)
    assert fields.items() <= ollama.requests[-1].body.items()


async def test_thinking_and_calls(ollama: Ollama, backend: OllamaBackend) -> None:
    ollama.play(Says([], thinking=["Hm, ", "yes."], calls=[Call(), Call("now", {}, None)]))
    ollama.add(OllamaModel(name="all", capabilities=("completion", "thinking", "tools")))
    body = await whole(backend, await ready(backend, "all:latest"), tools=TOOLS)
    [choice] = body["choices"]
    assert choice["message"]["reasoning_content"] == "Hm, yes."
    first, second = choice["message"]["tool_calls"]
    assert first["id"] == "call_a1b2c3d4"
    assert json.loads(first["function"]["arguments"]) == {"city": "Zürich"}
    assert second["id"].startswith("call_")
    assert choice["finish_reason"] == "tool_calls"


async def test_an_answer_that_meets_its_limit(backend: OllamaBackend) -> None:
    body = await whole(backend, await ready(backend), max_tokens=2)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["message"]["content"] == "Hello from"


async def test_a_text_completion(ollama: Ollama, backend: OllamaBackend) -> None:
    asked = {"endpoint": Endpoint.COMPLETIONS, "prompt": "Once"}
    body = await whole(backend, await ready(backend), **asked)
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == f"Hello from {TALKER}."
    assert ollama.requests[-1].path == "/api/generate"


async def test_texts_become_vectors(backend: OllamaBackend) -> None:
    model = await ready(backend, EMBEDDER)
    asked = request(Endpoint.EMBEDDINGS, input=["one", "one", "two"])
    [raw] = await blocks(backend, model, asked)
    body = json.loads(raw)
    assert body["model"] == "home/embedder:latest"
    same, again, other = (item["embedding"] for item in body["data"])
    assert same == again != other


async def test_images_arrive(ollama: Ollama, backend: OllamaBackend) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    await whole(
        backend, await ready(backend, THINKER), messages=[{"role": "user", "content": parts}]
    )
    assert ollama.requests[-1].body["messages"][0]["images"] == ["iVBORw0KGgo="]


async def test_leaving_a_stream_stops_the_generation(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    ollama.play(Endless())
    async with backend.stream(request(stream=True), model) as answer:
        for _ in range(3):
            assert await anext(answer)
        assert ollama.generating() == {TALKER}
    async with asyncio.timeout(1):
        while ollama.generating():
            await asyncio.sleep(0.01)


async def test_closing_ends_what_is_running(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await ready(backend)
    ollama.play(Endless())
    async with backend.stream(request(stream=True), model) as answer:
        assert await anext(answer)
        await backend.aclose()
        with pytest.raises(BackendError):
            async for _ in answer:
                pass


# --- the context --------------------------------------------------------------------------------


async def test_requests_that_fit_share_one_load(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await ready(backend)
    for prompt_tokens in (10, 5000, 7000):
        await whole(backend, model, prompt_tokens=prompt_tokens)
        await backend.models()
    assert ollama.loads == [Load(TALKER, 8192)]


async def test_a_long_prompt_gets_a_longer_context_and_later_ones_keep_it(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    await whole(backend, model, prompt_tokens=9000)
    await whole(backend, model)
    await backend.models()
    await whole(backend, model)
    assert ollama.loads == [Load(TALKER, 8192), Load(TALKER, 16384)]


async def test_short_requests_beside_a_growing_one_do_not_shrink_it_again(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    ollama.add(OllamaModel(name="slow", load_s=0.1))
    model = await ready(backend, "slow:latest")
    long = asyncio.create_task(whole(backend, model, prompt_tokens=9000))
    await ollama.received(2)
    await backend.models()
    await asyncio.gather(long, *(whole(backend, model) for _ in range(3)))
    assert [load.num_ctx for load in ollama.loads] == [8192, 16384]


async def test_a_context_that_cannot_be_had_is_not_asked_for_again(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    bare = await ready(backend, THINKER)
    with pytest.raises(BadRequest, match="does not support tools"):
        await whole(backend, bare, prompt_tokens=9000, tools=TOOLS)
    await whole(backend, await find(backend, THINKER))
    await whole(backend, model)
    assert ollama.loads == [Load(TALKER, 8192), Load(THINKER, 8192)]


async def test_a_prompt_too_long_for_the_model_is_refused_before_it_is_sent(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    with pytest.raises(BadRequest) as caught:
        await whole(backend, model, prompt_tokens=40_000)
    assert caught.value.code == "context_length_exceeded"
    assert len(ollama.requests) == 1


async def test_a_prompt_longer_than_its_estimate_is_refused_and_not_cut(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    messages = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(BadRequest, match="exceeds the available context size") as caught:
        await whole(backend, model, prompt_tokens=10, messages=messages)
    assert caught.value.code == "context_length_exceeded"


async def test_a_load_for_more_context_reloads_what_is_resident_with_less(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    await ready(backend)
    grown = await backend.load(TALKER, Placement(context=9000))
    assert grown
    assert (grown.context, grown.bytes) == (16384, ollama.vram_used)
    for context in (0, 8192, 16384):
        assert await backend.load(TALKER, Placement(context=context)) == grown
    assert ollama.loads == [Load(TALKER, 8192), Load(TALKER, 16384)]


async def test_requests_during_a_reload_for_more_context_ask_for_that_too(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    ollama.add(OllamaModel(name="slow", load_s=0.1))
    model = await ready(backend, "slow:latest")
    growing = asyncio.create_task(backend.load("slow:latest", Placement(context=9000)))
    await ollama.received(2)
    await backend.models()
    await asyncio.gather(growing, *(whole(backend, model) for _ in range(3)))
    assert [load.num_ctx for load in ollama.loads] == [8192, 16384]


async def test_what_others_have_loaded_with_more_context_is_kept_by_loads_and_requests(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    async with backend_of(ollama, context=32_768) as other:
        await other.load(TALKER)
    model = await ready(backend)
    for prompt_tokens in (10, 20_000):
        await whole(backend, model, prompt_tokens=prompt_tokens)
    assert ollama.loads == [Load(TALKER, 32_768)]


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({"prompt_tokens": 10}, 1034),
        ({"prompt_tokens": 9000, "max_tokens": 500}, 9500),
        ({"prompt_tokens": 9000, "max_tokens": 90_000}, 32_768),
        ({"prompt_tokens": 10, "options": {"num_ctx": 12_000}}, 12_000),
        ({"prompt_tokens": 10, "tools": TOOLS}, 1034 + len(json.dumps(TOOLS)) // 3),
        ({"endpoint": Endpoint.EMBEDDINGS, "prompt_tokens": 600, "input": "a"}, 600),
        ({"prompt_tokens": 32_700}, 32_768),
        ({"prompt_tokens": 32_705}, 0),
        ({"prompt_tokens": 9000, "options": {"num_ctx": "many"}}, 0),
    ],
)
async def test_the_context_that_a_request_needs(
    backend: OllamaBackend, fields: dict[str, Any], need: int
) -> None:
    assert backend.context_need(request(**fields), await find(backend)) == need


@pytest.mark.parametrize("prompt_tokens", [10, 7168, 7169, 20_000, 32_700])
async def test_a_load_for_what_a_request_needs_is_the_only_one(
    ollama: Ollama, backend: OllamaBackend, prompt_tokens: int
) -> None:
    model = await ready(backend)
    loads = len(ollama.loads)
    asked = request(prompt_tokens=prompt_tokens)
    need = backend.context_need(asked, model)
    held = await backend.load(TALKER, Placement(context=need))
    assert held
    assert held.context is not None
    assert held.context >= need
    await blocks(backend, model, asked)
    assert len(ollama.loads) == loads + (need > 8192)
    assert ollama.loaded == {TALKER: held.context}


async def test_a_refused_request_needs_nothing_and_says_why_when_it_is_asked(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    asked = request(prompt_tokens=40_000)
    assert backend.context_need(asked, model) == 0
    with pytest.raises(Unsupported) as caught:
        await blocks(backend, model, asked)
    assert caught.value.code == "context_length_exceeded"
    assert ollama.loads == [Load(TALKER, 8192)]


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"think": True}, "does not support thinking"),
        ({"format": "xml"}, "invalid format"),
        ({"options": {"top_k": "many"}}, "must be of type integer"),
    ],
)
async def test_a_request_at_fault_is_refused_in_ollamas_words(
    backend: OllamaBackend, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        await whole(backend, await ready(backend), **fields)


async def test_a_full_queue_is_an_overload(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await find(backend)
    ollama.scheduler.max_queue = 0
    with pytest.raises(Overloaded, match="maximum pending requests"):
        await whole(backend, model)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, BackendError), (503, Unavailable), (401, BackendError), (429, Overloaded)],
)
async def test_refusals_at_the_door(
    ollama: Ollama, backend: OllamaBackend, status: int, expected: type[Exception]
) -> None:
    model = await ready(backend)
    ollama.play(Status(status))
    with pytest.raises(expected):
        await whole(backend, model)


async def test_a_web_page_is_no_answer(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await ready(backend)
    ollama.play(Raw([b"<html>"], content_type="text/html"))
    with pytest.raises(BackendError, match="web page"):
        await whole(backend, model)


async def test_an_error_before_the_answer_and_one_within_it(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    ollama.play(ErrorInStream(after=0), ErrorInStream(after=2))
    with pytest.raises(BackendError, match=r"500.*unexpectedly stopped"):
        await whole(backend, model)
    heard: list[bytes] = []

    async def listen(hear: Callable[[bytes], None]) -> None:
        async with backend.stream(request(), model) as answer:
            async for block in answer:
                hear(block)

    with pytest.raises(BackendError, match="middle of its answer: model runner"):
        await listen(heard.append)
    assert b'"Hello"' in b"".join(heard)
    assert not sse.ends(heard[-1])


async def test_a_break_is_an_error(ollama: Ollama, backend: OllamaBackend) -> None:
    model = await ready(backend)
    ollama.play(BreakOff(after=2))
    with pytest.raises(BackendError, match="broke off in the middle"):
        await whole(backend, model)


async def test_silence_is_bounded_before_and_within_an_answer(ollama: Ollama) -> None:
    limits = Timeouts(first_byte_s=0.2, stall_s=0.6)
    backend = OllamaBackend(OllamaOptions("o", ollama.url), limits)
    model = await ready(backend)
    ollama.play(Hang(), Hang(after=2), Says(["a", "b"], delay_s=0.15))
    with pytest.raises(BackendTimeout, match=r"nothing for 0\.2 s"):
        await whole(backend, model)
    with pytest.raises(BackendTimeout, match=r"nothing for 0\.6 s"):
        await whole(backend, model)
    assert await whole(backend, model)
    await backend.aclose()


async def test_a_killed_server_breaks_the_answer_off(
    ollama: Ollama, backend: OllamaBackend
) -> None:
    model = await ready(backend)
    ollama.play(Endless())
    async with backend.stream(request(stream=True), model) as answer:
        assert await anext(answer)
        await ollama.stop()
        with pytest.raises(BackendError):
            async for _ in answer:
                pass


async def test_who_leaves_an_answer_long_after_its_load_has_unloaded_nothing() -> None:
    async with Ollama(OllamaModel(name=TALKER), vram_total=24 * GIB) as ollama:
        backend = OllamaBackend(OllamaOptions("o", ollama.url), TIMEOUTS)
        model = await ready(backend)
        lost: list[ModelRef] = []
        backend.watch(lambda ref, reason: lost.append(ref))
        await backend.unload(TALKER)
        ollama.play(Endless())

        async def read_until_cancelled(begun: asyncio.Event) -> None:
            async with backend.stream(request(stream=True), model) as answer:
                async for _ in answer:
                    begun.set()

        begun = asyncio.Event()
        reader = asyncio.create_task(read_until_cancelled(begun))
        await begun.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        assert TALKER in ollama.loaded
        assert lost == []
        await backend.aclose()
