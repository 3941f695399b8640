"""Chat through the daemon on real sockets: what passes, what cascades, what stops."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from smarterrouter.domain import sse
from tests.support.daemon import Running, backend_of, running
from tests.support.upstream import (
    BYTE_BY_BYTE,
    CRLF,
    NO_DONE,
    NOT_JSON,
    BreakOff,
    Call,
    Endless,
    ErrorInStream,
    Hang,
    Raw,
    Refuse,
    Status,
    Stream,
    ToolCalls,
    Upstream,
    Wire,
)

HELLO = [{"role": "user", "content": "Say hello."}]


def ask(model: str = "smarterrouter/main", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, **more}


async def post(daemon: Running, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
    async with daemon.client() as client:
        return await client.post(path, json=body)


def chunks(text: str) -> list[dict[str, Any]]:
    """The data of a stream's events, ``[DONE]`` and comments left out."""
    datas = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(data) for data in datas if data != "[DONE]"]


def said(text: str) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks(text)
        for choice in chunk.get("choices", ())
    )


async def test_a_stream_passes_byte_for_byte_when_nothing_changes() -> None:
    async with (
        Upstream(Stream(["Hé", "llo"])) as up,
        running(backend=[backend_of(up.url)]) as daemon,
    ):
        through = await post(daemon, ask(stream=True))
        async with httpx.AsyncClient(trust_env=False) as client:
            direct = await client.post(
                f"{up.base_url}/chat/completions", json={**ask("a"), "stream": True}
            )
    assert through.text.replace("chatcmpl-0", "chatcmpl-1") == direct.text.replace(
        "chatcmpl-0", "chatcmpl-1"
    )
    assert through.headers["content-type"].startswith("text/event-stream")


async def test_a_client_that_asks_for_no_stream_gets_the_collected_one() -> None:
    async with Upstream(Stream(["Hello", " world"])) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask())
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello world"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] > 0
    assert up.requests[0].wants_stream


async def test_the_headers_say_who_answered_and_why() -> None:
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        answer = await post(daemon, ask())
        decision = answer.headers["x-smarterrouter-decision"]
        async with daemon.client() as client:
            kept = (await client.get(f"/admin/decisions/{decision}")).json()["decision"]
    assert answer.headers["x-smarterrouter-model"] == answer.json()["model"] == "a"
    assert answer.headers["x-smarterrouter-backend"] == "up"
    assert answer.headers["x-request-id"]
    assert kept["id"] == decision
    assert kept["model"] == "a"
    [candidate] = kept["candidates"]
    assert candidate["score"] == pytest.approx(sum(t["value"] for t in candidate["terms"]))


async def test_unknown_fields_reach_the_backend_as_they_came() -> None:
    extra = {"top_n_sigma": 1.25, "grammar": "root ::= [a-z]+", "big": 12345678901234567890}
    async with Upstream() as up, running(backend=[backend_of(up.url)]) as daemon:
        await post(daemon, ask(**extra, logit_bias={"50256": -100}, seed=7, stop=["\n"]))
    received = up.requests[0]
    assert {key: received.body[key] for key in extra} == extra
    assert received.body["logit_bias"] == {"50256": -100}
    assert b"12345678901234567890" in received.raw


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("vendor", ["openai", "vllm", "llamacpp", "ollama"])
async def test_parallel_tool_calls_survive(vendor: Any, stream: bool) -> None:
    calls = [Call("get_weather", '{"city":"Zürich"}', "call_1"), Call("now", "{}", "call_2")]
    async with Upstream(ToolCalls(calls=calls, vendor=vendor)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
            answer = await post(daemon, ask(tools=tools, stream=stream))
    assert up.requests[0].body["tools"] == tools
    if stream:
        assert answer.text.count("get_weather") == 1
        return
    message = answer.json()["choices"][0]["message"]
    names = [call["function"]["name"] for call in message["tool_calls"]]
    assert names == ["get_weather", "now"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city":"Zürich"}'
    assert message["content"] is None
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_reasoning_logprobs_and_several_choices_are_collected() -> None:
    answer_of = Stream(["one", " two"], reasoning=["hm", "m"], n=2, logprobs=True)
    async with Upstream(answer_of) as up, running(backend=[backend_of(up.url)]) as daemon:
        body = (await post(daemon, ask(n=2, logprobs=True))).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    for choice in body["choices"]:
        assert choice["message"]["content"] == "one two"
        assert choice["message"]["reasoning_content"] == "hmm"
        assert [token["token"] for token in choice["logprobs"]["content"]] == ["one", " two"]


@pytest.mark.parametrize("wire", [CRLF, BYTE_BY_BYTE, NO_DONE, Wire(keepalives=2)])
async def test_a_stream_is_whole_however_its_bytes_fall(wire: Wire) -> None:
    async with Upstream(Stream(["Grüß", " 你好", " 🙂"], wire=wire)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            streamed = await post(daemon, ask(stream=True))
            collected = await post(daemon, ask())
    assert said(streamed.text.replace("\r\n", "\n")) == "Grüß 你好 🙂"
    assert streamed.text.rstrip().endswith("data: [DONE]")
    assert collected.json()["choices"][0]["message"]["content"] == "Grüß 你好 🙂"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_backend_that_ignores_stream_is_understood(stream: bool) -> None:
    async with Upstream(Stream(["Hello"], ignores_stream=True)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask(stream=stream))
    text = said(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
    assert text == "Hello"


FAILURES = [
    Status(500),
    Status(503, shape="html"),
    Status(429, retry_after=1),
    Status(404),
    Status(401),
    Refuse(),
    NOT_JSON,
    ErrorInStream(after=0),
    ErrorInStream(after=0, shape="event"),
    BreakOff(after=0),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_byte_goes_on_to_the_next(
    failure: Any, stream: bool
) -> None:
    async with Upstream(failure) as bad, Upstream(Stream(["Fine"])) as good:
        bad.models = [{"id": "big", "meta": {"n_params": 70e9}}]
        good.models = [{"id": "small", "meta": {"n_params": 1e9}}]
        backends = [backend_of(bad.url, "bad"), backend_of(good.url, "good")]
        async with running(backend=backends, quality_preference=1.0) as daemon:
            answer = await post(daemon, ask(stream=stream))
    twice = isinstance(failure, Refuse)  # its connection might have been closed before
    assert len(bad.requests) == 1 + twice
    assert answer.status_code == 200
    assert answer.headers["x-smarterrouter-model"] == "small"
    text = said(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
    assert text == "Fine"


async def test_silence_before_the_first_byte_goes_on_to_the_next() -> None:
    async with Upstream(Hang()) as bad, Upstream(Stream(["Fine"])) as good:
        bad.models = [{"id": "big", "meta": {"n_params": 70e9}}]
        good.models = [{"id": "small", "meta": {"n_params": 1e9}}]
        backends = [backend_of(bad.url, "bad"), backend_of(good.url, "good")]
        limits = {"first_byte_s": 0.3}
        async with running(backend=backends, quality_preference=1.0, timeout=limits) as daemon:
            answer = await post(daemon, ask())
            await asyncio.wait_for(bad.requests[0].disconnected.wait(), 2)
    assert answer.json()["choices"][0]["message"]["content"] == "Fine"


async def test_the_request_s_own_fault_is_not_tried_elsewhere() -> None:
    async with Upstream(Status(400, message="temperature is too hot")) as up, Upstream() as other:
        other.models = ["b"]
        backends = [backend_of(up.url, "one"), backend_of(other.url, "two")]
        async with running(backend=backends) as daemon:
            answer = await post(daemon, ask("a", temperature=9))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "temperature is too hot"
    assert not other.requests


async def test_when_all_are_overloaded_the_client_hears_when_to_come_back() -> None:
    async with Upstream(Status(429, retry_after=7)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask())
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["code"] == "overloaded"


BREAKS = [
    BreakOff(after=2),
    BreakOff(after=2, mid_event=True),
    BreakOff(after=2, reset=True),
    ErrorInStream(after=2),
    ErrorInStream(after=2, shape="event"),
    ErrorInStream(after=2, done=True),
]


@pytest.mark.parametrize("failure", BREAKS, ids=repr)
async def test_a_stream_that_breaks_ends_with_an_error_and_never_with_done(failure: Any) -> None:
    async with Upstream(failure) as up, Upstream(Stream(["other"])) as other:
        other.models = ["b"]
        backends = [backend_of(up.url, "one"), backend_of(other.url, "two")]
        async with running(backend=backends) as daemon:
            answer = await post(daemon, ask("a", stream=True))
            collected = await post(daemon, ask("a"))
    assert "[DONE]" not in answer.text
    last = chunks(answer.text)[-1]
    assert last["error"]["code"] == "backend_error"
    assert "event: error" in answer.text
    assert not other.requests
    assert collected.status_code == 502
    assert collected.json()["error"]["code"] == "backend_error"


async def test_silence_in_the_middle_of_an_answer_is_a_time_out() -> None:
    async with Upstream(Hang(after=2)) as up:
        async with running(backend=[backend_of(up.url)], timeout={"stall_s": 0.3}) as daemon:
            answer = await post(daemon, ask(stream=True))
    assert chunks(answer.text)[-1]["error"]["code"] == "backend_timeout"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_stops_the_generation_within_a_second(stream: bool) -> None:
    async with Upstream(Endless(delay_s=0.01)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            asking = asyncio.create_task(post(daemon, ask(stream=stream)))
            received = await up.received()
            await asyncio.sleep(0.1)
            left = time.monotonic()
            asking.cancel()
            await asyncio.wait_for(received.disconnected.wait(), 2)
            assert received.disconnected_s is not None
            assert received.disconnected_s - left < 1.0
            assert all(seat.leases == 0 for seat in daemon.engine.planner.seats.values())


async def test_a_client_that_hangs_up_before_the_first_byte_stops_the_request_upstream() -> None:
    async with Upstream(Hang()) as up, running(backend=[backend_of(up.url)]) as daemon:
        asking = asyncio.create_task(post(daemon, ask()))
        received = await up.received()
        asking.cancel()
        await asyncio.wait_for(received.disconnected.wait(), 1)


async def test_a_long_wait_keeps_the_line_open_with_comments_and_still_cascades() -> None:
    slow = Status(500)
    async with Upstream(Hang()) as bad, Upstream(Stream(["Fine"])) as good:
        bad.models = [{"id": "big", "meta": {"n_params": 70e9}}]
        good.models = [{"id": "small", "meta": {"n_params": 1e9}}]
        backends = [backend_of(bad.url, "bad"), backend_of(good.url, "good")]
        async with running(
            backend=backends,
            quality_preference=1.0,
            timeout={"first_byte_s": 0.6},
            wait={"comment_s": 0.15},
        ) as daemon:
            answer = await post(daemon, ask(stream=True))
            good.play(slow)
            failed = await post(daemon, ask(stream=True))
    assert answer.text.startswith(": big is reading the prompt")
    assert answer.text.count("\n: ") >= 1
    assert {chunk["model"] for chunk in chunks(answer.text)} == {"small"}
    assert said(answer.text) == "Fine"
    assert failed.status_code == 200
    assert chunks(failed.text)[-1]["error"]["message"]
    assert "[DONE]" not in failed.text


async def test_the_wait_can_be_shown_as_reasoning_text() -> None:
    async with Upstream(Stream(["Fine"], start_delay_s=0.5)) as up:
        wait = {"comment_s": 0.1, "as_reasoning": True}
        async with running(backend=[backend_of(up.url)], wait=wait) as daemon:
            answer = await post(daemon, ask(stream=True))
    thoughts = [c["choices"][0]["delta"].get("reasoning_content") for c in chunks(answer.text)]
    assert thoughts[0] == "a is reading the prompt\n"
    assert thoughts.count(None) == len(thoughts) - 1
    assert said(answer.text) == "Fine"


async def test_a_text_completion_hears_of_the_wait_in_comments_only() -> None:
    async with Upstream(Stream(["Fine"], start_delay_s=0.5)) as up:
        wait = {"comment_s": 0.1, "as_reasoning": True}
        async with running(backend=[backend_of(up.url)], wait=wait) as daemon:
            body = {"model": "a", "prompt": "Tell", "stream": True}
            answer = await post(daemon, body, "/v1/completions")
    assert answer.text.startswith(": ")
    assert {chunk["object"] for chunk in chunks(answer.text)} == {"text_completion"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_says_done_has_not_ended_its_answer(stream: bool) -> None:
    def event(text: str, finish: str | None = None) -> bytes:
        delta = {"content": text}
        choice = {"index": 0, "finish_reason": finish, "delta": delta}
        return sse.event(json.dumps({"model": "a", "choices": [choice]}).encode())

    writes = [event("Print "), event("[DONE]"), event(" last.", "stop"), sse.DONE_EVENT]
    async with Upstream(Raw(writes, delay_s=0.02)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask(stream=stream))
    text = said(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
    assert text == "Print [DONE] last."
    assert answer.text.count("data: [DONE]") == stream


SENSELESS = [
    pytest.param(b'{"error": "\xff"}', id="an error that is not UTF-8"),
    pytest.param(b'{"choices": [null]}', id="a choice that is none"),
    pytest.param(b'{"choices": [{"message": "hi"}]}', id="a message that is a string"),
    pytest.param(b"[" * 100_000, id="nested without end"),
]


@pytest.mark.parametrize("body", SENSELESS)
async def test_a_senseless_answer_goes_on_to_the_next(body: bytes) -> None:
    async with Upstream(Raw([body], "application/json")) as bad, Upstream(Stream(["Fine"])) as good:
        bad.models, good.models = ["a"], ["b"]
        backends = [backend_of(bad.url, "bad"), backend_of(good.url, "good")]
        async with running(backend=backends) as daemon:
            answer = await post(daemon, ask())
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Fine"


async def test_a_senseless_chunk_is_the_backends_error_and_not_ours() -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [null]}}]}\n\n'
    async with Upstream(Raw([chunk, sse.DONE_EVENT])) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask())
    assert answer.status_code == 502
    assert answer.json()["error"]["message"].startswith("a sent chunks")


async def test_an_error_is_heard_to_its_end() -> None:
    whole = json.dumps({"error": {"message": "prompt too long", "code": "too_long"}}).encode()
    writes = [whole[:30], whole[30:]]
    async with Upstream(Raw(writes, "application/json", status=400, delay_s=0.05)) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask())
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "prompt too long"
    assert answer.json()["error"]["code"] == "too_long"


@pytest.mark.parametrize(
    "trickle",
    [Raw([b" "] * 60, "application/json", delay_s=0.1), Raw([b": x\n\n"] * 60, delay_s=0.1)],
)
async def test_a_backend_that_trickles_nothing_is_given_up_in_time(trickle: Raw) -> None:
    async with Upstream(trickle) as up:
        async with running(backend=[backend_of(up.url)], timeout={"first_byte_s": 0.5}) as daemon:
            began = time.monotonic()
            answer = await post(daemon, ask())
    assert answer.status_code == 504
    assert time.monotonic() - began < 2.0


async def test_an_endless_event_is_cut_off() -> None:
    async with Upstream(Raw([b'data: {"a": "', *[b"x" * 1_000_000] * 20])) as up:
        async with running(backend=[backend_of(up.url)]) as daemon:
            answer = await post(daemon, ask(stream=True))
    assert answer.status_code == 502
    assert "16 MiB" in answer.json()["error"]["message"]


@pytest.mark.parametrize("after", ["soon", "inf", "-5", "99999999"])
async def test_any_retry_after_is_survived(after: str) -> None:
    status = Status(429, headers=(("Retry-After", after),))
    async with Upstream(status) as up, running(backend=[backend_of(up.url)]) as daemon:
        answer = await post(daemon, ask())
    assert answer.status_code == 429
    assert int(answer.headers.get("retry-after", "1")) <= 24 * 3600


async def test_a_prefix_names_the_model_everywhere() -> None:
    async with Upstream(Stream(["Hi"])) as up:
        async with running(backend=[backend_of(up.url, prefix="cloud/")]) as daemon:
            streamed = await post(daemon, ask("cloud/a", stream=True))
            collected = await post(daemon, ask("cloud/a"))
    assert [request.model for request in up.requests] == ["a", "a"]
    assert {chunk["model"] for chunk in chunks(streamed.text)} == {"cloud/a"}
    assert collected.json()["model"] == "cloud/a"


async def test_the_same_name_on_two_backends_is_told_apart() -> None:
    async with Upstream(Stream(["one"])) as one, Upstream(Stream(["two"])) as two:
        backends = [backend_of(one.url, "one"), backend_of(two.url, "two")]
        async with running(backend=backends) as daemon:
            answer = await post(daemon, ask("two/a"))
    assert answer.json()["choices"][0]["message"]["content"] == "two"
    assert answer.json()["model"] == "two/a"


async def test_text_completions_and_embeddings_take_the_same_way() -> None:
    async with Upstream(Stream(["Once", " upon"])) as up:
        up.models = ["a", "text-embed"]
        async with running(backend=[backend_of(up.url)]) as daemon:
            text = await post(
                daemon, {"model": "smarterrouter/main", "prompt": "Tell"}, "/v1/completions"
            )
            vectors = await post(
                daemon, {"model": "smarterrouter/main", "input": ["x", "y"]}, "/v1/embeddings"
            )
    assert text.json()["choices"][0]["text"] == "Once upon"
    assert text.json()["object"] == "text_completion"
    assert len(vectors.json()["data"]) == 2
    assert vectors.headers["x-smarterrouter-model"] == "text-embed"


async def test_an_image_goes_to_a_model_that_can_see() -> None:
    async with Upstream() as up:
        up.models = [
            {"id": "blind", "architecture": {"input_modalities": ["text"]}},
            {"id": "seeing", "architecture": {"input_modalities": ["text", "image"]}},
        ]
        async with running(backend=[backend_of(up.url)]) as daemon:
            picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
            content = [{"type": "text", "text": "What is this?"}, picture]
            body = {
                "model": "smarterrouter/main",
                "messages": [{"role": "user", "content": content}],
            }
            answer = await post(daemon, body)
            refused = await post(daemon, {**body, "model": "blind"})
    assert answer.headers["x-smarterrouter-model"] == "seeing"
    assert up.requests[0].body["messages"][0]["content"][1] == picture
    assert refused.status_code == 400
    assert "cannot see images" in refused.json()["error"]["message"]
