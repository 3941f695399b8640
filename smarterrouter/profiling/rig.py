"""What profiling needs of the world: models that can be asked, loaded and weighed. A port.

``assembly`` builds it over residency and the backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Model
from smarterrouter.profiling.asking import Reply


class Disturbed(Exception):
    """Somebody else needs the models: what was being asked was given up, and is asked again."""


class Weighed(Struct, frozen=True, kw_only=True):
    """What a loaded model holds by device, in bytes, three samples alike; with which context."""

    devices: Mapping[str, int]
    source: str
    context: int | None
    samples: int


class Pace(Struct, frozen=True, kw_only=True):
    """What is expected of a model's speed before it is measured: seconds, tokens a second."""

    load_s: float
    prefill_tps: float
    decode_tps: float

    def seen(self, prefill_tps: float | None, decode_tps: float | None) -> Pace:
        """The same, with the rates as far as they were measured."""
        return Pace(
            load_s=self.load_s,
            prefill_tps=prefill_tps or self.prefill_tps,
            decode_tps=decode_tps or self.decode_tps,
        )


class Rig(Protocol):
    """Everything raises ``SmarterRouterError`` with what is wrong, and ``Disturbed``."""

    def models(self) -> Sequence[Model]:
        """All that may be profiled, those that are loaded first."""

    def left_out(self) -> Mapping[str, str]:
        """Models that are profiled only by name, and why."""

    def identity(self, model: Model) -> str:
        """The model, its backend and its file, so that a changed file is another model."""

    def pace(self, model: Model) -> Pace:
        """A guess by size, for time-outs and forecasts before anything is measured."""

    def slots(self, model: Model) -> int:
        """How many requests it answers at once."""

    def context(self, model: Model) -> int | None:
        """Tokens of context that it has as it is loaded, else that it may have."""

    def loads(self, model: Model) -> bool:
        """Whether we can load and unload it."""

    async def quiet(self) -> None:
        """Return when nobody else needs the models."""

    async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
        """The answer, with the model loaded; ``limit_s`` counts from then on.

        Raises ``BackendTimeout`` when it takes longer.
        """

    async def embed(self, request: ChatRequest, model: Model, limit_s: float) -> Sequence[int]:
        """The lengths of the vectors for each text."""

    async def load(self, model: Model, context: int = 0) -> float:
        """Load it, with room for so many tokens where that can be chosen; seconds it took."""

    async def unload(self, model: Model) -> None: ...

    async def drop_cache(self, model: Model) -> bool:
        """Have its file's pages forgotten by the system; false where that cannot be done."""

    async def weigh(self, model: Model) -> Weighed | None:
        """What it holds now, once it has settled; ``None`` where that cannot be seen."""

    def larger_context(self, model: Model) -> int | None:
        """A larger context than the one in use that a load could have; ``None``: none."""
