"""Server-sent events as bytes: where one ends, and what its data is.

Decides nothing about meaning. Events are cut at blank lines (LF or CRLF) and kept as they came.
"""

from __future__ import annotations

from collections.abc import Iterator

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


class Splitter:
    """Turns a byte stream, cut anywhere, into runs of whole events."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All whole events so far; what is left of the last one stays in ``rest``."""
        data = self.rest + data if self.rest else data
        if data.endswith(b"\n\n"):
            self.rest = b""
            return data
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if end < 4 and not data.startswith(b"\n\n"):
            self.rest = data
            return b""
        self.rest = data[end:]
        return data[:end]


def ends(block: bytes) -> bool:
    """Whether the last of these events is ``[DONE]``: the stream is over, and well."""
    return block[-32:].rstrip().endswith((b"data: [DONE]", b"data:[DONE]"))


def split(block: bytes) -> Iterator[bytes]:
    """Each event of a run of whole events, with its blank line."""
    for event in _pieces(block):
        if event.strip(b"\n"):
            yield event + b"\n\n"


def data_of(event: bytes) -> bytes | None:
    """The event's data, its lines joined; ``None`` for a comment or an event without any."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line[:5] == b"data:"]
    return b"\n".join(lines) if lines else None


def datas(block: bytes) -> Iterator[bytes]:
    """The data of each event in a run of whole events; comments are passed over."""
    for event in _pieces(block):
        if event.startswith(b"data: ") and b"\n" not in event:
            yield event[6:].strip()
        elif (data := data_of(event)) is not None:
            yield data.strip()


def event(data: bytes) -> bytes:
    """One event that carries ``data`` (without line breaks)."""
    return b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A line that keeps a connection open and that clients pass over."""
    return b": " + text.replace("\n", " ").encode() + b"\n\n"


def _pieces(block: bytes) -> list[bytes]:
    return (block.replace(b"\r\n", b"\n") if b"\r" in block else block).split(b"\n\n")
