"""What each setting is called: on the command line, in the environment, in the file.

Decides which variables there are. A setting's path is its group and its name, or its name alone;
within one of ``TABLES`` it is the table, its number or its model's name, and the setting's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.fields import FieldInfo

from smarterrouter.config.groups import (
    BackendSettings,
    Group,
    NamedModelSettings,
    NodeSettings,
    TableSettings,
)
from smarterrouter.config.settings import PREFIX, Settings

OF_THE_COMMAND_LINE = PREFIX + "URL"


@dataclass(frozen=True, slots=True)
class Table:
    """Tables that stand in the file only, as many as wanted."""

    written: str
    keys: type[TableSettings]


TABLES = {
    "backend": Table("[[backend]]", BackendSettings),
    "node": Table("[[node]]", NodeSettings),
    "models": Table('[models."NAME"]', NamedModelSettings),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Settings from one place, and how that place calls a setting."""

    label: str
    values: Mapping[str, Any]
    naming: Literal["flag", "env", "file"]

    def name(self, path: tuple[str | int, ...]) -> str:
        if path[0] in TABLES:
            return _within_a_table(path)
        words = [str(part) for part in path]
        if self.naming == "flag":
            return "--" + "-".join(words).replace("_", "-")
        if self.naming == "env":
            return variable(words)
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


def _within_a_table(path: tuple[str | int, ...]) -> str:
    """``backend 1.url`` is the first ``[[backend]]``'s; a model's table has its name in quotes."""
    if len(path) == 1:
        return TABLES[str(path[0])].written
    which = path[1]
    table = f"{path[0]} {which + 1}" if isinstance(which, int) else f'{path[0]}."{which}"'
    return ".".join([table, *map(str, path[2:])])


def variable(path: tuple[str, ...] | list[str]) -> str:
    """A setting's name in the environment."""
    return PREFIX + "_".join(path).upper()


def leaves() -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Each setting by its path, those within ``TABLES`` left out."""
    for name, field in Settings.model_fields.items():
        if group := group_of(field):
            for inner, leaf in group.model_fields.items():
                yield (name, inner), leaf
        elif name not in TABLES:
            yield (name,), field


def variables() -> dict[str, str]:
    """Every setting's environment name with what it may be."""
    return {variable(path): field.description or "" for path, field in leaves()}


def unknown_variables() -> list[str]:
    """``ROUTER_*`` variables of the environment that are no setting of this version."""
    known = {*variables(), OF_THE_COMMAND_LINE}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def group_of(field: FieldInfo) -> type[Group] | None:
    """The group that a field of ``Settings`` holds; ``None`` where it is a setting or a table."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Group) else None


def at(path: tuple[str | int, ...]) -> tuple[FieldInfo | None, Mapping[str, FieldInfo]]:
    """The setting at a path, and all of its group; ``None`` where there is no such setting."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    name, rest = str(path[0]), path[1:]
    if name in TABLES:
        fields, rest = TABLES[name].keys.model_fields, path[2:]
    elif name in fields and (group := group_of(fields[name])):
        fields = group.model_fields
    else:
        return fields.get(name), fields
    return fields.get(str(rest[0])) if rest else None, fields
