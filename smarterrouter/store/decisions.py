"""What is kept of a request: its decision, its outcome, and of its prompt a hash.

The prompt's own words are kept only where ``keep_prompt`` says so. The hash finds equal prompts
again; it does not hide a prompt that somebody can guess.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from smarterrouter.domain.chat import Message
from smarterrouter.domain.decision import RouteDecision
from smarterrouter.domain.outcomes import Outcome

SLICE = 1 << 15
"""Characters that are looked at in one go: other threads stand still meanwhile."""

_LARGEST = 1 << 40

_DECISION = (
    "id",
    "made_at",
    "virtual_model",
    "model",
    "backend",
    "category",
    "prompt_group",
    "difficulty",
    "difficulty_score",
    "prompt_tokens",
    "answer_tokens",
    "max_tokens",
    "needs",
    "quality_preference",
    "prompt_sha256",
    "prompt",
    "decision",
)
OUTCOME = Outcome.__struct_fields__


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608


_PUT_DECISION = _insert("decisions", _DECISION) + " ON CONFLICT (id) DO NOTHING"
_PUT_OUTCOME = _insert("outcomes", OUTCOME)


class Record(Struct, frozen=True):
    """One finished request on its way to the database; see ``writer.Entry``.

    A decision that is there already is left as it is: an answer out of the cache is a further
    outcome of the decision it was made under.
    """

    outcome: Outcome
    decision: RouteDecision | None = None
    messages: tuple[Message, ...] = ()
    keep_prompt: bool = False

    def weight(self) -> int:
        """Characters that are held in memory until this is written."""
        messages = self.messages
        if len(messages) == 1:
            return len(messages[0].text)
        return sum([len(message.text) for message in messages])

    def write(self, connection: sqlite3.Connection) -> None:
        if self.decision is not None:
            connection.execute(_PUT_DECISION, self._decision_row(self.decision))
        connection.execute(_PUT_OUTCOME, _outcome_row(self.outcome))

    def _decision_row(self, made: RouteDecision) -> tuple[object, ...]:
        seen, chosen = made.features, made.chosen
        return (
            made.id,
            self.outcome.started_at,
            made.virtual_model,
            chosen.model if chosen else None,
            chosen.ref.backend if chosen else None,
            seen.category,
            seen.group,
            seen.difficulty.value,
            seen.difficulty_score,
            _fitting(seen.prompt_tokens),
            _fitting(seen.answer_tokens),
            _fitting(seen.max_tokens),
            _json(sorted(seen.needs)),
            made.quality_preference,
            prompt_hash(self.messages),
            _json(self.messages) if self.keep_prompt else None,
            _json(made.as_json()),
        )


def prompt_hash(messages: Sequence[Message], size: int = SLICE) -> str:
    """SHA-256 of who says what, with every run of white space as one space and none at the ends.

    Each message goes in as its role, byte 1F, its text and byte 1E. Images do not count.
    """
    digest = sha256()
    for message in messages:
        digest.update(message.role.encode("utf-8", "surrogatepass") + b"\x1f")
        for piece in _normalised(message.text, size):
            digest.update(piece.encode("utf-8", "surrogatepass"))
        digest.update(b"\x1e")
    return digest.hexdigest()


def _normalised(text: str, size: int) -> Iterator[str]:
    """``" ".join(text.split())`` in pieces: of a long text that takes too long in one go."""
    if len(text) <= size:
        yield " ".join(text.split())
        return
    begun = gap = False
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        words = " ".join(piece.split())
        if words:
            if begun and (gap or piece[0].isspace()):
                yield " "
            yield words
            begun, gap = True, piece[-1].isspace()
        else:
            gap = True


def _outcome_row(outcome: Outcome) -> tuple[object, ...]:
    return (
        outcome.request_id,
        outcome.decision_id,
        outcome.started_at,
        outcome.endpoint.value,
        outcome.caller,
        outcome.virtual_model,
        outcome.model,
        outcome.backend,
        outcome.streamed,
        outcome.status.value,
        outcome.duration_s,
        outcome.ttft_s,
        outcome.queue_s,
        outcome.load_s,
        _fitting(outcome.prompt_tokens),
        _fitting(outcome.completion_tokens),
        outcome.error,
        _json(outcome.tried),
        outcome.response_id,
    )


def _fitting(number: int | None) -> int | None:
    """A number that SQLite can hold and add up: clients and backends may write any."""
    return number if number is None else max(-_LARGEST, min(number, _LARGEST))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
