"""The official openai client against the daemon in front of an Ollama, over real sockets.

What the client sees is what OpenAI promises; what Ollama gets is its own API.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.support.daemon import Running, running, served
from tests.support.ollama import (
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
from tests.support.upstream import Json, Status

REPOSITORY = Path(__file__).parents[2]
TALKER, THINKER, SEER = "talker:latest", "thinker:8b", "seer:latest"
LEVELLED, EMBEDDER = "levelled:20b", "embedder:latest"
BROKEN, SMALL = "broken:latest", "small:1b"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Something to call",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("get_weather", "now")
]
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class House:
    """A daemon in front of an Ollama, and a client at its door."""

    ollama: Ollama
    daemon: Running
    client: AsyncOpenAI


@asynccontextmanager
async def house(**settings: Any) -> AsyncIterator[House]:
    ollama = Ollama(
        OllamaModel(name=TALKER),
        OllamaModel(name=THINKER, capabilities=("completion", "thinking")),
        OllamaModel(name=LEVELLED, capabilities=("completion", "thinking"), family="gptoss"),
        OllamaModel(name=SEER, capabilities=("completion", "vision")),
        OllamaModel(name=EMBEDDER, capabilities=("embedding",), context_length=512),
        OllamaModel(name=SMALL, capabilities=("completion",), context_length=2048),
        OllamaModel(name=BROKEN, load_error="unable to load model"),
    )
    async with ollama:
        backend = {"name": "o", "kind": "ollama", "url": ollama.url}
        async with running(backend=[backend], **settings) as daemon:
            async with AsyncOpenAI(base_url=daemon.base_url, api_key="-", max_retries=0) as client:
                yield House(ollama, daemon, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[House]:
    async with house() as one:
        yield one


@pytest.fixture
def ollama(shared: House) -> Ollama:
    """The Ollama that most tests share: it says hello, and has heard nothing yet."""
    shared.ollama.play()
    shared.ollama.requests.clear()
    shared.ollama.prompts.clear()
    return shared.ollama


@pytest.fixture
def client(shared: House, ollama: Ollama) -> AsyncOpenAI:
    return shared.client


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[House]:
    """For a test that needs an Ollama with nothing loaded, or spoils it."""
    async with house() as one:
        yield one


# --- asking -------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a chat said, in whichever way it came. Each call is (id, name, arguments as text)."""

    model: str = ""
    text: str = ""
    thinking: str = ""
    finish: str | None = None
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    usage: Any = None
    timings: Json = field(default_factory=dict)


async def ask(
    client: AsyncOpenAI, stream: bool, model: str = TALKER, messages: Any = HELLO, **more: Any
) -> Answer:
    create = client.chat.completions.create
    if stream:
        more.setdefault("stream_options", {"include_usage": True})
        return await told(await create(model=model, messages=messages, stream=True, **more))
    whole = await create(model=model, messages=messages, **more)
    [choice] = whole.choices
    said = choice.message
    return Answer(
        whole.model,
        said.content or "",
        getattr(said, "reasoning_content", ""),
        choice.finish_reason,
        [(c.id, c.function.name, c.function.arguments) for c in said.tool_calls or ()],
        whole.usage,
        getattr(whole, "timings", {}),
    )


async def told(stream: Any) -> Answer:
    """The answer of a stream that ends well."""
    answer = Answer()
    async for chunk in stream:
        answer.model = chunk.model
        answer.usage = chunk.usage or answer.usage
        answer.timings = getattr(chunk, "timings", answer.timings)
        for choice in chunk.choices:
            answer.text += choice.delta.content or ""
            answer.thinking += getattr(choice.delta, "reasoning_content", "")
            answer.finish = choice.finish_reason or answer.finish
            for call in choice.delta.tool_calls or ():
                assert call.index == len(answer.calls)
                answer.calls.append((call.id, call.function.name, call.function.arguments))
    return answer


def sent(ollama: Ollama) -> Json:
    """The body of the newest request, which had a prompt."""
    assert ollama.requests[-1].path != "/api/embed"
    assert ollama.requests[-1].body.get("messages") or ollama.requests[-1].body.get("prompt")
    return ollama.requests[-1].body


async def silent(ollama: Ollama) -> None:
    while ollama.generating():
        await asyncio.sleep(0.01)


# --- answers ------------------------------------------------------------------------------------


@BOTH
async def test_a_chat_is_answered(client: AsyncOpenAI, ollama: Ollama, stream: bool) -> None:
    answer = await ask(client, stream)
    assert answer.text == "Hello from talker:latest."
    assert (answer.model, answer.finish) == (TALKER, "stop")
    assert ollama.requests[-1].path == "/api/chat"
    assert sent(ollama)["messages"] == HELLO


async def test_the_virtual_model_chooses_among_ollamas_models(client: AsyncOpenAI) -> None:
    answer = await ask(client, False, "smarterrouter/main", tools=TOOLS)
    assert answer.text == "Hello from talker:latest."
    listed = {model.id: model.owned_by async for model in client.models.list()}
    assert {listed[name] for name in (TALKER, THINKER, EMBEDDER)} == {"o"}


@BOTH
async def test_thoughts_are_told_as_reasoning_content(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    ollama.play(Says(["Four", "."], thinking=["Two and ", "two…"]))
    answer = await ask(client, stream, THINKER)
    assert (answer.thinking, answer.text) == ("Two and two…", "Four.")


@BOTH
async def test_tools_are_called_in_parallel_each_under_an_id_of_its_own(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    calls = [Call("get_weather", {"city": "Zürich"}, "call_1"), Call("now", {}, None)]
    ollama.play(Says([], calls=calls))
    answer = await ask(client, stream, tools=TOOLS, parallel_tool_calls=True)
    (first, *weather), (second, *now) = answer.calls
    assert first == "call_1"
    assert second not in ("", first)
    assert (weather[0], json.loads(weather[1])) == ("get_weather", {"city": "Zürich"})
    assert now == ["now", "{}"]
    assert answer.finish == "tool_calls"
    assert sent(ollama)["tools"] == TOOLS


@BOTH
async def test_calls_in_several_chunks_go_on_counting(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    class TwoChunks(Says):
        def pieces(self, turn: Any) -> Any:
            for city in ("Bern", "Genf"):
                yield {"tool_calls": [Call(arguments={"city": city}, id=None).as_json(0)]}

    ollama.play(TwoChunks())
    answer = await ask(client, stream, tools=TOOLS)
    assert [json.loads(text)["city"] for _, _, text in answer.calls] == ["Bern", "Genf"]
    assert len({call for call, *_ in answer.calls}) == 2


@BOTH
async def test_the_results_of_tools_go_back_with_the_calls_as_objects(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    calls = [Call("get_weather", {"city": "Zürich"}, "call_1"), Call("now", {}, "call_2")]
    ollama.play(Says([], calls=calls), Says(["Sunny."]))
    first = await client.chat.completions.create(model=TALKER, messages=HELLO, tools=TOOLS)
    said = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": "call_1", "content": "21 °C"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    ]
    again = [*HELLO, said.model_dump(exclude_none=True), *results]
    assert (await ask(client, stream, messages=again, tools=TOOLS)).text == "Sunny."
    _, assistant, *tools = sent(ollama)["messages"]
    assert [call["function"] for call in assistant["tool_calls"]] == [
        {"name": "get_weather", "arguments": {"city": "Zürich"}},
        {"name": "now", "arguments": {}},
    ]
    assert [(one["role"], one["tool_name"], one["content"]) for one in tools] == [
        ("tool", "get_weather", "21 °C"),
        ("tool", "now", "noon"),
    ]


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        ("auto", TOOLS),
        ("required", TOOLS),
        ("none", None),
        ({"type": "function", "function": {"name": "now"}}, TOOLS[1:]),
    ],
    ids=["auto", "required", "none", "named"],
)
async def test_the_choice_of_a_tool_decides_which_are_offered(
    client: AsyncOpenAI, ollama: Ollama, choice: Any, offered: Any
) -> None:
    await ask(client, False, tools=TOOLS, tool_choice=choice)
    assert sent(ollama).get("tools") == offered


# --- images -------------------------------------------------------------------------------------


def seen(url: str) -> Any:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    return [{"role": "user", "content": parts}]


@BOTH
async def test_an_image_in_a_data_url_reaches_ollama_as_bare_base64(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    answer = await ask(client, stream, SEER, seen(f"data:image/png;base64,{PIXEL}"))
    assert answer.text == "Hello from seer:latest."
    [message] = sent(ollama)["messages"]
    assert message == {"role": "user", "content": "What is this?", "images": [PIXEL]}


@BOTH
async def test_an_image_on_the_web_is_refused_with_the_way_to_send_it(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match="does not fetch images") as caught:
        await ask(client, stream, SEER, seen("http://192.0.2.1/cat.png"))
    assert "data:image/png;base64" in str(caught.value)
    assert caught.value.param == "messages"
    assert not ollama.prompts


@BOTH
async def test_an_image_for_a_model_that_sees_nothing_is_refused(
    client: AsyncOpenAI, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot see images"):
        await ask(client, stream, TALKER, seen(f"data:image/png;base64,{PIXEL}"))


# --- wishes -------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_limits_and_sampling_become_options(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, limit: str
) -> None:
    wishes = {"temperature": 0.25, "top_p": 0.5, "seed": 7, "stop": ["\n", "END"], limit: 2}
    extra = {"top_k": 3, "repeat_penalty": 1.5}
    answer = await ask(client, stream, **wishes, extra_body=extra)
    options = sent(ollama)["options"]
    assert options.pop("num_ctx") > 0
    assert options.pop("num_predict") == 2
    assert options == {name: wishes[name] for name in wishes if name != limit} | extra
    assert answer.text == "Hello from"


@BOTH
async def test_one_stop_word_becomes_a_list(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    await ask(client, stream, stop="END")
    assert sent(ollama)["options"]["stop"] == ["END"]


class Weather(BaseModel):
    answer: str


@BOTH
async def test_a_json_object_is_asked_for_as_a_format(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    answer = await ask(client, stream, response_format={"type": "json_object"})
    assert sent(ollama)["format"] == "json"
    assert json.loads(answer.text)["answer"]


@BOTH
async def test_a_schema_is_asked_for_as_a_format_and_its_answer_parsed(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    about: Any = {"model": TALKER, "messages": HELLO, "response_format": Weather}
    if stream:
        async with client.chat.completions.stream(**about) as events:
            parsed = (await events.get_final_completion()).choices[0].message.parsed
    else:
        parsed = (await client.chat.completions.parse(**about)).choices[0].message.parsed
    assert parsed == Weather(answer="Hello from talker:latest.")
    assert sent(ollama)["format"]["properties"] == {"answer": {"title": "Answer", "type": "string"}}


@BOTH
@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        (THINKER, "none", False),
        (THINKER, "minimal", False),
        (THINKER, "high", True),
        (LEVELLED, "low", "low"),
        (LEVELLED, "high", "high"),
        (TALKER, "high", None),
    ],
)
async def test_reasoning_effort_says_how_much_to_think(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, model: str, effort: Any, think: Any
) -> None:
    ollama.play(Says(["Four."], thinking=["Hm."]))
    answer = await ask(client, stream, model, reasoning_effort=effort)
    assert sent(ollama).get("think") == think
    assert answer.thinking == ("Hm." if think else "")
    assert answer.text == "Four."


@BOTH
@pytest.mark.parametrize("wish", [{"n": 2}, {"logit_bias": {"1": 5}}], ids=["n", "logit_bias"])
async def test_what_ollama_cannot_do_is_refused_and_not_left_out(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, wish: Json
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, stream, **wish)
    assert caught.value.param in wish
    assert not ollama.prompts


# --- figures ------------------------------------------------------------------------------------


@BOTH
async def test_usage_and_speed_are_told(client: AsyncOpenAI, ollama: Ollama, stream: bool) -> None:
    ollama.play(Says(["one ", "two ", "three"], delay_s=0.002))
    answer = await ask(client, stream)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 3)
    assert answer.usage.total_tokens == 5
    assert (answer.timings["prompt_n"], answer.timings["predicted_n"]) == (2, 3)
    assert 0 < answer.timings["predicted_per_second"] < 500
    assert answer.timings["predicted_ms"] >= 6


@pytest.mark.parametrize("options", [None, {"include_usage": False}], ids=["unsaid", "unwanted"])
async def test_a_stream_that_is_not_asked_for_its_usage_has_no_chunk_of_it(
    client: AsyncOpenAI, options: Any
) -> None:
    more = {"stream_options": options} if options else {}
    stream: Any = await client.chat.completions.create(
        model=TALKER, messages=HELLO, stream=True, **more
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].timings["predicted_n"] == 3


@BOTH
@pytest.mark.parametrize(
    ("step", "wishes", "reason"),
    [
        (Says(), {}, "stop"),
        (Says(), {"max_tokens": 1}, "length"),
        (Says(done_reason="length"), {}, "length"),
        (Says([], calls=[Call()]), {"tools": TOOLS}, "tool_calls"),
    ],
    ids=["stop", "max_tokens", "length", "tool_calls"],
)
async def test_the_reason_of_the_end_is_told(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, step: Says, wishes: Json, reason: str
) -> None:
    ollama.play(step)
    assert (await ask(client, stream, **wishes)).finish == reason


# --- embeddings and text completions ------------------------------------------------------------


async def test_embeddings_are_the_same_in_every_form(client: AsyncOpenAI, ollama: Ollama) -> None:
    create, texts = client.embeddings.create, ["alpha bravo", "zulu"]
    floats = await create(model=EMBEDDER, input=texts, encoding_format="float")
    packed = await create(model=EMBEDDER, input=texts, encoding_format="base64")
    usual = await create(model=EMBEDDER, input=texts)
    assert [item.index for item in floats.data] == [0, 1]
    assert floats.data[0].embedding != floats.data[1].embedding
    for one, raw, own in zip(floats.data, packed.data, usual.data, strict=True):
        unpacked = struct.unpack("<8f", base64.b64decode(raw.embedding))  # type: ignore[arg-type]
        assert one.embedding == pytest.approx(unpacked)
        assert own.embedding == pytest.approx(one.embedding)
    assert floats.model == EMBEDDER
    assert floats.usage.prompt_tokens == floats.usage.total_tokens == 3
    assert ollama.requests[-1].path == "/api/embed"


async def test_one_text_is_embedded_in_the_size_that_is_asked_for(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=EMBEDDER, input="alpha", dimensions=4)
    assert len(answer.data[0].embedding) == 4


async def test_tokens_and_texts_that_are_too_long_are_not_embedded(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="texts, not tokens"):
        await client.embeddings.create(model=EMBEDDER, input=[1, 2, 3])
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model=EMBEDDER, input="a " * 600)
    assert caught.value.code == "context_length_exceeded"


@BOTH
async def test_a_text_is_completed_without_a_template(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    ollama.play(Says([" upon", " a", " time"]))
    create: Any = client.completions.create
    answer = await create(model=TALKER, prompt="Once", max_tokens=2, stream=stream)
    choices = [chunk.choices[0] async for chunk in answer] if stream else answer.choices
    assert "".join(choice.text for choice in choices) == " upon a"
    assert choices[-1].finish_reason == "length"
    assert ollama.requests[-1].path == "/api/generate"
    assert (sent(ollama)["prompt"], sent(ollama)["raw"]) == ("Once", True)
    if not stream:
        assert answer.usage.completion_tokens == 2


# --- errors -------------------------------------------------------------------------------------


@BOTH
async def test_an_unknown_model_is_not_found(client: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(client, stream, "nobody:7b")
    assert caught.value.code == "model_not_found"


@BOTH
async def test_a_model_removed_behind_our_back_is_not_found(own: House, stream: bool) -> None:
    own.ollama.remove(TALKER)
    with pytest.raises(openai.NotFoundError, match="o does not have talker:latest") as caught:
        await ask(own.client, stream)
    assert caught.value.code == "model_not_found"


@BOTH
async def test_a_prompt_longer_than_the_model_was_trained_for_is_refused(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, stream, SMALL, long)
    assert caught.value.code == "context_length_exceeded"
    assert not ollama.prompts


@BOTH
async def test_a_prompt_that_only_ollama_finds_too_long_is_refused_too(
    own: House, stream: bool
) -> None:
    wordy = [{"role": "user", "content": "a b c d e f g h " * 400}]
    own.ollama.models[SMALL] = OllamaModel(
        name=SMALL, capabilities=("completion",), context_length=1024
    )
    with pytest.raises(openai.BadRequestError, match="exceeds the available context") as caught:
        await ask(own.client, stream, SMALL, wordy, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"


@BOTH
async def test_a_full_queue_is_a_rate_limit(own: House, stream: bool) -> None:
    own.ollama.scheduler.max_queue = 0
    with pytest.raises(openai.RateLimitError, match="maximum pending requests") as caught:
        await ask(own.client, stream)
    assert caught.value.code == "overloaded"


@BOTH
async def test_a_full_queue_does_not_keep_a_loaded_model_from_answering(
    own: House, stream: bool
) -> None:
    assert (await ask(own.client, stream)).text
    own.ollama.scheduler.max_queue = 0
    long = [{"role": "user", "content": "word " * 12_000}]
    with pytest.raises(openai.RateLimitError, match="maximum pending requests"):
        await ask(own.client, stream, messages=long)
    assert (await ask(own.client, stream)).text
    assert own.ollama.loads == [Load(TALKER, 8192)]


@BOTH
async def test_a_model_that_will_not_load_is_ollamas_error(
    client: AsyncOpenAI, stream: bool
) -> None:
    with pytest.raises(openai.InternalServerError, match="unable to load model") as caught:
        await ask(client, stream, BROKEN)
    assert caught.value.status_code == 502


@BOTH
async def test_an_option_of_the_wrong_kind_is_the_requests_fault(
    client: AsyncOpenAI, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match="must be of type integer"):
        await ask(client, stream, extra_body={"options": {"num_keep": "all"}})


@BOTH
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (ErrorInStream(after=0), openai.InternalServerError),
        (BreakOff(after=0), openai.InternalServerError),
        (Status(429), openai.RateLimitError),
        (Status(503, shape="html"), openai.InternalServerError),
    ],
    ids=["error", "break", "429", "503"],
)
async def test_a_failure_before_the_answer_is_a_status(
    client: AsyncOpenAI,
    ollama: Ollama,
    stream: bool,
    step: Any,
    expected: type[openai.APIStatusError],
) -> None:
    ollama.play(step)
    with pytest.raises(expected):
        await ask(client, stream)


class Unfinished(Says):
    """A response that is whole, of an answer that is not."""

    async def __call__(self, turn: Any) -> None:
        await self.begin(turn, 2)


@BOTH
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (ErrorInStream(after=2), "model runner has unexpectedly stopped"),
        (BreakOff(after=2), "broke off"),
        (BreakOff(after=2, reset=True), "broke off"),
        (Unfinished(), "broke off"),
    ],
    ids=["error", "break", "reset", "unfinished"],
)
async def test_a_failure_within_the_answer_is_never_a_clean_end(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, step: Any, words: str
) -> None:
    ollama.play(step)
    with pytest.raises(openai.APIError, match=words) as caught:
        await ask(client, stream)
    assert isinstance(caught.value, openai.InternalServerError) is not stream


async def test_what_came_before_a_failure_is_told_and_no_reason_for_an_end(
    client: AsyncOpenAI, ollama: Ollama
) -> None:
    ollama.play(ErrorInStream(after=2))
    stream: Any = await client.chat.completions.create(model=TALKER, messages=HELLO, stream=True)
    choices: list[Any] = []

    async def read() -> None:
        async for chunk in stream:
            choices.extend(chunk.choices)

    with pytest.raises(openai.APIError):
        await read()
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello from"
    assert {choice.finish_reason for choice in choices} == {None}


@BOTH
async def test_silence_within_the_answer_is_a_time_out(stream: bool) -> None:
    async with house(timeout={"stall_s": 0.15}) as own:
        own.ollama.play(Hang(after=2))
        with pytest.raises(openai.APIError, match="sent nothing for") as caught:
            await ask(own.client, stream)
        assert caught.value.code == "backend_timeout"
        async with asyncio.timeout(1):
            await silent(own.ollama)


@BOTH
async def test_an_ollama_that_is_gone_is_unavailable_and_answers_once_it_is_back(
    own: House, stream: bool
) -> None:
    assert (await ask(own.client, stream)).text
    await own.ollama.stop()
    with pytest.raises(openai.InternalServerError, match="o cannot be reached") as caught:
        await ask(own.client, stream)
    assert caught.value.status_code == 503
    await own.ollama.start()
    await own.daemon.engine.catalogue.refresh()
    assert (await ask(own.client, stream)).text
    assert own.ollama.loads == [Load(TALKER, 8192)] * 2


# --- contexts -----------------------------------------------------------------------------------


@BOTH
async def test_a_longer_prompt_reloads_the_model_once_and_shorter_ones_never(
    own: House, stream: bool
) -> None:
    async def ask_words(count: int, **more: Any) -> None:
        messages = [{"role": "user", "content": "word " * count}]
        assert (await ask(own.client, stream, messages=messages, **more)).text

    await ask_words(5)
    await ask_words(3000, max_tokens=100)
    assert own.ollama.loads == [Load(TALKER, 8192)]
    await ask_words(9000)
    await ask_words(9500)
    await ask_words(5)
    assert own.ollama.loads == [Load(TALKER, 8192), Load(TALKER, 16_384)]
    assert [prompt.tokens for prompt in own.ollama.prompts] == [5, 3000, 9000, 9500, 5]


async def test_requests_side_by_side_share_one_context(own: House) -> None:
    lengths = [5, 2000, 5, 3000, 5]
    asking = [
        ask(own.client, count > 5, messages=[{"role": "user", "content": "word " * count}])
        for count in lengths
    ]
    assert all(answer.text for answer in await asyncio.gather(*asking))
    assert own.ollama.loads == [Load(TALKER, 8192)]


@BOTH
async def test_a_model_that_somebody_else_loaded_is_used_as_it_is(own: House, stream: bool) -> None:
    async with httpx.AsyncClient(trust_env=False) as other:
        body = {"model": TALKER, "options": {"num_ctx": 12_000}, "keep_alive": -1}
        await other.post(f"{own.ollama.url}/api/generate", json=body)
    await ask(own.client, stream)
    assert own.ollama.loads == [Load(TALKER, 12_000)]


# --- hanging up ---------------------------------------------------------------------------------


async def test_a_stream_that_is_closed_stops_the_generation_within_a_second(
    client: AsyncOpenAI, ollama: Ollama
) -> None:
    ollama.play(Endless(delay_s=0.005))
    stream: Any = await client.chat.completions.create(model=TALKER, messages=HELLO, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert ollama.generating() == {TALKER}
    await stream.close()
    async with asyncio.timeout(1):
        await silent(ollama)


@BOTH
@pytest.mark.parametrize("step", [Endless(delay_s=0.005), Hang()], ids=["speaking", "reading"])
async def test_a_call_that_is_given_up_stops_the_generation_within_a_second(
    client: AsyncOpenAI, ollama: Ollama, stream: bool, step: Any
) -> None:
    ollama.play(step)
    asking = asyncio.create_task(ask(client, stream))
    async with asyncio.timeout(5):
        while not ollama.generating():
            await asyncio.sleep(0.01)
    asking.cancel()
    async with asyncio.timeout(1):
        await silent(ollama)
    ollama.play(Says())
    assert (await ask(client, stream)).text


@BOTH
async def test_a_client_whose_patience_ends_stops_the_generation_too(
    client: AsyncOpenAI, ollama: Ollama, stream: bool
) -> None:
    ollama.play(Hang())
    with pytest.raises(openai.APITimeoutError):
        await ask(client, stream, timeout=0.15)
    left = time.monotonic()
    await silent(ollama)
    assert time.monotonic() - left < 1


# --- as users have it ---------------------------------------------------------------------------

ENV = """\
# Backend
ROUTER_PROVIDER=ollama
ROUTER_OLLAMA_URL="{url}/"
ROUTER_MODEL_PREFIX=

# Server
ROUTER_HOST=127.0.0.1
ROUTER_LOG_LEVEL=INFO
ROUTER_QUALITY_PREFERENCE=0.7
ROUTER_EXTERNAL_MODEL_NAME=smarterrouter/main
ROUTER_PINNED_MODEL=
ROUTER_CACHE_ENABLED=true
ROUTER_BENCHMARK_SOURCES=huggingface,lmsys
"""


async def test_an_env_file_of_the_old_tool_serves_and_answers(
    ollama: Ollama, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(ENV.format(url=ollama.url))
    with ExitStack() as ending:
        starting = served(tmp_path, env={"PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)})
        process = await asyncio.to_thread(ending.enter_context, starting)
        async with AsyncOpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0) as one:
            listed = [model.id async for model in one.models.list()]
            answers = [await ask(one, stream, "smarterrouter/main") for stream in (True, False)]
        await asyncio.to_thread(ending.close)
    assert listed[0] == "smarterrouter/main"
    assert set(ollama.models) <= set(listed)
    assert all(answer.text == f"Hello from {answer.model}." for answer in answers)
    assert process.process.returncode == 0
    assert "Traceback" not in process.log.read_text()
