"""All that is done with one model while it is loaded, step after step.

Decides the steps' order, and that each is kept as soon as it is done and not repeated then, unless
it was done in a quick run and this is a full one: load times, speed, abilities, requests at once,
questions, memory. Memory comes last, when the model has grown to what it holds in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.profiles import Depth, Figures, in_form
from smarterrouter.profiling import measuring
from smarterrouter.profiling.bench import Bench
from smarterrouter.profiling.events import Noted, StepBegan
from smarterrouter.profiling.forecast import questions_s
from smarterrouter.profiling.quiz import Quiz
from smarterrouter.profiling.speed import Speed

ALIKE = ("abilities",)
"""Steps that a quick run does as thoroughly as a full one."""

_T = TypeVar("_T", bound=Struct)


class Visit:
    """See above. Raises ``SmarterRouterError`` when the model cannot be profiled."""

    def __init__(self, bench: Bench, model: Model) -> None:
        self._bench = bench
        self._model = model
        self._identity = bench.rig.identity(model)
        self._pace = bench.rig.pace(model)
        self._kept: dict[str, Raw] = {}
        self._began = bench.clock.now()

    async def all(self) -> None:
        kept = await asyncio.to_thread(self._bench.notes.figures, self._identity)
        self._kept = {one.step: one.body for one in kept}
        rig, model, depth = self._bench.rig, self._model, self._bench.options.depth
        await self._step(
            "load",
            measuring.LoadTimes,
            "loading it",
            lambda: measuring.load_times(rig, model, depth),
        )
        if Capability.CHAT in model.capabilities:
            await self._chat(depth)
        else:
            await self._abilities()
        await self._step(
            "memory", measuring.Memory, "weighing it", lambda: measuring.memory(rig, model, depth)
        )

    async def _chat(self, depth: Depth) -> None:
        rig, model, clock = self._bench.rig, self._model, self._bench.clock
        timed = await self._step(
            "speed",
            Speed,
            "measuring its speed",
            lambda: measuring.timed(rig, model, depth, self._pace),
        )
        self._pace = self._pace.seen(timed.prefill_tps, timed.decode_tps)
        found = await self._abilities()
        if depth is Depth.FULL:
            await self._step(
                "parallel",
                measuring.AtOnce,
                "asking it several things at once",
                lambda: measuring.at_once(rig, model, self._pace, clock),
            )
        await self._questions(found)

    async def _abilities(self) -> measuring.Abilities:
        return await self._step(
            "abilities",
            measuring.Abilities,
            "finding out what it can do",
            lambda: measuring.abilities(self._bench.rig, self._model, self._pace),
        )

    async def _questions(self, found: measuring.Abilities) -> None:
        """Each of its candidates: as it comes; if it can think and not think, both."""
        thinking = found.found.get("thinking")
        switchable = thinking is not None and thinking.able is True
        switches: tuple[bool | None, ...] = (True, False) if switchable else (None,)
        left_s = None
        if self._bench.options.depth is Depth.QUICK:
            spent = self._bench.clock.now() - self._began
            left_s = questions_s(spent) / len(switches)
        for switch in switches:
            await Quiz(self._bench, self._model, switch, self._pace, self._kept).ask(left_s)

    async def _step(
        self, name: str, kind: type[_T], what: str, work: Callable[[], Awaitable[_T]]
    ) -> _T:
        """What is kept of a step; else it is done now, and kept."""
        if name in self._kept and self._suffices(name):
            kept = in_form(self._kept[name], kind)
            if kept is not None:
                return kept
        self._bench.tell(StepBegan(what))
        result = await work()
        if why := getattr(result, "why", None):
            self._bench.tell(Noted(self._model.id, f"{what}: {why}"))
        told = {**msgspec.to_builtins(result), "depth": self._bench.options.depth}
        body = Raw(msgspec.json.encode(told))
        figures = Figures(identity=self._identity, step=name, body=body, at=self._bench.wall())
        await self._bench.notes.keep(figures)
        return result

    def _suffices(self, name: str) -> bool:
        """Whether what is kept of a step is as thorough as is wanted."""
        if self._bench.options.depth is Depth.QUICK or name in ALIKE:
            return True
        return bool(msgspec.json.decode(self._kept[name]).get("depth") != Depth.QUICK)
