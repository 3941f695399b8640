"""What each model takes when it is loaded: measured, reported, estimated or the default.

What was learned is kept for the model as it was then: the same file, context, slots and cache
types. Measured beats reported, and both beat an estimate. An estimate is reserved with a margin.
What was measured by comparing a device before and after a load (``COMPARED``) may be too much by
what others took meanwhile: it is reserved, but a model is never called too large for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from msgspec import structs

from smarterrouter.assembly.machines import Machines
from smarterrouter.config import Settings
from smarterrouter.domain.devices import HOST
from smarterrouter.domain.models import Capability, Model, ModelRef
from smarterrouter.domain.ports import Backend
from smarterrouter.domain.shape import Layout
from smarterrouter.residency.demand import Demand
from smarterrouter.residency.events import Held
from smarterrouter.residency.footprint import estimate, split_overhead_bytes
from smarterrouter.residency.weighing import NEAR_MOST

MARGIN = 1.1
"""An estimate may be too low by this much before a budget is passed."""

COMPARED = "compared"
RANK = {"measured": 3, COMPARED: 2, "reported": 1}

Learned = tuple[int, str]
"""Bytes of a model on one device, and how we know."""


class Demands:
    """See above. ``known`` is what was learned before, by ``key``."""

    def __init__(
        self,
        settings: Settings,
        backends: Mapping[str, Backend],
        machines: Machines,
        model_of: Callable[[ModelRef], Model | None],
        keep: Callable[[str, int, str], None] = lambda name, count, source: None,
    ) -> None:
        """``keep`` is called with what is to be known after a restart."""
        self._keep = keep
        self.known: dict[str, Learned] = {}
        self._default = int(settings.vram.default_estimate_gb * 1e9)
        self._backends = backends
        self._machines = machines
        self._model_of = model_of
        self._made: dict[tuple[ModelRef, int], Demand | None] = {}

    def of(self, ref: ModelRef, context: int = 0) -> Demand | None:
        """What the model takes; ``None`` where its backend manages its own memory."""
        asked = (ref, self._chosen(ref, context))
        if asked not in self._made:
            self._made[asked] = self._demand(ref, context)
        return self._made[asked]

    def learn(self, ref: ModelRef, context: int, held: Held) -> None:
        """What a loaded model was seen to hold."""
        source = held.source if held.certain else COMPARED
        count = sum(held.share.values())
        if source not in RANK or not count:
            return
        _, layout = self._laid_out(ref, context)
        count -= self._split_bytes(layout) * len(held.share) if len(held.share) > 1 else 0
        name = self._key(ref, context, layout)
        known = self.known.get(name)
        if known and known[1] == source and _grows(layout):  # it is measured from the start
            count = max(count, known[0])
        if known != (count, source) and _better(count, source, known):
            self.known[name] = (count, source)
            self._keep(name, count, source)
            self.forget()

    def forget(self) -> None:
        """Models, backends or devices may have changed: put every demand together anew."""
        self._made.clear()

    def _demand(self, ref: ModelRef, context: int) -> Demand | None:
        backend = self._backends[ref.backend]
        if Capability.LOAD not in backend.capabilities:
            return None
        devices, layout = self._laid_out(ref, context)
        made = self._bytes(ref, context, layout)
        if made.source == "default" and devices:
            made = Demand(min(made.bytes, self._most(devices)), "default")
        return structs.replace(
            made,
            devices=devices,
            placing=backend.placing,
            split_bytes=self._split_bytes(layout),
            grows=_grows(layout),
        )

    def _laid_out(self, ref: ModelRef, context: int) -> tuple[tuple[str, ...], Layout | None]:
        """On which devices the model may lie, and how it would lie there."""
        backend = self._backends[ref.backend]
        there = self._machines.of_node(backend.node)
        devices = backend.reach(ref.name, there)
        layout = backend.layout(ref.name, context)
        if layout is None:
            return devices, None
        in_ram = bool(devices) and all(d.vendor == HOST for d in there if d.id in devices)
        model = self._model_of(ref)
        embeds = model is not None and Capability.EMBEDDING in model.capabilities
        return devices, replace(layout, on_gpu=layout.on_gpu and not in_ram, embeds=embeds)

    def _bytes(self, ref: ModelRef, context: int, layout: Layout | None) -> Demand:
        known = self.known.get(self._key(ref, context, layout))
        if known is not None and known[1] != COMPARED:
            return Demand(*known)
        guess = estimate(layout) if layout else None
        if known is not None:
            least = guess.bytes if guess else int(known[0] / NEAR_MOST)
            return Demand(known[0], "measured", least_bytes=min(known[0], least))
        if guess is None:
            return Demand(self._default, "default")
        return Demand(int(guess.bytes * MARGIN), guess.source, least_bytes=guess.bytes)

    def _most(self, devices: tuple[str, ...]) -> int:
        """A model of unknown size is taken to fit where one could: it may be smaller."""
        limits = self._machines.limits()
        return max((one.budget_bytes for d in devices if (one := limits.get(d))), default=0)

    def _key(self, ref: ModelRef, context: int, layout: Layout | None) -> str:
        model = self._model_of(ref)
        file = (model.digest or model.size_bytes) if model else None
        if layout is None:
            return f"{ref}|{file}|{self._chosen(ref, context)}"
        cache = f"{layout.cache_type_k}/{layout.cache_type_v}"
        return f"{ref}|{file}|{layout.context}x{layout.parallel}|{cache}|{layout.on_gpu}"

    def _chosen(self, ref: ModelRef, context: int) -> int:
        return self._backends[ref.backend].context_for(ref.name, context)

    @staticmethod
    def _split_bytes(layout: Layout | None) -> int:
        return split_overhead_bytes(layout) if layout else 0


def _better(count: int, source: str, known: Learned | None) -> bool:
    """Whether a figure is believed rather than the one that is known."""
    if known is None or RANK[source] >= RANK[known[1]]:
        return True
    return known[1] == COMPARED and count > known[0]  # its backend had to put some of it elsewhere


def _grows(layout: Layout | None) -> bool:
    """In RAM only pages that were touched count, and not all are at once."""
    return layout is not None and not layout.on_gpu
