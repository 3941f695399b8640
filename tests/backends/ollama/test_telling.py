"""What Ollama's lines become in OpenAI's words."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.backends.ollama.telling import Teller, embeddings
from smarterrouter.domain import sse
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.collect import Collector
from smarterrouter.errors import BackendError, BadRequest

FIGURES = {
    "total_duration": 3_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 20,
    "prompt_eval_duration": 200_000_000,
    "eval_count": 10,
    "eval_duration": 1_000_000_000,
}
TIMINGS = {
    "prompt_n": 20,
    "prompt_ms": 200.0,
    "prompt_per_second": 100.0,
    "predicted_n": 10,
    "predicted_ms": 1000.0,
    "predicted_per_second": 10.0,
    "load_ms": 500.0,
}
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}


def chat(done: bool = False, **message: Any) -> dict[str, Any]:
    more = {"done_reason": "stop", **FIGURES} if done else {}
    return {"model": "m", "message": {"role": "assistant", "content": "", **message}} | {
        "done": done,
        **more,
    }


def text(response: str, done: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "m", "response": response, "done": done, **more}


def told(
    *lines: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT, usage: bool = False
) -> list[dict[str, Any]]:
    """The data of every event, ``[DONE]`` checked and left out."""
    teller = Teller(endpoint, "home/m", 123, "o", usage=usage)
    stream = b"".join(teller.tell(json.dumps(line).encode()) for line in lines)
    assert teller.done
    assert stream.endswith(sse.DONE_EVENT)
    return [json.loads(data) for data in sse.datas(stream) if data != sse.DONE]


def collected(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    collector = Collector()
    for chunk in chunks:
        collector.add(json.dumps(chunk).encode())
    body: dict[str, Any] = json.loads(collector.body())
    return body


def test_the_role_comes_first_and_the_finish_reason_last() -> None:
    chunks = told(chat(content="Hel"), chat(content="lo"), chat(done=True))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]
    assert {(c["model"], c["object"], c["created"]) for c in chunks} == {
        ("home/m", "chat.completion.chunk", 123)
    }
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["timings"] == TIMINGS


def test_the_usage_has_a_chunk_of_its_own_where_it_is_wanted() -> None:
    *_, finish, last = told(chat(content="a"), chat(done=True), usage=True)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"] == USAGE
    assert last["timings"] == TIMINGS
    assert "timings" not in finish


def test_an_answer_of_one_line_is_whole() -> None:
    body = collected(told(chat(content="Hello", done=True), usage=True))
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == USAGE
    assert body["object"] == "chat.completion"


def test_thinking_is_reasoning() -> None:
    body = collected(
        told(chat(thinking="Hm, "), chat(thinking="yes."), chat(content="Yes."), chat(done=True))
    )
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == "Hm, yes."
    assert message["content"] == "Yes."


def test_calls_get_an_index_and_an_id_and_their_arguments_as_text() -> None:
    first = {"function": {"index": 0, "name": "weather", "arguments": {"city": "Zürich"}}}
    second = {"id": "call_b", "function": {"name": "now", "arguments": {}}}
    chunks = told(chat(tool_calls=[first]), chat(tool_calls=[second]), chat(done=True))
    calls = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert calls[0]["id"].startswith("call_")
    assert calls[1]["id"] == "call_b"
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Zürich"}
    assert calls[1]["function"] == {"name": "now", "arguments": "{}"}
    assert {call["type"] for call in calls} == {"function"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    message = collected(chunks)["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "now"]
    assert message["content"] is None


@pytest.mark.parametrize(
    ("reason", "told_reason"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), ("", "stop"), (None, "stop")],
)
def test_finish_reasons(reason: str | None, told_reason: str) -> None:
    chunks = told({**chat(content="a"), "done": True, "done_reason": reason})
    assert chunks[-1]["choices"][0]["finish_reason"] == told_reason


def test_lines_that_say_nothing_are_not_told() -> None:
    teller = Teller(Endpoint.CHAT, "m", 0, "o", usage=False)
    assert teller.tell(json.dumps(chat()).encode()) == b""
    assert teller.tell(b'{"message": null, "done": false}') == b""
    assert teller.tell(json.dumps(chat(content="a")).encode())
    assert not teller.done


def test_figures_that_are_missing_stay_unknown() -> None:
    [*_, last] = told({"message": {"content": "a"}, "done": True, "eval_count": 3}, usage=True)
    assert last["timings"] == {"predicted_n": 3}
    assert last["usage"] == {"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 3}


def test_tokens_from_the_cache_were_not_read_anew() -> None:
    [*_, last] = told({**chat(done=True), "prompt_eval_cached_count": 15})
    assert last["timings"]["cache_n"] == 15
    assert last["timings"]["prompt_n"] == 5
    assert last["timings"]["prompt_per_second"] == 25.0


def test_probabilities_of_a_chat_are_passed_on() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    chunks = told({**chat(content="a"), "logprobs": [token]}, chat(done=True))
    assert collected(chunks)["choices"][0]["logprobs"]["content"] == [token]


def test_a_text_completion() -> None:
    lines = (text("Once"), text(" upon"), text("", done=True, done_reason="length", **FIGURES))
    chunks = told(*lines, endpoint=Endpoint.COMPLETIONS, usage=True)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    body = collected(chunks)
    assert body["choices"] == [{"index": 0, "text": "Once upon", "finish_reason": "length"}]
    assert body["usage"] == USAGE


def test_probabilities_of_a_text_completion_have_the_older_form() -> None:
    one = {"token": "ab", "logprob": -1.0, "top_logprobs": [{"token": "x", "logprob": -2.0}]}
    two = {"token": "c", "logprob": -3.0}
    lines = ({**text("ab"), "logprobs": [one]}, {**text("c"), "logprobs": [two]})
    body = collected(told(*lines, text("", done=True), endpoint=Endpoint.COMPLETIONS))
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -3.0],
        "top_logprobs": [{"x": -2.0}, {}],
        "text_offset": [0, 2],
    }


def test_an_error_line_is_an_error_that_knows_whether_the_answer_had_begun() -> None:
    teller = Teller(Endpoint.CHAT, "m", 0, "o", usage=False)
    with pytest.raises(BackendError, match="o failed: runner stopped"):
        teller.tell(b'{"error": "runner stopped"}')
    teller.tell(json.dumps(chat(content="a")).encode())
    with pytest.raises(BackendError, match="middle of its answer: runner stopped"):
        teller.tell(b'{"error": "runner stopped"}')


def test_an_error_that_is_the_requests_own_fault_is_a_bad_request() -> None:
    teller = Teller(Endpoint.CHAT, "m", 0, "o", usage=False)
    with pytest.raises(BadRequest) as caught:
        teller.tell(b'{"error": "the input length exceeds the context length"}')
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("line", [b"data: {}", b"[1]", b'{"done": "yes"}', b"\xff\xfe"])
def test_what_is_no_line_of_ollamas_is_an_error(line: bytes) -> None:
    with pytest.raises(BackendError, match="not its protocol"):
        Teller(Endpoint.CHAT, "m", 0, "o", usage=False).tell(line)


@given(st.lists(st.tuples(st.text(), st.text())), st.booleans())
def test_no_text_is_lost(pieces: list[tuple[str, str]], usage: bool) -> None:
    lines = [chat(content=content, thinking=thinking) for content, thinking in pieces]
    message = collected(told(*lines, chat(done=True), usage=usage))["choices"][0]["message"]
    assert (message["content"] or "") == "".join(content for content, _ in pieces)
    assert message.get("reasoning_content", "") == "".join(thinking for _, thinking in pieces)


# --- vectors ------------------------------------------------------------------------------------


RAW = json.dumps({"embeddings": [[0.1, -0.25], [1, 0]], "prompt_eval_count": 7}).encode()


def test_vectors_as_numbers() -> None:
    body = json.loads(embeddings(RAW, "home/m", "o", packed=False))
    assert body == {
        "object": "list",
        "model": "home/m",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [1, 0]},
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_vectors_in_base64() -> None:
    body = json.loads(embeddings(RAW, "m", "o", packed=True))
    first = base64.b64decode(body["data"][0]["embedding"])
    assert struct.unpack("<2f", first) == pytest.approx((0.1, -0.25))


def test_an_answer_without_vectors_is_an_error() -> None:
    with pytest.raises(BackendError):
        embeddings(b'{"embedding": []}', "m", "o", packed=False)
