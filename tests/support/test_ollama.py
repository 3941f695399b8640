"""The Ollama double is believed by other tests, so here it is held to what Ollama does."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support import ollama as o
from tests.support import ollama_wire as wire
from tests.support.ollama import GIB, Eviction, Load, Ollama, OllamaModel
from tests.support.upstream import Raw, Refuse, Status

HI = [{"role": "user", "content": "Hi"}]
IMAGE = "aGVsbG8="


def small(name: str, **more: Any) -> OllamaModel:
    """A model of 4 GiB, whatever its context."""
    return OllamaModel(name=name, **{"footprint": lambda ctx, slots: 4 * GIB, **more})


A, B, C, D = (small(name) for name in "abcd")
EMBEDS = OllamaModel(name="e", capabilities=("embedding",), family="bert", context_length=8)


@asynccontextmanager
async def serving(
    *models: OllamaModel, **settings: Any
) -> AsyncIterator[tuple[Ollama, httpx.AsyncClient]]:
    async with Ollama(*models, **settings) as ollama:
        async with httpx.AsyncClient(base_url=ollama.url, timeout=5) as http:
            yield ollama, http


async def chat(http: httpx.AsyncClient, model: str = "a", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": HI, "stream": False, **more}
    return await http.post("/api/chat", json=body)


async def load(http: httpx.AsyncClient, model: str, num_ctx: int = 0, **more: Any) -> None:
    options = {"options": {"num_ctx": num_ctx}} if num_ctx else {}
    answer = await http.post("/api/generate", json={"model": model, **options, **more})
    assert answer.status_code == 200, answer.text


async def lines(http: httpx.AsyncClient, path: str = "/api/chat", **more: Any) -> list[Any]:
    answer = await http.post(path, json={"model": "a", "messages": HI, **more})
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def resident(http: httpx.AsyncClient) -> dict[str, Any]:
    return {m["name"]: m for m in (await http.get("/api/ps")).json()["models"]}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def talking(
    http: httpx.AsyncClient, model: str = "a", **more: Any
) -> AsyncIterator[AsyncIterator[str]]:
    """A chat that streams on; leaving the block hangs up."""
    body = {"model": model, "messages": HI, **more}
    async with http.stream("POST", "/api/chat", json=body) as answer:
        told = answer.aiter_lines()
        await anext(told)
        yield told


# --- answers ------------------------------------------------------------------------------------


async def test_a_chat_streams_lines_and_ends_with_its_figures() -> None:
    async with serving(A) as (_, http):
        chunks = await lines(http)
    assert [c["message"]["content"] for c in chunks] == ["Hello", " from", " a:latest.", ""]
    assert [c["done"] for c in chunks] == [False, False, False, True]
    assert {c["model"] for c in chunks} == {"a"}
    last = chunks[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 1, 3)
    assert last["total_duration"] >= last["load_duration"] > 0
    assert "done_reason" not in chunks[0]


async def test_without_stream_the_same_is_one_body() -> None:
    async with serving(A) as (_, http):
        body = (await chat(http)).json()
        text = (await http.post("/api/generate", json={"model": "a", "prompt": "Hi"})).text
    assert body["message"] == {"role": "assistant", "content": "Hello from a:latest."}
    assert body["done_reason"] == "stop"
    assert [json.loads(line)["response"] for line in text.splitlines()][:2] == ["Hello", " from"]


async def test_thinking_comes_first_and_only_if_it_is_not_turned_off() -> None:
    async with serving(small("a", capabilities=("completion", "thinking"))) as (ollama, http):
        ollama.play(o.Says(["4"], thinking=["2", "+2"]))
        chunks = await lines(http)
        whole = (await chat(http)).json()["message"]
        quiet = (await chat(http, think=False)).json()["message"]
    assert [c["message"].get("thinking") for c in chunks] == ["2", "+2", None, None]
    assert whole == {"role": "assistant", "content": "4", "thinking": "2+2"}
    assert "thinking" not in quiet


async def test_tool_calls_come_whole_with_arguments_as_an_object() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Says([], calls=[o.Call(), o.Call("now", {}, id=None)]))
        first, last = await lines(http)
        body = (await chat(http)).json()
    one, two = first["message"]["tool_calls"]
    assert one["function"] == {"index": 0, "name": "get_weather", "arguments": {"city": "Zürich"}}
    assert one["id"].startswith("call_")
    assert two == {"function": {"index": 1, "name": "now", "arguments": {}}}
    assert last["done_reason"] == "stop"
    assert body["message"]["tool_calls"] == [one, two]


async def test_an_answer_is_cut_at_num_predict_and_says_length() -> None:
    async with serving(A) as (_, http):
        body = (await chat(http, options={"num_predict": 2})).json()
    assert (body["message"]["content"], body["done_reason"]) == ("Hello from", "length")


async def test_without_shift_an_answer_ends_where_the_window_is_full() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Endless())
        body = (await chat(http, shift=False, options={"num_ctx": 4})).json()
    assert (body["eval_count"], body["done_reason"]) == (3, "length")


@pytest.mark.parametrize("form", ["json", {"type": "object"}])
async def test_a_format_is_kept(form: Any) -> None:
    async with serving(A) as (_, http):
        body = (await chat(http, format=form)).json()
    assert json.loads(body["message"]["content"]) == {"answer": "Hello from a:latest."}


async def test_embeddings_are_unit_vectors_and_may_be_shortened() -> None:
    async with serving(EMBEDS) as (_, http):
        ask = {"model": "e", "input": ["x y", "z"]}
        both = (await http.post("/api/embed", json=ask)).json()
        short = (await http.post("/api/embed", json={**ask, "dimensions": 4})).json()
        old = (await http.post("/api/embeddings", json={"model": "e", "prompt": "z"})).json()
    assert [math.hypot(*vector) for vector in both["embeddings"]] == pytest.approx([1, 1])
    assert both["prompt_eval_count"] == 3
    assert len(short["embeddings"][0]) == 4
    assert old["embedding"] == both["embeddings"][1]


async def test_a_long_text_to_embed_is_cut_unless_that_is_forbidden() -> None:
    async with serving(EMBEDS) as (_, http):
        ask = {"model": "e", "input": "x " * 9}
        cut = await http.post("/api/embed", json=ask)
        refused = await http.post("/api/embed", json={**ask, "truncate": False})
    assert cut.json()["prompt_eval_count"] == 8
    assert refused.status_code == 400
    assert refused.json() == {"error": "the input length exceeds the context length"}


# --- prompts too long ---------------------------------------------------------------------------


async def test_the_oldest_messages_are_dropped_in_silence_and_the_system_kept() -> None:
    said = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one two three"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "five six"},
    ]
    async with serving(A) as (ollama, http):
        answer = await chat(http, messages=said, options={"num_ctx": 5})
    assert (answer.status_code, answer.json()["done_reason"]) == (200, "stop")
    assert [m["content"] for m in ollama.prompts[0].messages] == ["be kind", "four", "five six"]
    assert answer.json()["prompt_eval_count"] == 5


async def test_a_single_message_too_long_is_cut_to_half_the_window() -> None:
    async with serving(A) as (_, http):
        long = [{"role": "user", "content": "x " * 50}]
        body = (await chat(http, messages=long, options={"num_ctx": 10})).json()
    assert body["prompt_eval_count"] == 5


@pytest.mark.parametrize("stream", [True, False])
async def test_truncate_off_refuses_with_the_runners_error_as_a_string(stream: bool) -> None:
    async with serving(A) as (_, http):
        long = [{"role": "user", "content": "x " * 50}]
        more: dict[str, Any] = {"truncate": False, "stream": stream}
        answer = await chat(http, messages=long, options={"num_ctx": 10}, **more)
    assert answer.status_code == 400
    inner = json.loads(answer.json()["error"])["error"]
    assert (inner["type"], inner["n_prompt_tokens"], inner["n_ctx"]) == (
        "exceed_context_size_error",
        50,
        10,
    )


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b"{", 400, "unexpected EOF"),
        ("/api/chat", b"no", 400, "invalid character 'n' looking for beginning of value"),
        ("/api/chat", {"messages": HI}, 400, "model is required"),
        ("/api/chat", {"model": "x", "messages": HI}, 404, "model 'x' not found"),
        ("/api/generate", {"model": "x", "keep_alive": 0}, 404, "model 'x' not found"),
        ("/api/show", {"model": "x"}, 404, "model 'x' not found"),
        ("/api/show", {}, 400, "model is required"),
        ("/api/embed", {"model": "x"}, 404, 'model "x" not found, try pulling it first'),
        ("/api/embed", {"model": "a", "input": [1, 2]}, 400, "invalid input type"),
        ("/api/chat", {"model": "e", "messages": HI}, 400, '"e" does not support chat'),
        ("/api/generate", {"model": "e"}, 400, '"e" does not support generate'),
        (
            "/api/chat",
            {"model": "a", "messages": HI, "think": True},
            400,
            '"a" does not support thinking',
        ),
        (
            "/api/chat",
            {"model": "p", "messages": HI, "tools": [{}]},
            400,
            "registry.ollama.ai/library/p:latest does not support tools",
        ),
        (
            "/api/chat",
            {"model": "a", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
            400,
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content"
            " of type string",
        ),
        (
            "/api/chat",
            {"model": "a", "messages": [{"tool_calls": [{"function": {"arguments": "{}"}}]}]},
            400,
            "json: cannot unmarshal string into Go struct field"
            " ChatRequest.messages.tool_calls.function.arguments of type map[string]interface {}",
        ),
        (
            "/api/chat",
            {"model": "a", "messages": [{"content": "", "images": ["data:image/png;base64,AA"]}]},
            400,
            "illegal base64 data at input byte 4",
        ),
        (
            "/api/chat",
            {"model": "a", "messages": HI, "options": {"num_ctx": "9"}},
            500,
            'option "num_ctx" must be of type integer',
        ),
        (
            "/api/chat",
            {"model": "a", "messages": HI, "keep_alive": "300"},
            400,
            'time: missing unit in duration "300"',
        ),
    ],
)
async def test_a_bad_request_gets_its_status_and_a_plain_error(
    path: str, body: Any, status: int, error: str
) -> None:
    async with serving(A, EMBEDS, small("p", capabilities=("completion",))) as (ollama, http):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await http.post(path, content=content)
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert ollama.loads == []


async def test_an_image_for_a_model_without_eyes_is_refused_by_the_runner() -> None:
    images = [{"role": "user", "content": "What?", "images": [IMAGE]}]
    async with serving(A, small("v", capabilities=("completion", "vision"))) as (_, http):
        blind = await chat(http, messages=images)
        sees = await chat(http, "v", messages=images)
    assert blind.status_code == 400
    assert "does not support multimodal" in json.loads(blind.json()["error"])["error"]["message"]
    assert sees.json()["prompt_eval_count"] == 769


async def test_an_unknown_path_is_a_page_not_found() -> None:
    async with serving(A) as (_, http):
        answer = await http.get("/api/nothing")
    assert (answer.status_code, answer.text) == (404, "404 page not found")


# --- lookups ------------------------------------------------------------------------------------


async def test_it_says_that_it_runs_and_its_version() -> None:
    async with serving(A) as (ollama, http):
        assert (await http.head("/")).status_code == 200
        assert (await http.get("/")).text == "Ollama is running"
        assert (await http.get("/api/version")).json() == {"version": ollama.version}


async def test_models_are_listed_newest_first_and_come_and_go() -> None:
    older = OllamaModel(name="old:7b", modified_at=datetime(2025, 1, 1, tzinfo=UTC), size=7)
    async with serving(older, A) as (ollama, http):
        models = (await http.get("/api/tags")).json()["models"]
        ollama.add(B)
        ollama.remove("a")
        after = (await http.get("/api/tags")).json()["models"]
    assert [m["name"] for m in models] == ["a:latest", "old:7b"]
    assert models[1]["size"] == 7
    assert len(models[1]["digest"]) == 64
    assert models[0]["details"]["quantization_level"] == "Q4_K_M"
    assert [m["name"] for m in after] == ["b:latest", "old:7b"]


async def test_show_tells_capabilities_window_and_parameters_as_text() -> None:
    model = OllamaModel(name="a", family="qwen3", num_ctx=8192, parameters={"stop": ["<x>", "y"]})
    async with serving(model) as (_, http):
        card = (await http.post("/api/show", json={"model": "A:LATEST"})).json()
    assert card["capabilities"] == ["completion", "tools"]
    assert card["model_info"]["general.architecture"] == "qwen3"
    assert card["model_info"]["qwen3.context_length"] == 32_768
    assert card["model_info"]["qwen3.attention.key_length"] == 64
    assert card["tensors"][0]["shape"][1] == 32_000
    window, *stops = card["parameters"].splitlines()
    assert window.split() == ["num_ctx", "8192"]
    assert [line.split() for line in stops] == [["stop", '"<x>"'], ["stop", '"y"']]


async def test_ps_tells_sizes_context_and_expiry() -> None:
    async with serving(A) as (_, http):
        assert await resident(http) == {}
        await load(http, "a", 8192)
        entry = (await resident(http))["a:latest"]
    assert (entry["size"], entry["size_vram"]) == (4 * GIB, 4 * GIB)
    assert entry["context_length"] == 8192
    left = expiry(entry) - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)


def expiry(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["expires_at"][:26] + "+00:00")


# --- loading and unloading ----------------------------------------------------------------------


async def test_an_empty_prompt_loads_and_keep_alive_zero_unloads() -> None:
    async with serving(A) as (ollama, http):
        loaded = await http.post("/api/generate", json={"model": "a", "keep_alive": -1})
        held = dict(ollama.loaded)
        gone = await http.post("/api/generate", json={"model": "a", "keep_alive": 0})
    assert loaded.json().items() >= {"response": "", "done": True, "done_reason": "load"}.items()
    assert gone.json()["done_reason"] == "unload"
    assert held == {"a:latest": 4096}
    assert ollama.loaded == {}
    assert ollama.evictions == [Eviction("a:latest", 4096, "asked")]


async def test_a_chat_without_messages_does_the_same() -> None:
    async with serving(A) as (ollama, http):
        loaded = (await chat(http, messages=[])).json()
        gone = (await chat(http, messages=[], keep_alive=0)).json()
    assert (loaded["done_reason"], gone["done_reason"]) == ("load", "unload")
    assert loaded["message"] == {"role": "assistant", "content": ""}
    assert ollama.loaded == {}


async def test_an_embedding_model_loads_by_embedding_nothing_and_unloads_by_generate() -> None:
    async with serving(EMBEDS) as (ollama, http):
        answer = await http.post("/api/embed", json={"model": "e", "input": [], "keep_alive": -1})
        assert ollama.loaded == {"e:latest": 8}
        await load(http, "e", keep_alive=0)
    assert answer.json() == {"model": "e", "embeddings": []}
    assert ollama.loaded == {}


async def test_unloading_what_is_not_resident_succeeds() -> None:
    async with serving(A) as (ollama, http):
        await load(http, "a", keep_alive=0)
    assert ollama.evictions == []


async def test_a_busy_model_is_unloaded_when_it_falls_idle() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Endless())
        async with talking(http):
            await load(http, "a", keep_alive=0)
            assert list(await resident(http)) == ["a:latest"]
            assert ollama.generating() == {"a:latest"}
        await until(lambda: ollama.loaded == {})
    assert ollama.generating() == set()


async def test_an_unload_during_the_load_is_not_heard() -> None:
    async with serving(small("a", load_s=0.05)) as (ollama, http):
        loading = asyncio.create_task(load(http, "a"))
        await until(lambda: ollama.scheduler.loading is not None)
        assert await resident(http) == {}
        await load(http, "a", keep_alive=0)
        await loading
        assert list(ollama.loaded) == ["a:latest"]


async def test_a_failed_load_is_a_500_and_leaves_nothing() -> None:
    async with serving(small("a", load_error="llama-server process has terminated")) as (o_, http):
        answer = await chat(http)
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "llama-server process has terminated"},
    )
    assert (o_.loaded, o_.vram_used, o_.loads_of("a")) == ({}, 0, 1)


async def test_two_at_once_load_a_model_once() -> None:
    async with serving(small("a", load_s=0.03)) as (ollama, http):
        answers = await asyncio.gather(chat(http), chat(http))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert ollama.loads == [Load("a:latest", 4096)]


async def test_two_names_of_the_same_weights_share_a_runner() -> None:
    twin = small("twin", blob=A.blob)
    async with serving(A, twin) as (ollama, http):
        await chat(http)
        await chat(http, "twin")
    assert ollama.loads == [Load("a:latest", 4096)]


# --- the context --------------------------------------------------------------------------------


@pytest.mark.parametrize(("vram", "tokens"), [(16, 4096), (24, 32_768), (48, 262_144)])
async def test_the_default_context_goes_by_the_size_of_the_card(vram: int, tokens: int) -> None:
    async with serving(small("a", context_length=10**6), vram_total=vram * GIB) as (ollama, http):
        await load(http, "a")
        assert ollama.loaded == {"a:latest": tokens}


async def test_the_modelfile_sets_a_context_and_the_request_another() -> None:
    async with serving(small("a", num_ctx=6000)) as (ollama, http):
        await load(http, "a")
        await load(http, "a", 7000)
    assert [entry.num_ctx for entry in ollama.loads] == [6000, 7000]
    assert ollama.evictions == [Eviction("a:latest", 6000, "reload")]


async def test_the_same_context_costs_nothing() -> None:
    async with serving(A) as (ollama, http):
        await load(http, "a", 8192)
        await chat(http, options={"num_ctx": 8192})
    assert len(ollama.loads) == 1


async def test_no_context_asks_for_the_default_and_so_reloads() -> None:
    async with serving(A) as (ollama, http):
        await load(http, "a", 8192)
        await chat(http)
    assert [entry.num_ctx for entry in ollama.loads] == [8192, 4096]


async def test_a_context_beyond_training_is_clamped_and_no_reason_to_reload() -> None:
    async with serving(small("a", context_length=5000)) as (ollama, http):
        await load(http, "a", 9000)
        await load(http, "a", 7000)
    assert ollama.loads == [Load("a:latest", 5000)]


async def test_a_model_with_eyes_has_at_least_2048() -> None:
    async with serving(small("v", capabilities=("completion", "vision"))) as (ollama, http):
        await load(http, "v", 512)
        assert ollama.loaded == {"v:latest": 2048}


@pytest.mark.parametrize("more", [{"options": {"num_batch": 64}}, {"shift": False}])
async def test_other_options_of_the_runner_reload_it_too(more: dict[str, Any]) -> None:
    async with serving(A) as (ollama, http):
        await chat(http)
        await chat(http, **more)
    assert len(ollama.loads) == 2


async def test_a_reload_waits_until_the_model_is_idle_and_others_go_first() -> None:
    async with serving(A, num_parallel=2) as (ollama, http):
        ollama.play(o.Endless(), o.Says())
        async with talking(http):
            reloading = asyncio.create_task(chat(http, options={"num_ctx": 8192}))
            await until(lambda: ollama.scheduler.waiting == 1)
            assert (await chat(http)).status_code == 200
            assert len(ollama.loads) == 1
        assert (await reloading).status_code == 200
    assert [entry.num_ctx for entry in ollama.loads] == [4096, 8192]


# --- keep_alive ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept_s"),
    [("10m", 600), ("1h30m", 5400), ("250ms", 0.25), (90, 90), (1.5, 1.5), ("0", 0), (None, None)],
)
def test_a_keep_alive_is_seconds_or_a_duration(given: Any, kept_s: float | None) -> None:
    assert wire.seconds(given) == kept_s


@pytest.mark.parametrize("given", [-1, "-1m", -0.5])
async def test_below_zero_is_forever(given: Any) -> None:
    async with serving(A) as (_, http):
        await load(http, "a", keep_alive=given)
        assert expiry((await resident(http))["a:latest"]).year > 2300


async def test_a_model_expires_after_its_keep_alive() -> None:
    async with serving(A) as (ollama, http):
        await load(http, "a", keep_alive="30ms")
        assert list(ollama.loaded) == ["a:latest"]
        await until(lambda: ollama.loaded == {})
    assert ollama.evictions == [Eviction("a:latest", 4096, "expired")]


async def test_each_use_starts_the_time_again() -> None:
    async with serving(A) as (ollama, http):
        for _ in range(2):
            await chat(http, keep_alive="250ms")
            await asyncio.sleep(0.15)
        assert list(ollama.loaded) == ["a:latest"]


async def test_keep_alive_zero_on_a_chat_unloads_after_the_answer() -> None:
    async with serving(A) as (ollama, http):
        answer = await chat(http, keep_alive=0)
        await until(lambda: ollama.loaded == {})
    assert answer.json()["message"]["content"] == "Hello from a:latest."
    assert ollama.evictions == [Eviction("a:latest", 4096, "idle")]


@pytest.mark.parametrize(("resets", "year"), [(False, 2300), (True, 2000)])
async def test_without_keep_alive_the_last_one_stays_except_on_old_servers(
    resets: bool, year: int
) -> None:
    async with serving(A, resets_keep_alive=resets) as (_, http):
        await load(http, "a", keep_alive=-1)
        await chat(http)
        found = expiry((await resident(http))["a:latest"]).year
    assert (found > 2300) is (year == 2300)


# --- memory -------------------------------------------------------------------------------------


async def test_a_model_fits_beside_others_within_four_fifths_of_what_is_free() -> None:
    async with serving(A, B, vram_total=9 * GIB) as (ollama, http):
        await load(http, "a")
        await load(http, "b")
        assert set(ollama.loaded) == {"a:latest", "b:latest"}
        assert ollama.vram_used == 8 * GIB
    async with serving(A, B, vram_total=9 * GIB - 1) as (ollama, http):
        await load(http, "a")
        await load(http, "b")
        assert set(ollama.loaded) == {"b:latest"}
        assert ollama.evictions == [Eviction("a:latest", 4096, "room")]


async def test_what_other_programs_take_is_not_free() -> None:
    async with serving(A, B) as (ollama, http):
        await load(http, "a")
        ollama.scheduler.others_vram = 8 * GIB
        await load(http, "b")
        assert list(ollama.loaded) == ["b:latest"]


async def test_a_fourth_model_evicts_however_small() -> None:
    async with serving(A, B, C, D, vram_total=400 * GIB) as (ollama, http):
        for name in "abcd":
            await load(http, name)
    assert ollama.evictions == [Eviction("a:latest", 32_768, "count")]


async def test_alone_and_still_too_big_spills_into_system_memory() -> None:
    async with serving(small("a", footprint=lambda ctx, slots: 20 * GIB)) as (_, http):
        await load(http, "a")
        entry = (await resident(http))["a:latest"]
    assert (entry["size"], entry["size_vram"]) == (20 * GIB, 16 * GIB)


async def test_the_cache_grows_with_context_and_slots() -> None:
    model = OllamaModel(name="a", size=GIB, kv_bytes_per_token=1000)
    assert model.needs_bytes(4096, 2) == GIB + 8_192_000
    async with serving(model, EMBEDS, num_parallel=4) as (ollama, http):
        await load(http, "a")
        await http.post("/api/embed", json={"model": "e"})
        assert [r.num_parallel for r in ollama.scheduler.runners.values()] == [4, 1]


async def test_the_victim_is_the_idle_one_with_the_shortest_keep_alive_then_by_path() -> None:
    async with serving(A, B, C, D) as (ollama, http):
        for name, keep in (("c", "5m"), ("b", "5m"), ("a", "9m")):
            await load(http, name, keep_alive=keep)
        await load(http, "d", keep_alive=-1)
        ollama.play(o.Endless())
        async with talking(http, "c"):
            await load(http, "b")
    assert [gone.name[0] for gone in ollama.evictions] == ["b", "a"]


async def test_memory_comes_back_slowly_and_the_next_load_waits_for_it() -> None:
    async with serving(A, B, vram_total=8 * GIB, release_s=0.05) as (ollama, http):
        await load(http, "a")
        loading = asyncio.create_task(load(http, "b"))
        await until(lambda: bool(ollama.evictions))
        assert await resident(http) == {}
        assert (ollama.vram_used, ollama.loads_of("b")) == (4 * GIB, 0)
        await loading
        assert ollama.vram_used == 4 * GIB


async def test_memory_that_never_seems_to_come_back_costs_layers_on_the_card() -> None:
    waits = {"release_s": 9.0, "recovery_wait_s": 0.02}
    async with serving(A, B, vram_total=6 * GIB, **waits) as (_, http):
        await load(http, "a")
        await load(http, "b")
        entry = (await resident(http))["b:latest"]
    assert (entry["size"], entry["size_vram"]) == (4 * GIB, 2 * GIB)


async def test_a_model_goes_to_the_card_with_the_most_room_and_only_else_to_all() -> None:
    big = small("d", footprint=lambda ctx, slots: 27 * GIB // 2)
    async with serving(A, B, big, vram_total=(8 * GIB, 10 * GIB)) as (ollama, http):
        await load(http, "a")
        assert ollama.cards_used == (0, 4 * GIB)
        await load(http, "b")
        assert ollama.cards_used == (4 * GIB, 4 * GIB)
        await load(http, "d")
        assert list(ollama.loaded) == ["d:latest"]
        assert ollama.cards_used == (6 * GIB, 15 * GIB // 2)


async def test_what_others_take_of_a_card_makes_another_one_the_roomiest() -> None:
    settings = {"vram_total": (16 * GIB, 8 * GIB), "others_vram": (12 * GIB, 0)}
    async with serving(A, **settings) as (ollama, http):
        await load(http, "a")
        assert ollama.cards_used == (0, 4 * GIB)


async def test_two_cards_hold_six_models_however_small() -> None:
    tiny = [small(f"t{n}", footprint=lambda ctx, slots: 1) for n in range(7)]
    async with serving(*tiny, vram_total=(GIB, GIB)) as (ollama, http):
        for model in tiny:
            await load(http, model.name)
        assert len(ollama.loaded) == 6
    assert ollama.evictions == [Eviction("t0:latest", 4096, "count")]


async def test_without_a_card_all_is_system_memory_and_only_the_count_evicts() -> None:
    huge = [small(name, footprint=lambda ctx, slots: 400 * GIB) for name in "abcd"]
    async with serving(*huge, vram_total=()) as (ollama, http):
        for model in huge:
            await load(http, model.name)
        entry = (await resident(http))["d:latest"]
        assert (ollama.vram_used, ollama.cards_used) == (0, ())
    assert (entry["size"], entry["size_vram"]) == (400 * GIB, 0)
    assert ollama.evictions == [Eviction("a:latest", 4096, "count")]


async def test_a_longer_context_may_spill_where_a_shorter_one_did_not() -> None:
    async with serving(OllamaModel(name="a", size=7 * GIB), vram_total=8 * GIB) as (_, http):
        await load(http, "a", 8192)
        short = (await resident(http))["a:latest"]
        await load(http, "a", 32_768)
        long = (await resident(http))["a:latest"]
    assert short["size_vram"] == short["size"]
    assert (long["size"], long["size_vram"]) == (9 * GIB, 8 * GIB)


async def test_some_families_have_one_slot_whatever_was_asked_for() -> None:
    async with serving(A, small("q", family="qwen3vl"), num_parallel=4) as (ollama, http):
        await load(http, "a")
        await load(http, "q")
        assert [r.num_parallel for r in ollama.scheduler.runners.values()] == [4, 1]


# --- the queue ----------------------------------------------------------------------------------


async def test_a_full_queue_is_server_busy_but_residents_go_on() -> None:
    slow = [small(name, load_s=0.1) for name in "bcd"]
    async with serving(A, *slow, max_queue=1) as (ollama, http):
        await load(http, "a")
        first = asyncio.create_task(load(http, "b"))
        await until(lambda: ollama.scheduler.loading is not None)
        second = asyncio.create_task(load(http, "c"))
        await until(lambda: ollama.scheduler.waiting == 2)
        refused = await chat(http, "d")
        assert (await chat(http, "a")).status_code == 200
        assert not first.done()
        await asyncio.gather(first, second)
    assert (refused.status_code, refused.json()) == (
        503,
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
    )


async def test_one_waiting_for_its_victim_blocks_all_other_loads() -> None:
    tiny = small("c", footprint=lambda ctx, slots: 1)
    async with serving(A, B, tiny, vram_total=8 * GIB) as (ollama, http):
        ollama.play(o.Endless(), model="a")
        async with talking(http, "a"):
            big = asyncio.create_task(load(http, "b"))
            await until(lambda: ollama.scheduler.waiting == 1)
            little = asyncio.create_task(load(http, "c"))
            await until(lambda: ollama.scheduler.waiting == 2)
            await asyncio.sleep(0.02)
            assert ollama.loads == [Load("a:latest", 4096)]
        await asyncio.gather(big, little)
    assert [entry.name[0] for entry in ollama.loads] == ["a", "b", "c"]


async def test_the_queue_stays_blocked_behind_a_client_that_has_left() -> None:
    async with serving(A, B, C, vram_total=8 * GIB) as (ollama, http):
        ollama.play(o.Endless(), model="a")
        async with talking(http, "a"):
            left = asyncio.create_task(load(http, "b"))
            await until(lambda: ollama.scheduler.waiting == 1)
            left.cancel()
            await until(lambda: ollama.scheduler.waiting == 0)
            next_one = asyncio.create_task(load(http, "c"))
            await asyncio.sleep(0.02)
            assert ollama.loads_of("c") == 0
        await next_one
    assert ollama.loads_of("b") == 0


async def test_steady_traffic_keeps_a_victim_alive() -> None:
    async with serving(A, B, vram_total=8 * GIB, num_parallel=2) as (ollama, http):
        ollama.play(o.Endless(), model="a")
        async with talking(http, "a"):
            waiting = asyncio.create_task(load(http, "b"))
            await until(lambda: ollama.scheduler.waiting == 1)
            second = talking(http, "a")
            await second.__aenter__()
        await asyncio.sleep(0.02)
        assert ollama.loads_of("b") == 0
        await second.__aexit__(None, None, None)
        await waiting
    assert ollama.loads_of("b") == 1


async def test_requests_beyond_the_slots_of_a_model_wait_in_its_runner() -> None:
    async with serving(A, max_queue=1) as (ollama, http):
        ollama.play(o.Endless(), o.Says())
        async with talking(http):
            others = [asyncio.create_task(chat(http)) for _ in range(3)]
            await until(lambda: len(ollama.prompts) == 4)
            assert not any(task.done() for task in others)
        assert [answer.status_code for answer in await asyncio.gather(*others)] == [200] * 3


# --- hanging up ---------------------------------------------------------------------------------


async def test_a_hang_up_stops_the_generation() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Endless())
        async with talking(http) as told:
            await anext(told)
            assert ollama.generating() == {"a:latest"}
        await until(lambda: ollama.generating() == set())
        assert ollama.requests[0].disconnected.is_set()
        assert list(ollama.loaded) == ["a:latest"]


async def test_a_hang_up_during_the_load_aborts_it() -> None:
    async with serving(small("a", load_s=5)) as (ollama, http):
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/api/generate", json={"model": "a"}, timeout=0.05)
        await until(lambda: ollama.aborted == [Load("a:latest", 4096)])
        assert (ollama.loaded, ollama.vram_used) == ({}, 0)


async def test_the_next_in_line_for_an_aborted_load_begins_anew() -> None:
    async with serving(small("a", load_s=0.1)) as (ollama, http):
        first = asyncio.create_task(chat(http))
        await until(lambda: ollama.scheduler.loading is not None)
        second = asyncio.create_task(chat(http))
        await until(lambda: ollama.scheduler.waiting == 2)
        first.cancel()
        assert (await second).status_code == 200
    assert ollama.loads_of("a") == 2


async def test_a_server_can_be_told_to_finish_abandoned_loads() -> None:
    settings = {"aborts_abandoned_loads": False}
    async with serving(small("a", load_s=0.2), **settings) as (ollama, http):
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/api/generate", json={"model": "a"}, timeout=0.03)
        await until(lambda: list(ollama.loaded) == ["a:latest"])
        assert ollama.scheduler.runners[A.blob].users == 0


# --- what goes wrong ----------------------------------------------------------------------------


async def test_an_error_in_a_stream_is_a_line_after_a_200() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.ErrorInStream(after=2, message="out of memory"))
        chunks = await lines(http)
        whole = await chat(http)
    assert [c["message"]["content"] for c in chunks[:2]] == ["Hello", " from"]
    assert chunks[2:] == [{"error": "out of memory"}]
    assert (whole.status_code, whole.json()) == (500, {"error": "out of memory"})


async def test_an_error_before_the_first_chunk_is_a_status() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.ErrorInStream(after=0))
        answer = await http.post("/api/chat", json={"model": "a", "messages": HI})
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("model runner has unexpectedly stopped")


@pytest.mark.parametrize("after", [0, 2])
async def test_a_hang_has_no_first_byte_or_no_next(after: int) -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Hang(after=after))
        body = {"model": "a", "messages": HI}
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/api/chat", json=body, timeout=0.05)
        await until(lambda: ollama.requests[0].disconnected.is_set())
        assert ollama.requests[0].writes == after
        assert list(ollama.loaded) == ["a:latest"]


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_break_off_leaves_the_answer_unfinished(after: int, reset: bool) -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.BreakOff(after=after, reset=reset))
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await lines(http)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await chat(http)


@pytest.mark.parametrize(
    ("step", "status", "content"),
    [
        (Status(500, "ollama", "no"), 500, '{"error":"no"}'),
        (Status(503, "html", "no"), 503, "<html><head><title>503</title></head><body>no"),
        (Status(429, "ollama", "no", retry_after=2), 429, '{"error":"no"}'),
        (Raw([b"not json\n"], content_type="application/x-ndjson"), 200, "not json\n"),
    ],
)
async def test_what_answers_at_the_door_loads_nothing(step: Any, status: int, content: str) -> None:
    async with serving(A) as (ollama, http):
        ollama.play(step)
        answer = await chat(http)
    assert (answer.status_code, answer.text[: len(content)]) == (status, content)
    assert ollama.loads == []


async def test_the_door_answers_lookups_and_loads_too() -> None:
    async with serving(A) as (ollama, http):
        ollama.door = Status(502, "html")
        answers = [await http.get("/api/ps"), await http.post("/api/generate", json={})]
        ollama.door = Refuse()
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/api/tags")
        ollama.door = None
        assert (await http.get("/api/tags")).status_code == 200
    assert [answer.status_code for answer in answers] == [502, 502]


async def test_steps_are_taken_in_order_and_a_model_may_have_its_own() -> None:
    async with serving(A, B) as (ollama, http):
        ollama.play(o.Says(["1"]), o.Says(["2"]))
        ollama.play(o.Says(["own"]), model="b")
        said = [(await chat(http, name)).json()["message"]["content"] for name in "abaa"]
    assert said == ["1", "own", "2", "2"]


async def test_an_embedding_may_go_wrong_as_well() -> None:
    async with serving(EMBEDS) as (ollama, http):
        ollama.play(o.ErrorInStream(message="no"), o.Hang(after=3))
        ask = {"model": "e", "input": "x"}
        failed = await http.post("/api/embed", json=ask)
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/api/embed", json=ask, timeout=0.05)
    assert (failed.status_code, failed.json()) == (500, {"error": "no"})


# --- the server ---------------------------------------------------------------------------------


async def test_it_comes_back_on_the_same_port_with_nothing_resident() -> None:
    async with serving(A) as (ollama, http):
        await load(http, "a", keep_alive=-1)
        port = ollama.port
        await ollama.stop()
        with pytest.raises(httpx.ConnectError):
            await http.get("/api/ps")
        await ollama.start()
        assert (ollama.port, await resident(http), ollama.vram_used) == (port, {}, 0)
        assert (await chat(http)).status_code == 200


async def test_a_kill_breaks_off_what_it_was_saying() -> None:
    async with serving(A) as (ollama, http):
        ollama.play(o.Endless())
        listening = asyncio.create_task(lines(http))
        await until(lambda: bool(ollama.generating()))
        await ollama.stop()
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await listening
        assert not ollama.requests[0].disconnected.is_set()


async def test_every_request_is_recorded_as_it_came() -> None:
    async with serving(A) as (ollama, http):
        await chat(http, options={"seed": 7})
        await http.get("/api/ps")
        got = await ollama.received()
    assert got.body["options"] == {"seed": 7}
    assert (got.path, got.number, got.ended.is_set()) == ("/api/chat", 0, True)
    assert [look.path for look in ollama.lookups] == ["/api/ps"]
