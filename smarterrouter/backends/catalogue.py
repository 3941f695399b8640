"""Which models there are, on every backend together, and the id by which clients ask for each.

Each backend is asked at start, then every ``interval_s``, and soon after it has failed a request.
One that cannot be reached lists nothing, says why, and is asked again; none waits for another. What
it had listed before is remembered for whoever asks for one of its models by name.

What an id means when several backends list it:

1. The same digest everywhere: one model with several homes, under that one id.
2. Otherwise they are different models, and each becomes ``backend/model``. So does one that takes a
   virtual model's name.

A name without a tag also finds ``NAME:latest``, as with Ollama.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from smarterrouter.domain.models import Model, ModelRef
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import ModelNotFound, SmarterRouterError, Unavailable, known_models

log = logging.getLogger(__name__)

ASK_AGAIN_S = 2.0
"""However often a backend fails, it is not asked for its list more often than this."""

AWAY_S = 3.0
"""How often a backend that is away is asked whether it is back."""

LIST_TIMEOUT_S = 20.0

Listed = Callable[[tuple[Model, ...], float], None]
"""Called with what a backend has just listed, and since when that may be so (monotonic seconds)."""


class Catalogue:
    """Every model of every backend, read from memory."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        reserved: Sequence[str] = (),
        listed: Listed = lambda models, since: None,
    ) -> None:
        """``reserved`` are ids that no real model may take (the virtual models)."""
        self.backends = backends
        self.models: tuple[Model, ...] = ()
        self.problems: dict[str, str] = {}
        self._reserved = frozenset(reserved)
        self._tell = listed
        self._lists: dict[str, tuple[Model, ...]] = {}
        self._last: dict[str, tuple[Model, ...]] = {}
        self._homes: dict[str, tuple[Model, ...]] = {}
        self._by_ref: dict[ModelRef, Model] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, float] = {}

    async def refresh(self, patience_s: float | None = None) -> None:
        """Ask all backends at once; whoever takes longer than ``patience_s`` is heard later."""
        asking = [self._ask(name) for name in self.backends]
        if asking:
            await asyncio.wait(asking, timeout=patience_s)

    async def keep_fresh(self, interval_s: float) -> None:
        """Refresh for ever; whoever has a problem is asked more often."""
        asked = time.monotonic()
        while True:
            await asyncio.sleep(min(AWAY_S, interval_s))
            if time.monotonic() - asked >= interval_s:
                asked = time.monotonic()
                await self.refresh()
            for name in tuple(self.problems):
                self.suspect(name)

    def suspect(self, backend: str) -> None:
        """A request to this backend has failed: see whether it is still there."""
        if time.monotonic() - self._asked.get(backend, 0.0) > ASK_AGAIN_S:
            self._ask(backend)

    async def aclose(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    @property
    def by_home(self) -> list[tuple[Model, ...]]:
        """Each model once, with all its homes."""
        return list(self._homes.values())

    def homes(self, model_id: str) -> tuple[Model, ...]:
        """The model a client asked for by id, on each backend that has it.

        Raises ``ModelNotFound`` with what there is, or ``Unavailable`` where its backend is away.
        """
        for asked in (model_id, f"{model_id}:latest"):
            backend, _, name = asked.partition("/")
            named = self._by_ref.get(ModelRef(backend, name))
            if homes := self._homes.get(asked) or ((named,) if named else ()):
                break
            self._raise_if_away(asked)
        if not homes:
            known = known_models(self._homes, none="none at the moment")
            raise ModelNotFound(
                f"There is no model '{model_id}'. {known} GET /v1/models lists all.",
                param="model",
            )
        return homes

    def _raise_if_away(self, model_id: str) -> None:
        for name, problem in self.problems.items():
            if any(model_id in (one.id, str(one.ref)) for one in self._last.get(name, ())):
                self.suspect(name)
                raise Unavailable(f"{model_id} is away for the moment: {problem}")

    def by_ref(self, ref: ModelRef) -> Model | None:
        return self._by_ref.get(ref)

    def _ask(self, name: str) -> asyncio.Task[None]:
        """The backend's listing, under way; nobody is asked twice at a time."""
        task = self._asking.get(name)
        if task is None or task.done():
            self._asked[name] = time.monotonic()
            task = asyncio.get_running_loop().create_task(self._list(self.backends[name]))
            self._asking[name] = task
        return task

    async def _list(self, backend: Backend) -> None:
        since = time.monotonic()
        listed: tuple[Model, ...] = ()
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                listed = usable(await backend.models())
        except SmarterRouterError as error:
            self._problem(backend.name, error.message)
        except TimeoutError:
            self._problem(
                backend.name, f"{backend.name} took over {LIST_TIMEOUT_S:g} s to list its models."
            )
        except Exception:
            if self._problem(backend.name, f"{backend.name}'s model list cannot be read."):
                log.exception("%s's model list", backend.name)
        else:
            self._last[backend.name] = listed
            if self.problems.pop(backend.name, None):
                log.info("backend %s is back", backend.name)
        before, self._lists[backend.name] = self._lists.get(backend.name), listed
        if before is not None:
            _log_changes(backend.name, before, listed)
        self._put_together()
        self._tell(listed, since)

    def _problem(self, name: str, said: str) -> bool:
        """Keep what is wrong with a backend; true when it is news."""
        news = self.problems.get(name) != said
        if news:
            log.warning("%s", said)
        self.problems[name] = said
        return news

    def _put_together(self) -> None:
        in_order = [self._lists.get(name, ()) for name in self.backends]
        self.models = unique_ids(in_order, self._reserved)
        self._by_ref = {model.ref: model for model in self.models}
        self._homes = by_id(self.models)


def usable(models: Iterable[Model]) -> tuple[Model, ...]:
    """Each model once, without those whose names could not be sent in a header."""
    distinct = {model.ref: model for model in models}
    for ref, model in list(distinct.items()):
        if not model.id.isprintable():
            log.warning("%s: a model is left out, its name is no text: %r", ref.backend, ref.name)
            del distinct[ref]
    return tuple(distinct.values())


def by_id(models: Iterable[Model]) -> dict[str, tuple[Model, ...]]:
    """The homes of each id."""
    homes: dict[str, tuple[Model, ...]] = {}
    for model in models:
        homes[model.id] = (*homes.get(model.id, ()), model)
    return homes


def unique_ids(
    listings: Iterable[tuple[Model, ...]], reserved: frozenset[str]
) -> tuple[Model, ...]:
    """All models, by the rules above; a model that took a reserved id is renamed as well."""
    models = [model for listing in listings for model in listing]
    homes = by_id(models)
    return tuple(
        replace(model, id=str(model.ref))
        if model.id in reserved or not _one_model(homes[model.id])
        else model
        for model in models
    )


def _one_model(homes: tuple[Model, ...]) -> bool:
    return len(homes) == 1 or (
        homes[0].digest is not None and len({model.digest for model in homes}) == 1
    )


def _log_changes(name: str, before: tuple[Model, ...], after: tuple[Model, ...]) -> None:
    old, new = {model.id for model in before}, {model.id for model in after}
    for what, ids in (("has new", new - old), ("no longer has", old - new)):
        if ids:
            log.info("backend %s %s: %s", name, what, ", ".join(sorted(ids)))
