"""The scripted upstream is believed by every other test, so here it is held to what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.support import upstream as u
from tests.support.upstream import Upstream

ASK: dict[str, Any] = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**ASK, "stream": True}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


def client(up: Upstream) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=up.base_url, api_key="k", max_retries=0, timeout=5)


async def streamed(up: Upstream, **more: Any) -> list[Any]:
    """All chunks of one streamed chat answer, through the official client."""
    async with client(up) as api:
        answer: Any = await api.chat.completions.create(**{**STREAM, **more})
        return [chunk async for chunk in answer]


async def raw(http: aiohttp.ClientSession, up: Upstream, body: Any = STREAM) -> bytes:
    async with http.post(f"{up.base_url}/chat/completions", json=body) as answer:
        return await answer.read()


def text(chunks: list[Any], index: int = 0) -> str:
    choices = [c for chunk in chunks for c in chunk.choices if c.index == index]
    return "".join(c.delta.content or "" for c in choices)


# --- answers ------------------------------------------------------------------------------------


async def test_a_stream_reaches_the_official_client_with_its_usage() -> None:
    async with Upstream(u.Stream(["Grü", "ße"])) as up:
        chunks = await streamed(up, stream_options={"include_usage": True})
    assert text(chunks) == "Grüße"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


async def test_usage_is_sent_only_when_it_was_asked_for() -> None:
    async with Upstream() as up:
        assert all(chunk.usage is None for chunk in await streamed(up))


async def test_without_stream_the_same_pieces_are_one_body() -> None:
    step = u.Stream(["Hello", " world"], reasoning=["hm", "m"], logprobs=True, finish="length")
    async with Upstream(step) as up, client(up) as api:
        answer = await api.chat.completions.create(**ASK)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hello world", "length")
    assert choice.message.model_extra == {"reasoning_content": "hmm"}
    assert choice.logprobs is not None
    assert [token.token for token in choice.logprobs.content or ()] == ["Hello", " world"]
    assert answer.usage is not None


@pytest.mark.parametrize(
    "wire",
    [u.CRLF, u.BYTE_BY_BYTE, u.ONE_WRITE, u.KEEPALIVES, u.NO_DONE, u.Wire(space="", split=3)],
    ids=["crlf", "byte by byte", "one write", "keep-alives", "no done", "no space, split"],
)
async def test_every_wire_carries_the_same_answer(wire: u.Wire) -> None:
    async with Upstream(u.Stream(["Grüße", " 🦙"], wire=wire)) as up:
        assert text(await streamed(up)) == "Grüße 🦙"


async def test_byte_by_byte_splits_inside_a_multibyte_character(
    http: aiohttp.ClientSession,
) -> None:
    step = u.Stream(["🦙"], wire=u.BYTE_BY_BYTE)
    async with Upstream(step) as up:
        data = await raw(http, up)
    assert up.requests[0].writes == len(data)
    assert "🦙".encode() in data


async def test_one_write_holds_all_events(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Stream(wire=u.ONE_WRITE)) as up:
        data = await raw(http, up)
    assert up.requests[0].writes == 1
    assert data.endswith(b"data: [DONE]\n\n")


async def test_keepalives_come_before_the_first_event(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Stream(wire=u.KEEPALIVES)) as up:
        data = await raw(http, up)
    assert data.startswith(b": keep-alive\n\n" * 3 + b"data: {")


async def test_choices_come_interleaved() -> None:
    async with Upstream(u.Stream(["x", "y"], n=2)) as up:
        chunks = await streamed(up, n=2)
    assert [c.choices[0].index for c in chunks] == [0, 1] * 4
    assert text(chunks, 1) == "xy"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_comes_under_either_name(name: Any) -> None:
    async with Upstream(u.Stream(["yes"], reasoning=["well"], reasoning_field=name)) as up:
        chunks = await streamed(up)
    assert getattr(chunks[1].choices[0].delta, name) == "well"


async def test_refusals_and_unknown_fields_come_through() -> None:
    step = u.Stream((), refusal=["No."], extra={"x_groq": {"id": "1"}, "timings": {"n": 2}})
    async with Upstream(step) as up:
        chunks = await streamed(up)
    assert chunks[1].choices[0].delta.refusal == "No."
    assert chunks[-1].x_groq == {"id": "1"}


async def test_an_upstream_may_ignore_stream(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Stream(["Hi"], ignores_stream=True)) as up:
        body = json.loads(await raw(http, up))
    assert body["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("vendor", ["openai", "vllm", "llamacpp", "ollama"])
async def test_parallel_tool_calls_are_put_together_by_the_official_client(vendor: Any) -> None:
    calls = [u.Call("weather", '{"city":"Zürich"}'), u.Call("time", "{}", id="call_t")]
    async with Upstream(u.ToolCalls(calls, vendor=vendor)) as up, client(up) as api:
        async with api.chat.completions.stream(**ASK) as stream:
            final = await stream.get_final_completion()
        body = await api.chat.completions.create(**ASK)
    for choice in (final.choices[0], body.choices[0]):
        found = choice.message.tool_calls or []
        said: list[Any] = [(c.id, c.function.name, c.function.arguments) for c in found]
        assert said == [("call_0", "weather", '{"city":"Zürich"}'), ("call_t", "time", "{}")]
        assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(("vendor", "opening"), [("openai", ""), ("vllm", None), ("llamacpp", "{")])
async def test_a_tool_call_opens_as_its_vendor_does(vendor: Any, opening: str | None) -> None:
    call = u.Call("f", '{"a":1}', fragment=1)
    async with Upstream(u.ToolCalls([call], vendor=vendor)) as up:
        chunks = await streamed(up)
    calls = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices[0].delta.tool_calls]
    assert (calls[0].id, calls[0].function.name) == ("call_0", "f")
    assert calls[0].function.arguments == opening
    assert all(later.id is None for later in calls[1:])


async def test_text_completions_speak_their_own_dialect() -> None:
    async with Upstream(u.Stream(["a", "b"])) as up, client(up) as api:
        stream: Any = await api.completions.create(model="a", prompt="x", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "ab"
        body = await api.completions.create(model="a", prompt="x")
        assert body.choices[0].text == "ab"
        assert body.object == "text_completion"


async def test_embeddings_are_the_same_in_base64_and_as_numbers() -> None:
    async with Upstream() as up, client(up) as api:
        packed = await api.embeddings.create(model="a", input=["x", "y"])
        plain = await api.embeddings.create(model="a", input="y", encoding_format="float")
    assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


async def test_models_are_listed_in_every_shape(http: aiohttp.ClientSession) -> None:
    models: list[str | u.Json] = [
        "plain",
        u.vllm_model("v", 4096),
        u.llamacpp_model("l"),
        u.lmstudio_model("s"),
    ]
    async with Upstream(models=models) as up, client(up) as api:
        found = {model.id: model async for model in api.models.list()}
        async with http.get(f"{up.url}/api/v0/models") as answer:
            native = (await answer.json())["data"]
    assert list(found) == ["plain", "v", "l", "s"]
    assert (found["v"].model_extra or {})["max_model_len"] == 4096
    assert "_native" not in (found["s"].model_extra or {})
    assert [model["state"] for model in native] == ["loaded"]
    assert len(up.listings) == 2
    assert up.requests == []


# --- the playbook -------------------------------------------------------------------------------


async def test_steps_are_taken_in_order_and_the_last_repeats() -> None:
    async with Upstream(u.Status(503), u.Stream(["x"]), u.Stream(["y"])) as up:
        with pytest.raises(openai.InternalServerError):
            await streamed(up)
        assert [text(await streamed(up)) for _ in range(3)] == ["x", "y", "y"]


async def test_a_model_may_have_a_playbook_of_its_own() -> None:
    async with Upstream(u.Stream(["x"]), by_model={"b": [u.Stream(["y"])]}) as up:
        assert text(await streamed(up, model="b")) == "y"
        assert text(await streamed(up)) == "x"
        up.play(u.Stream(["z"]), model="b")
        assert text(await streamed(up, model="b")) == "z"


async def test_every_request_is_recorded_as_it_came(http: aiohttp.ClientSession) -> None:
    async with Upstream() as up:
        await raw(http, up, {**ASK, "seed": 7})
    got = up.requests[0]
    assert got.body["seed"] == 7
    assert json.loads(got.raw) == got.body
    assert got.headers["content-type"] == "application/json"
    assert got.ended.is_set()
    assert not got.disconnected.is_set()


async def test_an_upstream_comes_back_on_the_same_port(http: aiohttp.ClientSession) -> None:
    up = Upstream()
    async with up:
        port = up.port
    with pytest.raises(aiohttp.ClientConnectorError):
        await raw(http, up)
    async with up:
        assert up.port == port
        assert b"[DONE]" in await raw(http, up)


async def test_a_wrong_key_is_refused_and_takes_no_step() -> None:
    async with Upstream(u.Stream(["x"]), u.Stream(["y"]), api_key="other") as up:
        with pytest.raises(openai.AuthenticationError):
            await streamed(up)
        up.api_key = "k"
        assert text(await streamed(up)) == "x"


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (502, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_a_status_is_the_official_clients_error(status: int, error: Any) -> None:
    async with Upstream(u.Status(status, retry_after=2, message="why")) as up:
        with pytest.raises(error) as caught:
            await streamed(up)
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.body["message"] == "why"


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("fastapi", b'{"detail":"no"}'),
        ("ollama", b'{"error":"no"}'),
        ("text", b"no"),
        ("html", b"<html><head><title>502</title></head><body>no</body></html>"),
    ],
)
async def test_error_bodies_have_many_shapes(
    http: aiohttp.ClientSession, shape: Any, body: bytes
) -> None:
    async with Upstream(u.Status(502, shape, "no")) as up:
        assert await raw(http, up) == body


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_inside_a_stream_is_an_api_error(after: int) -> None:
    async with Upstream(u.ErrorInStream(after, message="out of memory")) as up:
        with pytest.raises(openai.APIError, match="out of memory"):
            await streamed(up)


async def test_an_error_in_a_stream_has_three_shapes(http: aiohttp.ClientSession) -> None:
    steps = [u.ErrorInStream(shape=shape, done=True) for shape in ("data", "event", "field")]
    async with Upstream(*steps) as up:
        starts = [(await raw(http, up))[:14] for _ in steps]
    assert starts == [b'data: {"error"', b"event: error\nd", b'error: {"messa']


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("body", [ASK, STREAM], ids=["json", "stream"])
async def test_a_break_off_leaves_the_body_unfinished(
    http: aiohttp.ClientSession, body: Any, reset: bool
) -> None:
    async with Upstream(u.BreakOff(after=1, mid_event=True, reset=reset)) as up:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await raw(http, up, body)
        assert not up.requests[0].disconnected.is_set()


async def test_a_break_off_in_the_middle_sends_half_an_event(http: aiohttp.ClientSession) -> None:
    async with (
        Upstream(u.BreakOff(after=1, mid_event=True)) as up,
        http.post(f"{up.base_url}/chat/completions", json=STREAM) as answer,
    ):
        first = await answer.content.readuntil(b"\n\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.readuntil(b"\n\n")
    assert first.startswith(b"data: {")


async def test_a_refused_request_gets_no_byte(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Refuse()) as up:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await raw(http, up)


@pytest.mark.parametrize("step", [u.Hang(), u.Hang(after=0), u.Hang(after=2)])
async def test_the_end_of_a_hung_connection_is_noticed(
    http: aiohttp.ClientSession, step: u.Hang
) -> None:
    async with Upstream(step) as up:
        asking = asyncio.create_task(raw(http, up))
        got = await up.received()
        await asyncio.sleep(0.05)
        assert not asking.done()
        assert up.in_flight == 1
        asking.cancel()
        await asyncio.wait_for(got.disconnected.wait(), 2)
        assert got.disconnected_s is not None
        assert got.disconnected_s > got.arrived_s
        assert got.writes == (step.after or 0)
        assert up.in_flight == 0


async def test_an_endless_stream_ends_when_the_client_leaves(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Endless()) as up:
        async with http.post(f"{up.base_url}/chat/completions", json=STREAM) as answer:
            for _ in range(50):
                await answer.content.readuntil(b"\n\n")
            answer.close()
        await asyncio.wait_for(up.requests[0].disconnected.wait(), 2)


async def test_a_slow_start_is_slow(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Stream(start_delay_s=0.1)) as up:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw(http, up), 0.05)


async def test_raw_writes_and_bodies_that_are_no_json(http: aiohttp.ClientSession) -> None:
    async with Upstream(u.Raw([b"da", b"ta: x\n\n"]), u.NOT_JSON) as up:
        assert await raw(http, up) == b"data: x\n\n"
        assert await raw(http, up) == b"<html>It works!</html>"


async def test_a_body_that_is_no_json_is_a_bad_request(http: aiohttp.ClientSession) -> None:
    async with (
        Upstream() as up,
        http.post(f"{up.base_url}/chat/completions", data=b"{") as answer,
    ):
        assert answer.status == 400
