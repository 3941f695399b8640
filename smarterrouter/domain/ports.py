"""What the wings need of the world and of each other, as protocols.

``assembly`` hands concrete parts in; tests hand in fakes that implement the same ports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.domain.models import Capability, Footprint, Model, ModelRef

Lost = Callable[[ModelRef, str], None]
"""Called when a loaded model is gone without anybody asking: (model, reason)."""

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

    async def models(self) -> tuple[Model, ...]:
        """Every model it offers now. Raises ``Unavailable`` when it cannot be reached."""

    async def version(self) -> str | None:
        """What runs there, with its version; ``None`` where it does not say.

        Raises as ``models`` does.
        """

    async def load(self, name: str) -> Footprint | None:
        """Make the model ready; its footprint where it can be seen. Idempotent.

        Raises ``BackendError`` or ``BackendTimeout`` with the backend's own words.
        """

    async def unload(self, name: str) -> None:
        """Give the model's memory back; returns when it is seen to be gone. Idempotent."""

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
    """One in-flight use of a resident model; it cannot be evicted while this is held."""

    @property
    def model(self) -> ModelRef: ...


class Leases(Protocol):
    """Where the walk asks for a model to be there, and to stay."""

    def lease(self, model: ModelRef, caller: str) -> AbstractAsyncContextManager[Lease]:
        """Wait until the model is ready, loading and evicting as needed.

        Raises ``InsufficientVram``, ``Overloaded``, ``BackendError`` or ``BackendTimeout``.
        """


class GpuProbe(Protocol):
    """One way of seeing devices."""

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        """What each device holds now; empty where this kind of device is absent."""


class Clock(Protocol):
    """The only thing that reads time. Seconds, never going back."""

    def now(self) -> float: ...
