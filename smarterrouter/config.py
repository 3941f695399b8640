"""Every setting: what it may be, and where it came from. Decides precedence, nothing else.

flags > environment (``ROUTER_*``) > ``.env`` > ``smarterrouter.toml`` > defaults. A setting of a
group has the group in its name: ``[vram] max_total_gb`` is ``ROUTER_VRAM_MAX_TOTAL_GB``. Read once,
in ``assembly`` or a command, and handed down in pieces.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from smarterrouter.errors import ConfigError

FILE_NAME = "smarterrouter.toml"
PREFIX = "ROUTER_"
OF_THE_COMMAND_LINE = PREFIX + "URL"
FAST_PREFERENCE, QUALITY_PREFERENCE = 0.1, 0.9

SPELLINGS = {"llama.cpp": "llamacpp", "llama_cpp": "llamacpp", "llama-cpp": "llamacpp"}


def _spelled(value: object) -> object:
    return SPELLINGS.get(value.lower(), value.lower()) if isinstance(value, str) else value


Kind = Annotated[Literal["ollama", "llamacpp", "openai", "managed"], BeforeValidator(_spelled)]
KINDS = "ollama, llamacpp, openai or managed"
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


def _web_address(value: str) -> str:
    if "://" in value and not value.startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https://")
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if not parts.hostname or parts.port == 0:  # .port raises ValueError where it is no number
        raise ValueError("it names no host")
    return value


def _sendable(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("it holds characters that no header can carry")
    return SecretStr(key)


Url = Annotated[str, AfterValidator(_web_address)]
Key = Annotated[SecretStr, AfterValidator(_sendable)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VramSettings(_Group):
    """How much memory models may take."""

    max_total_gb: float | None = Field(
        None, gt=0, description="gigabytes for all models together; unset is 90 % of what is there"
    )
    buffer_gb: float | None = Field(
        None, ge=0, description="gigabytes left free for others; unset is 0.5 on host RAM"
    )
    default_estimate_gb: float = Field(
        8.0, gt=0, description="gigabytes assumed for a model nothing is known of"
    )


class ModelSettings(_Group):
    """How models are loaded where their preset does not say; ``context`` is for Ollama's, too."""

    context: int = Field(8192, ge=256, description="tokens that one request may use")
    parallel: int = Field(1, ge=1, le=64, description="requests that one model answers at once")


class TimeoutSettings(_Group):
    """When to give up waiting, in seconds."""

    connect_s: float = Field(5.0, gt=0, description="seconds to connect to a backend")
    first_byte_s: float = Field(300.0, gt=0, description="seconds until an answer begins")
    stall_s: float = Field(120.0, gt=0, description="seconds of silence within an answer")
    load_s: float = Field(300.0, gt=0, description="seconds for a model to load")


class WaitSettings(_Group):
    """What a client that asked for a stream hears while its model loads."""

    comment_s: float = Field(
        5.0, gt=0, description="seconds between two comments that keep the line open"
    )
    as_reasoning: bool = Field(False, description="true shows the wait as reasoning text")


class BackendSettings(_Group):
    """One ``[[backend]]`` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="letters, digits and . _ -")
    kind: Kind = Field(description=KINDS)
    url: Url | None = Field(None, description="the address of its API")
    api_key: Key | None = Field(None, description="its API key")
    prefix: str = Field("", description="text before each of its models' names")
    node: str = Field("local", description="the name of the machine whose devices it uses")
    models_dir: UserPath | None = Field(None, description="a folder of GGUF files")
    models_preset: UserPath | None = Field(None, description="a llama.cpp preset file (INI)")


class Settings(BaseSettings):
    """All settings, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
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

    quality_preference: float = Field(
        0.5, ge=0, le=1, description="a number from 0 (fast) to 1 (good)"
    )
    external_model_name: str = Field(
        "smarterrouter/main", min_length=1, description="the name apps see for 'the best one'"
    )
    queue_size: int = Field(256, ge=1, description="how many requests may wait for a model")
    swap_patience_s: float = Field(
        30.0, ge=0, description="seconds before a waiting model stops others from going ahead"
    )
    database: UserPath | None = Field(
        None, description="the file that decisions are kept in; unset is in the user's data folder"
    )
    store_prompts: bool = Field(False, description="true keeps the words of prompts, too")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field("text", description="text or json")

    vram: VramSettings = VramSettings()
    model: ModelSettings = ModelSettings()
    timeout: TimeoutSettings = TimeoutSettings()
    wait: WaitSettings = WaitSettings()

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

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


@dataclass(frozen=True, slots=True)
class _Source:
    """Settings from one place, and how that place calls a setting."""

    label: str
    values: Mapping[str, Any]
    naming: Literal["flag", "env", "file"]

    def name(self, path: tuple[str | int, ...]) -> str:
        words = [str(part) for part in path if not isinstance(part, int)]
        if path[:1] == ("backend",) and len(path) > 1 and isinstance(path[1], int):
            words[0] = f"backend {path[1] + 1}"
        if self.naming == "flag":
            return "--" + "-".join(words).replace("_", "-")
        if self.naming == "env":
            return PREFIX + "_".join(words).upper()
        return ".".join(words)

    def value(self, path: tuple[str | int, ...]) -> Any:
        """The value at a path; ``KeyError`` when this place does not set it."""
        found: Any = self.values
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                raise KeyError(part) from None
        return found


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """The settings in force. Raises ``ConfigError`` naming setting, source and range."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    sources = [
        _Source("the command line", given, "flag"),
        _Source("the environment", _variables_set(EnvSettingsSource(Settings)), "env"),
        _Source(".env", _variables_set(DotEnvSettingsSource(Settings, env_file=".env")), "env"),
    ]
    if path := find_file(file):
        sources.append(_Source(str(path), read_file(path), "file"))
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged = _merge(merged, source.values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources)) from None
    _ = settings.keys
    return settings


def _variables_set(source: EnvSettingsSource) -> dict[str, Any]:
    """What the variables say. Raises ``ConfigError`` for one that stands for a whole table."""
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        if (name == "backend" or _group(field)) and source.env_vars.get(variable.lower()):
            table = "[[backend]]" if name == "backend" else f"[{name}]"
            raise ConfigError(
                f"{variable} stands for a whole table: write {table} in {FILE_NAME}, or set its "
                "settings one by one."
            )
    return source()


def find_file(named: Path | None = None) -> Path | None:
    """The settings file: the one named, else here, else the user's. Raises ``ConfigError``."""
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"--config {named}: there is no such file.")
        return named
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (Path(FILE_NAME), home / "smarterrouter" / FILE_NAME)
    return next((place for place in places if place.is_file()), None)


def read_file(path: Path) -> dict[str, Any]:
    """The file's settings. Raises ``ConfigError`` for broken TOML and for unknown names."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    _check_names(path, values, "", Settings.model_fields)
    return values


def _check_names(
    path: Path, values: Mapping[str, Any], group: str, fields: Mapping[str, Any]
) -> None:
    for name, value in values.items():
        if name not in fields:
            where = f"[{group}] {name}" if group else name
            known = ", ".join(sorted(fields))
            raise ConfigError(f"{path}: there is no setting '{where}'. There are: {known}.")
        inner = _group(fields[name])
        if inner and isinstance(value, Mapping):
            _check_names(path, value, name, inner.model_fields)


def _group(field: Any) -> type[_Group] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, _Group) else None


def unknown_variables() -> list[str]:
    """``ROUTER_*`` variables of the environment that are no setting of this version."""
    known = {*variables(), OF_THE_COMMAND_LINE}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def variables() -> dict[str, str]:
    """Every setting's environment name with what it may be."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        if group := _group(field):
            for inner, leaf in group.model_fields.items():
                found[f"{PREFIX}{name}_{inner}".upper()] = leaf.description or ""
        elif name != "backend":
            found[f"{PREFIX}{name}".upper()] = field.description or ""
    return found


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        nested = isinstance(both.get(key), Mapping) and isinstance(value, Mapping)
        both[key] = _merge(both[key], value) if nested else value
    return both


def _explain(error: ValidationError, sources: list[_Source]) -> str:
    problem = error.errors()[0]
    path, said = problem["loc"], problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        said = "there is no such setting"
    if problem["type"] in ("model_type", "tuple_type"):
        return _no_table(path, sources)
    for source in sources:
        try:
            value = source.value(path)
        except KeyError:
            continue
        shown = f" is {value!r}" if _may_be_shown(path, value) else ""
        told = f"{source.name(path)} (from {source.label}){shown}: {said}."
        return f"{told} It may be {_description(path)}."
    where = next((s for s in reversed(sources) if s.naming == "file"), sources[0])
    return f"{where.name(path)} (from {where.label}): {said}. It may be {_description(path)}."


def _no_table(path: tuple[str | int, ...], sources: list[_Source]) -> str:
    """What stands for a whole group is no table, or one with a bracket too few."""
    table = "[[backend]], with two brackets" if path[0] == "backend" else f"[{path[0]}]"
    where = next((s.label for s in sources if path[0] in s.values), sources[0].label)
    return f"{path[0]} (from {where}) is not a table: write {table}, and its settings below it."


def _may_be_shown(path: tuple[str | int, ...], value: object) -> bool:
    """Whether a value holds no secret for sure: a known setting that is none, and no container."""
    field, _ = _field(path)
    scalar = isinstance(value, str | int | float | bool)
    return field is not None and scalar and "SecretStr" not in str(field.annotation)


def _description(path: tuple[str | int, ...]) -> str:
    """What the setting at a path may be."""
    field, beside = _field(path)
    return "one of " + ", ".join(sorted(beside)) if field is None else field.description or ""


def _field(path: tuple[str | int, ...]) -> tuple[FieldInfo | None, Mapping[str, FieldInfo]]:
    """The setting at a path, and all of its group; ``None`` where there is no such setting."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for part in path:
        if part not in fields:
            continue
        field = fields[str(part)]
        if part == "backend":
            fields = BackendSettings.model_fields
        elif group := _group(field):
            fields = group.model_fields
        else:
            return field, fields
    return None, fields
