"""Any server that speaks OpenAI's protocol: vLLM, LM Studio, llama-swap, a cloud service.

It manages its own memory: nothing here loads or unloads, and what its models hold is neither known
nor counted. Only a limit to the requests that it is sent at once applies to it. What its model list
does not say stays unknown; capabilities it does not mention are uncertain, not absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from smarterrouter.backends.control import Control, ServerOptions, count, text
from smarterrouter.backends.wire import Target, Timeouts, Wire
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import GpuDevice
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    ModelRef,
    Placement,
    Placing,
)
from smarterrouter.domain.ports import ANYWHERE, Blocks, Lost
from smarterrouter.domain.shape import Layout
from smarterrouter.errors import BackendError

CONTEXT_FIELDS = ("max_model_len", "context_length", "loaded_context_length", "max_context_length")


class OpenAIBackend:
    """See ``ports.Backend``."""

    kind = "openai"
    placing = Placing.SPREAD
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, options: ServerOptions, timeouts: Timeouts) -> None:
        self.name = options.name
        self.node = options.node
        self.url = base_url(options.url)
        self._prefix = options.prefix
        self._wire = Wire(timeouts)
        self._headers = options.headers
        self._control = Control(self.url, self.name, self._headers)

    async def models(self) -> tuple[Model, ...]:
        answer = await self._control.get("/models")
        try:
            listed = [item for item in answer["data"] if isinstance(item, dict) and "id" in item]
            return tuple(self._model(item) for item in listed)
        except (KeyError, TypeError, AttributeError) as error:
            raise BackendError(
                f"{self.name} at {self._control.shown}/models does not answer with a model list. "
                "Is that the address of an OpenAI-compatible API?"
            ) from error

    async def version(self) -> str | None:
        return None

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        return ()

    def layout(self, name: str, context: int = 0) -> Layout | None:
        return None

    def context_for(self, name: str, context: int) -> int:
        return 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    def processes(self, name: str) -> tuple[int, ...]:
        return ()

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        return None

    async def unload(self, name: str) -> None:
        return None

    async def drop_cache(self, name: str) -> bool:
        return False

    def stream(self, request: ChatRequest, model: Model) -> AbstractAsyncContextManager[Blocks]:
        target = Target(self.url, model.ref.name, model.id, self.name, self._headers)
        return self._wire.stream(request, target)

    def watch(self, lost: Lost) -> None:
        return None

    async def aclose(self) -> None:
        await self._control.aclose()
        await self._wire.aclose()

    def _model(self, item: Mapping[str, Any]) -> Model:
        name = str(item["id"])
        has, uncertain = capabilities(item)
        meta = item.get("meta") if isinstance(item.get("meta"), dict) else {}
        assert isinstance(meta, dict)
        return Model(
            ref=ModelRef(self.name, name),
            id=self._prefix + name,
            capabilities=has,
            uncertain=uncertain,
            size_bytes=count(meta.get("size")),
            parameters=count(meta.get("n_params")),
            quantization=text(meta.get("ftype")) or text(item.get("quantization")),
            context_length=count(meta.get("n_ctx_train")) or _context(item),
            served_context=count(meta.get("n_ctx")) or count(item.get("max_model_len")),
            architecture=text(item.get("arch")),
        )


def base_url(url: str) -> str:
    """The address that ``/models`` hangs below: ``/v1`` is added where no path is given."""
    url = url.rstrip("/")
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    return f"{scheme}://{rest}" if "/" in rest else f"{scheme}://{rest}/v1"


def capabilities(item: Mapping[str, Any]) -> tuple[frozenset[Capability], frozenset[Capability]]:
    """What a listed model can do, and what its listing leaves open.

    Read from the fields that vLLM, llama-server, LM Studio, Mistral and OpenRouter fill in; the
    name is used for one thing only, an embedding model that says so.
    """
    if _is_embedding(item):
        return frozenset({Capability.EMBEDDING}), frozenset()
    has, uncertain = {Capability.CHAT}, {Capability.TOOLS, Capability.VISION}
    architecture = item.get("architecture")
    if isinstance(architecture, dict) and "input_modalities" in architecture:
        uncertain.discard(Capability.VISION)
        if "image" in architecture["input_modalities"]:
            has.add(Capability.VISION)
    parameters = item.get("supported_parameters")
    if isinstance(parameters, list):
        uncertain.discard(Capability.TOOLS)
        has |= {Capability.TOOLS} if "tools" in parameters else set()
    said = item.get("capabilities")
    if isinstance(said, dict):
        for field, capability in (
            ("function_calling", Capability.TOOLS),
            ("vision", Capability.VISION),
        ):
            if field in said:
                uncertain.discard(capability)
                has |= {capability} if said[field] else set()
    elif isinstance(said, list):
        has |= {Capability.TOOLS} if {"tools", "tool_use"} & set(said) else set()
        has |= {Capability.VISION} if {"vision", "multimodal"} & set(said) else set()
    if item.get("type") == "vlm":
        has.add(Capability.VISION)
    return frozenset(has), frozenset(uncertain - has)


def _is_embedding(item: Mapping[str, Any]) -> bool:
    if item.get("type") in ("embedding", "embeddings"):
        return True
    said = item.get("capabilities")
    if (
        isinstance(said, list)
        and "completion" not in said
        and {"embedding", "embeddings"} & set(said)
    ):
        return True
    return "embed" in str(item["id"]).lower()


def _context(item: Mapping[str, Any]) -> int | None:
    return next((n for field in CONTEXT_FIELDS if (n := count(item.get(field)))), None)
