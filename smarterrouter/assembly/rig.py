"""What models are measured on: see ``profiling.rig``. Built over residency and the backends.

Decides when profiling gives way: as soon as anybody's request comes in, and until none has come
for ``idle_s``. Which models are left out unless they are named: those of a server elsewhere on the
internet, where every question may cost money.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import HOST
from smarterrouter.domain.models import Capability, Model
from smarterrouter.errors import BackendError, BackendTimeout, Conflict, ModelNotFound
from smarterrouter.profiling.asking import CALLER, GARBAGE, Reply, gathered
from smarterrouter.profiling.rig import Disturbed, Pace, Weighed
from smarterrouter.residency.states import Residency
from smarterrouter.routing.seconds import guessed_pace

if TYPE_CHECKING:
    from smarterrouter.assembly.engine import Engine

QUIET_POLL_S = 0.25
SAMPLES, SAMPLE_PAUSE_S, MOST_SAMPLES = 3, 0.3, 20
SETTLED = 0.01
"""Samples agree when they differ by less than this part."""
USUAL_SLOTS = 4
LARGER = 2


class EngineRig:
    """See above. ``paused`` is told whenever it waits for quiet, and when it is."""

    def __init__(
        self,
        engine: Engine,
        idle_s: float = 0.0,
        paused: Callable[[bool], None] = lambda waits: None,
    ) -> None:
        self._engine = engine
        self._idle_s = idle_s
        self._paused = paused

    # which models there are

    def models(self) -> Sequence[Model]:
        """Those that are loaded first, then small ones before large ones."""
        planner = self._engine.planner
        return sorted(
            self._engine.catalogue.models,
            key=lambda model: (
                planner.state(model.ref) is not Residency.READY or not self.loads(model),
                model.size_bytes or 0,
                model.id,
            ),
        )

    def left_out(self) -> Mapping[str, str]:
        return {
            model.id: f"{model.ref.backend} is not on this network, so asking it may cost money"
            for model in self._engine.catalogue.models
            if not self._is_near(model)
        }

    def identity(self, model: Model) -> str:
        return f"{model.ref}|{model.digest or model.fingerprint or model.size_bytes}"

    def pace(self, model: Model) -> Pace:
        load_s, prefill_tps, decode_tps = guessed_pace(model, self._cores(model))
        return Pace(load_s=load_s, prefill_tps=prefill_tps, decode_tps=decode_tps)

    def slots(self, model: Model) -> int:
        return self._engine.planner.refresh(model.ref).conduct.slots or USUAL_SLOTS

    def _cores(self, model: Model) -> int:
        """The processor's cores where the model can only lie in RAM; 0 where there is a card."""
        reach = set(self._engine.planner.reach(model.ref))
        vendors = {d.vendor for d in self._engine.machines.devices if d.id in reach}
        return (os.cpu_count() or 1) if vendors == {HOST} else 0

    def context(self, model: Model) -> int | None:
        return self._engine.planner.seat(model.ref).context or model.usable_context

    def loads(self, model: Model) -> bool:
        return Capability.LOAD in self._engine.backends[model.ref.backend].capabilities

    def larger_context(self, model: Model) -> int | None:
        backend, usual = self._engine.backends[model.ref.backend], self.context(model)
        if usual is None:
            return None
        larger = backend.context_for(model.ref.name, LARGER * usual)
        return larger if larger > usual else None

    # giving way

    async def quiet(self) -> None:
        traffic = self._engine.completions.traffic
        while traffic.under_way or traffic.idle_s < self._idle_s:
            self._paused(True)
            await asyncio.sleep(QUIET_POLL_S)
        self._paused(False)

    @asynccontextmanager
    async def _giving_way(self) -> AsyncIterator[None]:
        """Raises ``Disturbed`` out of whatever is done within as soon as a request comes in."""
        loop, traffic = asyncio.get_running_loop(), self._engine.completions.traffic
        if traffic.under_way:
            raise Disturbed
        limit = asyncio.timeout(None)

        def give_way() -> None:
            if not limit.expired():
                limit.reschedule(loop.time())

        try:
            async with limit:
                traffic.arrived.add(give_way)
                try:
                    yield
                finally:
                    traffic.arrived.discard(give_way)
        except TimeoutError:
            if limit.expired():
                raise Disturbed from None
            raise

    # asking

    async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
        async with self._stream(request, model, limit_s) as (blocks, began):
            return await gathered(blocks, self._engine.clock, began)

    async def embed(self, request: ChatRequest, model: Model, limit_s: float) -> Sequence[int]:
        async with self._stream(request, model, limit_s) as (blocks, _):
            raw = b"".join([block async for block in blocks])
        try:
            return [len(one["embedding"]) for one in msgspec.json.decode(raw)["data"]]
        except GARBAGE as error:
            raise BackendError(f"{model.id} sent something that is no vectors.") from error

    @asynccontextmanager
    async def _stream(
        self, request: ChatRequest, model: Model, limit_s: float
    ) -> AsyncIterator[tuple[AsyncIterator[bytes], float]]:
        """The answer's blocks, and when the model was ready for the question."""
        backend, now = self._engine.backends[model.ref.backend], self._known(model)
        need = backend.context_need(request, now)
        lease = self._engine.scheduler.lease(model.ref, CALLER, need)
        async with self._giving_way(), lease:
            began = self._engine.clock.now()
            limit = asyncio.timeout(limit_s)
            try:
                async with limit, backend.stream(request, now) as blocks:
                    yield blocks, began
            except TimeoutError:
                if not limit.expired():
                    raise
                told = f"{model.id} had not answered after {limit_s:.0f} s."
                raise BackendTimeout(told) from None

    def _known(self, model: Model) -> Model:
        """As its backend lists it now. Raises ``ModelNotFound``, and ``Conflict`` when its file
        has changed."""
        known = self._engine.catalogue.by_ref(model.ref)
        if known is None:
            raise ModelNotFound(f"{model.id} is no longer there.", param="model")
        if self.identity(known) != self.identity(model):
            raise Conflict(f"{model.id} is another file now; the next run profiles that one.")
        return known

    # loading and weighing

    async def load(self, model: Model, context: int = 0) -> float:
        async with self._giving_way():
            await self._engine.scheduler.load(model.ref, context)
        return self._engine.planner.seat(model.ref).last_load_s or 0.0

    async def unload(self, model: Model) -> None:
        async with self._giving_way():
            await self._engine.scheduler.unload(model.ref)

    async def drop_cache(self, model: Model) -> bool:
        return await self._engine.backends[model.ref.backend].drop_cache(model.ref.name)

    async def weigh(self, model: Model) -> Weighed | None:
        async with self._giving_way():
            await self._engine.scheduler.load(model.ref)
            context = self.context(model)
            held = await self._settled(model)
        if held:
            return Weighed(devices=held, source="measured", context=context, samples=SAMPLES)
        seat = self._engine.planner.seat(model.ref)
        if not seat.ready or not seat.seen or seat.source not in ("measured", "reported"):
            return None
        return Weighed(devices=dict(seat.seen), source=seat.source, context=context, samples=1)

    async def _settled(self, model: Model) -> dict[str, int]:
        """What its processes hold, once three looks agree; nothing where that is not seen."""
        machines = self._engine.machines
        everywhere = [device.id for device in machines.devices]
        looks: list[dict[str, int]] = []
        for _ in range(MOST_SAMPLES):
            pids = self._engine.backends[model.ref.backend].processes(model.ref.name)
            held = dict(await machines.of_processes(pids, everywhere)) if pids else {}
            if not held:
                return {}
            looks = [*looks, held][-SAMPLES:]
            if len(looks) == SAMPLES and _agree(looks):
                return held
            await asyncio.sleep(SAMPLE_PAUSE_S)
        return looks[-1]

    def _is_near(self, model: Model) -> bool:
        settings = self._engine.settings
        table = settings.backend_named(model.ref.backend)
        kind = self._engine.backends[model.ref.backend].kind
        url = str((table and table.url) or settings.openai_base_url or "")
        return kind != "openai" or is_near(url)


def is_near(url: str) -> bool:
    """Whether an address is this machine's or of a private network."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))
    return address.is_private or address.is_loopback or address.is_link_local


def _agree(looks: Sequence[Mapping[str, int]]) -> bool:
    names = {name for look in looks for name in look}
    for name in names:
        counts = [look.get(name, 0) for look in looks]
        if max(counts) - min(counts) > SETTLED * max(counts):
            return False
    return True
