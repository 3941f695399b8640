"""Carries out what the planner decides: loads, unloads, and wakes whoever waits.

Decides nothing. Every event enters the planner in one step without awaiting, so all residency
state changes in the event loop's thread, one event after the other; slow work (a load, an
unload) runs as a task beside it and comes back as an event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping

from smarterrouter.domain.models import Footprint, ModelRef
from smarterrouter.domain.ports import Backend, Clock
from smarterrouter.errors import BackendError, BadRequest, SmarterRouterError, Unavailable
from smarterrouter.residency.ledger import Share
from smarterrouter.residency.planner import (
    Effect,
    Grant,
    Planner,
    Refuse,
    StartLoad,
    StartUnload,
    Ticket,
)
from smarterrouter.residency.states import Residency

log = logging.getLogger(__name__)

Placement = Callable[[ModelRef, Footprint], Share]
"""On which devices a footprint lies."""


class HeldLease:
    """One in-flight use of a model: entering waits until it is ready, leaving gives it back."""

    __slots__ = ("_caller", "_scheduler", "model")

    def __init__(self, scheduler: Scheduler, model: ModelRef, caller: str) -> None:
        self.model = model
        self._scheduler = scheduler
        self._caller = caller

    async def __aenter__(self) -> HeldLease:
        await self._scheduler.admit(self.model, self._caller)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._scheduler.release(self.model)


class Scheduler:
    """The one loop that owns residency. Use it as an async context manager.

    ``load_seconds`` remembers how long each model took to load the last time.
    """

    def __init__(
        self,
        planner: Planner,
        backends: Mapping[str, Backend],
        placement: Placement,
        clock: Clock,
    ) -> None:
        self.planner = planner
        self.load_seconds: dict[ModelRef, float] = {}
        self._backends = backends
        self._placement = placement
        self._clock = clock
        self._ids = itertools.count(1)
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Scheduler:
        for backend in self._backends.values():
            backend.watch(self.lost)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        for future in self._futures.values():
            if not future.done():
                future.set_exception(Unavailable("smarterrouter is shutting down."))
        for task in tuple(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def lease(self, model: ModelRef, caller: str) -> HeldLease:
        """Hold the model ready for the length of the block; see ``ports.Leases``."""
        return HeldLease(self, model, caller)

    async def admit(self, model: ModelRef, caller: str) -> None:
        """Return once the model may be used. A waiter that is cancelled leaves the queue."""
        if self._closing:
            raise Unavailable("smarterrouter is shutting down.")
        ticket = Ticket(next(self._ids), model, caller, self._clock.now())
        effects = self.planner.request(ticket)
        if effects == [Grant(ticket)]:
            return
        future = asyncio.get_running_loop().create_future()
        self._futures[ticket.id] = future
        try:
            self._carry_out(effects)
            await future
        except asyncio.CancelledError:
            self._abandon(ticket, future)
            raise
        finally:
            del self._futures[ticket.id]

    def release(self, model: ModelRef) -> None:
        """The end of one use that ``admit`` granted."""
        self._carry_out(self.planner.release(model, self._clock.now()))

    def lost(self, model: ModelRef, reason: str) -> None:
        """A backend noticed that a model went away by itself."""
        if not self._closing:
            log.warning("%s is gone: %s", model, reason)
            self._carry_out(self.planner.lost(model, self._clock.now()))

    def seen(self, model: ModelRef, loaded: bool, since: float) -> None:
        """What a backend's own list says of the model; see ``Planner.seen``."""
        if not self._closing:
            self._carry_out(self.planner.seen(model, loaded, since, self._clock.now()))

    def unload(self, model: ModelRef) -> bool:
        """Let an idle model go; false when it is in use or not loaded."""
        effects = self.planner.unload(model, self._clock.now())
        self._carry_out(effects)
        return bool(effects)

    def loading_for_s(self, model: ModelRef) -> float | None:
        """How long the model's load has been running; ``None`` when none is."""
        seat = self.planner.seats.get(model)
        if seat is None or seat.state is not Residency.LOADING:
            return None
        return self._clock.now() - seat.since

    def _abandon(self, ticket: Ticket, future: asyncio.Future[None]) -> None:
        now = self._clock.now()
        granted = future.done() and not future.cancelled() and future.exception() is None
        if granted:
            self._carry_out(self.planner.release(ticket.model, now))
        else:
            self._carry_out(self.planner.leave(ticket, now))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket):
                    self._grant(ticket)
                case Refuse(ticket, error):
                    future = self._futures[ticket.id]
                    if not future.done():
                        future.set_exception(error)
                case StartLoad(model):
                    self._start(self._load(model), f"load {model}")
                case StartUnload(model):
                    self._start(self._unload(model), f"unload {model}")

    def _grant(self, ticket: Ticket) -> None:
        """Wake the waiter; if it was cancelled a moment ago, give its lease straight back."""
        future = self._futures[ticket.id]
        if future.done():
            self._carry_out(self.planner.release(ticket.model, self._clock.now()))
        else:
            future.set_result(None)

    def _start(self, work: Coroutine[object, None, None], name: str) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _load(self, model: ModelRef) -> None:
        began = self._clock.now()
        log.info("loading %s", model)
        try:
            footprint = await self._backends[model.backend].load(model.name)
        except SmarterRouterError as error:
            log.warning("loading %s failed: %s", model, error.message)
            told = BackendError(error.message) if isinstance(error, BadRequest) else error
            self._carry_out(self.planner.load_failed(model, told, self._clock.now()))
        except Exception as error:
            log.exception("loading %s failed", model)
            told = BackendError(f"{model.name} failed to load: {error}")
            self._carry_out(self.planner.load_failed(model, told, self._clock.now()))
        else:
            now = self._clock.now()
            self.load_seconds[model] = now - began
            log.info("loaded %s in %.1f s", model, now - began)
            held = self._placement(model, footprint) if footprint else None
            self._carry_out(self.planner.loaded(model, held, now))

    async def _unload(self, model: ModelRef) -> None:
        log.info("unloading %s", model)
        try:
            await self._backends[model.backend].unload(model.name)
        except Exception:
            log.exception("unloading %s failed", model)
        self._carry_out(self.planner.unloaded(model, self._clock.now()))
