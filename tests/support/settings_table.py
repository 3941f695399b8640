"""Writes the tables of settings, as the code has them, between the two marks in a document.

python -m tests.support.settings_table docs/settings.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from smarterrouter.config import PREFIX, BackendSettings, Settings

BEGIN = "<!-- begin: python -m tests.support.settings_table docs/settings.md -->"
END = "<!-- end -->"


def tables() -> str:
    """Every setting, then every key of a ``[[backend]]`` table."""
    every = ["| in the file | environment | default | meaning |", "|---|---|---|---|"]
    for name, field in _leaves():
        variable = f"`{PREFIX}{name.replace('.', '_').upper()}`"
        every.append(f"| `{name}` | {variable} | {_default(field)} | {field.description} |")
    one = ["| in `[[backend]]` | default | meaning |", "|---|---|---|"]
    for name, field in BackendSettings.model_fields.items():
        one.append(f"| `{name}` | {_default(field)} | {field.description} |")
    return "\n".join([*every, "", *one])


def written(document: str) -> str:
    """What stands between the marks."""
    return document.partition(BEGIN)[2].partition(END)[0].strip()


def rewritten(document: str) -> str:
    """The document with the tables as they should be."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"there is no line {BEGIN}"
    assert end, f"there is no line {END}"
    return f"{before}{begin}\n{tables()}\n{end}{after}"


def _leaves() -> Iterator[tuple[str, FieldInfo]]:
    """Each setting by its dotted name; ``backend``, which has a table of its own, left out."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            for inner, leaf in type(field.default).model_fields.items():
                yield f"{name}.{inner}", leaf
        elif name != "backend":
            yield name, field


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == "":
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main(document: Path) -> None:
    document.write_text(rewritten(document.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
