"""Carries out what the planner decides: loads, unloads, and wakes whoever waits.

Decides nothing. Every event enters the planner in one step without awaiting, so all residency
state changes in the event loop's thread, one event after the other; slow work (a load, an
unload, a measurement) runs as a task beside it and comes back as an event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from smarterrouter.domain.models import Footprint, ModelRef, Placement
from smarterrouter.domain.ports import Backend, Clock
from smarterrouter.errors import (
    BackendError,
    BadRequest,
    InsufficientVram,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.residency.events import (
    Effect,
    Grant,
    Held,
    Reading,
    Refuse,
    StartLoad,
    StartUnload,
    Suspect,
    Used,
)
from smarterrouter.residency.history import History, Kind
from smarterrouter.residency.ledger import Share
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.planner import NOWHERE, Planner
from smarterrouter.residency.room import gb
from smarterrouter.residency.seat import AWAY
from smarterrouter.residency.states import Residency
from smarterrouter.residency.weighing import Devices, at_once, difference, spread

log = logging.getLogger(__name__)

TICK_S = 0.25
"""How often time passes for the planner when nothing else happens."""

FREED_LIMIT_S = 5.0
FREED_POLL_S = 0.2
FREED_SHARE = 0.8
"""An unload has shown on a device when it holds this part of the model's bytes less."""

BY_HAND = "smarterrouter"
"""The caller that loads models when nobody asks them anything."""

Learn = Callable[[ModelRef, int, Held], None]
"""Told what a model was seen to hold, with the context that it was loaded for."""


class Unseen:
    """Devices that nobody can look at; see ``weighing.Devices``."""

    def busy(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def settled(self, devices: Collection[str]) -> Used:
        return {}

    async def used(self, devices: Collection[str]) -> Used:
        return {}

    async def of_processes(self, pids: Collection[int], devices: Collection[str]) -> Share:
        return {}


class HeldLease:
    """One in-flight use of a model: entering waits until it is ready, leaving gives it back.

    ``waited_s`` is how long entering took, ``loading_s`` the part of it that the model loaded.
    """

    __slots__ = ("_caller", "_context", "_scheduler", "_since", "loading_s", "model", "waited_s")

    def __init__(self, scheduler: Scheduler, model: ModelRef, caller: str, context: int) -> None:
        self.model = model
        self.waited_s = self.loading_s = 0.0
        self._scheduler = scheduler
        self._caller = caller
        self._context = context
        self._since = 0.0

    async def __aenter__(self) -> HeldLease:
        asked, granted = await self._scheduler.admit(self.model, self._caller, self._context)
        self._since = granted
        if granted > asked:
            self.waited_s = granted - asked
            self.loading_s = self._scheduler.loading_between(self.model, asked, granted)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._scheduler.release(self.model, self._since)


class _Left(Exception):
    """A load has failed, and may have left something behind."""

    def __init__(self, error: SmarterRouterError, share: Share) -> None:
        super().__init__(error.message)
        self.error = error
        self.share = share


class Scheduler:
    """The one loop that owns residency. Use it as an async context manager.

    ``suspect`` is called when a model has no room for what nobody explains, and after a load that
    failed: whoever can should look at what the backends of its node have loaded.
    """

    def __init__(
        self,
        planner: Planner,
        backends: Mapping[str, Backend],
        clock: Clock,
        devices: Devices | None = None,
        learn: Learn = lambda model, context, held: None,
        suspect: Callable[[ModelRef], None] = lambda model: None,
    ) -> None:
        self.planner = planner
        self.history = History()
        self._backends = backends
        self._clock = clock
        self._devices = devices or Unseen()
        self._learn = learn
        self._suspect = suspect
        self._ids = itertools.count(1)
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._moving: set[ModelRef] = set()
        self._moves = 0
        self._leaving: dict[ModelRef, asyncio.Event] = {}
        self._died: dict[ModelRef, str] = {}  # while they were loading
        self._watchers: set[Callable[[], None]] = set()
        self._closing = False

    async def __aenter__(self) -> Scheduler:
        for backend in self._backends.values():
            backend.watch(self.lost)
        self._start(self._keep_time(), "residency's time")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        for future in self._futures.values():
            if not future.done():
                future.set_exception(Unavailable("smarterrouter is shutting down."))
        for task in tuple(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    # leases

    def lease(self, model: ModelRef, caller: str, context: int = 0) -> HeldLease:
        """Hold the model ready for the length of the block; see ``ports.Leases``."""
        return HeldLease(self, model, caller, context)

    async def admit(self, model: ModelRef, caller: str, context: int = 0) -> tuple[float, float]:
        """Return once the model may be used: when it was asked for, and when it was granted.

        A waiter that is cancelled leaves the queue.
        """
        if self._closing:
            raise Unavailable("smarterrouter is shutting down.")
        asked = self._clock.now()
        if self.planner.state(model) in AWAY:
            await self._look_first(model)
            if self._closing:  # meanwhile: nobody would wake this waiter
                raise Unavailable("smarterrouter is shutting down.")
        ticket = Ticket(next(self._ids), model, caller, asked, context)
        effects = self.planner.request(ticket)
        if len(effects) == 1 and type(effects[0]) is Grant and effects[0].ticket is ticket:
            return asked, asked
        future = asyncio.get_running_loop().create_future()
        self._futures[ticket.id] = future
        try:
            self._carry_out(effects)
            with self._devices.busy():  # what others give back is seen while somebody waits
                await future
        except asyncio.CancelledError:
            self._abandon(ticket, future)
            raise
        finally:
            del self._futures[ticket.id]
        return asked, self._clock.now()

    async def _look_first(self, model: ModelRef) -> None:
        """What others take or have given back since the last look counts for a load."""
        if cards := self.planner.reach(model):
            used = await self._used_now(cards)
            if used and not self._closing:
                self._carry_out(self.planner.look(used, self._clock.now()))

    def release(self, model: ModelRef, since: float, *, by_hand: bool = False) -> None:
        """The end of one use that ``admit`` granted at ``since``."""
        now = self._clock.now()
        self._carry_out(self.planner.release(model, now, now - since, by_hand=by_hand))

    def loading_between(self, model: ModelRef, begin: float, end: float) -> float:
        """How many of these seconds the model was loading."""
        seat = self.planner.seat(model)
        took = seat.last_load_s or 0.0
        return max(0.0, min(end, seat.since) - max(begin, seat.since - took))

    # what people ask for

    async def load(self, model: ModelRef, context: int = 0) -> None:
        """Have the model loaded, and stay. Raises as a lease does.

        ``context``: with room for so many tokens, where a load can choose.
        """
        seat = self.planner.seat(model)
        if not (seat.ready and seat.suffices(context)):
            _, since = await self.admit(model, BY_HAND, context)
            self.release(model, since, by_hand=True)

    async def unload(self, model: ModelRef) -> None:
        """Have an idle model go, and return when it has. Raises ``Conflict`` where it cannot."""
        self._carry_out(self.planner.unload(model, self._clock.now()))
        if leaving := self._leaving.get(model):
            await leaving.wait()
            if self.planner.state(model) is Residency.FAILED:
                raise BackendError(f"{model} could not be unloaded: the log says why.")

    async def pin(self, model: ModelRef) -> None:
        """Have the model loaded, and never go. Raises as a lease does; then nothing has changed."""
        if self.planner.seat(model).ready:
            self.hold(model)
            return
        _, since = await self.admit(model, BY_HAND)
        self.hold(model)
        self.release(model, since, by_hand=True)

    def hold(self, model: ModelRef) -> None:
        """From now on the model never goes, once it is loaded."""
        self._carry_out(self.planner.pin(model, True, self._clock.now()))

    def unpin(self, model: ModelRef) -> None:
        """From now on the model may go."""
        self._carry_out(self.planner.pin(model, False, self._clock.now()))

    # what is noticed

    def lost(self, model: ModelRef, reason: str) -> None:
        """A backend noticed that a model went away by itself."""
        if not self._closing:
            seat = self.planner.seat(model)
            if seat.state is Residency.LOADING:
                self._died[model] = reason
            if seat.ready:
                log.warning("%s is gone: %s", model, reason)
                self.history.add(Kind.LOST, model, reason.rstrip("."))
            self._carry_out(self.planner.lost(model, self._clock.now()))

    def seen(self, model: ModelRef, loaded: bool, since: float, held: Held | None = None) -> None:
        """What a backend's own list says of the model; see ``Planner.seen``."""
        if self._closing:
            return
        before = self.planner.state(model)
        self._carry_out(self.planner.seen(model, loaded, since, self._clock.now(), held))
        after = self.planner.seat(model)
        if before is not Residency.READY and after.ready:
            self.history.add(Kind.ADOPTED, model, "its backend lists it as loaded")
        elif before is Residency.READY and after.state is Residency.UNLOADED:
            self.history.add(Kind.LOST, model, "its backend no longer lists it as loaded")

    def observe(self, readings: Mapping[str, Reading]) -> None:
        """The devices were looked at."""
        if not self._closing:
            self._carry_out(self.planner.observe(readings, self._clock.now()))

    def holds(self, model: ModelRef, share: Share) -> None:
        """A loaded model was measured; see ``Planner.holds``."""
        if not self._closing:
            self._carry_out(self.planner.holds(model, share, self._clock.now()))

    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Have ``told`` called after every change but a grant at once; the answer stops that."""
        self._watchers.add(told)
        return lambda: self._watchers.discard(told)

    # effects

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                if effects := self.planner.tick(self._clock.now()):
                    self._carry_out(effects)
            except Exception:  # whatever it is, the next second must come
                log.exception("residency's clock stumbled")

    def _abandon(self, ticket: Ticket, future: asyncio.Future[None]) -> None:
        now = self._clock.now()
        granted = future.done() and not future.cancelled() and future.exception() is None
        if granted:
            self._carry_out(self.planner.release(ticket.model, now))
        else:
            self._carry_out(self.planner.leave(ticket, now))

    def _carry_out(self, effects: list[Effect]) -> None:
        if self._closing:  # those who waited have been told, and nothing more is begun
            return
        for effect in effects:
            match effect:
                case Grant(ticket):
                    self._grant(ticket)
                case Refuse(ticket, error):
                    future = self._futures[ticket.id]
                    if not future.done():
                        future.set_exception(error)
                case StartLoad(model, placement, why):
                    self._start(self._load(model, placement, why), f"load {model}")
                case Suspect(model):
                    self._suspect(model)
                case StartUnload(model, why):
                    self._leaving[model] = asyncio.Event()
                    self._start(self._unload(model, why), f"unload {model}")
        for told in tuple(self._watchers):
            told()

    def _grant(self, ticket: Ticket) -> None:
        """Wake the waiter; if it was cancelled a moment ago, give its lease straight back."""
        future = self._futures[ticket.id]
        if future.done():
            self._carry_out(self.planner.release(ticket.model, self._clock.now()))
        else:
            future.set_result(None)

    def _start(self, work: Coroutine[object, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _load(self, model: ModelRef, placement: Placement, why: str) -> None:
        began = self._clock.now()
        log.info("loading %s: %s", model, why)
        before: dict[str, int | None] = {}
        try:
            with self._on_the_move(model) as moves:
                held = await self._brought_in(model, placement, before)
        except (Exception, asyncio.CancelledError) as error:
            if not self._closing:
                self._load_failed(model, error, began, await self._used_now(before))
                self._suspect(model)
            return
        now = self._clock.now()
        log.info("loaded %s in %.1f s", model, now - began)
        self.history.add(Kind.LOAD, model, why, seconds=now - began, held=sum(held.share.values()))
        self._carry_out(self.planner.loaded(model, held, now))
        if held.source != "measured" and moves is not None:
            await self._correct(model, placement, held, before, moves)

    async def _brought_in(
        self, model: ModelRef, placement: Placement, before: dict[str, int | None]
    ) -> Held:
        """Have the backend load it: what it was seen to hold. ``before`` is filled in with what
        the devices held until then."""
        self._died.pop(model, None)
        before |= await self._devices.used(self.planner.to_watch(model, placement))
        footprint = await self._backends[model.backend].load(model.name, placement)
        if footprint is not None and footprint.spilled_bytes:
            await self._refuse_spilled(model, placement, footprint, before)
        held = await self._weighed(model, placement, footprint)
        if reason := self._died.pop(model, None):
            raise BackendError(f"{model.name} stopped as soon as it had loaded: {reason}")
        return held

    async def _weighed(
        self, model: ModelRef, placement: Placement, footprint: Footprint | None
    ) -> Held:
        """What a model that has been loaded holds. It is loaded, even if that cannot be seen."""
        try:
            source = self.planner.planned_source(model, placement.context)
            own = await self._own(model, placement.share)
            held = at_once(placement.share, source, footprint, own)
            self._learn(model, placement.context, held)
        except Exception:
            log.exception("what %s holds cannot be seen", model)
            return Held(placement.share, "unknown")
        return held

    @contextmanager
    def _on_the_move(self, model: ModelRef) -> Iterator[int | None]:
        """Gives the number of this move; nothing while others are on the move too."""
        self._moves += 1
        alone = not self._moving
        self._moving.add(model)
        try:
            with self._devices.busy():
                yield self._moves if alone else None
        finally:
            self._moving.discard(model)

    async def _own(self, model: ModelRef, share: Share) -> Share:
        pids = self._backends[model.backend].processes(model.name)
        return await self._devices.of_processes(pids, share) if pids and share else {}

    def _load_failed(self, model: ModelRef, error: BaseException, began: float, used: Used) -> None:
        now, left = self._clock.now(), NOWHERE
        if isinstance(error, _Left):
            left, error = error.share, error.error
        if isinstance(error, SmarterRouterError):
            log.warning("loading %s failed: %s", model, error.message)
            told = BackendError(error.message) if isinstance(error, BadRequest) else error
        else:
            log.error("loading %s failed", model, exc_info=error)
            said = str(error) or type(error).__name__
            told = BackendError(f"{model.name} failed to load: {said}")
        self.history.add(Kind.LOAD_FAILED, model, told.message.rstrip("."), seconds=now - began)
        self._carry_out(self.planner.load_failed(model, told, now, used, left))

    async def _refuse_spilled(
        self, model: ModelRef, placement: Placement, footprint: Footprint, before: Used
    ) -> None:
        """A model that lies in RAM in part counts as one that did not fit."""
        whole = footprint.bytes + footprint.spilled_bytes
        learned = Held({"": whole}, "reported", footprint.context)
        self._learn(model, placement.context, learned)
        share = spread(footprint.bytes, placement.share)
        told = InsufficientVram(
            f"{model.name} takes {gb(whole)}, and {model.backend} put "
            f"{gb(footprint.spilled_bytes)} of it into RAM. It is unloaded again: use a smaller "
            "quantisation or context."
        )
        try:
            await self._backends[model.backend].unload(model.name)
        except SmarterRouterError as error:
            log.error("unloading %s failed: %s", model, error.message)
            raise _Left(told, share) from error
        with_it = {d: was + share.get(d, 0) for d, was in before.items() if was is not None}
        await self._seen_free(share, with_it)
        raise told

    async def _correct(
        self, model: ModelRef, placement: Placement, held: Held, before: Used, moves: int
    ) -> None:
        """See how much more the devices hold now, if nothing else has come or gone since."""
        if not before or self._moves != moves:
            return
        try:
            after = await self._devices.settled(before)
        except Exception:
            log.exception("what %s holds cannot be seen", model)
            return
        expected = sum(held.share.values())
        share = difference(before, after, expected, reported=held.source == "reported")
        if share is None or self._moves != moves or not self.planner.seat(model).ready:
            return
        seen = Held(share, "measured", held.context, certain=False)
        self._learn(model, placement.context, seen)
        self._carry_out(self.planner.holds(model, share, self._clock.now(), "measured"))

    async def _unload(self, model: ModelRef, why: str) -> None:
        began, share = self._clock.now(), self.planner.ledger.share_of(model)
        log.info("unloading %s: %s", model, why)
        try:
            with self._on_the_move(model):
                before = await self._devices.used(share)
                await self._backends[model.backend].unload(model.name)
                used = await self._seen_free(share, before)
        except (Exception, asyncio.CancelledError) as error:
            said = error.message if isinstance(error, SmarterRouterError) else repr(error)
            log.error("unloading %s failed: %s", model, said)
            self.history.add(Kind.UNLOAD_FAILED, model, f"{why}; {said.rstrip('.')}")
            self._carry_out(self.planner.unload_failed(model, self._clock.now()))
        else:
            now = self._clock.now()
            self.history.add(Kind.UNLOAD, model, why, seconds=now - began, held=sum(share.values()))
            self._carry_out(self.planner.unloaded(model, now, used))
        finally:
            if leaving := self._leaving.pop(model, None):
                leaving.set()

    def _going(self, device: str) -> int:
        """Bytes of all that is on its way out: nobody can tell whose of them went first."""
        return sum(self.planner.ledger.share_of(ref).get(device, 0) for ref in self._leaving)

    async def _seen_free(self, share: Share, before: Used) -> Used:
        """Wait until the devices show it, for a while; what they hold then."""
        until = self._clock.now() + FREED_LIMIT_S
        while True:
            used = await self._devices.used([d for d in before if share.get(d)])
            late = [
                device
                for device, now in used.items()
                if now is not None
                and (was := before.get(device)) is not None
                and now - was + self._going(device) > (1 - FREED_SHARE) * share[device]
            ]
            if not late or self._clock.now() >= until:
                return used
            await asyncio.sleep(FREED_POLL_S)

    async def _used_now(self, devices: Collection[str]) -> Used:
        try:
            return await self._devices.used(devices)
        except Exception:
            log.exception("the devices could not be looked at")
            return {}
