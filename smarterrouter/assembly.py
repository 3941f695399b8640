"""The one place where concrete parts are built and wired, from settings. Decides nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack

from smarterrouter.backends.catalogue import Catalogue
from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.managed.recipe import Recipe
from smarterrouter.backends.openai import OpenAIBackend, OpenAIOptions
from smarterrouter.backends.wire import Timeouts
from smarterrouter.completion import Completions
from smarterrouter.config import BackendSettings, Settings
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import ConfigError
from smarterrouter.gpu.host import HostMemory
from smarterrouter.residency.footprint import estimate
from smarterrouter.residency.ledger import DeviceLimit, Share, VramLedger
from smarterrouter.residency.planner import Limits, Planner
from smarterrouter.residency.scheduler import Scheduler
from smarterrouter.residency.states import Residency
from smarterrouter.routing.decision import Policy
from smarterrouter.routing.seconds import Standing, load_seconds

log = logging.getLogger(__name__)

REFRESH_S = 60.0
BUDGET_SHARE = 0.9
HOST_BUFFER_GB = 0.5
DEVICE = "ram"


class MonotonicClock:
    """See ``ports.Clock``."""

    def now(self) -> float:
        return time.monotonic()


class Engine:
    """Everything a daemon runs on, as an async context manager."""

    def __init__(self, settings: Settings, backends: dict[str, Backend] | None = None) -> None:
        self.settings = settings
        self.backends = backends if backends is not None else build_backends(settings)
        virtual = settings.virtual_models
        self.catalogue = Catalogue(self.backends, list(virtual))
        self.ledger = VramLedger({DEVICE: host_limit(settings)})
        self._default_bytes = int(settings.vram.default_estimate_gb * 1e9)
        self._estimates: dict[ModelRef, tuple[Recipe | None, Share]] = {}
        limits = Limits(settings.queue_size, settings.swap_patience_s)
        self.planner = Planner(self.ledger, self._footprint, limits)
        self.scheduler = Scheduler(self.planner, self.backends, _on_ram, MonotonicClock())
        policy = Policy(settings.quality_preference)
        self.completions = Completions(
            self.catalogue, self.scheduler, self._standing, policy, virtual
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Engine:
        async with AsyncExitStack() as opening:
            for backend in self.backends.values():
                opening.push_async_callback(backend.aclose)
            await opening.enter_async_context(self.scheduler)
            await self.catalogue.refresh()
            fresh = asyncio.get_running_loop().create_task(self.catalogue.keep_fresh(REFRESH_S))
            opening.callback(fresh.cancel)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def loaded(self) -> frozenset[str]:
        """The ids of the models that can answer without a load."""
        return frozenset(
            model.id
            for model in self.catalogue.models
            if self.planner.state(model.ref) is Residency.READY
        )

    def _footprint(self, ref: ModelRef) -> Share | None:
        """What the model will hold; ``None`` where its backend manages its own memory."""
        backend = self.backends[ref.backend]
        if Capability.LOAD not in backend.capabilities:
            return None
        made = backend.recipe(ref.name) if isinstance(backend, ManagedBackend) else None
        known = self._estimates.get(ref)
        if known is None or known[0] is not made:
            known = self._estimates[ref] = (made, _on_ram(ref, self._estimate(made)))
        return known[1]

    def _estimate(self, made: Recipe | None) -> Footprint:
        if made is None:
            return Footprint(self._default_bytes, "default")
        return estimate(
            made.shape,
            context=made.context,
            parallel=made.parallel,
            cache_type_k=made.cache_type_k,
            cache_type_v=made.cache_type_v,
            batch=made.batch,
            ubatch=made.ubatch,
            on_cpu=True,
        )

    def _standing(self, model: Model) -> Standing:
        """How the model stands now, for routing and for whoever waits."""
        state = self.planner.state(model.ref)
        if state is Residency.READY:
            return Standing(resident=True)
        usual = self._usual_load_s(model)
        running = self.scheduler.loading_for_s(model.ref)
        if running is not None:
            return Standing(resident=False, load_s=max(0.0, usual - running))
        going = self.planner.to_make_room(model.ref)
        return Standing(resident=False, load_s=usual, room_s=sum(map(self._reload_s, going or ())))

    def _usual_load_s(self, model: Model) -> float:
        return self.scheduler.load_seconds.get(model.ref) or load_seconds(model) or 0.0

    def _reload_s(self, ref: ModelRef) -> float:
        model = self.catalogue.by_ref(ref)
        return self._usual_load_s(model) if model else 0.0


def build_backends(settings: Settings) -> dict[str, Backend]:
    """The backends that the settings name. Raises ``ConfigError`` when there are none."""
    wanted, single = list(settings.backend), single_backend(settings)
    if wanted and single:
        log.warning(
            "[[backend]] tables are set, so provider, models_dir and openai_base_url are ignored"
        )
    wanted = wanted or single
    if not wanted:
        raise ConfigError(
            "No backend is set. Give a folder of GGUF files with --models-dir DIR, set "
            "ROUTER_OPENAI_BASE_URL to a server you run, or try `smarterrouter serve --demo`."
        )
    names = [backend.name for backend in wanted]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"Two backends are called '{twice}': give each its own name.")
    return {backend.name: _build(backend, settings) for backend in wanted}


def single_backend(settings: Settings) -> list[BackendSettings]:
    """The one backend that flags or variables describe, when the file lists none."""
    kind = settings.provider
    if kind is None:
        kind = "managed" if settings.models_dir else "openai" if settings.openai_base_url else None
    if kind is None:
        return []
    return [
        BackendSettings(
            name=kind,
            kind=kind,
            url=settings.openai_base_url,
            api_key=settings.openai_api_key,
            models_dir=settings.models_dir,
            models_preset=settings.models_preset,
        )
    ]


def host_limit(settings: Settings) -> DeviceLimit:
    """What models may take of the host's RAM: the stated budget, else 90 % of what is there."""
    total = HostMemory().snapshots()[0].device.total_bytes or 0
    stated = settings.vram.max_total_gb
    budget = int(stated * 1e9) if stated is not None else int(total * BUDGET_SHARE)
    buffer = settings.vram.buffer_gb
    return DeviceLimit(total, budget, int((HOST_BUFFER_GB if buffer is None else buffer) * 1e9))


def _build(wanted: BackendSettings, settings: Settings) -> Backend:
    limits = settings.timeout
    timeouts = Timeouts(limits.connect_s, limits.first_byte_s, limits.stall_s)
    if wanted.kind == "openai":
        if not wanted.url:
            raise ConfigError(
                f"Backend '{wanted.name}' needs an address: set ROUTER_OPENAI_BASE_URL, or 'url' "
                "in its [[backend]] table."
            )
        key = wanted.api_key.get_secret_value() if wanted.api_key else None
        return OpenAIBackend(
            OpenAIOptions(wanted.name, wanted.url, key, wanted.prefix, wanted.node), timeouts
        )
    if not wanted.models_dir:
        raise ConfigError(
            f"Backend '{wanted.name}' needs a folder of GGUF files: give --models-dir DIR, or "
            "'models_dir' in its [[backend]] table."
        )
    return ManagedBackend(
        ManagedOptions(
            name=wanted.name,
            models_dir=wanted.models_dir,
            preset_file=wanted.models_preset,
            node=wanted.node,
            prefix=wanted.prefix,
            context=settings.model.context,
            parallel=settings.model.parallel,
            llama_server=settings.llama_server,
            load_timeout_s=limits.load_s,
        ),
        timeouts,
    )


def _on_ram(_: ModelRef, footprint: Footprint) -> Share:
    return {DEVICE: footprint.bytes}
