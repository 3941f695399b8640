"""What Ollama accepts, refuses and lists: request checks and the bodies of its plain answers.

Decides statuses, messages and JSON shapes as Ollama has them; holds no state and does no I/O.
A check that fails raises ``Refused``. In this double a token is a word.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.ollama_scheduler import OllamaModel, Runner

Json = dict[str, Any]
BLOCKS, KV_HEADS, VOCABULARY = 32, 8, 32_000
INTEGERS = {"num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "seed", "top_k"}
GO_TYPES = {str: "string", bool: "bool", list: "[]api.Message", dict: "map[string]interface {}"}
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"([-+]?)((?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


class Refused(Exception):
    """A request answered with this status and ``{"error": message}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model got to see: the messages left after truncation, and their tokens."""

    model: str
    messages: tuple[Json, ...]
    tokens: int
    num_ctx: int


# --- what comes in ------------------------------------------------------------------------------


def parsed(raw: bytes) -> Json:
    """The JSON object of a body, its fields of the types that Ollama's decoder insists on."""
    if not raw:
        raise Refused(400, "missing request body")
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        found = error.doc[error.pos : error.pos + 1]
        why = f"invalid character {found!r} looking for beginning of value"
        raise Refused(400, why if found else "unexpected EOF") from error
    if not isinstance(body, dict):
        raise Refused(400, f"json: cannot unmarshal {kind(body)} into Go value")
    check_type(body, "model", str)
    check_type(body, "stream", bool)
    check_type(body, "options", dict)
    check_type(body, "prompt", str)
    check_type(body, "messages", list)
    check_type(body, "tools", list)
    if not isinstance(body.get("think"), bool | str | None):
        raise Refused(400, "think must be a boolean or string")
    check_images(body)
    for message in body.get("messages") or ():
        check_message(message)
    return body


def kind(value: Any) -> str:
    names = {str: "string", list: "array", dict: "object", bool: "bool"}
    return names.get(type(value), "number")


def check_type(body: Json, name: str, wanted: type, within: str = "") -> None:
    value = body.get(name)
    if value is not None and not isinstance(value, wanted):
        into = f"Go struct field ChatRequest.{within}{name} of type {GO_TYPES[wanted]}"
        raise Refused(400, f"json: cannot unmarshal {kind(value)} into {into}")


def check_message(message: Json) -> None:
    """A message as Ollama has it: text is a string, arguments are an object, images base64."""
    check_type(message, "content", str, "messages.")
    check_images(message)
    for call in message.get("tool_calls") or ():
        check_type(call["function"], "arguments", dict, "messages.tool_calls.function.")


def check_images(holder: Json) -> None:
    for image in holder.get("images") or ():
        try:
            base64.b64decode(image, validate=True)
        except binascii.Error as error:
            odd = re.search(r"[^A-Za-z0-9+/=]", image)
            at = odd.start() if odd else len(image)
            raise Refused(400, f"illegal base64 data at input byte {at}") from error


def seconds(value: Any) -> float | None:
    """A keep_alive: seconds or a Go duration; below zero is forever, absent is None."""
    if value is None:
        return None
    if isinstance(value, bool | list | dict):
        raise Refused(400, "Unsupported type: keep_alive")
    if isinstance(value, str):
        value = go_duration(value)
    return math.inf if value < 0 else float(value)


def go_duration(text: str) -> float:
    if text.lstrip("+-") == "0":
        return 0.0
    if not DURATION.fullmatch(text):
        digits = re.fullmatch(r"[-+]?[\d.]+", text)
        why = "missing unit in" if digits else "invalid"
        raise Refused(400, f'time: {why} duration "{text}"')
    total = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    return -total if text.startswith("-") else total


def checked_options(body: Json) -> Json:
    options: Json = dict(body.get("options") or {})
    for name, value in options.items():
        if name in INTEGERS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refused(500, f'option "{name}" must be of type integer')
    if body.get("shift") is False:
        options["shift"] = False
    return options


def check_format(body: Json) -> None:
    form = body.get("format")
    if form not in (None, "", "json") and not isinstance(form, dict):
        given = json.dumps(json.dumps(form))
        raise Refused(
            500, f'invalid format: {given}; expected "json" or a valid JSON Schema object'
        )


def texts(given: Any) -> list[str]:
    """What is to be embedded: a text or texts, never tokens."""
    if given is None or given == "":
        return []
    many = [given] if isinstance(given, str) else given
    if not isinstance(many, list) or not all(isinstance(text, str) for text in many):
        raise Refused(400, "invalid input type")
    return many


def full_name(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def found(models: Mapping[str, OllamaModel], asked: str, message: str) -> OllamaModel:
    for name, model in models.items():
        if name.lower() == full_name(asked).lower():
            return model
    raise Refused(404, message.format(asked))


def check_capabilities(model: OllamaModel, body: Json, verb: str) -> None:
    """``verb`` is chat or generate. A tool on a model without tools names the whole path."""
    asked = body["model"]
    if body.get("think") and "thinking" not in model.capabilities:
        raise Refused(400, f'"{asked}" does not support thinking')
    if not model.generates:
        raise Refused(400, f'"{asked}" does not support {verb}')
    if body.get("tools") and "tools" not in model.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{model.name} does not support tools")


# --- prompts ------------------------------------------------------------------------------------


def words(text: str) -> int:
    return len(text.split())


def seen(runner: Runner, messages: list[Json], *, truncate: bool) -> Prompt:
    """Drop the oldest messages until the rest fits; system messages and the last one stay.

    What is too long even alone is cut to half the window. With ``truncate`` false it is all
    refused instead. Nothing in the answer says that something was dropped.
    """
    kept = list(messages)
    if truncate:
        for first in range(len(messages)):
            system = [m for m in messages[:first] if m.get("role") == "system"]
            kept = system + messages[first:]
            if tokens_of(kept) <= runner.num_ctx:
                break
    tokens = tokens_of(kept)
    if tokens > runner.num_ctx:
        if not truncate:
            raise Refused(400, overflow(tokens, runner.num_ctx))
        tokens = runner.num_ctx // 2
    return Prompt(runner.model.name, tuple(kept), tokens, runner.num_ctx)


def tokens_of(messages: Iterable[Json]) -> int:
    return sum(words(m.get("content") or "") + 768 * len(m.get("images") or ()) for m in messages)


def overflow(tokens: int, num_ctx: int) -> str:
    message = (
        f"request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), "
        "try increasing it"
    )
    more = {"type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": num_ctx}
    return llama_server_error(message, more)


def llama_server_error(message: str, more: Json) -> str:
    """The runner's own error body, which Ollama passes on as one string."""
    return json.dumps({"error": {"code": 400, "message": message, **more}}, separators=(",", ":"))


def check_sight(model: OllamaModel, messages: Iterable[Json]) -> None:
    if "vision" not in model.capabilities and any(m.get("images") for m in messages):
        message = "Multimodal data provided, but model does not support multimodal requests."
        raise Refused(400, llama_server_error(message, {"type": "invalid_request_error"}))


# --- what goes out ------------------------------------------------------------------------------


def stamp(when: datetime | None = None) -> str:
    """A time as Go prints it."""
    when = when or datetime.now(UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def details(model: OllamaModel) -> Json:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }


def tags(models: Iterable[OllamaModel]) -> Json:
    newest_first = sorted(models, key=lambda m: m.modified_at, reverse=True)
    return {
        "models": [
            {
                "name": model.name,
                "model": model.name,
                "modified_at": stamp(model.modified_at),
                "size": model.size,
                "digest": model.digest,
                "details": details(model),
            }
            for model in newest_first
        ]
    }


def ps(runners: Iterable[Runner]) -> Json:
    longest_first = sorted(runners, key=lambda r: r.expires_at, reverse=True)
    return {
        "models": [
            {
                "name": runner.model.name,
                "model": runner.model.name,
                "size": runner.size,
                "digest": runner.model.digest,
                "details": details(runner.model),
                "expires_at": stamp(runner.expires_at),
                "size_vram": runner.size_vram,
                "context_length": runner.num_ctx,
            }
            for runner in longest_first
        ]
    }


def card_info(model: OllamaModel) -> Json:
    """The file's header, with layers that keep as much as the model says of itself."""
    key_length = model.kv_bytes_per_token // (BLOCKS * KV_HEADS * 2 * 2)
    own = {
        "attention.head_count": 32,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": key_length,
        "attention.value_length": key_length,
        "block_count": BLOCKS,
        "context_length": model.context_length,
        "embedding_length": model.dimensions,
        "feed_forward_length": 4 * model.dimensions,
        **model.info,
    }
    return {
        "general.architecture": model.family,
        "general.file_type": 15,
        "general.parameter_count": 8_030_261_312,
        **{f"{model.family}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.tokens": [],
    }


def show(model: OllamaModel) -> Json:
    """The model's card. Big arrays are emptied, and parameters are text in two columns."""
    window = {} if model.num_ctx is None else {"num_ctx": model.num_ctx}
    lines = [
        f"{name:<30} {json.dumps(value, ensure_ascii=False)}"
        for name, values in {**window, **model.parameters}.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    card: Json = {
        "modelfile": f'# Modelfile generated by "ollama show"\nFROM {model.blob}\n',
        "template": "{{ .Prompt }}",
        "details": details(model),
        "model_info": card_info(model),
        "tensors": [
            {"name": "token_embd.weight", "type": "Q4_K", "shape": [model.dimensions, VOCABULARY]},
            {"name": "blk.0.attn_norm.weight", "type": "F32", "shape": [model.dimensions]},
        ],
        "capabilities": list(model.capabilities),
        "modified_at": stamp(model.modified_at),
    }
    return card | ({"parameters": "\n".join(lines)} if lines else {})
