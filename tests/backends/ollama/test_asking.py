"""What a request in OpenAI's words becomes in Ollama's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.backends.ollama.asking import asked, base64_wanted, need, usage_wanted
from smarterrouter.daemon.decode import decode
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.models import Capability, Model, ModelRef
from smarterrouter.errors import BadRequest

HELLO = [{"role": "user", "content": "Say hello."}]
PNG = "iVBORw0KGgo="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
]


def model(*more: Capability, architecture: str = "llama") -> Model:
    return Model(
        ModelRef("o", "tiny:latest"),
        "home/tiny:latest",
        frozenset({Capability.CHAT, *more}),
        architecture=architecture,
    )


PLAIN, THINKER = model(), model(Capability.THINKING)
GPT_OSS = model(Capability.THINKING, architecture="gptoss")


def request(endpoint: Endpoint = Endpoint.CHAT, **fields: Any) -> ChatRequest:
    start = {Endpoint.CHAT: {"messages": HELLO}}.get(endpoint, {})
    return decode(json.dumps({"model": "m", **start, **fields}).encode(), endpoint, "test")


def body(
    endpoint: Endpoint = Endpoint.CHAT, of: Model = PLAIN, num_ctx: int = 8192, **fields: Any
) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(asked(request(endpoint, **fields), of).body(num_ctx))
    return sent


def said(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = body(messages=list(messages))["messages"]
    return sent


# --- a chat -------------------------------------------------------------------------------------


def test_a_chat_says_no_more_than_it_must() -> None:
    assert asked(request(), PLAIN).path == "/api/chat"
    assert body() == {
        "model": "tiny:latest",
        "messages": HELLO,
        "stream": True,
        "truncate": False,
        "keep_alive": -1,
        "options": {"num_ctx": 8192},
    }


def test_sampling_goes_into_options() -> None:
    sent = body(
        temperature=0.5,
        top_p=1,
        top_k=40,
        min_p=0.05,
        seed=7,
        presence_penalty=1.5,
        frequency_penalty=-1,
        repeat_penalty=1.1,
        max_tokens=20,
        stop="END",
        typical_p=None,
    )
    assert sent["options"] == {
        "temperature": 0.5,
        "top_p": 1,
        "top_k": 40,
        "min_p": 0.05,
        "seed": 7,
        "presence_penalty": 1.5,
        "frequency_penalty": -1,
        "repeat_penalty": 1.1,
        "num_predict": 20,
        "stop": ["END"],
        "num_ctx": 8192,
    }
    assert body(max_tokens=5, max_completion_tokens=9)["options"]["num_predict"] == 9
    assert body(stop=["a", "b"])["options"]["stop"] == ["a", "b"]


def test_ollamas_own_fields_are_kept_but_for_the_two_that_are_ours() -> None:
    sent = body(
        options={"num_ctx": 12000, "mirostat": 2, "temperature": 0.1},
        temperature=0.9,
        keep_alive=0,
        think="high",
        format={"type": "object"},
        response_format={"type": "json_object"},
        truncate=True,
        shift=False,
    )
    assert sent["options"] == {"mirostat": 2, "temperature": 0.1, "num_ctx": 8192}
    assert sent["keep_alive"] == -1
    assert sent["think"] == "high"
    assert sent["format"] == {"type": "object"}
    assert sent["truncate"] is True
    assert sent["shift"] is False
    assert need(request(options={"num_ctx": 12000})).wished == 12000


def test_what_nobody_knows_goes_along_as_it_came() -> None:
    sent = body(guided_choice=["ä", "b"], depth=[1, 2.5, None], user="me", nothing=None)
    assert sent["guided_choice"] == ["ä", "b"]
    assert sent["depth"] == [1, 2.5, None]
    assert "nothing" not in sent


@pytest.mark.parametrize(
    ("given_format", "sent_format"),
    [
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}, CITY),
    ],
)
def test_a_response_format_is_a_format(given_format: object, sent_format: object) -> None:
    assert body(response_format=given_format)["format"] == sent_format


def test_plain_text_needs_no_format() -> None:
    assert "format" not in body(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("of", "fields", "think"),
    [
        (THINKER, {}, None),
        (THINKER, {"reasoning_effort": "none"}, False),
        (THINKER, {"reasoning_effort": "minimal"}, False),
        (THINKER, {"reasoning_effort": "low"}, True),
        (THINKER, {"reasoning": {"effort": "high"}}, True),
        (THINKER, {"chat_template_kwargs": {"enable_thinking": False}}, False),
        (GPT_OSS, {"reasoning_effort": "none"}, False),
        (GPT_OSS, {"reasoning_effort": "minimal"}, "low"),
        (GPT_OSS, {"reasoning_effort": "medium"}, "medium"),
        (GPT_OSS, {"reasoning_effort": "xhigh"}, "high"),
        (PLAIN, {"reasoning_effort": "high"}, None),
        (PLAIN, {"think": True}, True),
    ],
)
def test_reasoning_effort_is_thinking(of: Model, fields: dict[str, Any], think: object) -> None:
    assert body(of=of, **fields).get("think") == think


def test_tools_go_along_unless_the_client_wants_none() -> None:
    assert body(tools=TOOLS)["tools"] == TOOLS
    assert body(tools=TOOLS, tool_choice="required")["tools"] == TOOLS
    assert "tools" not in body(tools=TOOLS, tool_choice="none")
    assert "tools" not in body(tools=[])
    chosen = {"type": "function", "function": {"name": "now"}}
    assert body(tools=TOOLS, tool_choice=chosen)["tools"] == [TOOLS[1]]


def test_logprobs() -> None:
    assert "logprobs" not in body(logprobs=False)
    sent = body(logprobs=True, top_logprobs=3)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 3)
    sent = body(Endpoint.COMPLETIONS, prompt="a", logprobs=2)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)


# --- messages -----------------------------------------------------------------------------------


def test_parts_become_one_text_and_images() -> None:
    [sent] = said(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "text", "text": "is this?"},
                {"type": "input_image", "image_url": f"data:image/jpeg;base64,{PNG}"},
            ],
        }
    )
    assert sent == {"role": "user", "content": "What\nis this?", "images": [PNG, PNG]}


@pytest.mark.parametrize("url", ["http://x/a.png", "data:image/png,abc", "file:///a.png", ""])
def test_images_that_would_have_to_be_fetched_are_refused(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(BadRequest, match="data:image/png;base64"):
        said({"role": "user", "content": [part]})


def test_what_can_only_be_heard_is_refused() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    with pytest.raises(BadRequest, match="'input_audio'"):
        said({"role": "user", "content": [part]})


def test_calls_and_their_results_find_each_other() -> None:
    call = {"name": "weather", "arguments": '{"city": "Zürich", "big": 12345678901234567890}'}
    sent = said(
        {"role": "developer", "content": "Be brief."},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": call},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "name": "clock", "content": "noon"},
    )
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert sent[1]["thinking"] == "Hm."
    assert [one["function"]["arguments"] for one in sent[1]["tool_calls"]] == [
        {"city": "Zürich", "big": 12345678901234567890},
        {},
    ]
    assert [one["id"] for one in sent[1]["tool_calls"]] == ["c1", "c2"]
    assert sent[2] == {
        "role": "tool",
        "content": "rain",
        "tool_name": "weather",
        "tool_call_id": "c1",
    }
    assert sent[3]["tool_name"] == "clock"


def test_ollamas_own_messages_stay_as_they_are() -> None:
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    own = [
        {"role": "user", "content": "x", "images": [PNG]},
        {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_name": "now"},
    ]
    assert said(*own) == own


@pytest.mark.parametrize("arguments", ["{", "[1]", "1", '"x"'])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    call = {"id": "c", "function": {"name": "now", "arguments": arguments}}
    with pytest.raises(BadRequest, match="call of now"):
        said({"role": "assistant", "tool_calls": [call]})


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists), max_size=4))
def test_any_arguments_come_out_as_they_went_in(arguments: dict[str, Any]) -> None:
    call = {"function": {"name": "f", "arguments": json.dumps(arguments)}}
    [sent] = said({"role": "assistant", "tool_calls": [call]})
    assert sent["tool_calls"][0]["function"]["arguments"] == arguments


# --- texts --------------------------------------------------------------------------------------


def test_a_text_completion_is_raw_and_all_text() -> None:
    assert asked(request(Endpoint.COMPLETIONS, prompt="a"), PLAIN).path == "/api/generate"
    sent = body(Endpoint.COMPLETIONS, prompt="Once", max_tokens=3)
    assert (sent["prompt"], sent["raw"], sent["stream"]) == ("Once", True, True)
    assert sent["options"]["num_predict"] == 3
    assert "think" not in sent
    assert body(Endpoint.COMPLETIONS, of=THINKER, prompt=["Once"])["think"] is False


def test_a_suffix_needs_the_models_template() -> None:
    sent = body(Endpoint.COMPLETIONS, prompt="def f(", suffix="return 1")
    assert (sent["suffix"], sent["raw"]) == ("return 1", False)


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]]])
def test_one_prompt_as_text_and_no_other(prompt: object) -> None:
    with pytest.raises(BadRequest, match="one prompt, as text"):
        body(Endpoint.COMPLETIONS, prompt=prompt)


def test_texts_to_embed_are_not_cut() -> None:
    assert asked(request(Endpoint.EMBEDDINGS, input="a"), PLAIN).path == "/api/embed"
    sent = body(Endpoint.EMBEDDINGS, input="a", dimensions=256, encoding_format="base64")
    assert sent == {
        "model": "tiny:latest",
        "input": ["a"],
        "dimensions": 256,
        "truncate": False,
        "keep_alive": -1,
        "options": {"num_ctx": 8192},
    }
    assert body(Endpoint.EMBEDDINGS, input=["a", "b"])["input"] == ["a", "b"]
    with pytest.raises(BadRequest, match="as text"):
        body(Endpoint.EMBEDDINGS, input=[1, 2])


def test_vectors_are_packed_on_request() -> None:
    assert base64_wanted(request(Endpoint.EMBEDDINGS, input="a", encoding_format="base64"))
    assert not base64_wanted(request(Endpoint.EMBEDDINGS, input="a"))
    with pytest.raises(BadRequest, match="float or base64"):
        base64_wanted(request(Endpoint.EMBEDDINGS, input="a", encoding_format="int8"))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, True),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": None}, False),
    ],
)
def test_usage_is_told_to_who_asks_and_to_the_collector(
    fields: dict[str, Any], wanted: bool
) -> None:
    assert usage_wanted(request(**fields)) is wanted


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": 3}, "stop"),
        ({"options": [1]}, "options"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "f"}}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": 1}]}, "messages"),
    ],
)
def test_what_ollama_cannot_do_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        body(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"options": {"num_ctx": "much"}}, "options"),
        ({"options": [1]}, "options"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": 1}]}, "messages"),
        ({"tools": 1, "tool_choice": "none"}, "tools"),
    ],
)
def test_a_need_that_cannot_be_read_is_refused_as_well(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        need(request(**fields))
    assert caught.value.param == param


def test_tools_and_earlier_calls_are_needed_beside_the_counted_prompt() -> None:
    def tokens(**fields: Any) -> int:
        return need(request(**fields)).prompt

    sent = len(json.dumps(TOOLS)) // 3
    assert (tokens(), tokens(tools=TOOLS), tokens(tools=[])) == (0, sent, 0)
    assert tokens(tools=TOOLS, tool_choice="required") == sent
    assert tokens(tools=TOOLS, tool_choice="none") == 0
    assert 0 < tokens(tools=TOOLS, tool_choice={"function": {"name": "now"}}) < sent / 2
    call = {"function": {"name": "now", "arguments": "x" * 295}}
    assert tokens(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}]) == 100
    assert need(request(Endpoint.EMBEDDINGS, input="a", tools=TOOLS)).prompt == 0


def test_an_unknown_effort_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadRequest, match="none, minimal, low"):
        body(of=THINKER, reasoning_effort="some")


def test_defaults_that_mean_nothing_are_left_out() -> None:
    assert body(n=1, logit_bias={}, parallel_tool_calls=True) == body()
    echoed = {"prompt": "a", "echo": False, "best_of": 1}
    assert body(Endpoint.COMPLETIONS, **echoed) == body(Endpoint.COMPLETIONS, prompt="a")
    with pytest.raises(BadRequest, match="echo"):
        body(Endpoint.COMPLETIONS, prompt="a", echo=True)
