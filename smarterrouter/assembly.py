"""The one place where concrete parts are built and wired, from settings. Decides nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack

from smarterrouter.backends import nearby
from smarterrouter.backends.catalogue import Catalogue
from smarterrouter.backends.control import ServerOptions
from smarterrouter.backends.llamacpp import LlamaCppBackend, LlamaCppOptions
from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.managed.recipe import Recipe
from smarterrouter.backends.ollama.backend import OllamaBackend, OllamaOptions
from smarterrouter.backends.openai import OpenAIBackend
from smarterrouter.backends.wire import Timeouts
from smarterrouter.completion import Completions
from smarterrouter.config import BackendSettings, Kind, Settings
from smarterrouter.domain.chat import Message
from smarterrouter.domain.decision import RouteDecision
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef
from smarterrouter.domain.outcomes import Outcome
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import ConfigError, NoBackend
from smarterrouter.gpu.host import HostMemory
from smarterrouter.residency.footprint import estimate
from smarterrouter.residency.ledger import DeviceLimit, Share, VramLedger
from smarterrouter.residency.planner import Limits, Planner
from smarterrouter.residency.scheduler import Scheduler
from smarterrouter.residency.states import Residency
from smarterrouter.routing.decision import Policy
from smarterrouter.routing.seconds import Standing, load_seconds
from smarterrouter.store.database import default_path
from smarterrouter.store.decisions import Record
from smarterrouter.store.queries import Queries
from smarterrouter.store.writer import Writer

log = logging.getLogger(__name__)

REFRESH_S = 60.0
START_PATIENCE_S = 4.0
BUDGET_SHARE = 0.9
HOST_BUFFER_GB = 0.5
DEVICE = "ram"
VARIABLE = {
    "ollama": "ROUTER_OLLAMA_URL",
    "llamacpp": "ROUTER_LLAMA_CPP_URL",
    "openai": "ROUTER_OPENAI_BASE_URL",
}


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
        self.catalogue = Catalogue(self.backends, list(virtual), self._listed)
        self.ledger = VramLedger({DEVICE: host_limit(settings)})
        self._default_bytes = int(settings.vram.default_estimate_gb * 1e9)
        self._estimates: dict[ModelRef, tuple[Recipe | None, Share]] = {}
        limits = Limits(settings.queue_size, settings.swap_patience_s)
        self.planner = Planner(self.ledger, self._footprint, limits)
        self.scheduler = Scheduler(self.planner, self.backends, self._held, MonotonicClock())
        policy = Policy(settings.quality_preference)
        self.completions = Completions(
            self.catalogue, self.scheduler, self._standing, policy, virtual
        )
        self.database = settings.database or default_path()
        self.writer = Writer(self.database)
        self.queries = Queries(self.database)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Engine:
        async with AsyncExitStack() as opening:
            for backend in self.backends.values():
                opening.push_async_callback(backend.aclose)
            await opening.enter_async_context(self.scheduler)
            self.writer.start()
            opening.push_async_callback(asyncio.to_thread, self.writer.close)
            opening.push_async_callback(self.catalogue.aclose)
            await self.catalogue.refresh(START_PATIENCE_S)
            fresh = asyncio.get_running_loop().create_task(self.catalogue.keep_fresh(REFRESH_S))
            opening.callback(fresh.cancel)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def keep(
        self, outcome: Outcome, decision: RouteDecision | None, messages: tuple[Message, ...]
    ) -> None:
        """Have a request's outcome written, some time soon. Never waits, never raises."""
        keep_prompt = self.settings.store_prompts
        self.writer.submit(Record(outcome, decision, messages, keep_prompt))

    def loaded(self) -> frozenset[str]:
        """The ids of the models that can answer without a load."""
        return frozenset(
            model.id
            for model in self.catalogue.models
            if self.planner.state(model.ref) is Residency.READY
        )

    def _listed(self, models: tuple[Model, ...], since: float) -> None:
        for model in models:
            if model.resident is not None:
                self.scheduler.seen(model.ref, model.resident, since)

    def _held(self, ref: ModelRef, footprint: Footprint) -> Share:
        """On which devices a footprint lies: the host's RAM, or one that is not ours to count."""
        ours = isinstance(self.backends[ref.backend], ManagedBackend)
        return {DEVICE: footprint.bytes} if ours else {}

    def _footprint(self, ref: ModelRef) -> Share | None:
        """What the model will hold; ``None`` where its backend manages its own memory.

        Empty where it can be loaded and unloaded, but lies on devices that are not counted.
        """
        backend = self.backends[ref.backend]
        if Capability.LOAD not in backend.capabilities:
            return None
        if not isinstance(backend, ManagedBackend):
            return {}
        made = backend.recipe(ref.name)
        known = self._estimates.get(ref)
        if known is None or known[0] is not made:
            known = self._estimates[ref] = (made, self._held(ref, self._estimate(made)))
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
            swa_full=("swa-full", None) in made.entry.preset.flags,
            on_cpu=True,
        )

    def _standing(self, model: Model) -> Standing:
        """How the model stands now, for routing and for whoever waits."""
        state = self.planner.state(model.ref)
        if state is Residency.READY:
            return Standing(resident=True)
        if obstacle := self.planner.too_large(model.ref):
            return Standing(resident=False, obstacle=obstacle)
        usual = self._usual_load_s(model)
        running = self.scheduler.loading_for_s(model.ref)
        if running is not None:
            return Standing(resident=False, loading=True, load_s=max(0.0, usual - running))
        going = self.planner.to_make_room(model.ref)
        return Standing(resident=False, load_s=usual, room_s=sum(map(self._reload_s, going or ())))

    def _usual_load_s(self, model: Model) -> float:
        return self.scheduler.load_seconds.get(model.ref) or load_seconds(model) or 0.0

    def _reload_s(self, ref: ModelRef) -> float:
        model = self.catalogue.by_ref(ref)
        return self._usual_load_s(model) if model else 0.0


def build_backends(settings: Settings) -> dict[str, Backend]:
    """The backends that the settings name, else those that run on this machine.

    Raises ``ConfigError`` when there are none.
    """
    wanted, single = list(settings.backend), single_backends(settings)
    if wanted and single:
        log.warning(
            "[[backend]] tables are set, so provider, models_dir and the backends' addresses "
            "outside of them are ignored"
        )
    wanted = wanted or single or _nearby()
    names = [backend.name for backend in wanted]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"Two backends are called '{twice}': give each its own name.")
    return {backend.name: _build(backend, settings) for backend in wanted}


def single_backends(settings: Settings) -> list[BackendSettings]:
    """One backend of each kind that flags or variables describe; ``provider`` leaves only one."""
    places: dict[Kind, str | None] = {
        "ollama": settings.ollama_url,
        "llamacpp": settings.llama_cpp_url,
        "openai": settings.openai_base_url,
        "managed": str(settings.models_dir) if settings.models_dir else None,
    }
    if settings.provider is not None:
        chosen = settings.provider
        places = {chosen: places[chosen] or nearby.places().get(chosen, "")}
    return [
        BackendSettings(
            name=kind,
            kind=kind,
            url=None if kind == "managed" else place,
            api_key=settings.openai_api_key if kind == "openai" else None,
            models_dir=settings.models_dir,
            models_preset=settings.models_preset,
        )
        for kind, place in places.items()
        if place is not None
    ]


def _nearby() -> list[BackendSettings]:
    found = nearby.look()
    for one in found:
        log.info("found %s at %s", one.what, one.url)
    if not found:
        looked = " or ".join(f"{url} ({kind})" for kind, url in nearby.places().items())
        raise NoBackend(
            f"No backend is set, and nothing answers at {looked}. Start Ollama or llama-server, "
            "give a folder of GGUF files with --models-dir DIR, set ROUTER_OPENAI_BASE_URL to a "
            "server you run, or try `smarterrouter serve --demo`."
        )
    return [BackendSettings(name=one.kind, kind=one.kind, url=one.url) for one in found]


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
    key = wanted.api_key.get_secret_value() if wanted.api_key else None
    if wanted.kind == "managed":
        return _build_managed(wanted, settings, timeouts)
    if not wanted.url:
        raise ConfigError(
            f"Backend '{wanted.name}' needs an address: set 'url' in its [[backend]] table, or "
            f"{VARIABLE[wanted.kind]} where there is no such table."
        )
    place = (wanted.name, wanted.url, key, wanted.prefix, wanted.node)
    if wanted.kind == "openai":
        return OpenAIBackend(ServerOptions(*place), timeouts)
    if wanted.kind == "llamacpp":
        return LlamaCppBackend(LlamaCppOptions(*place, limits.load_s), timeouts)
    return OllamaBackend(OllamaOptions(*place, settings.model.context, limits.load_s), timeouts)


def _build_managed(
    wanted: BackendSettings, settings: Settings, timeouts: Timeouts
) -> ManagedBackend:
    if not wanted.models_dir:
        raise ConfigError(
            f"Backend '{wanted.name}' needs a folder of GGUF files: set 'models_dir' in its "
            "[[backend]] table, or give --models-dir DIR where there is no such table."
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
            load_timeout_s=settings.timeout.load_s,
        ),
        timeouts,
    )
