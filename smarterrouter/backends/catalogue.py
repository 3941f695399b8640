"""Which models there are, on every backend together, and the id by which clients ask for each.

Asks each backend for its list, at start and then every ``interval_s``; a backend that cannot be
reached keeps nothing listed, says why, and is asked again. An id that two backends share becomes
``backend/model`` on both.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from smarterrouter.domain.models import Model, ModelRef
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import ModelNotFound, SmarterRouterError

log = logging.getLogger(__name__)


class Catalogue:
    """Every model of every backend, read from memory."""

    def __init__(self, backends: Mapping[str, Backend], reserved: Sequence[str] = ()) -> None:
        """``reserved`` are ids that no real model may take (the virtual models)."""
        self.backends = backends
        self.models: tuple[Model, ...] = ()
        self.problems: dict[str, str] = {}
        self._reserved = frozenset(reserved)
        self._listed: dict[str, tuple[Model, ...]] = {}
        self._by_id: dict[str, Model] = {}
        self._by_ref: dict[ModelRef, Model] = {}

    async def refresh(self) -> None:
        """Ask all backends at once; a failure changes only that backend's part."""
        await asyncio.gather(*(self._refresh_one(backend) for backend in self.backends.values()))
        self.models = unique_ids(self._listed.values(), self._reserved)
        self._by_id = {model.id: model for model in self.models}
        self._by_ref = {model.ref: model for model in self.models}

    async def keep_fresh(self, interval_s: float) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.refresh()

    def get(self, model_id: str) -> Model | None:
        return self._by_id.get(model_id)

    def find(self, model_id: str) -> Model:
        """The model a client asked for by id. Raises ``ModelNotFound`` with what there is."""
        model = self._by_id.get(model_id) or self._by_qualified_name(model_id)
        if model is None:
            known = ", ".join(sorted(self._by_id)[:8]) or "none at the moment"
            raise ModelNotFound(
                f"There is no model '{model_id}'. Known models: {known}. GET /v1/models lists all.",
                param="model",
            )
        return model

    def by_ref(self, ref: ModelRef) -> Model | None:
        return self._by_ref.get(ref)

    def _by_qualified_name(self, model_id: str) -> Model | None:
        backend, _, name = model_id.partition("/")
        return self._by_ref.get(ModelRef(backend, name))

    async def _refresh_one(self, backend: Backend) -> None:
        try:
            self._listed[backend.name] = await backend.models()
        except SmarterRouterError as error:
            self._listed[backend.name] = ()
            if self.problems.get(backend.name) != error.message:
                log.warning("backend %s: %s", backend.name, error.message)
            self.problems[backend.name] = error.message
        except Exception as error:
            self._listed[backend.name] = ()
            self.problems[backend.name] = f"its model list cannot be read: {error}"
            log.exception("backend %s: its model list cannot be read", backend.name)
        else:
            if self.problems.pop(backend.name, None):
                log.info("backend %s is back", backend.name)


def unique_ids(
    listings: Iterable[tuple[Model, ...]], reserved: frozenset[str]
) -> tuple[Model, ...]:
    """All models, those with a shared or reserved id renamed to ``backend/name``."""
    models = [model for listing in listings for model in listing]
    count = Counter(model.id for model in models)
    return tuple(
        replace(model, id=str(model.ref)) if count[model.id] > 1 or model.id in reserved else model
        for model in models
    )
