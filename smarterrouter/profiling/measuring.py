"""Loads, speed, memory and abilities of one model: what is asked for, and when it is looked.

Decides nothing about order or failure: ``runner`` does. What could not be measured is told as a
reason and never as a figure.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import Struct, structs

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Capability, Model
from smarterrouter.domain.ports import Clock
from smarterrouter.domain.profiles import Depth
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    Conflict,
    Overloaded,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.profiling import speed
from smarterrouter.profiling.asking import Reply, embedding, question
from smarterrouter.profiling.probes import CHAT_PROBES, Ability, Probe, failed
from smarterrouter.profiling.rig import Disturbed, Pace, Rig, Weighed
from smarterrouter.profiling.task import Said

LOADS = {Depth.QUICK: 1, Depth.FULL: 2}
"""Loads of each kind: from the disk, and from the page cache."""
REPEATS = {Depth.QUICK: 1, Depth.FULL: 3}
PARALLEL = (2, 4)
READ_S = {Depth.QUICK: 12.0, Depth.FULL: 120.0}
"""How long reading the longest prompt may take; a slower model gets shorter ones."""
FEW_WORDS = 24
HELLO_TOKENS = 8
PATIENCE, LEAST_LIMIT_S = 3.0, 15.0
FIRST_LIMIT_S = 180.0
"""For the first question, when a model's speed is but a guess."""
EMBEDDED = ("A short sentence.", "Another one, a little longer than the first.", "Third.")

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_number = itertools.count(1)


PAUSES_S = (1.0, 5.0, 20.0)
PASSING = (BackendError, Overloaded, Unavailable)
"""Failures that may pass."""


class LoadTimes(Struct, frozen=True, kw_only=True):
    """Seconds of each load. ``cold`` were read from the disk, ``warm`` from the page cache;
    ``unknown`` where that cannot be told apart. ``why``: nothing was measured, since ..."""

    cold: tuple[float, ...] = ()
    warm: tuple[float, ...] = ()
    unknown: tuple[float, ...] = ()
    why: str | None = None


class AtOnce(Struct, frozen=True, kw_only=True):
    """Several requests at the same time, one row for each number."""

    rows: tuple[speed.Parallel, ...]


class Memory(Struct, frozen=True, kw_only=True):
    """What the model holds at the context in use, and at a larger one. The reasons say why a
    figure is missing."""

    usual: Weighed | None = None
    larger: Weighed | None = None
    why: str | None = None
    why_not_larger: str | None = None


class Abilities(Struct, frozen=True, kw_only=True):
    """By name: tools, json, vision, thinking, embedding. ``dimensions`` of its vectors."""

    found: dict[str, Ability]
    dimensions: int | None = None


async def undisturbed(rig: Rig, work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it when nobody else needs the models; anew, when somebody came in between."""
    while True:
        await rig.quiet()
        try:
            return await work()
        except Disturbed:
            continue


async def patiently(rig: Rig, work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it undisturbed; again, ever more slowly, while its backend fails.

    Raises what it failed of in the end, or at once what no second try could mend.
    """
    for pause_s in PAUSES_S:
        try:
            return await undisturbed(rig, work)
        except PASSING as error:
            log.info("profiling waits %g s: %s", pause_s, error.message)
            await asyncio.sleep(pause_s)
    return await undisturbed(rig, work)


async def ask(rig: Rig, request: ChatRequest, model: Model, limit: float) -> Reply:
    """One question, asked until it is answered; see ``patiently``."""
    return await patiently(rig, lambda: rig.ask(request, model, limit))


def limit_s(pace: Pace, prompt_tokens: int, answer_tokens: int) -> float:
    """How long an answer may take, by the model's own speed."""
    expected = prompt_tokens / pace.prefill_tps + answer_tokens / pace.decode_tps
    return LEAST_LIMIT_S + PATIENCE * expected


async def load_times(rig: Rig, model: Model, depth: Depth) -> LoadTimes:
    """Unload and load it several times; it is loaded at the end."""
    if not rig.loads(model):
        return LoadTimes(why="its backend loads and unloads by itself")
    cold: list[float] = []
    warm: list[float] = []
    unknown: list[float] = []
    try:
        for _ in range(LOADS[depth]):
            dropped, seconds = await patiently(rig, lambda: _loaded(rig, model, drop=True))
            (cold if dropped else unknown).append(seconds)
            if dropped:
                _, seconds = await patiently(rig, lambda: _loaded(rig, model, drop=False))
                warm.append(seconds)
    except Conflict as error:
        return LoadTimes(why=error.message)
    return LoadTimes(cold=tuple(cold), warm=tuple(warm), unknown=tuple(unknown))


async def _loaded(rig: Rig, model: Model, *, drop: bool) -> tuple[bool, float]:
    """Load it anew: whether the page cache was dropped before, and the seconds."""
    await rig.unload(model)
    dropped = drop and await rig.drop_cache(model)
    return dropped, await rig.load(model)


async def timed(rig: Rig, model: Model, depth: Depth, pace: Pace) -> speed.Speed:
    """Prompts of three lengths, each several times.

    How long they are follows from how fast the shortest is read. A length that the model is too
    slow for all the same is left out, and the others stand.
    """
    watch = _Watch(rig, model, pace)
    none, few = await watch.read(1, 128), await watch.read(FEW_WORDS + 1, 128)
    context, rows = rig.context(model), list[list[Reply]]()
    lengths, why = [speed.lengths(context)[0]], None
    for length in lengths:  # which get more when the first is known
        words = speed.words_for(length, few, FEW_WORDS, none)
        rows.append([])
        try:
            async for reply in watch.several(words, length, REPEATS[depth]):
                rows[-1].append(reply)
        except BackendTimeout as error:
            why = f"prompts of {length} tokens take too long: {error.message}"
            break
        if len(rows) == 1:
            most = int(READ_S[depth] * paced(pace, rows[0]).prefill_tps) + speed.ROOM_TOKENS
            fitting = speed.lengths(min(context or most, most))
            lengths += [longer for longer in fitting if longer > length]
    return structs.replace(speed.speed(rows), why=why)


class _Watch:
    """Asks one thing after the other; what it has seen sets the limit of the next.

    Nothing is known at the first question, so that may take long.
    """

    def __init__(self, rig: Rig, model: Model, pace: Pace) -> None:
        self._rig = rig
        self._model = model
        self._pace = pace
        self._heard: list[Reply] = []

    async def read(self, words: int, tokens: int) -> Reply:
        said = speed.prompt(words, next(_number))
        asked = question(self._model.id, said, speed.ANSWER_TOKENS)
        counted = structs.replace(asked, prompt_tokens=tokens)  # no longer context is wanted
        limit = limit_s(paced(self._pace, self._heard), tokens, speed.ANSWER_TOKENS)
        limit = limit if self._heard else FIRST_LIMIT_S
        self._heard.append(await ask(self._rig, counted, self._model, limit))
        return self._heard[-1]

    async def several(self, words: int, tokens: int, times: int) -> AsyncIterator[Reply]:
        """The same several times; none if it does not fit after all."""
        with suppress(BadRequest):
            for _ in range(times):
                yield await self.read(words, tokens)


def paced(guess: Pace, heard: Sequence[Reply]) -> Pace:
    """The pace, as far as replies have shown it."""
    return guess.seen(speed.prefill_tps(heard), speed.decode_tps(heard))


async def at_once(rig: Rig, model: Model, pace: Pace, clock: Clock) -> AtOnce:
    """Two, then four requests at the same time; no rate where they take too long."""

    async def race(requests: int) -> speed.Parallel:
        said = [speed.prompt(FEW_WORDS, next(_number)) for _ in range(requests)]
        asked = [question(model.id, one, speed.ANSWER_TOKENS) for one in said]
        limit = limit_s(pace, 128 * requests, speed.ANSWER_TOKENS * requests)
        began = clock.now()
        try:
            replies = await together([rig.ask(one, model, limit) for one in asked])
        except BackendTimeout:
            replies = []
        return speed.parallel(requests, replies, clock.now() - began, rig.slots(model))

    rows = [await patiently(rig, partial(race, requests)) for requests in PARALLEL]
    return AtOnce(rows=tuple(rows))


async def together(work: Sequence[Awaitable[_T]]) -> list[_T]:
    """All at once; if one fails the others are given up, and its error raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_awaited(one)) for one in work]
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    return [task.result() for task in tasks]


async def _awaited(work: Awaitable[_T]) -> _T:
    return await work


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failed.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def memory(rig: Rig, model: Model, depth: Depth) -> Memory:
    """What it holds after all that it was asked; then loaded anew with a larger context."""
    usual = await patiently(rig, lambda: rig.weigh(model))
    why = None if usual else "what it holds cannot be seen from here"
    if depth is Depth.QUICK or usual is None or not rig.loads(model):
        return Memory(usual=usual, why=why, why_not_larger="not looked for")
    larger = rig.larger_context(model)
    if larger is None:
        reason = "no larger context can be chosen for it"
        return Memory(usual=usual, why_not_larger=reason)
    try:
        weighed = await undisturbed(rig, lambda: _weighed_with(rig, model, larger))
    except SmarterRouterError as error:
        return Memory(usual=usual, why_not_larger=error.message)
    return Memory(usual=usual, larger=weighed)


async def _weighed_with(rig: Rig, model: Model, context: int) -> Weighed | None:
    await rig.unload(model)
    await rig.load(model, context)
    weighed = await rig.weigh(model)
    await rig.unload(model)
    return structs.replace(weighed, context=context) if weighed else None


async def abilities(rig: Rig, model: Model, pace: Pace) -> Abilities:
    """Ask one small question for each capability."""
    if Capability.CHAT not in model.capabilities:
        return await _embeds(rig, model, pace)
    found = {probe.name: await _probed(rig, model, pace, probe) for probe in CHAT_PROBES}
    return Abilities(found=found)


async def _probed(rig: Rig, model: Model, pace: Pace, probe: Probe) -> Ability:
    """What fails may be the backend, and not the model: it is asked twice, and in between
    something that it surely can do. Raises what that fails of."""
    try:
        return probe.read(await _heard(rig, model, pace, probe))
    except BadRequest as error:
        return failed(error)
    except SmarterRouterError:
        await works(rig, model, pace)
    try:
        return probe.read(await _heard(rig, model, pace, probe))
    except SmarterRouterError as error:
        return failed(error)


async def _heard(rig: Rig, model: Model, pace: Pace, probe: Probe) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    for name, asked in probe.ask(model.id).items():
        limit = limit_s(pace, asked.prompt_tokens, asked.max_tokens or 0)
        replies[name] = await undisturbed(rig, partial(rig.ask, asked, model, limit))
    return replies


async def works(rig: Rig, model: Model, pace: Pace) -> None:
    """Return if the model answers a plain question. Raises what that fails of in the end."""
    request = question(model.id, (Said("user", "Say hello."),), HELLO_TOKENS)
    await ask(rig, request, model, limit_s(pace, request.prompt_tokens, HELLO_TOKENS))


async def _embeds(rig: Rig, model: Model, pace: Pace) -> Abilities:
    try:
        asked, limit = embedding(model.id, EMBEDDED), limit_s(pace, 256, 0)
        widths = await patiently(rig, lambda: rig.embed(asked, model, limit))
    except BadRequest as error:
        return Abilities(found={"embedding": failed(error)})
    same = len(set(widths)) == 1 and len(widths) == len(EMBEDDED)
    why = f"vectors of {widths[0]} numbers" if same else "its vectors differ in length"
    return Abilities(
        found={"embedding": Ability(same, why)}, dimensions=widths[0] if same else None
    )
