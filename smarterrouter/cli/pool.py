"""A pool of models that is decided over without any of them being there: a profile file's.

Nothing is known of what is loaded, so every model counts as loaded: the choice is the steady
state's, and no model is favoured for being small to load.
"""

from __future__ import annotations

from pathlib import Path

from smarterrouter.config import Settings
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.decision import RouteDecision
from smarterrouter.errors import ModelNotFound
from smarterrouter.profiling.files import ProfileFile, read_profiles
from smarterrouter.routing.decision import Contender, Policy, route
from smarterrouter.routing.features import classify, features
from smarterrouter.routing.quality import ProfiledQuality
from smarterrouter.routing.seconds import Standing


class Pool:
    """Decides over the models of one profile file."""

    def __init__(self, file: ProfileFile, settings: Settings) -> None:
        grouped = [(item.group or classify(item.prompt), item) for item in file.evidence]
        self._quality = ProfiledQuality(grouped)
        self._virtual, self._usual = settings.virtual_models, settings.quality_preference
        self._contenders = [
            Contender(model, Standing(resident=True), file.profiles[model.id])
            for model in file.models
        ]

    @classmethod
    def read(cls, path: Path, settings: Settings) -> Pool:
        return cls(read_profiles(path), settings)

    def decide(self, request: ChatRequest) -> RouteDecision:
        """The decision; a real model's id leaves that one candidate. Raises ``ModelNotFound``."""
        seen = features(request.messages, needs=request.needs, max_tokens=request.max_tokens)
        preference = self._virtual.get(request.model)
        if preference is not None:
            return route(seen, self._contenders, Policy(preference, self._quality), request.model)
        named = [c for c in self._contenders if c.model.id == request.model]
        if not named:
            raise ModelNotFound(f"The profile file has no model '{request.model}'.")
        return route(seen, named, Policy(self._usual, self._quality))
