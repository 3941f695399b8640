"""Profiles models one after the other: which, in which order, and what a failure means.

1. A model that is done at this depth is passed over, unless it is forced. An unfinished one goes
   on where it was: steps and answers that are kept are not repeated.
2. A model whose backend goes on failing is given up with the reason, and tried again the next
   time. The others are not held up by it.
3. Whoever needs the models meanwhile goes first; see ``measuring.undisturbed``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence, Set

from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.profiles import Depth, ProfiledModel, in_form
from smarterrouter.errors import ModelNotFound, SmarterRouterError, known_models
from smarterrouter.profiling.bench import Bench
from smarterrouter.profiling.events import ModelBegan, ModelEnded, Planned, Skipped
from smarterrouter.profiling.forecast import expected_s
from smarterrouter.profiling.rig import Pace
from smarterrouter.profiling.speed import Speed
from smarterrouter.profiling.visit import Visit

log = logging.getLogger(__name__)

Plan = tuple[tuple[Model, float], ...]
"""Models in their order, and about how many seconds each will take."""


class Runner:
    """See above."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def plan(self) -> Plan:
        """What is to be profiled. Raises ``ModelNotFound`` for a name that is not there."""
        bench = self._bench
        kept = {one.identity: one for one in await asyncio.to_thread(bench.notes.models)}
        answered = await self._answered() if bench.options.always else set()
        left_out = {} if bench.options.wanted else bench.rig.left_out()
        found: list[tuple[Model, float]] = []
        for model in self._wanted():
            if model.id in left_out:
                why = f"{left_out[model.id]}; name it with --model to profile it"
                bench.tell(Skipped(model.id, why))
            elif self._is_done(kept.get(bench.rig.identity(model)), answered):
                bench.tell(Skipped(model.id, "profiled already; --force does it anew"))
            else:
                found.append((model, expected_s(model, await self._pace(model), bench.options)))
        return tuple(found)

    async def run(self) -> Mapping[str, str | None]:
        """Profile them. Why each model was given up; ``None`` where all was done."""
        planned = await self.plan()
        self._bench.tell(Planned(tuple((model.id, seconds) for model, seconds in planned)))
        outcome: dict[str, str | None] = {}
        for number, (model, _) in enumerate(planned, 1):
            self._bench.tell(ModelBegan(model.id, number, len(planned)))
            began = self._bench.clock.now()
            outcome[model.id] = await self._profile(model)
            spent = self._bench.clock.now() - began
            self._bench.tell(ModelEnded(model.id, spent, outcome[model.id]))
        return outcome

    async def _answered(self) -> Set[tuple[str, str]]:
        """Which model, by its identity, has answered which task."""
        answers = await asyncio.to_thread(self._bench.notes.answers)
        return {(answer.identity, answer.task) for answer in answers}

    def _wanted(self) -> Sequence[Model]:
        there, wanted = self._bench.rig.models(), self._bench.options.wanted
        for name in wanted:
            if not any(name in (model.id, str(model.ref)) for model in there):
                known = known_models(model.id for model in there)
                raise ModelNotFound(f"There is no model '{name}'. {known}")
        return [m for m in there if not wanted or {m.id, str(m.ref)} & set(wanted)]

    def _is_done(self, kept: ProfiledModel | None, answered: Set[tuple[str, str]]) -> bool:
        options = self._bench.options
        if kept is None or not kept.done or options.force:
            return False
        chats = Capability.CHAT in kept.capabilities
        if chats and any((kept.identity, task.key) not in answered for task in options.always):
            return False
        return kept.depth is Depth.FULL or options.depth is Depth.QUICK

    async def _profile(self, model: Model) -> str | None:
        depth = await self._begin(model)
        try:
            await Visit(self._bench, model).all()
        except SmarterRouterError as error:
            failure = error.message
        except Exception as error:  # one model must not end the night for all
            failure = f"smarterrouter itself failed: {error!r}"
            log.exception("profiling %s failed in a way nobody foresaw", model.id)
        else:
            await self._keep(model, depth, done=True)
            return None
        await self._keep(model, depth, done=False, failure=failure)
        return failure

    async def _begin(self, model: Model) -> Depth:
        """Forget what is kept of it, where that is wanted. How thorough what is kept will be."""
        bench, identity = self._bench, self._bench.rig.identity(model)
        every = await asyncio.to_thread(bench.notes.models)
        kept = next((one for one in every if one.identity == identity), None)
        depth = bench.options.depth
        if kept and (bench.options.force or (bench.options.restart and not kept.done)):
            await bench.notes.forget(identity)
        elif kept and kept.done:
            depth = Depth.FULL if Depth.FULL in (depth, kept.depth) else Depth.QUICK
        await self._keep(model, depth, done=False)
        return depth

    async def _keep(
        self, model: Model, depth: Depth, *, done: bool, failure: str | None = None
    ) -> None:
        await self._bench.notes.keep(
            ProfiledModel(
                identity=self._bench.rig.identity(model),
                model=model.id,
                backend=model.ref.backend,
                depth=depth,
                done=done,
                failure=failure,
                at=self._bench.wall(),
                size_bytes=model.size_bytes,
                parameters=model.parameters,
                quantization=model.quantization,
                context_length=model.usable_context,
                capabilities=tuple(sorted(model.capabilities)),
            )
        )

    async def _pace(self, model: Model) -> Pace:
        """As it was measured before, else a guess."""
        guess, identity = self._bench.rig.pace(model), self._bench.rig.identity(model)
        for kept in await asyncio.to_thread(self._bench.notes.figures, identity):
            if kept.step == "speed" and (timed := in_form(kept.body, Speed)):
                return guess.seen(timed.prefill_tps, timed.decode_tps)
        return guess
