"""A stream of chunks as the one JSON body it stands for, for clients that asked for no stream.

Decides how chunks add up: texts are joined, lists go on, tool calls are put together by their
index, and of everything else the last word counts. Fields nobody here knows survive.
"""

from __future__ import annotations

from typing import Any

import msgspec

JOINED = frozenset({"content", "reasoning_content", "reasoning", "refusal", "text", "arguments"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Collector:
    """Feed it each chunk's data; ``body`` is the answer so far."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, data: bytes) -> None:
        """Raises ``msgspec.DecodeError`` when the data is not a JSON object."""
        chunk = _decode(data)
        for choice in chunk.pop("choices", None) or ():
            known = self._choices.setdefault(choice.get("index", 0), {})
            merge(known, choice)
        if None in chunk.values():
            chunk = {key: value for key, value in chunk.items() if value is not None}
        if "id" in self._top:
            chunk["id"] = self._top["id"]
        self._top |= chunk

    def body(self) -> bytes:
        chunked = self._top.get("object") == "chat.completion.chunk"
        answer = {**self._top, "object": "chat.completion"} if chunked else dict(self._top)
        ordered = [self._choices[index] for index in sorted(self._choices)]
        answer["choices"] = [_whole(choice) for choice in ordered]
        return msgspec.json.encode(answer)


def merge(known: dict[str, Any], new: dict[str, Any]) -> None:
    """Add a later piece of the same object to what is known of it."""
    for key, value in new.items():
        old = known.get(key)
        if value is None:
            known.setdefault(key, None)
        elif old is None:
            known[key] = _indexed([], value) if key == "tool_calls" else value
        elif key == "tool_calls":
            known[key] = _indexed(old, value)
        elif key in JOINED and isinstance(old, str) and isinstance(value, str):
            known[key] = old + value
        elif isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            old.extend(value)
        else:
            known[key] = value


def _indexed(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls with more pieces of them, put together by index.

    A piece without an index begins a new call if it has an id, and else goes on with the last.
    """
    for piece in pieces:
        last = calls[-1]["index"] if calls else -1
        index = piece.get("index")
        if index is None:
            index = last + 1 if piece.get("id") or last < 0 else last
        known = next((call for call in calls if call["index"] == index), None)
        if known is None:
            calls.append({**piece, "index": index})
        else:
            merge(known, piece)
    return calls


def _whole(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice with its deltas as a message."""
    if "delta" not in choice:
        return choice
    message = {"role": "assistant", "content": None, **choice["delta"]}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
        message["content"] = message["content"] or None
    rest = {key: value for key, value in choice.items() if key != "delta"}
    return {"finish_reason": None, **rest, "message": message}
