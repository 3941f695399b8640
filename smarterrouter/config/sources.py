"""Where settings come from, and who wins: flags, the environment, ``.env``, the file, defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from smarterrouter.config.explain import explain
from smarterrouter.config.names import TABLES, Source, group_of, leaves, variable
from smarterrouter.config.settings import Settings
from smarterrouter.errors import ConfigError

FILE_NAME = "smarterrouter.toml"
ENV_FILE = ".env"


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """The settings in force. Raises ``ConfigError`` naming setting, source and range."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    sources = [
        Source("the command line", given, "flag"),
        Source("the environment", _set(EnvSettingsSource(Settings).env_vars), "env"),
        Source(ENV_FILE, _set(_env_file()), "env"),
    ]
    if path := find_file(file):
        sources.append(Source(str(path), read_file(path), "file"))
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged = _merge(merged, source.values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise ConfigError(explain(error, sources)) from None
    _ = settings.keys
    return settings


def _env_file() -> Mapping[str, str | None]:
    """The variables of ``.env`` in the current folder. Raises ``ConfigError``."""
    try:
        return DotEnvSettingsSource(Settings, env_file=ENV_FILE).env_vars
    except UnicodeDecodeError:
        raise ConfigError(f"{ENV_FILE} is not text in UTF-8: save it as such.") from None
    except OSError as error:
        raise ConfigError(f"{ENV_FILE} cannot be read: {error.strerror}.") from None


def _set(env_vars: Mapping[str, str | None]) -> dict[str, Any]:
    """What variables (by their names in small letters) say; those of other versions are let be.

    Raises ``ConfigError`` for one that stands for a whole table.
    """
    _check_whole_tables(env_vars)
    values: dict[str, Any] = {}
    for path, _ in leaves():
        if value := env_vars.get(variable(path).lower()):
            within = values.setdefault(path[0], {}) if len(path) > 1 else values
            within[path[-1]] = value
    return values


def _check_whole_tables(env_vars: Mapping[str, str | None]) -> None:
    for name, field in Settings.model_fields.items():
        whole = variable([name])
        if not env_vars.get(whole.lower()):
            continue
        told = f"{whole} stands for a whole table: write"
        if name in TABLES:
            raise ConfigError(f"{told} {TABLES[name].written} in {FILE_NAME}.")
        if group_of(field):
            raise ConfigError(f"{told} [{name}] in {FILE_NAME}, or set its settings one by one.")


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
    path: Path, values: Mapping[str, Any], group: str, fields: Mapping[str, FieldInfo]
) -> None:
    for name, value in values.items():
        if name not in fields:
            where = f"[{group}] {name}" if group else name
            known = ", ".join(sorted(fields))
            told = f"{path}: there is no setting '{where}'. There are: {known}."
            one_model = group == "model" and isinstance(value, Mapping)
            raise ConfigError(f'{told} One model\'s are [models."{name}"].' if one_model else told)
        inner = group_of(fields[name])
        if inner and isinstance(value, Mapping):
            _check_names(path, value, name, inner.model_fields)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        nested = isinstance(both.get(key), Mapping) and isinstance(value, Mapping)
        both[key] = _merge(both[key], value) if nested else value
    return both
