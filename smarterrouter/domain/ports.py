"""What the wings need of the world and of each other, as protocols.

``assembly`` hands concrete parts in; tests hand in fakes that implement the same ports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import GpuDevice, MemorySnapshot
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    ModelRef,
    Placement,
    Placing,
)
from smarterrouter.domain.shape import Layout

Lost = Callable[[ModelRef, str], None]
"""Called when a loaded model is gone without anybody asking: (model, reason)."""

ANYWHERE = Placement()

Blocks = AsyncIterator[bytes]
"""An answer on its way: each item is one or more whole SSE events, the last ``[DONE]``.

For embeddings it is one JSON body instead.
"""


class Backend(Protocol):
    """A place where models run.

    ``node`` names the machine whose devices it uses. ``capabilities`` says what can be
    asked of it: ``LOAD`` and ``UNLOAD`` where it lets us manage memory.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def capabilities(self) -> frozenset[Capability]: ...
    @property
    def placing(self) -> Placing: ...

    async def models(self) -> tuple[Model, ...]:
        """Every model it offers now. Raises ``Unavailable`` when it cannot be reached."""

    async def version(self) -> str | None:
        """What runs there, with its version; ``None`` where it does not say.

        Raises as ``models`` does.
        """

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        """The ids of those ``devices`` of its node that the model may lie on; empty: unknown."""

    def layout(self, name: str, context: int = 0) -> Layout | None:
        """How the model would lie in memory, for a request that needs ``context`` tokens.

        ``None`` where too little is known of it to estimate its size.
        """

    def context_for(self, name: str, context: int) -> int:
        """The tokens of context that a load for a request of ``context`` tokens would choose now;
        0 where loading cannot choose. Cheap: demands are kept by it."""

    def context_need(self, request: ChatRequest, model: Model) -> int:
        """Tokens of context that the request needs, where loading can choose; else 0."""

    def processes(self, name: str) -> tuple[int, ...]:
        """The pids (of this machine) that hold the model and nothing else; empty: unknown."""

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        """Make the model ready; its footprint where it can be seen. Idempotent.

        A resident model whose context is too short for the placement's is loaded anew.
        Raises ``BackendError`` or ``BackendTimeout`` with the backend's own words.
        """

    async def unload(self, name: str) -> None:
        """Give the model's memory back; returns when it is seen to be gone. Idempotent.

        Raises as ``load`` does when it is not: then nobody knows what it holds.
        """

    async def drop_cache(self, name: str) -> bool:
        """Have the system forget what it has read of the model's file, so that the next load is
        one from the disk; false where that cannot be done. The model is not loaded."""

    def stream(self, request: ChatRequest, model: Model) -> AbstractAsyncContextManager[Blocks]:
        """Ask for an answer. Entering waits for its first event, so that a refusal is an
        exception here and not a broken stream later; leaving stops the generation.

        Raises ``BadRequest`` when the request is at fault, and ``Overloaded``,
        ``BackendError``, ``Unavailable`` or ``BackendTimeout`` when the backend is.
        """

    def watch(self, lost: Lost) -> None:
        """Have ``lost`` called when a model goes away by itself."""

    async def aclose(self) -> None:
        """Let go of connections and end what was started."""


class Lease(Protocol):
    """One in-flight use of a resident model; it cannot be evicted while this is held.

    ``waited_s`` is how long it took to get, ``loading_s`` the part of it that the model loaded.
    """

    @property
    def model(self) -> ModelRef: ...
    @property
    def waited_s(self) -> float: ...
    @property
    def loading_s(self) -> float: ...


class Leases(Protocol):
    """Where the walk asks for a model to be there, and to stay."""

    def lease(
        self, model: ModelRef, caller: str, context: int = 0
    ) -> AbstractAsyncContextManager[Lease]:
        """Wait until the model is ready, loading and evicting as needed.

        ``context`` is the tokens that the request needs, where loading can choose.

        Raises ``InsufficientVram``, ``Overloaded``, ``BackendError`` or ``BackendTimeout``.
        """


class GpuProbe(Protocol):
    """One way of seeing devices. Blocking, so it is asked from a thread."""

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        """What each device holds now; empty where this kind of device is absent.

        Never raises. A device that was seen before and has gone is told with unknown figures.
        """


class Clock(Protocol):
    """The only thing that reads time. Seconds, never going back."""

    def now(self) -> float: ...
