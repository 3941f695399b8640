"""The life of a model in memory, as a table. Decides which moves are legal, and nothing else.

The diagram in docs/residency.md and the tests are read from ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Residency(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class Move(StrEnum):
    LOAD = "load"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    UNLOAD = "unload"
    UNLOADED = "unloaded"
    UNLOAD_FAILED = "unload failed"
    RELOAD = "reload"
    LOST = "lost"
    ADOPT = "adopt"


TABLE: Mapping[tuple[Residency, Move], Residency] = MappingProxyType(
    {
        (Residency.UNLOADED, Move.LOAD): Residency.LOADING,
        (Residency.UNLOADED, Move.ADOPT): Residency.READY,
        (Residency.LOADING, Move.LOADED): Residency.READY,
        (Residency.LOADING, Move.LOAD_FAILED): Residency.FAILED,
        (Residency.READY, Move.UNLOAD): Residency.UNLOADING,
        (Residency.READY, Move.RELOAD): Residency.LOADING,
        (Residency.READY, Move.LOST): Residency.UNLOADED,
        (Residency.UNLOADING, Move.UNLOADED): Residency.UNLOADED,
        (Residency.UNLOADING, Move.UNLOAD_FAILED): Residency.FAILED,
        (Residency.FAILED, Move.LOAD): Residency.LOADING,
        (Residency.FAILED, Move.ADOPT): Residency.READY,
        (Residency.FAILED, Move.UNLOAD): Residency.UNLOADING,
        (Residency.FAILED, Move.LOST): Residency.UNLOADED,
    }
)


class IllegalMove(Exception):
    """A move the table does not have; nothing was changed."""


def advance(state: Residency, move: Move) -> Residency:
    """The state after ``move``. Raises ``IllegalMove`` where the table has no such move."""
    try:
        return TABLE[state, move]
    except KeyError:
        raise IllegalMove(f"a model that is {state} cannot be moved by '{move}'") from None
