"""Simulated cards, and backends on them that are slow, break their word and lose models.

This is the truth: which bytes lie on which card, and which models are really there. What the
scheduler believes of it is its own affair. Bytes throughout, seconds by the event loop's clock.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.devices import GpuDevice
from smarterrouter.domain.models import (
    Capability,
    Footprint,
    Model,
    ModelRef,
    Placement,
    Placing,
)
from smarterrouter.domain.ports import ANYWHERE, Blocks, Lost
from smarterrouter.domain.shape import Layout
from smarterrouter.errors import BackendError

GB = 10**9
USUAL_CONTEXT = 4096
FOREIGN = 0
"""The process that stands for all programs that are not ours."""

_pids = itertools.count(1)


class Cards:
    """Memories of a certain size, and what each process holds there."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.held: dict[str, dict[int, int]] = {card: {} for card in sizes}
        self.overruns: list[str] = []

    def used(self, card: str) -> int:
        return sum(self.held[card].values())

    def free(self, card: str) -> int:
        return self.sizes[card] - self.used(card)

    def take(self, pid: int, share: Mapping[str, int]) -> bool:
        """Have the process hold this from now on; false, and nothing changes, without room."""
        for card, count in share.items():
            if count - self.held[card].get(pid, 0) > self.free(card):
                self.overruns.append(f"{count} bytes on {card}, {self.free(card)} free")
                return False
        for card, count in share.items():
            self.held[card][pid] = count
        return True

    def give(self, pid: int) -> None:
        """The process has gone, and all it held is free."""
        for holders in self.held.values():
            holders.pop(pid, None)

    def of(self, pids: Collection[int]) -> dict[str, int]:
        """What these processes hold together, by card."""
        sums = {card: sum(h.get(pid, 0) for pid in pids) for card, h in self.held.items()}
        return {card: count for card, count in sums.items() if count}

    def foreign(self, card: str, count: int) -> None:
        """Other programs take or give back memory; they get no more than is free."""
        room = self.free(card) + self.held[card].get(FOREIGN, 0)
        self.held[card][FOREIGN] = min(count, room)


class Eyes:
    """Implements ``weighing.Devices``: sees every card and every process as it is."""

    def __init__(self, cards: Cards, samples: int = 3, every_s: float = 0.2) -> None:
        self._cards = cards
        self._samples, self._every_s = samples, every_s

    def busy(self) -> nullcontext[None]:
        return nullcontext()

    async def used(self, devices: Collection[str]) -> dict[str, int | None]:
        await asyncio.sleep(0)
        return {device: self._cards.used(device) for device in devices}

    async def settled(self, devices: Collection[str]) -> dict[str, int | None]:
        row = [await self.used(devices)]
        for _ in range(int(5.0 / self._every_s)):
            await asyncio.sleep(self._every_s)
            row.append(await self.used(devices))
            if all(one == row[-1] for one in row[-self._samples :]):
                break
        return row[-1]

    async def of_processes(self, pids: Collection[int], devices: Collection[str]) -> dict[str, int]:
        await asyncio.sleep(0)
        return {card: count for card, count in self._cards.of(pids).items() if card in devices}


@dataclass(frozen=True, slots=True)
class Build:
    """A model: what is ``planned`` for it with its usual context, and how much more it takes.

    ``per_token`` is the memory for each further token; 0 means its context is never the matter.
    """

    name: str
    planned: int
    more: int = 0
    per_token: int = 0

    def bytes(self, context: int) -> int:
        """What is planned for the model with this context."""
        return self.planned + self.per_token * max(0, context - USUAL_CONTEXT)

    def context(self, wanted: int) -> int | None:
        return max(wanted, USUAL_CONTEXT) if self.per_token else None


@dataclass(slots=True)
class Resident:
    """A model that is really there. ``ours``: we have asked for it."""

    pid: int
    context: int | None
    share: Mapping[str, int]
    spilled: int = 0
    ours: bool = True


class UnrulyBackend:
    """Implements ``ports.Backend``. What it shall do wrong next is set from outside.

    ``sees_pids``: its models have processes of their own that can be weighed. ``reports``: a load
    tells its size. ``asked_to_unload`` is called with each model that is to go, as it is asked.
    """

    kind = "fake"
    node = "local"
    capabilities = frozenset({Capability.LOAD, Capability.UNLOAD})

    def __init__(
        self,
        name: str,
        cards: Cards,
        builds: Sequence[Build],
        placing: Placing = Placing.CHOSEN,
        *,
        sees_pids: bool = False,
        reports: bool = False,
        lists: bool = False,
    ) -> None:
        self.name = name
        self.placing = placing
        self.builds = {build.name: build for build in builds}
        self.lists = lists
        self.resident: dict[str, Resident] = {}
        self.loads: list[str] = []
        self.complaints: list[str] = []
        self.asked_to_unload: Callable[[ModelRef], None] = lambda ref: None
        self._cards = cards
        self._sees_pids, self._reports = sees_pids, reports
        self._busy: dict[str, str] = {}
        self._lost: Lost = lambda model, reason: None
        self.heal()

    def heal(self) -> None:
        """From now on it does all it is asked, in reasonable time."""
        self.load_s, self.unload_s, self.freed_after_s = 1.0, 0.2, 0.0
        self.fails_to_load: set[str] = set()
        self.fails_to_unload: dict[str, bool] = {}

    # what residency asks of it

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        self.loads.append(name)
        with self._alone(name, "load"):
            there = self.resident.get(name)
            if there is not None and placement.context <= (there.context or placement.context):
                await asyncio.sleep(0.01)
                there.ours = True
            else:
                if there is not None:
                    await self._stop(name, there)
                await self._begin(self.builds[name], placement)
        return self._footprint(name)

    async def unload(self, name: str) -> None:
        self.asked_to_unload(ModelRef(self.name, name))
        with self._alone(name, "unload"):
            await asyncio.sleep(self.unload_s)
            stays = self.fails_to_unload.pop(name, None)
            if not stays:
                self.drop(name)
            if stays is not None:
                raise BackendError(f"{name} does not answer")

    def processes(self, name: str) -> tuple[int, ...]:
        there = self.resident.get(name)
        return (there.pid,) if there and self._sees_pids else ()

    def watch(self, lost: Lost) -> None:
        self._lost = lost

    # what it does by itself

    def drop(self, name: str) -> None:
        """The model goes; its memory is free a while after."""
        there = self.resident.pop(name, None)
        if there is None:
            return
        if self.freed_after_s:
            asyncio.get_running_loop().call_later(self.freed_after_s, self._cards.give, there.pid)
        else:
            self._cards.give(there.pid)

    def crash(self, name: str) -> None:
        """The model is gone, and everybody is told."""
        there = self.resident.pop(name)
        self._cards.give(there.pid)
        self._lost(ModelRef(self.name, name), "it crashed")

    def load_for_others(self, name: str) -> None:
        """Somebody else has the model loaded, where there is room."""
        build, pid = self.builds[name], next(_pids)
        share, spilled = self._roomiest(build.planned + build.more)
        if name not in self.resident and name not in self._busy and not spilled:
            self._cards.take(pid, share)
            self.resident[name] = Resident(pid, build.context(0), share, ours=False)

    def settled(self) -> dict[str, Resident]:
        """Models that are there and that are neither being loaded nor unloaded."""
        return {name: one for name, one in self.resident.items() if name not in self._busy}

    def listing(self) -> dict[str, Footprint | None]:
        """What it says of each model at this moment: what it holds, or that it is not there."""
        return {name: self._told(self.resident.get(name)) for name in self.builds}

    # inside

    async def _begin(self, build: Build, placement: Placement) -> None:
        pid = next(_pids)
        try:
            await asyncio.sleep(self.load_s / 2)
            if build.name in self.fails_to_load:
                self.fails_to_load.discard(build.name)
                raise BackendError(f"{build.name} is not what it was")
            share, spilled = self._where(build, placement)
            self._take(pid, {card: count // 2 for card, count in share.items()})
            await asyncio.sleep(self.load_s / 2)
            self._take(pid, share)
        except BaseException:
            self._cards.give(pid)
            raise
        context = build.context(placement.context)
        self.resident[build.name] = Resident(pid, context, share, spilled)

    async def _stop(self, name: str, there: Resident) -> None:
        """To make way for the same model with more context."""
        if self.fails_to_unload.pop(name, False):
            raise BackendError(f"{name} does not answer")
        del self.resident[name]
        await asyncio.sleep(self.freed_after_s)
        self._cards.give(there.pid)

    def _take(self, pid: int, share: Mapping[str, int]) -> None:
        if not self._cards.take(pid, share):
            raise BackendError("out of memory")

    def _where(self, build: Build, placement: Placement) -> tuple[dict[str, int], int]:
        """Bytes by card, and those for which there is no room on any."""
        if not placement.share:
            return {}, 0
        if self.placing is Placing.ROOMIEST:
            return self._roomiest(build.bytes(placement.context) + build.more)
        planned = sum(placement.share.values())
        more = build.more + (build.bytes(placement.context) - planned if build.more else 0)
        first = next(iter(placement.share))
        return {**placement.share, first: max(0, placement.share[first] + more)}, 0

    def _roomiest(self, count: int) -> tuple[dict[str, int], int]:
        """One card, or else all that there is."""
        room = {card: max(0, self._cards.free(card)) for card in self._cards.sizes}
        best = max(room, key=lambda card: room[card])
        if room[best] >= count:
            return {best: count}, 0
        share: dict[str, int] = {}
        for card, free in room.items():
            share[card] = min(free, count - sum(share.values()))
        return share, count - sum(share.values())

    def _footprint(self, name: str) -> Footprint | None:
        there = self.resident.get(name)
        if there is None or there.spilled or self._reports:
            return self._told(there)
        planned = sum(there.share.values()) - self.builds[name].more
        return Footprint(planned, "estimated", context=there.context)

    def _told(self, there: Resident | None) -> Footprint | None:
        if there is None:
            return None
        count = sum(there.share.values())
        return Footprint(count, "reported", there.spilled, there.context)

    @contextmanager
    def _alone(self, name: str, what: str) -> Iterator[None]:
        """Nobody may ask anything of a model while it is being loaded or unloaded."""
        if name in self._busy:
            self.complaints.append(f"{what} of {name} during its {self._busy[name]}")
        self._busy[name] = what
        try:
            yield
        finally:
            self._busy.pop(name, None)

    # what nobody asks of it here

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def version(self) -> str | None:
        return None

    def reach(self, name: str, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
        return tuple(device.id for device in devices)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        return None

    def context_for(self, name: str, context: int) -> int:
        return 0

    def context_need(self, request: ChatRequest, model: Model) -> int:
        return 0

    async def drop_cache(self, name: str) -> bool:
        return False

    def stream(self, request: ChatRequest, model: Model) -> AbstractAsyncContextManager[Blocks]:
        raise BackendError("a fake has nothing to say")

    async def aclose(self) -> None:
        return None


class SelfManaged(UnrulyBackend):
    """Loads and unloads as it sees fit; nobody is to ask that of it."""

    capabilities = frozenset()

    async def load(self, name: str, placement: Placement = ANYWHERE) -> Footprint | None:
        self.complaints.append(f"{name} manages itself and was asked to load")
        return None

    async def unload(self, name: str) -> None:
        self.complaints.append(f"{name} manages itself and was asked to unload")
