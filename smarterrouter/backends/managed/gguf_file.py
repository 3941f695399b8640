"""Walks the header of a GGUF file: metadata and tensor list become `Facts` and `Tensors`.

Decides whether the file is whole and sane enough to be read, not what its facts mean. Tensor
data is never looked at. The file is read, not mapped: a mapped file that somebody truncates
would take the whole process down.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

PerLayer = int | tuple[int, ...] | None
Value = int | float | bool | str | tuple[int | float | bool, ...]

# Bounds that no real model comes near; they keep a hostile file cheap.
_CHUNK = 1 << 20
_HEADER_LIMIT = 64 << 20
_KEYS_LIMIT = 1 << 12
_TENSORS_LIMIT = 1 << 16
_STRINGS_LIMIT = 3 << 19
_TEXT_LIMIT = 1 << 21
KEPT_ARRAY = 1024

_SCALARS = {
    number: struct.Struct("<" + code)
    for number, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_TENSOR_INFO = tuple(struct.Struct(f"<{dimensions}QIQ") for dimensions in range(5))
_ZEROS = bytes(6)

# ggml's tensor types, `id:name:elements per block:bytes per block`.
_TENSOR_TYPE_TABLE = (
    "0:F32:1:4 1:F16:1:2 2:Q4_0:32:18 3:Q4_1:32:20 6:Q5_0:32:22 7:Q5_1:32:24 8:Q8_0:32:34 "
    "9:Q8_1:32:36 10:Q2_K:256:84 11:Q3_K:256:110 12:Q4_K:256:144 13:Q5_K:256:176 "
    "14:Q6_K:256:210 15:Q8_K:256:292 16:IQ2_XXS:256:66 17:IQ2_XS:256:74 18:IQ3_XXS:256:98 "
    "19:IQ1_S:256:50 20:IQ4_NL:32:18 21:IQ3_S:256:110 22:IQ2_S:256:82 23:IQ4_XS:256:136 "
    "24:I8:1:1 25:I16:1:2 26:I32:1:4 27:I64:1:8 28:F64:1:8 29:IQ1_M:256:56 30:BF16:1:2 "
    "34:TQ1_0:256:54 35:TQ2_0:256:66 39:MXFP4:32:17 40:NVFP4:64:36 41:Q1_0:128:18 42:Q2_0:64:18"
)
_TENSOR_TYPES = {
    int(number): (name, int(elements), int(size))
    for number, name, elements, size in (word.split(":") for word in _TENSOR_TYPE_TABLE.split())
}


class NotAModel(ValueError):
    """The file cannot be served; ``why`` is a sentence that says what is wrong with it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A walked header. ``data_start`` is where the tensors' bytes begin."""

    facts: Facts
    tensors: Tensors
    data_start: int


def read_file(path: Path) -> GgufFile:
    """Walks ``path``'s header. Raises only `NotAModel`."""
    if not path.is_file():
        raise NotAModel(path, "There is no such file.")
    try:
        with path.open("rb", buffering=0) as file:
            cursor = _Cursor(path, file, hasty=True)
            try:
                return _walk(cursor)
            except NotAModel:
                if not cursor.leapt:
                    raise
                file.seek(0)
                return _walk(_Cursor(path, file, hasty=False))
    except OSError as error:
        raise NotAModel(path, f"The file cannot be read: {error.strerror}.") from error


def _walk(cursor: _Cursor) -> GgufFile:
    tensor_count, key_count = _preamble(cursor)
    facts, tensors = Facts(), Tensors()
    for _ in range(key_count):
        key = cursor.text()
        _read_value(cursor, facts, key, cursor.u32())
    for _ in range(tensor_count):
        tensors.read(cursor)
    alignment = facts.number("general.alignment") or 32
    return GgufFile(facts, tensors, -(-cursor.pos // alignment) * alignment)


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    if cursor.bytes(4) != b"GGUF":
        raise cursor.refuse("This is not a GGUF file.")
    version = cursor.u32()
    if version & 0xFFFF == 0:
        raise cursor.refuse("This GGUF file was written for big-endian machines.")
    if version not in (2, 3):
        raise cursor.refuse(f"This is GGUF version {version}; versions 2 and 3 can be served.")
    tensors, keys = cursor.u64(), cursor.u64()
    if tensors > _TENSORS_LIMIT or keys > _KEYS_LIMIT:
        raise cursor.refuse("Its header claims more entries than any real model has.")
    return tensors, keys


class Facts(dict[str, Value]):
    """The metadata worth keeping. Of large arrays, ``lengths`` keeps only their length."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: dict[str, int] = {}

    @property
    def architecture(self) -> str | None:
        return self.text("general.architecture")

    def text(self, key: str) -> str | None:
        value = self.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> int | None:
        value = self.get(key.replace("*", self.architecture or "*"))
        return int(value) if isinstance(value, int) and value >= 0 else None

    def per_layer(self, key: str) -> PerLayer:
        value = self.get(key.replace("*", self.architecture or "*"))
        if isinstance(value, tuple):
            return tuple(max(0, int(one)) for one in value if isinstance(one, int))
        return self.number(key)


def _read_value(cursor: _Cursor, facts: Facts, key: str, kind: int) -> None:
    if kind == _STRING:
        facts[key] = cursor.text()
    elif kind in _SCALARS:
        facts[key] = cursor.unpack(_SCALARS[kind])[0]
    elif kind == _ARRAY:
        element, count = cursor.u32(), cursor.u64()
        facts.lengths[key] = count
        if element == _STRING:
            cursor.skip_strings(count)
        elif element not in _SCALARS:
            raise cursor.refuse("Its header is damaged; download it again.")
        elif count <= KEPT_ARRAY:
            facts[key] = cursor.unpack(struct.Struct(f"<{count}{_SCALARS[element].format[1:]}"))
        else:
            cursor.skip(count * _SCALARS[element].size)
    else:
        raise cursor.refuse("Its header is damaged; download it again.")


class Tensors:
    """Sums over the tensor list. Offsets and sizes are bytes from the start of the data."""

    def __init__(self) -> None:
        self.elements = 0
        self.by_type: Counter[str] = Counter()
        self.end = 0

    def read(self, cursor: _Cursor) -> None:
        cursor.skip(cursor.u64())
        dimensions = cursor.u32()
        if dimensions >= len(_TENSOR_INFO):
            raise cursor.refuse("Its list of tensors is damaged.")
        *sizes, kind, offset = cursor.unpack(_TENSOR_INFO[dimensions])
        elements = prod(sizes)
        # A type newer than this table counts as nothing: better too small than refused.
        name, block, size = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        self.elements += elements
        self.by_type[name] += elements // block * size
        self.end = max(self.end, offset + elements // block * size)


class _Cursor:
    """Walks a header, fetching more of the file only when it gets there.

    ``hasty`` passes vocabularies by counting length prefixes, which is right unless a token
    holds a row of zero bytes; then what follows makes no sense, and the slow way is taken.
    """

    def __init__(self, path: Path, file: BinaryIO, *, hasty: bool) -> None:
        self.path = path
        self.pos = 0
        self._file = file
        self._data = bytearray()
        self._hasty = hasty
        self._strings = 0
        self.leapt = False

    def refuse(self, why: str) -> NotAModel:
        return NotAModel(self.path, why)

    def skip(self, count: int) -> int:
        """Moves on by ``count`` bytes, all of them present, and says where they began."""
        start, end = self.pos, self.pos + count
        if end > len(self._data):
            self._fetch(end)
        self.pos = end
        return start

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack_from(self._data, self.skip(layout.size))

    def u32(self) -> int:
        return self.unpack(_U32)[0]

    def u64(self) -> int:
        return self.unpack(_U64)[0]

    def bytes(self, count: int) -> bytes:
        start = self.skip(count)
        return bytes(self._data[start : self.pos])

    def text(self) -> str:
        length = self.u64()
        if length > _TEXT_LIMIT:
            raise self.refuse("Its header holds a text longer than that of any real model.")
        return self.bytes(length).decode(errors="replace")

    def skip_strings(self, count: int) -> None:
        """Passes a vocabulary of ``count`` strings."""
        self._strings += count
        if self._strings > _STRINGS_LIMIT:
            raise self.refuse("Its header claims more strings than any real vocabulary has.")
        while count:
            passed = self._hasty and (self._leap(1 << 16, count) or self._leap(1 << 12, count))
            if not passed:
                passed = min(count, 1024)
                for _ in range(passed):
                    at = self.skip(8)
                    self.skip(_U64.unpack_from(self._data, at)[0])
            count -= passed

    def _leap(self, window: int, count: int) -> int:
        """Moves to the last string that begins in ``window``; how many strings that passed.

        The length prefix of a string shorter than 64 KiB ends with six zero bytes, so their
        rows are counted, at the speed of a memory scan.
        """
        while len(self._data) < self.pos + window and self._fetch_chunk():
            pass
        # Ends with a byte other than zero, so that no row is cut in two.
        ahead = self._data[self.pos : self.pos + window].rstrip(b"\0")
        rows = ahead.count(_ZEROS)
        last = self.pos + ahead.rfind(_ZEROS) - 2
        if not 1 < rows <= count or _U64.unpack_from(self._data, last)[0] >= 1 << 16:
            return 0
        self.pos, self.leapt = last, True
        return rows - 1

    def _fetch(self, end: int) -> None:
        if end > _HEADER_LIMIT:
            raise self.refuse("Its header claims to be larger than that of any real model.")
        while len(self._data) < end:
            if not self._fetch_chunk():
                raise self.refuse("The file ends inside its header; download it again.")

    def _fetch_chunk(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._data += chunk
        return bool(chunk)
