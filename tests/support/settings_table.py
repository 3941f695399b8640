"""Writes the tables of settings, as the code has them, between the two marks in a document.

python -m tests.support.settings_table docs/settings.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from smarterrouter.config import TABLES, leaves, variable

BEGIN = "<!-- begin: python -m tests.support.settings_table docs/settings.md -->"
END = "<!-- end -->"


def tables() -> str:
    """Every setting, then every key of each table that stands in the file only."""
    every = ["| in the file | environment | default | meaning |", "|---|---|---|---|"]
    for path, field in leaves():
        names = f"`{'.'.join(path)}` | `{variable(path)}`"
        every.append(f"| {names} | {_default(field)} | {field.description} |")
    return "\n".join([*every, *_file_only()])


def _file_only() -> Iterator[str]:
    for table in TABLES.values():
        yield from ("", f"| in `{table.written}` | default | meaning |", "|---|---|---|")
        for name, field in table.keys.model_fields.items():
            yield f"| `{name}` | {_default(field)} | {field.description} |"


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
