"""What ``/v1/models`` says, from memory. Decides how a model is described to clients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smarterrouter.completion import Completions
from smarterrouter.domain.models import Capability, Model

OWNER = "smarterrouter"


def listing(
    completions: Completions, loaded: frozenset[str], created: int
) -> list[dict[str, object]]:
    """The virtual models, then every real one. ``loaded`` are the ids that are ready now."""
    models = completions.catalogue.models
    virtual = [_virtual(name, models, loaded, created) for name in completions.virtual]
    real = [describe(homes, loaded, created) for homes in completions.catalogue.by_home]
    return virtual + real


def find(
    completions: Completions, model_id: str, loaded: frozenset[str], created: int
) -> dict[str, object]:
    """The entry of that id, or of ``backend/name``. Raises ``ModelNotFound``."""
    if model_id in completions.virtual:
        return _virtual(model_id, completions.catalogue.models, loaded, created)
    return describe(completions.catalogue.homes(model_id), loaded, created)


def describe(homes: Sequence[Model], loaded: frozenset[str], created: int) -> dict[str, object]:
    """One model, in the fields that OpenAI, vLLM and llama.cpp clients read."""
    model, ready = homes[0], homes[0].id in loaded
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": model.ref.backend,
        "homes": [home.ref.backend for home in homes],
        "max_model_len": model.usable_context,
        "context_length": model.usable_context,
        "capabilities": sorted(model.capabilities),
        "loaded": ready,
        "status": {"value": "loaded" if ready else "unloaded"},
        "meta": {
            "n_ctx": model.usable_context,
            "n_ctx_train": model.context_length,
            "n_params": model.parameters,
            "size": model.size_bytes,
            "ftype": model.quantization,
            "architecture": model.architecture,
        },
    }


def _virtual(
    name: str, models: Iterable[Model], loaded: frozenset[str], created: int
) -> dict[str, object]:
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
        "loaded": any(model.id in loaded for model in chatting),
        "meta": {"n_ctx": longest},
    }
