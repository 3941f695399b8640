"""A run of profiling over an engine: which tasks and which judge, and what is done when it ends.

Decides nothing about models: ``profiling`` does. One run at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from smarterrouter.assembly.engine import Engine
from smarterrouter.assembly.rig import EngineRig
from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.profiles import Depth
from smarterrouter.errors import ConfigError, ModelNotFound
from smarterrouter.profiling.asking import question
from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.events import Event, Noted, Paused, Resumed, Skipped, StepBegan, Tell
from smarterrouter.profiling.judge import Ask, JudgeReport, http_ask
from smarterrouter.profiling.judging import judge, judged
from smarterrouter.profiling.measuring import undisturbed
from smarterrouter.profiling.runner import Plan, Runner
from smarterrouter.profiling.sandbox import Sandbox
from smarterrouter.profiling.task import Said, Task, bundled, read
from smarterrouter.store.only_one import only_one

log = logging.getLogger(__name__)

JUDGE_S = 180.0
JUDGE_TOKENS = 1024
BUSY = "Another smarterrouter is profiling here already. Wait for that to end, or stop it."
BIGGEST = "biggest"
"""The name that stands for the largest model that chats."""


class Wish(Struct, frozen=True, kw_only=True):
    """What somebody wants profiled. ``judge`` is a model's id, or ``biggest``; ``prompts`` tasks of
    their own, as TOML."""

    models: tuple[str, ...] = ()
    quick: bool = False
    force: bool = False
    restart: bool = False
    judge: str | None = None
    prompts: str | None = None


class Profiling:
    """See above. ``idle_s``: how long nobody must have asked anything before a question is.

    ``own`` are the tasks of the wish: see ``own_tasks``.
    """

    def __init__(
        self,
        engine: Engine,
        wish: Wish,
        tell: Tell = lambda event: None,
        sandbox: Sandbox | None = None,
        idle_s: float = 0.0,
        own: Sequence[Task] = (),
    ) -> None:
        self._engine = engine
        self._wish = wish
        self._tell = tell
        self._waits = False
        self._rig = EngineRig(engine, idle_s, self._paused)
        self._options = options(wish, own, judges=self._judge_wanted)
        self._runner = Runner(
            Bench(
                rig=self._rig,
                notes=engine.notes,
                clock=engine.clock,
                options=self._options,
                tell=tell,
                sandbox=sandbox,
            )
        )

    @property
    def _judge_wanted(self) -> bool:
        settings = self._engine.settings.judge
        return bool(self._wish.judge or settings.model or settings.base_url)

    def identity(self, model: Model) -> str:
        """See ``rig.Rig.identity``."""
        return self._rig.identity(model)

    async def quiet(self) -> None:
        """Return when nobody has asked anything for ``idle_s``."""
        await self._rig.quiet()

    async def plan(self) -> Plan:
        """What would be profiled, and about how long that would take."""
        return await self._runner.plan()

    def check_judge(self) -> None:
        """A wrong name is told before the night, not after it. Raises ``ModelNotFound``, and
        ``ConfigError`` where an address has no model."""
        if self._judge_wanted:
            self._judge_model()

    async def run(self) -> None:
        """Profile, have answers judged, and route by it from then on.

        Raises ``ModelNotFound``, and ``Conflict`` where that is being done already: two would
        measure each other.
        """
        self.check_judge()
        with only_one(self._engine.database, BUSY):
            try:
                await self._runner.run()
                if self._judge_wanted:
                    await self._have_judged()
            finally:
                await self._engine.learn()

    def _paused(self, waits: bool) -> None:
        if waits != self._waits:
            self._waits = waits
            self._tell(Paused() if waits else Resumed())

    async def _have_judged(self) -> None:
        tasks = judged((*self._options.tasks, *self._options.always))
        async with self._judge() as (name, ask):
            self._tell(StepBegan(f"{name} judges"))
            report: JudgeReport = await judge(
                self._engine.notes, tasks, ask, name, heard=self._heard
            )
        for line in (report.why, *report.notes):
            self._tell(Noted("judge", line))

    def _heard(self, number: int, of: int) -> None:
        self._tell(StepBegan(f"judging: {number} of {of}"))

    def _judge_model(self) -> Model | None:
        """The judge among our own models; ``None`` where it is at an address of its own."""
        settings = self._engine.settings.judge
        if settings.base_url:
            if not (self._wish.judge or settings.model):
                raise ConfigError("Name the judge's model: set ROUTER_JUDGE_MODEL.")
            return None
        name = self._wish.judge or settings.model or BIGGEST
        chats = [m for m in self._engine.catalogue.models if Capability.CHAT in m.capabilities]
        if name == BIGGEST:
            if not chats:
                raise ModelNotFound("There is no model that could judge.")
            return max(chats, key=lambda model: (model.size_bytes or 0, model.id))
        try:
            return self._engine.catalogue.homes(name)[0]
        except ModelNotFound:
            known = ", ".join(sorted(model.id for model in chats)[:8]) or "none"
            raise ModelNotFound(
                f"There is no model '{name}' that could judge. Models that chat: {known}."
            ) from None

    @asynccontextmanager
    async def _judge(self) -> AsyncIterator[tuple[str, Ask]]:
        model = self._judge_model()
        if model is not None:
            yield model.id, self._local(model)
            return
        settings = self._engine.settings.judge
        key = settings.api_key.get_secret_value() if settings.api_key else None
        name = self._wish.judge or settings.model or ""
        async with http_ask(settings.base_url or "", key, name, JUDGE_S) as ask:
            yield name, ask

    def _local(self, model: Model) -> Ask:
        async def ask(said: Sequence[tuple[str, str]]) -> str:
            turns = [Said(role, text) for role, text in said]  # type: ignore[arg-type]
            request = question(model.id, turns, JUDGE_TOKENS)
            reply = await undisturbed(self._rig, lambda: self._rig.ask(request, model, JUDGE_S))
            return reply.text

        return ask


async def own_tasks(wish: Wish) -> tuple[Task, ...]:
    """The tasks that come with the wish. Raises ``BadRequest``."""
    if not wish.prompts:
        return ()
    return await asyncio.to_thread(read, wish.prompts.encode(), "the file of prompts")


async def forecast(engine: Engine, wish: Wish) -> dict[str, object]:
    """The plan as JSON tells it: models with their seconds, and who is left out and why."""
    left_out: dict[str, str] = {}

    def note(event: Event) -> None:
        if isinstance(event, Skipped):
            left_out[event.model] = event.why

    profiling = Profiling(engine, wish, note, own=await own_tasks(wish))
    profiling.check_judge()
    planned = await profiling.plan()
    return {
        "schema": 1,
        "models": [{"model": model.id, "seconds": seconds} for model, seconds in planned],
        "seconds": sum(seconds for _, seconds in planned),
        "left_out": left_out,
    }


def options(wish: Wish, own: Sequence[Task], *, judges: bool) -> Options:
    """Bundled tasks as far as they are needed; those of one's own always, and judged ones where
    there is a judge."""
    need_judge = judged(bundled())
    always = [*own] if judges else [task for task in own if task not in judged(own)]
    if judges:
        always += [task for task in need_judge if task.quick or not wish.quick]
    return Options(
        depth=Depth.QUICK if wish.quick else Depth.FULL,
        wanted=wish.models,
        force=wish.force,
        restart=wish.restart,
        tasks=tuple(task for task in bundled() if task not in need_judge),
        always=tuple(always),
    )
