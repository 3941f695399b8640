"""From a request in OpenAI's words to one in Ollama's own. Decides what each field becomes.

1. Fields that mean the same become Ollama's; sampling goes into ``options``.
2. Ollama's own fields (``options``, ``think``, ``format``, ``truncate``, ``raw``, ...) are kept,
   and go before OpenAI's that say the same. Two are not the client's to set: ``keep_alive``, since
   residency decides when a model goes, and ``num_ctx``, which ``context`` decides.
3. What would change the answer and Ollama cannot do is refused: several answers, biased tokens,
   the old function calls, an echoed prompt, prompts of tokens.
4. Hints that Ollama cannot follow are left out: ``parallel_tool_calls``, a ``tool_choice`` that
   wants some call or other, ``reasoning_effort`` for a model that does not think.
5. Everything else goes along as it came. Ollama passes over what it does not know.

A prompt is not cut unless the client asks for it by ``truncate``: one that does not fit is an
error. ``shift`` is never said, since newer servers reload the model when it changes.

How long a context a request needs is told apart from all that (``need``): it is asked for before
the model is leased, when nothing has been put into Ollama's words yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from smarterrouter.backends.ollama.context import Need, need_of
from smarterrouter.backends.ollama.messages import call_bytes, messages
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.models import Capability, Model
from smarterrouter.errors import BadRequest, Unsupported

PATHS = {
    Endpoint.CHAT: "/api/chat",
    Endpoint.COMPLETIONS: "/api/generate",
    Endpoint.EMBEDDINGS: "/api/embed",
}
FOREVER = -1
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
    "repetition_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "num_keep": "num_keep",
}
TRANSLATED = frozenset(
    [
        "model",
        "stream",
        "stream_options",
        "messages",
        "prompt",
        "suffix",
        "input",
        "encoding_format",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "format",
        "reasoning_effort",
        "reasoning",
        "chat_template_kwargs",
        "think",
        "logprobs",
        "top_logprobs",
        "options",
        "keep_alive",
        "n",
        "best_of",
        "echo",
        "logit_bias",
        "functions",
        "function_call",
    ]
) | set(SAMPLING)
EFFORTS = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 3, "xhigh": 3, "max": 3}
LEVELS = ("low", "low", "medium", "high")
LEVELLED = ("gptoss", "gpt-oss")
"""Architectures that think at a level, and not just or not at all."""

Fields = Mapping[str, Raw]


class _Options(Struct):
    """Of the client's own ``options``, what is not passed on."""

    num_ctx: float | None = None


class Asked(Struct, frozen=True):
    """A request for Ollama but for its context."""

    path: str
    fields: dict[str, object]
    options: dict[str, object]

    def body(self, num_ctx: int) -> bytes:
        options = {**self.options, "num_ctx": num_ctx}
        return msgspec.json.encode({**self.fields, "options": options})


def asked(request: ChatRequest, model: Model) -> Asked:
    """Raises ``BadRequest`` with the field at fault."""
    given = _present(request.fields)
    _refuse(given)
    options = _options(given, request.max_tokens)
    options.pop("num_ctx", None)
    fields: dict[str, object] = {"truncate": False}
    fields |= {name: raw for name, raw in given.items() if name not in TRANSLATED}
    fields |= {"model": model.ref.name, "keep_alive": FOREVER}
    match request.endpoint:
        case Endpoint.CHAT:
            _chat(fields, given, model)
        case Endpoint.COMPLETIONS:
            _completion(fields, given, model)
        case Endpoint.EMBEDDINGS:
            fields["input"] = _texts(given)
    return Asked(PATHS[request.endpoint], fields, options)


def need(request: ChatRequest) -> Need:
    """The context that the request needs. Raises ``BadRequest`` as ``asked`` does.

    Its prompt's tokens are known from routing; what those do not cover is looked at here.
    """
    given = _present(request.fields)
    wished = (_read(given, "options", _Options) or _Options()).num_ctx or 0
    uncounted = 0
    if request.endpoint is Endpoint.CHAT and "messages" in given:
        uncounted = _tool_bytes(given) + call_bytes(given["messages"])
    return need_of(request, uncounted, int(wished))


def base64_wanted(request: ChatRequest) -> bool:
    """Whether vectors are to be packed. Raises ``BadRequest`` for any other form."""
    form = _read(request.fields, "encoding_format", str | None) or "float"
    if form not in ("float", "base64"):
        raise BadRequest("'encoding_format' is float or base64.", param="encoding_format")
    return bool(form == "base64")


def usage_wanted(request: ChatRequest) -> bool:
    """Whether the stream is to end with its usage: asked for, or needed for one JSON body."""
    wanted = _read(request.fields, "stream_options", dict[str, Any] | None) or {}
    return not request.stream or wanted.get("include_usage") is True


# --- the three kinds ----------------------------------------------------------------------------


def _chat(fields: dict[str, object], given: Fields, model: Model) -> None:
    fields |= _format(given) | _think(given, model) | _logprobs(given)
    fields |= {"stream": True, "messages": messages(given["messages"])}
    if (tools := _tools(given)) is not None:
        fields["tools"] = tools


def _completion(fields: dict[str, object], given: Fields, model: Model) -> None:
    """The prompt goes to the model as it is, and all that it says is text.

    With a suffix the model's template is needed, which says how the two are put together.
    """
    suffix = _read(given, "suffix", str)
    fields["raw"] = fields.get("raw", not suffix)
    fields |= _format(given) | _logprobs(given)
    fields |= _think(given, model) or ({"think": False} if _thinks(model) else {})
    fields |= {"stream": True, "prompt": _prompt(given)}
    if suffix:
        fields["suffix"] = suffix


def _prompt(given: Fields) -> str:
    prompt = _read(given, "prompt", str | list[Any])
    texts = [prompt] if isinstance(prompt, str) else prompt
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise Unsupported("Ollama takes one prompt, as text.", param="prompt")
    return str(texts[0])


def _texts(given: Fields) -> list[str]:
    texts = _read(given, "input", str | list[Any])
    texts = [texts] if isinstance(texts, str) else texts
    if not all(isinstance(text, str) for text in texts):
        raise Unsupported("Ollama embeds texts, not tokens: send 'input' as text.", param="input")
    return list(texts)


# --- fields -------------------------------------------------------------------------------------


def _options(given: Fields, max_tokens: int | None) -> dict[str, Any]:
    options: dict[str, object] = {}
    for name, option in SAMPLING.items():
        if name in given:
            _read(given, name, float)
            options[option] = given[name]
    if stop := _read(given, "stop", str | list[str]):
        options["stop"] = [stop] if isinstance(stop, str) else stop
    if max_tokens is not None:
        options["num_predict"] = max_tokens
    own = _read(given, "options", dict[str, Raw]) or {}
    return options | _present(own)


def _tools(given: Fields) -> Raw | None:
    """The tools on offer; if the client has chosen one by name, that one alone."""
    tools = _read(given, "tools", list[dict[str, Any]])
    choice = _read(given, "tool_choice", str | dict[str, Any])
    if not tools or choice == "none":
        return None
    if not isinstance(choice, dict):
        return given["tools"]
    name = _function_name(choice)
    chosen = [tool for tool in tools if _function_name(tool) == name]
    if not chosen:
        raise BadRequest(
            f"'tool_choice' names {name}, which is not in 'tools'.", param="tool_choice"
        )
    return Raw(msgspec.json.encode(chosen))


def _tool_bytes(given: Fields) -> int:
    """How long the tools are that go along; only for one chosen by name must they be read."""
    if "tools" not in given:
        return 0
    choice = bytes(given.get("tool_choice", b""))
    tools = _tools(given) if choice.startswith((b"{", b'"none"')) else given["tools"]
    return 0 if tools is None else len(memoryview(tools))


def _function_name(tool: dict[str, Any]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _format(given: Fields) -> dict[str, object]:
    if "format" in given:
        return {"format": given["format"]}
    wanted = _read(given, "response_format", dict[str, Any]) or {}
    match wanted.get("type", "text"):
        case "text":
            return {}
        case "json_object":
            return {"format": "json"}
        case "json_schema":
            about = wanted.get("json_schema")
            schema = about.get("schema") if isinstance(about, dict) else None
            if isinstance(schema, dict):
                return {"format": schema}
    raise BadRequest(
        "'response_format' is text, json_object, or json_schema with a 'schema'.",
        param="response_format",
    )


def _think(given: Fields, model: Model) -> dict[str, object]:
    """1. What the client says in Ollama's words. 2. What it says in llama.cpp's, or else in
    OpenAI's, if the model thinks. 3. Nothing.
    """
    if "think" in given:  # 1
        return {"think": given["think"]}
    if not _thinks(model):  # 3
        return {}
    switch = (_read(given, "chat_template_kwargs", dict[str, Any]) or {}).get("enable_thinking")
    if isinstance(switch, bool):  # 2
        return {"think": switch}
    effort = _effort(given)
    if effort is None:  # 3
        return {}
    rank = EFFORTS[effort]
    levelled = (model.architecture or "").startswith(LEVELLED)
    return {"think": LEVELS[rank] if levelled and effort != "none" else rank > 0}


def _effort(given: Fields) -> str | None:
    nested = _read(given, "reasoning", dict[str, Any]) or {}
    effort = _read(given, "reasoning_effort", str) or nested.get("effort")
    if effort is None or (isinstance(effort, str) and effort in EFFORTS):
        return effort
    known = ", ".join(EFFORTS)
    raise BadRequest(f"'reasoning_effort' is one of {known}.", param="reasoning_effort")


def _thinks(model: Model) -> bool:
    return Capability.THINKING in model.capabilities


def _logprobs(given: Fields) -> dict[str, object]:
    """A chat asks by yes and a number; a text completion by the number alone."""
    wanted = _read(given, "logprobs", bool | int)
    if wanted is None or wanted is False:
        return {}
    top = _read(given, "top_logprobs", int) if wanted is True else wanted
    return {"logprobs": True, "top_logprobs": top or 0}


def _refuse(given: Fields) -> None:
    """Rule 3."""
    for name in ("n", "best_of"):
        if (_read(given, name, int) or 1) > 1:
            raise Unsupported(
                f"Ollama gives one answer to a request: leave '{name}' out and ask again for more.",
                param=name,
            )
    if _read(given, "logit_bias", dict[str, Any]):
        raise Unsupported("Ollama cannot bias tokens: leave 'logit_bias' out.", param="logit_bias")
    if _read(given, "functions", list[Any]):
        raise Unsupported("Ollama knows no 'functions': send them as 'tools'.", param="functions")
    if _read(given, "echo", bool):
        raise Unsupported("Ollama does not say the prompt again: leave 'echo' out.", param="echo")


def _present(fields: Fields) -> dict[str, Raw]:
    """What is not null."""
    return {name: raw for name, raw in fields.items() if bytes(memoryview(raw)[:5]) != b"null"}


def _read(given: Fields, name: str, kind: Any) -> Any:
    """A field's value, ``None`` where it is missing. Raises ``BadRequest`` for the wrong kind."""
    raw = given.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"'{name}' is malformed: {error}.", param=name) from None
