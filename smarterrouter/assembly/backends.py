"""Which backends there are: those the settings name, else those that run on this machine."""

from __future__ import annotations

import logging

from smarterrouter.backends import nearby
from smarterrouter.backends.control import ServerOptions
from smarterrouter.backends.llamacpp import LlamaCppBackend, LlamaCppOptions
from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.ollama.backend import OllamaBackend, OllamaOptions
from smarterrouter.backends.openai import OpenAIBackend
from smarterrouter.backends.wire import Timeouts
from smarterrouter.config import BackendSettings, Kind, Settings
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import ConfigError, NoBackend

log = logging.getLogger(__name__)

VARIABLE = {
    "ollama": "ROUTER_OLLAMA_URL",
    "llamacpp": "ROUTER_LLAMA_CPP_URL",
    "openai": "ROUTER_OPENAI_BASE_URL",
}


def build_backends(settings: Settings) -> dict[str, Backend]:
    """The backends that the settings name, else those that run on this machine.

    Raises ``ConfigError`` when there are none.
    """
    wanted, single = list(settings.backend), _single(settings)
    if wanted and single:
        log.warning(
            "[[backend]] tables are set, so provider, models_dir and the backends' addresses "
            "outside of them are ignored"
        )
    wanted = wanted or single or _nearby()
    return {backend.name: _build(backend, settings) for backend in wanted}


def _single(settings: Settings) -> list[BackendSettings]:
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
    parallel = wanted.concurrency or 1
    options = OllamaOptions(*place, settings.model.context, limits.load_s, parallel)
    return OllamaBackend(options, timeouts)


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
