"""What a wrong setting is told: which it is, where it stands, and what it may be.

Never prints a value that could be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from smarterrouter.config.names import TABLES, Source, at
from smarterrouter.config.settings import Settings

UNKNOWN = "extra_forbidden"
NO_TABLE = ("model_type", "tuple_type", "dict_type")
QUOTES = 'a model\'s name with a dot in it wants quotes around all of it: [models."qwen2.5:7b"]'


def explain(error: ValidationError, sources: Sequence[Source]) -> str:
    """The first thing that is wrong, in one or two sentences."""
    problem = error.errors()[0]
    kind, path = problem["type"], problem["loc"]
    source = _blamed(path, sources)
    if kind in NO_TABLE:
        return _no_table(path, source)
    field, beside = at(path)
    name = f"{source.name(path)} (from {source.label})"
    if kind == UNKNOWN:
        return f"{name}: {_unknown(path, problem['input'])}. There are: {', '.join(beside)}."
    said = problem["msg"].removeprefix("Value error, ")
    if kind == "bool_parsing":
        said = "it is neither true nor false"
    if field is None:
        return f"{name}: {said}."
    return f"{name}{_shown(path, source)}: {said}. It may be {field.description}."


def _blamed(path: tuple[str | int, ...], sources: Sequence[Source]) -> Source:
    """The place that sets it, the strongest first; where it is missing, the file."""
    for source in sources:
        try:
            source.value(path)
        except KeyError:
            continue
        return source
    return next((one for one in reversed(sources) if one.naming == "file"), sources[0])


def _no_table(path: tuple[str | int, ...], source: Source) -> str:
    """What stands for a whole group is no table, or one with a bracket too few."""
    group = str(path[0])
    table = TABLES[group].written if group in TABLES else f"[{group}]"
    brackets = ", with two brackets" if table.startswith("[[") else ""
    name = source.name(path) if len(path) > 1 else group
    told = (
        f"{name} (from {source.label}) is not a table: write {table}{brackets}, and its settings "
        "below it."
    )
    setting = "_".join(map(str, path))
    meant = len(path) > 1 and setting in Settings.model_fields
    return f"{told} Or is {setting} meant?" if meant else told


def _unknown(path: tuple[str | int, ...], value: object) -> str:
    """A key that there is not: misspelt, or the second half of a model's name."""
    cut = path[0] == "models" and isinstance(value, Mapping)
    return f"there is no such setting; {QUOTES}" if cut else "there is no such setting"


def _shown(path: tuple[str | int, ...], source: Source) -> str:
    """The value, if it holds no secret for sure: of a setting that is none, and no container."""
    try:
        value: Any = source.value(path)
    except KeyError:
        return ""
    field, _ = at(path)
    scalar = isinstance(value, str | int | float | bool)
    secret = field is None or "SecretStr" in str(field.annotation)
    return f" is {value!r}" if scalar and not secret else ""
