"""What ``/v1/models`` says, from memory. Decides how a model is described to clients."""

from __future__ import annotations

from collections.abc import Iterable

from smarterrouter.completion import Completions
from smarterrouter.domain.models import Capability, Model
from smarterrouter.errors import ModelNotFound

OWNER = "smarterrouter"


def listing(
    completions: Completions, loaded: frozenset[str], created: int
) -> list[dict[str, object]]:
    """The virtual models, then every real one. ``loaded`` are the ids that are ready now."""
    models = completions.catalogue.models
    virtual = [_virtual(name, models, created) for name in completions.virtual]
    return virtual + [describe(model, model.id in loaded, created) for model in models]


def find(entries: Iterable[dict[str, object]], model_id: str) -> dict[str, object]:
    """The entry with that id. Raises ``ModelNotFound``."""
    for entry in entries:
        if entry["id"] == model_id:
            return entry
    raise ModelNotFound(f"There is no model '{model_id}'. GET /v1/models lists all.", param="model")


def describe(model: Model, loaded: bool, created: int) -> dict[str, object]:
    """One model, in the fields that OpenAI, vLLM and llama.cpp clients read."""
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": model.ref.backend,
        "max_model_len": model.usable_context,
        "context_length": model.usable_context,
        "capabilities": sorted(model.capabilities),
        "loaded": loaded,
        "status": {"value": "loaded" if loaded else "unloaded"},
        "meta": {
            "n_ctx": model.usable_context,
            "n_ctx_train": model.context_length,
            "n_params": model.parameters,
            "size": model.size_bytes,
            "ftype": model.quantization,
            "architecture": model.architecture,
        },
    }


def _virtual(name: str, models: Iterable[Model], created: int) -> dict[str, object]:
    """A virtual model can do what any of the real ones can."""
    chatting = [model for model in models if Capability.CHAT in model.capabilities]
    contexts = [model.usable_context for model in chatting if model.usable_context]
    longest = max(contexts, default=None)
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "max_model_len": longest,
        "context_length": longest,
        "capabilities": sorted({c for model in chatting for c in model.capabilities}),
        "loaded": bool(chatting),
        "meta": {"n_ctx": longest},
    }
