"""A published file taken apart into records: one mapping of column to value for each row.

Decides which kinds of file are read: CSV, JSON and JSON lines, in UTF-8. Nothing in a file is ever
run, so a pickle is refused. What the columns mean is decided in ``formats``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice

from smarterrouter.errors import BadRequest, PayloadTooLarge

LARGEST = 64 * 1024 * 1024
"""Bytes of a file or an answer that are read at most."""

Record = Mapping[str, object]

_PICKLE = tuple(bytes((0x80, version)) for version in range(2, 6))
_REFUSED = (
    (
        (b"PAR1",),
        "is Parquet, which is not read. Save it as CSV or JSON, or give the rows of the "
        "datasets server (https://datasets-server.huggingface.co/rows?dataset=...).",
    ),
    (
        _PICKLE,
        "is a pickle, and opening one can run code that somebody put into it. Use the CSV or "
        "JSON of the same table.",
    ),
    ((b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), "is packed. Unpack it first."),
    (
        (b"version https://git-lfs",),
        "is only a pointer of Git LFS. Download the file that it stands for.",
    ),
    (
        (b"<!doctype", b"<!DOCTYPE", b"<html", b"<HTML"),
        "is a web page. Give the address of the table itself (on Hugging Face the one with "
        "/resolve/ in it).",
    ),
)


def records(raw: bytes, name: str) -> list[Record]:
    """The rows of a file. Raises ``BadRequest`` (``PayloadTooLarge``) with what to do instead."""
    if len(raw) > LARGEST:
        raise PayloadTooLarge(f"{name} is larger than {LARGEST >> 20} MB: too much for a table.")
    start = raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for marks, sentence in _REFUSED:
        if start.startswith(marks):
            raise BadRequest(f"{name} {sentence}")
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadRequest(f"{name} is not text in UTF-8. Expected is CSV, JSON or JSON lines.")
    if not text.startswith(("{", "[")):
        return _csv(text, name)
    try:
        return list(_from_json(_json(text, name)))
    except RecursionError:
        raise BadRequest(f"{name} is nested too deeply for a table.") from None


def _json(text: str, name: str) -> object:
    """One value, or a list of all if there is one on each line."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            if len(lines) > 1:
                return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            pass
        raise BadRequest(f"{name} is not JSON, nor lines of JSON: {error}.") from None


def _csv(text: str, name: str) -> list[Record]:
    head = text.partition("\n")[0]
    comma = max(",\t;", key=head.count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=comma))
    except csv.Error as error:
        raise BadRequest(f"{name} is not CSV, JSON or JSON lines: {error}.") from None


def _from_json(value: object) -> Iterator[Record]:
    """Rows of the shapes in use; nothing for any other."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _from_json(item) if _is_page(item) else [_flat(item)]
    elif isinstance(value, dict):
        yield from _from_object(value)


def _from_object(value: dict[str, object]) -> Iterator[Record]:
    head = value.get("headers") or value.get("columns")
    for key in ("rows", "data", "models", "leaderboard", "results"):
        rows = value.get(key)
        if isinstance(rows, list):
            if isinstance(head, list) and all(isinstance(row, list) for row in rows):
                rows = [dict(zip(map(str, head), row, strict=False)) for row in rows]
            yield from _from_json(rows)
            return
    yield from _by_column(value) if _is_columns(value) else _ratings(value)


def _is_columns(value: dict[str, object]) -> bool:
    """Whether an object is columns, as pandas writes them, rather than the arena's ratings."""
    return all(
        isinstance(column, list)
        or (
            isinstance(column, dict)
            and "rating" not in column
            and not any(isinstance(cell, dict) for cell in column.values())
        )
        for column in value.values()
    )


def _by_column(value: dict[str, object]) -> Iterator[Record]:
    columns = [list(c.values()) if isinstance(c, dict) else c for c in value.values()]
    for cells in zip(*(c for c in columns if isinstance(c, list)), strict=False):
        yield dict(zip(value, cells, strict=True))


def _ratings(value: dict[str, object], category: str = "") -> Iterator[Record]:
    """The arena's JSON: category, then model, then ``rating``; or the models without category."""
    for name, item in value.items():
        if isinstance(item, dict):
            if "rating" in item:
                yield {**item, "model_name": name, "category": category}
            elif not category:
                yield from _ratings(item, name)


def _is_page(item: dict[str, object]) -> bool:
    return isinstance(item.get("rows"), list)


def _flat(item: dict[str, object]) -> Record:
    """A record without the wrappings of the datasets server and of the leaderboard's own API."""
    inner = item.get("row")
    if isinstance(inner, dict):
        return inner
    evaluations, model = item.get("evaluations"), item.get("model")
    if not (isinstance(evaluations, dict) and isinstance(model, dict)):
        return item
    flat: dict[str, object] = {"fullname": model.get("name"), "Type": model.get("type")}
    flat["Precision"] = model.get("precision")
    for one in islice(evaluations.values(), 100):
        if isinstance(one, dict):
            flat[str(one.get("name"))] = one.get("normalized_score")
    features, about = item.get("features"), item.get("metadata")
    if isinstance(about, dict):
        flat["#Params (B)"] = about.get("params_billions")
    if isinstance(features, dict):
        flat["Merged"] = features.get("is_merged")
        flat["Flagged"] = features.get("is_flagged")
        flat["Official Providers"] = features.get("is_official_provider")
    return flat
