"""The official openai client against the daemon, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.daemon import backend_of, running
from tests.support.upstream import (
    BreakOff,
    Call,
    Status,
    Stream,
    ToolCalls,
    Upstream,
)

MAIN = "smarterrouter/main"
HELLO = [{"role": "user", "content": "Say hello."}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream(Stream(["Hello", " world"]), models=["a", "text-embed"]) as upstream:
        yield upstream


@pytest.fixture
async def client(up: Upstream) -> AsyncIterator[AsyncOpenAI]:
    async with running(backend=[backend_of(up.url)]) as daemon:
        async with AsyncOpenAI(base_url=daemon.base_url, api_key="none", max_retries=0) as one:
            yield one


async def test_chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MAIN, messages=HELLO)
    assert answer.choices[0].message.content == "Hello world"
    assert answer.model == "a"
    assert answer.usage
    assert answer.usage.total_tokens > 0


async def test_chat_as_a_stream_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MAIN, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    async for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == "Hello world"
    assert usage


async def test_a_stream_without_the_usage_option_has_no_usage_chunk(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model=MAIN, messages=HELLO, stream=True)
    assert all([chunk.choices async for chunk in stream])


async def test_tools_as_a_stream(client: AsyncOpenAI, up: Upstream) -> None:
    up.play(ToolCalls([Call("get_weather", '{"city":"Bern"}', "call_1")], vendor="llamacpp"))
    async with client.chat.completions.stream(model=MAIN, messages=HELLO, tools=TOOLS) as stream:
        final = await stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    assert call.function.arguments == '{"city":"Bern"}'
    assert up.requests[0].body["tools"] == TOOLS


async def test_tools_in_one_body(client: AsyncOpenAI, up: Upstream) -> None:
    up.play(ToolCalls([Call("get_weather", '{"city":"Bern"}', "c1"), Call("now", "{}", "c2")]))
    answer = await client.chat.completions.create(model=MAIN, messages=HELLO, tools=TOOLS)
    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.arguments) for call in calls] == [
        ("c1", '{"city":"Bern"}'),
        ("c2", "{}"),
    ]


async def test_embeddings(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="text-embed", input=["one", "two"])
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding


async def test_text_completions(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MAIN, prompt="Say hello.")
    assert answer.choices[0].text == "Hello world"
    stream = await client.completions.create(model=MAIN, prompt="Say hello.", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello world"


async def test_models(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert listed == [MAIN, "smarterrouter/fast", "smarterrouter/quality", "a", "text-embed"]
    assert (await client.models.retrieve("a")).owned_by == "up"
    assert (await client.models.retrieve(MAIN)).id == MAIN


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(400, message="no"), openai.BadRequestError),
        (Status(429, retry_after=3), openai.RateLimitError),
        (Status(500), openai.InternalServerError),
    ],
)
async def test_errors_are_the_client_s_own_types(
    client: AsyncOpenAI, up: Upstream, status: Status, expected: type[openai.APIStatusError]
) -> None:
    up.play(status)
    with pytest.raises(expected):
        await client.chat.completions.create(model=MAIN, messages=HELLO)


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-17", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-17")


async def test_a_stream_that_breaks_raises_in_the_client(client: AsyncOpenAI, up: Upstream) -> None:
    up.play(BreakOff(after=3))
    stream = await client.chat.completions.create(model=MAIN, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        [chunk async for chunk in stream]


async def test_a_wrong_key_is_refused_and_the_right_one_taken(up: Upstream) -> None:
    async with running(backend=[backend_of(up.url)], api_keys="me:sesame") as daemon:
        async with AsyncOpenAI(base_url=daemon.base_url, api_key="open", max_retries=0) as wrong:
            with pytest.raises(openai.AuthenticationError):
                await wrong.chat.completions.create(model=MAIN, messages=HELLO)
            with pytest.raises(openai.AuthenticationError):
                await wrong.models.list()
        async with AsyncOpenAI(base_url=daemon.base_url, api_key="sesame", max_retries=0) as right:
            assert (await right.chat.completions.create(model=MAIN, messages=HELLO)).choices
