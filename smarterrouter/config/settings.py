"""All settings together, and what follows from several of them. Reads nothing."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from smarterrouter.config.groups import (
    BackendSettings,
    JudgeSettings,
    ModelSettings,
    NamedModelSettings,
    NodeSettings,
    ProfileSettings,
    TimeoutSettings,
    VramSettings,
    WaitSettings,
)
from smarterrouter.config.values import KINDS, Key, Kind, LogLevel, Url, UserPath
from smarterrouter.errors import ConfigError

PREFIX = "ROUTER_"
FAST_PREFERENCE, QUALITY_PREFERENCE = 0.1, 0.9

Named = TypeVar("Named", BackendSettings, NodeSettings)


class Settings(BaseSettings):
    """All settings, frozen."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", min_length=1, description="an address of this machine")
    port: int = Field(11436, ge=0, le=65535, description="a whole number from 0 to 65535")
    api_keys: SecretStr = Field(SecretStr(""), description="name:key,name:key")
    admin_api_key: Key | None = Field(None, description="a key for /admin")
    max_body_mb: float = Field(16.0, gt=0, description="megabytes that one request may be long")

    provider: Kind | None = Field(None, description=KINDS)
    models_dir: UserPath | None = Field(None, description="a folder of GGUF files")
    models_preset: UserPath | None = Field(None, description="a llama.cpp preset file (INI)")
    llama_server: UserPath | None = Field(None, description="the path of a llama-server binary")
    ollama_url: Url | None = Field(None, description="the address of an Ollama")
    llama_cpp_url: Url | None = Field(None, description="the address of a llama-server")
    openai_base_url: Url | None = Field(None, description="the address of an OpenAI-like API")
    openai_api_key: Key | None = Field(None, description="that API's key")
    backend: tuple[BackendSettings, ...] = Field((), description="a list of [[backend]] tables")
    node: tuple[NodeSettings, ...] = Field((), description="a list of [[node]] tables")

    quality_preference: float = Field(
        0.5, ge=0, le=1, description="a number from 0 (fast) to 1 (good)"
    )
    external_model_name: str = Field(
        "smarterrouter/main", min_length=1, description="the name apps see for 'the best one'"
    )
    pinned_model: str | None = Field(
        None, description="models to load at start and never unload, separated by commas"
    )
    queue_size: int = Field(256, ge=1, description="how many requests may wait for a model")
    queue_wait_s: float = Field(
        600.0, gt=0, description="seconds that a request may wait for room before it is refused"
    )
    swap_patience_s: float = Field(
        30.0, ge=0, description="seconds before a waiting model stops others from going ahead"
    )
    database: UserPath | None = Field(
        None, description="the file that decisions are kept in; unset is in the user's data folder"
    )
    store_prompts: bool = Field(
        False, description="true to keep the words of prompts, too, or false"
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error")
    log_format: Literal["text", "json"] = Field("text", description="text or json")

    vram: VramSettings = VramSettings()
    model: ModelSettings = ModelSettings()
    models: dict[str, NamedModelSettings] = Field({}, description="tables by a model's name")
    timeout: TimeoutSettings = TimeoutSettings()
    wait: WaitSettings = WaitSettings()
    profile: ProfileSettings = ProfileSettings()
    judge: JudgeSettings = JudgeSettings()

    @field_validator("backend", "node")
    @classmethod
    def _told_apart(cls, tables: tuple[Named, ...]) -> tuple[Named, ...]:
        names = [table.name for table in tables]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two of them are called '{twice}'; give each its own name")
        return tables

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` has put together counts."""
        return (init_settings,)

    @property
    def virtual_models(self) -> dict[str, float]:
        """The names that stand for 'whichever is best', with the quality preference of each."""
        return {
            self.external_model_name: self.quality_preference,
            "smarterrouter/fast": FAST_PREFERENCE,
            "smarterrouter/quality": QUALITY_PREFERENCE,
        }

    @property
    def pinned_models(self) -> tuple[str, ...]:
        """The names of the models that are never unloaded."""
        in_tables = (name for name, table in self.models.items() if table.pinned)
        return tuple(dict.fromkeys([*self._pinned_and_loaded, *in_tables]))

    @property
    def preloaded_models(self) -> tuple[str, ...]:
        """The names of the models that are loaded at start, in that order."""
        in_tables = (name for name, table in self.models.items() if table.preload)
        return tuple(dict.fromkeys([*self._pinned_and_loaded, *in_tables]))

    @property
    def _pinned_and_loaded(self) -> tuple[str, ...]:
        names = (name.strip() for name in (self.pinned_model or "").split(","))
        return tuple(filter(None, names))

    def of_model(self, id: str, ref: str) -> NamedModelSettings:
        """What is set for one model by its id and, going before that, by ``backend/name``."""
        given = [self.models[name] for name in (id, ref) if name in self.models]
        return NamedModelSettings(
            **{key: getattr(one, key) for one in given for key in one.model_fields_set}
        )

    def backend_named(self, name: str) -> BackendSettings | None:
        """The ``[[backend]]`` table of that name, if there is one."""
        return next((table for table in self.backend if table.name == name), None)

    @property
    def own_key(self) -> str | None:
        """A key that opens every door of a daemon with these settings."""
        if self.admin_api_key:
            return self.admin_api_key.get_secret_value()
        return next(iter(self.keys.values()), None)

    @property
    def own_headers(self) -> dict[str, str]:
        """What a request to such a daemon carries."""
        return {"Authorization": f"Bearer {self.own_key}"} if self.own_key else {}

    def address(self, port: int | None = None) -> str:
        """Where to reach a daemon with these settings; ``port`` where it had to choose one."""
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        host = f"[{shown}]" if ":" in shown else shown
        return f"http://{host}:{port or self.port}"

    @property
    def keys(self) -> dict[str, str]:
        """API keys by name. Raises ``ConfigError`` when the list is malformed."""
        pairs = [item.strip() for item in self.api_keys.get_secret_value().split(",")]
        keys: dict[str, str] = {}
        for pair in filter(None, pairs):
            name, colon, key = pair.partition(":")
            sendable = key.isascii() and key.strip().isprintable()
            if not colon or not name.strip() or not key.strip() or not sendable:
                raise ConfigError(
                    f"{PREFIX}API_KEYS holds an entry that is not a name and a key. "
                    "Write it as name:key,name:key."
                )
            keys[name.strip()] = key.strip()
        return keys

    def check_binding(self) -> None:
        """Raises ``ConfigError`` when strangers could reach models without a key."""
        if _is_loopback(self.host) or self.keys or self.admin_api_key:
            return
        raise ConfigError(
            f"Bound to {self.host} anybody on the network could use your models. Set "
            f"{PREFIX}API_KEYS=name:key to ask for a key, or {PREFIX}HOST=127.0.0.1 to stay on "
            "this machine."
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address; a name other than localhost may not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
