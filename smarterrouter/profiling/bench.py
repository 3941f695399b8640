"""What profiling is done with, and what is wanted of it. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from smarterrouter.domain.ports import Clock
from smarterrouter.domain.profiles import Depth, ProfileNotes
from smarterrouter.profiling.events import Tell
from smarterrouter.profiling.rig import Rig
from smarterrouter.profiling.sandbox import Sandbox
from smarterrouter.profiling.task import Task


class Options(Struct, frozen=True, kw_only=True):
    """``wanted`` are ids of models, empty for all. The tasks of ``always`` are always asked; of
    ``tasks`` as many as it takes. ``force`` begins every model anew, ``restart`` those that are
    unfinished."""

    depth: Depth = Depth.FULL
    wanted: tuple[str, ...] = ()
    force: bool = False
    restart: bool = False
    tasks: tuple[Task, ...] = ()
    always: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """``sandbox`` runs code that models write; without one it is only read. ``wall`` gives Unix
    seconds."""

    rig: Rig
    notes: ProfileNotes
    clock: Clock
    options: Options
    tell: Tell = lambda event: None
    sandbox: Sandbox | None = None
    wall: Callable[[], float] = time.time
