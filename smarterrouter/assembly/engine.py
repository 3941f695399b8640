"""Everything a daemon runs on, built from settings and wired together. Decides nothing else."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack

from smarterrouter.assembly.backends import build_backends
from smarterrouter.assembly.demands import Demands
from smarterrouter.assembly.known import findings, known, shelf
from smarterrouter.assembly.machines import Machines
from smarterrouter.backends.catalogue import Catalogue
from smarterrouter.completion import Completions, Known, Traffic
from smarterrouter.config import Settings
from smarterrouter.domain.chat import Message
from smarterrouter.domain.decision import RouteDecision
from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.domain.models import Model, ModelRef
from smarterrouter.domain.outcomes import Outcome
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import SmarterRouterError
from smarterrouter.residency.demand import Conduct
from smarterrouter.residency.events import Held, Limits, Reading
from smarterrouter.residency.eviction import Strategy
from smarterrouter.residency.ledger import DeviceLimit, VramLedger
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.room import Rules
from smarterrouter.residency.scheduler import Scheduler
from smarterrouter.residency.states import Residency
from smarterrouter.residency.weighing import spread, unexplained
from smarterrouter.routing.decision import Policy
from smarterrouter.routing.seconds import Standing, load_seconds
from smarterrouter.store.database import bring_up_to_date, default_path
from smarterrouter.store.decisions import Record
from smarterrouter.store.footprints import FootprintRecord
from smarterrouter.store.profiles import Profiles
from smarterrouter.store.queries import Queries
from smarterrouter.store.writer import Writer

log = logging.getLogger(__name__)

REFRESH_S = 60.0
START_PATIENCE_S = 4.0
RESIDENT = Standing(resident=True)


class MonotonicClock:
    """See ``ports.Clock``."""

    def now(self) -> float:
        return time.monotonic()


class Engine:
    """Everything a daemon runs on, as an async context manager.

    ``only_lists``: models are asked for and none is loaded, for whoever runs no daemon.
    """

    def __init__(self, settings: Settings, backends: dict[str, Backend] | None = None) -> None:
        self.settings = settings
        self.backends = backends if backends is not None else build_backends(settings)
        virtual, clock = settings.virtual_models, MonotonicClock()
        self.catalogue = Catalogue(self.backends, list(virtual), self._listed)
        self.machines = Machines(settings, clock)
        self.demands = Demands(
            settings, self.backends, self.machines, self.catalogue.by_ref, self._keep_footprint
        )
        self.ledger = VramLedger({})
        self.planner = Planner(
            self.ledger,
            self.demands.of,
            Limits(settings.queue_size, settings.swap_patience_s, settings.queue_wait_s),
            Rules(Strategy(settings.vram.unload_strategy), settings.vram.auto_unload_enabled),
            self._conduct,
        )
        self.scheduler = Scheduler(
            self.planner, self.backends, clock, self.machines, self.demands.learn, self._suspect
        )
        self.clock = clock
        policy = Policy(settings.quality_preference)
        self.completions = Completions(
            self.catalogue, self.scheduler, self._standing, policy, virtual, Traffic(clock)
        )
        self.database = settings.database or default_path()
        self.writer = Writer(self.database)
        self.queries = Queries(self.database)
        self.notes = Profiles(self.database, self.writer)
        self._open = AsyncExitStack()
        self._limits: dict[str, DeviceLimit | None] = {}
        self._wanted = set(settings.preloaded_models)
        self._started: set[ModelRef] = set()
        self._pinned: set[ModelRef] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._news = False
        self.only_lists = False
        self._learning = asyncio.Lock()
        self._matched: frozenset[str] = frozenset()

    async def __aenter__(self) -> Engine:
        async with AsyncExitStack() as opening:
            for backend in self.backends.values():
                opening.push_async_callback(backend.aclose)
            await opening.enter_async_context(self.scheduler)
            self.writer.start()
            opening.push_async_callback(asyncio.to_thread, self.writer.close)
            opening.push_async_callback(self.catalogue.aclose)
            opening.callback(self.machines.close)
            opening.callback(self._drop_errands)
            await self._remember()
            await self.look()
            self.machines.monitor.watch(self._sampled)
            await self.catalogue.refresh(START_PATIENCE_S)
            self._run(self.catalogue.keep_fresh(REFRESH_S))
            self._run(self.machines.run())
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def look(self) -> None:
        """Look at the devices now, and let residency know."""
        await self.machines.sample()
        await self._looked()

    def _sampled(self, _: Mapping[str, MemorySnapshot]) -> None:
        self._news = True
        if self._looking is None or self._looking.done():
            self._looking = self._run(self._look_on())

    async def _look_on(self) -> None:
        while self._news:
            self._news = False
            await self._looked()

    def keep(
        self, outcome: Outcome, decision: RouteDecision | None, messages: tuple[Message, ...]
    ) -> None:
        """Have a request's outcome written, some time soon. Never waits, never raises."""
        keep_prompt = self.settings.store_prompts
        self.writer.submit(Record(outcome, decision, messages, keep_prompt))

    def _keep_footprint(self, name: str, count: int, source: str) -> None:
        self.writer.submit(FootprintRecord(name, count, source))

    async def _remember(self) -> None:
        """What was learned before the last restart: footprints, and what profiling found out."""
        try:
            await asyncio.to_thread(bring_up_to_date, self.database)
            kept = await asyncio.to_thread(self.queries.footprints)
        except (SmarterRouterError, OSError, sqlite3.Error) as error:
            log.warning("footprints of earlier runs are not known: %s", error)
        else:
            self.demands.known |= {one.name: (one.bytes, one.source) for one in kept}
        await self.learn()

    async def learn(self) -> None:
        """From now on, route by all that profiling has found out and that was imported."""
        async with self._learning:  # whoever began first must not have the last word
            try:
                self.completions.known = await asyncio.to_thread(self._known)
            except SmarterRouterError as error:
                self._matched = frozenset()
                log.warning("what profiling has found out is not known: %s", error.message)

    def _known(self) -> Known:
        if not self.settings.profile.benchmarks:
            return known(findings(self.notes))
        return known(findings(self.notes), shelf(self.notes).published(self.catalogue.models))

    def loaded(self) -> frozenset[str]:
        """The ids of the models that can answer without a load."""
        return frozenset(
            model.id
            for model in self.catalogue.models
            if self.planner.state(model.ref) is Residency.READY
        )

    # what is noticed

    def _listed(self, models: tuple[Model, ...], since: float) -> None:
        self.demands.forget()
        before = self._own()
        for model in models:
            self.planner.refresh(model.ref)
            if model.preload and model.ref not in self._started:
                self._wanted.add(str(model.ref))
            if model.resident is not None:
                held = self._held(model) if model.resident else None
                self.scheduler.seen(model.ref, model.resident, since, held)
        self._match_new()
        if self._own() != before:  # what had seemed foreign is ours, or the other way round
            self._run(self.look())
        self._bring_up()

    def _match_new(self) -> None:
        """Look new models up in the benchmark tables."""
        names = frozenset(model.id for model in self.catalogue.models)
        if self.settings.profile.benchmarks and not names <= self._matched:
            self._matched = names
            self._run(self.learn())

    def _own(self) -> dict[str, int]:
        return {device: self.ledger.own(device) for device in self.ledger.limits}

    def _held(self, model: Model) -> Held | None:
        """What a model that its backend lists as loaded holds, and where that may be."""
        demand, lies = self.demands.of(model.ref, 0), self.ledger.share_of(model.ref)
        if model.held is None and (demand is None or lies):
            return None
        if model.held is None:  # its backend says that it is loaded, and not how large it is
            assert demand is not None
            share = unexplained(demand.least, demand.devices, self._unexplained)
            return Held(share, demand.source)
        told, devices = model.held.bytes, demand.devices if demand else ()
        if lies and self.planner.state(model.ref) is Residency.READY:  # there it stays
            share = spread(told, lies)
        else:
            share = unexplained(told, devices, self._unexplained)
        return Held(share, model.held.source, model.held.context, told)

    def _suspect(self, model: ModelRef) -> None:
        """Others seem to use what the model needs: have all backends of its node say what is
        loaded there, for that may be it."""
        node = self.backends[model.backend].node
        for name, backend in self.backends.items():
            if backend.node == node:
                self.catalogue.suspect(name)

    def _unexplained(self, device: str) -> int:
        used = self.machines.used_bytes(device)
        return max(0, (used or 0) - self.ledger.own(device))

    async def _looked(self) -> None:
        """A look at the devices: what there is, what is ours of it, and what others use.

        Of the devices the newest figures count, also those that came while processes were asked.
        """
        self._limit()
        pids = {
            ref: pids
            for ref in self.planner.resident()
            if (pids := self.backends[ref.backend].processes(ref.name))
        }
        measured = await self.machines.measure(pids)
        readings = {
            device: Reading(
                snapshot.device.total_bytes,
                snapshot.used_bytes,
                {ref: one.used[device] for ref, one in measured.items() if device in one.used},
                snapshot.at,
            )
            for device, snapshot in self.machines.monitor.latest.items()
        }
        self.scheduler.observe(readings)
        for ref, one in measured.items():
            self._grown(ref, one.share)

    def _limit(self) -> None:
        """Hand on what may be taken of each device, where that is another than before."""
        limits = self.machines.limits()
        if limits == self._limits:
            return
        gone = dict.fromkeys(self._limits.keys() - limits.keys())
        self._limits = limits
        self.demands.forget()
        for device, limit in {**limits, **gone}.items():
            self.planner.limit(device, limit)
        for backend in self.backends.values():  # it reads its lists by what there is
            backend.reach("", self.machines.of_node(backend.node))

    def _grown(self, ref: ModelRef, share: Mapping[str, int]) -> None:
        """What a model has grown to since it was loaded is what it will hold the next time.

        Only on devices where it is known to lie: a model on a card also has a process in RAM.
        """
        before = self.planner.seat(ref).seen or self.ledger.share_of(ref)
        grown = {d: max(count, share.get(d, 0)) for d, count in before.items()}
        if grown != before and self.planner.state(ref) is Residency.READY:
            self.demands.learn(ref, 0, Held(grown, "measured"))
            self.scheduler.holds(ref, grown)

    # what was wished for

    def _conduct(self, ref: ModelRef) -> Conduct:
        model, backend = self.catalogue.by_ref(ref), self.settings.backend_named(ref.backend)
        own = self.settings.of_model(model.id if model else ref.name, str(ref))
        usual = backend.concurrency if backend else None
        keep = self.settings.model.keep_alive if own.keep_alive is None else own.keep_alive
        slots = own.concurrency or usual or (model.slots if model else None)
        return Conduct(slots, keep)

    def _bring_up(self) -> None:
        """Pin and load what the settings name, as soon as its backend lists it."""
        if self.only_lists:
            return
        for name in self.settings.pinned_models:
            for model in self._named(name):
                if model.ref not in self._pinned:  # once: whoever unpins it later is obeyed
                    self._pinned.add(model.ref)
                    self.scheduler.hold(model.ref)
        for name in tuple(self._wanted):
            if homes := self._named(name):
                self._wanted.discard(name)
                self._started.add(homes[0].ref)
                self._run(self._load_at_start(homes[0].ref))

    def _named(self, name: str) -> tuple[Model, ...]:
        try:
            return self.catalogue.homes(name)
        except SmarterRouterError:
            return ()

    async def _load_at_start(self, ref: ModelRef) -> None:
        try:
            await self.scheduler.load(ref)
        except SmarterRouterError as error:
            log.warning("%s was to be loaded at start: %s", ref, error.message)

    # what routing is told

    def _standing(self, model: Model) -> Standing:
        """How the model stands now, for routing and for whoever waits."""
        ref, now = model.ref, self.clock.now()
        seat = self.planner.seat(ref)
        if seat.ready and seat.has_slot and ref not in self.planner.line:
            return RESIDENT
        usual = load_seconds(model, self.completions.known.profiles.get(model.id)) or 0.0
        if seat.ready:
            queue, _ = self.planner.expected_wait_s(ref, now, usual)
            return Standing(resident=True, queue_s=queue)
        if obstacle := self.planner.too_large(ref):
            return Standing(resident=False, obstacle=obstacle)
        queue, load = self.planner.expected_wait_s(ref, now, usual)
        if seat.state is Residency.LOADING:
            return Standing(resident=False, loading=True, queue_s=queue, load_s=load)
        going = self.planner.to_make_room(ref, now)
        return Standing(
            resident=False, queue_s=queue, load_s=load, room_s=sum(map(self._reload_s, going))
        )

    def _reload_s(self, ref: ModelRef) -> float:
        usual = self.planner.seat(ref).load_s
        model = self.catalogue.by_ref(ref)
        return usual if usual is not None else (load_seconds(model) or 0.0) if model else 0.0

    # errands

    def _run(self, work: Coroutine[object, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    def _drop_errands(self) -> None:
        for task in tuple(self._errands):
            task.cancel()
