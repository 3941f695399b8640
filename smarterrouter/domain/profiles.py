"""What is kept of profiling: answers, figures, and which models are done. Decides nothing.

``identity`` says which model on which backend, and which file of it: a changed file is another
model. Seconds are lengths of time, ``at`` is Unix time, unknown is ``None``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

_T = TypeVar("_T", bound=Struct)


class Depth(StrEnum):
    """How thoroughly a model was profiled."""

    QUICK = "quick"
    FULL = "full"


class Answer(Struct, frozen=True, kw_only=True):
    """One answer to one task. ``subject`` is the model's id; that of a model that can think, asked
    not to, is the id and ``#no-think``.

    ``task`` changes with the task's wording and checker, ``task_id`` does not. ``score`` is
    ``None`` where the answer was not measured; ``why`` says so, or how it was judged. ``text`` is
    the answer without its reasoning.
    """

    identity: str
    subject: str
    task: str
    task_id: str
    group: str
    level: str
    prompt: str
    score: float | None
    how: str
    why: str
    text: str
    prompt_tokens: int | None
    answer_tokens: int | None
    seconds: float
    at: float


class Figures(Struct, frozen=True, kw_only=True):
    """What was measured in one step of profiling: ``body`` is that step's own JSON."""

    identity: str
    step: str
    body: Raw
    at: float


def in_form(body: bytes | Raw | None, kind: type[_T]) -> _T | None:
    """A body as its step writes it; what an older version wrote in another form is not known."""
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class ProfiledModel(Struct, frozen=True, kw_only=True):
    """A model that profiling has dealt with. ``done`` once nothing is left to do at its depth.

    ``failure`` says why it was given up; it is tried again the next time.
    """

    identity: str
    model: str
    backend: str
    depth: Depth
    done: bool
    failure: str | None
    at: float
    size_bytes: int | None = None
    parameters: int | None = None
    quantization: str | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()


class PairVerdict(Struct, frozen=True, kw_only=True):
    """What a judge said of two answers to a task, in this order; ``None`` is nothing readable.

    ``key`` changes with the answers. ``first`` and ``second`` are subjects, ``verdict`` is A, B or
    tie.
    """

    judge: str
    key: str
    task: str
    first: str
    second: str
    verdict: str | None
    why: str
    at: float


ProfileRecord = Answer | Figures | ProfiledModel | PairVerdict


class ProfileNotes(Protocol):
    """Where profiling keeps what it finds out. Reads may block, so they are made in threads."""

    async def keep(self, record: ProfileRecord) -> None:
        """Return once it is written, in the place of an earlier one of the same thing.

        Raises ``Unavailable`` when it cannot be.
        """

    async def forget(self, identity: str) -> None:
        """Everything of one model."""

    def models(self) -> Sequence[ProfiledModel]: ...

    def answers(self, identity: str | None = None) -> Sequence[Answer]:
        """Of one model, or of all, in the order in which they came."""

    def figures(self, identity: str | None = None) -> Sequence[Figures]: ...

    def verdicts(self, judge: str) -> Sequence[PairVerdict]: ...
