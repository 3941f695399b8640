"""A scheduler with cards, backends and people around it, in virtual time; and what is true of them.

Checks nothing. ``on_grant`` is called with every request that gets its lease, ``on_notice`` after
every look at the devices or listing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from smarterrouter.domain.models import Footprint, ModelRef, Placing
from smarterrouter.errors import SmarterRouterError
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import Held, Limits, Reading
from smarterrouter.residency.ledger import DeviceLimit, VramLedger
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.room import Rules
from smarterrouter.residency.scheduler import BY_HAND, Scheduler
from smarterrouter.residency.weighing import unexplained
from tests.fakes.machine import GB, Build, Cards, Eyes, SelfManaged, UnrulyBackend
from tests.support.virtual_time import VirtualLoop

BUFFER, KEPT, SPLIT = GB, 2 * GB, GB // 2
"""What stays free of each card, what the budget leaves of it, what each part of a split adds."""
LOOK_S, LIST_S, NET_S = 2.0, 5.0, 0.5

BOXED, ROOMY, BROAD, CLOUD = "boxed", "roomy", "broad", "cloud"
"""Children that we place and weigh; one that places and evicts by itself and lists what is there;
one that spreads over all cards; one that manages its own memory."""


@dataclass(slots=True, eq=False)
class Client:
    """One request, as its caller sees it.

    ``allowed`` is how often each other caller may be served before it: once, and once more for
    each request of its own caller before it. ``passed`` is how often it was. ``fickle``: it hangs
    up in the moment in which it is served. ``orphan``: the model went away under it.
    """

    ref: ModelRef
    caller: str
    context: int
    hold_s: float
    since: float
    allowed: int
    state: str = "waiting"
    fickle: bool = False
    orphan: bool = False
    granted: bool = False
    error: SmarterRouterError | None = None
    passed: Counter[str] = field(default_factory=Counter)
    task: asyncio.Task[None] | None = None


class House:
    """See above. ``settle`` and ``let_pass`` move time; all else happens at once."""

    def __init__(
        self,
        cards: Mapping[str, int],
        backends: Mapping[str, list[Build]],
        limits: Limits,
        rules: Rules,
        conduct: Callable[[ModelRef], Conduct],
    ) -> None:
        self.loop = VirtualLoop()
        self.cards = Cards(cards)
        self.backends = {name: self._backend(name, builds) for name, builds in backends.items()}
        self.refs = [ModelRef(n, b) for n, backend in self.backends.items() for b in backend.builds]
        self.clients: list[Client] = []
        self.pinned: set[ModelRef] = set()
        self.sent_away: set[ModelRef] = set()
        self.on_grant: Callable[[Client], None] = lambda client: None
        self.on_notice: Callable[[], None] = lambda: None
        self._known: dict[tuple[ModelRef, int], int] = {}
        ledger = VramLedger({c: DeviceLimit(n, n - KEPT, BUFFER) for c, n in cards.items()})
        self.planner = Planner(ledger, self.demand, limits, rules, conduct)
        self.scheduler = Scheduler(
            self.planner, self.backends, self.loop.clock, Eyes(self.cards), self._learn
        )
        self.loop.run_until_complete(self.scheduler.__aenter__())
        self.scheduler.watch(self._served)
        self.at_once(self.look)
        self._errands = [
            self.loop.create_task(self._look_for_ever()),
            self.loop.create_task(self._list_for_ever()),
        ]

    def close(self) -> set[asyncio.Task[object]]:
        """Shut down; the tasks that are left although none should be."""
        for errand in self._errands:
            errand.cancel()
        self.loop.run_until_complete(self.scheduler.__aexit__())
        self.loop.settle()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.settle()
        self.loop.close()
        return left

    def at_once(self, act: Callable[[], None]) -> None:
        """Do something that needs a running loop."""

        async def run() -> None:
            act()

        self.loop.run_until_complete(run())

    def _backend(self, name: str, builds: list[Build]) -> UnrulyBackend:
        match name:
            case "boxed":
                return UnrulyBackend(name, self.cards, builds, sees_pids=True)
            case "roomy":
                roomiest = Placing.ROOMIEST
                return UnrulyBackend(name, self.cards, builds, roomiest, reports=True, lists=True)
            case "broad":
                return UnrulyBackend(name, self.cards, builds, Placing.SPREAD)
            case _:
                return SelfManaged(name, self.cards, builds)

    # what residency is told of models

    def demand(self, ref: ModelRef, context: int) -> Demand | None:
        if ref.backend == CLOUD:
            return None
        backend = self.backends[ref.backend]
        count = self._known.get((ref, context)) or backend.builds[ref.name].bytes(context)
        return Demand(count, "estimated", tuple(self.cards.sizes), backend.placing, SPLIT)

    def _learn(self, ref: ModelRef, context: int, held: Held) -> None:
        if held.source in ("measured", "reported"):
            parts = len(held.share) if len(held.share) > 1 else 0
            self._known[ref, context] = sum(held.share.values()) - SPLIT * parts

    # people

    def ask(self, ref: ModelRef, caller: str, context: int, hold_s: float) -> Client:
        client = self._client(ref, caller, context, hold_s)

        async def use() -> None:
            async with self.scheduler.lease(ref, caller, context):
                client.state, client.granted = "holding", True
                self.on_grant(client)
                try:
                    await asyncio.sleep(hold_s)
                finally:
                    client.state = "done"

        return self._begin(client, use)

    def hang_up(self, clients: Sequence[Client]) -> None:
        """All at once, in this order."""
        for client in clients:
            assert client.task is not None
            client.task.cancel()

    def _served(self) -> None:
        """Whoever is fickle hangs up when its turn has come, and before it knows."""
        fickle = [client for client in self.waiting() if client.fickle]
        if fickle:
            queued = {ticket.caller for ticket in self.planner.line}
            self.hang_up([client for client in fickle if client.caller not in queued])

    def load(self, ref: ModelRef) -> Client:
        """Somebody has the model loaded by hand."""
        return self._begin(self._client(ref, BY_HAND, 0, 0.0), lambda: self.scheduler.load(ref))

    def pin(self, ref: ModelRef) -> Client:
        async def pin() -> None:
            await self.scheduler.pin(ref)
            self.pinned.add(ref)

        return self._begin(self._client(ref, BY_HAND, 0, 0.0), pin)

    def unpin(self, ref: ModelRef) -> None:
        self.pinned.discard(ref)
        self.at_once(lambda: self.scheduler.unpin(ref))

    def unload(self, ref: ModelRef) -> asyncio.Task[None]:
        """Somebody sends the model away by hand."""

        async def send_away() -> None:
            self.sent_away.add(ref)
            try:
                await self.scheduler.unload(ref)
            except SmarterRouterError:
                pass
            finally:
                self.sent_away.discard(ref)

        return self.loop.create_task(send_away())

    def _client(self, ref: ModelRef, caller: str, context: int, hold_s: float) -> Client:
        own = [c for c in self.clients if c.ref == ref and c.caller == caller]
        ahead = len([c for c in own if not c.granted])
        allowed = 1 + ahead + any(c.granted for c in own)
        client = Client(ref, caller, context, hold_s, self.loop.time(), allowed)
        self.clients.append(client)
        return client

    def _begin(self, client: Client, what: Callable[[], Coroutine[object, None, None]]) -> Client:
        async def live() -> None:
            try:
                await what()
            except SmarterRouterError as error:
                client.error = error
            finally:
                client.state = "done"

        def ended(task: asyncio.Task[None]) -> None:
            client.state = "done"

        client.task = self.loop.create_task(live())
        client.task.add_done_callback(ended)
        return client

    # who is there

    def live(self, ref: ModelRef | None = None) -> list[Client]:
        return [c for c in self.clients if c.state != "done" and ref in (None, c.ref)]

    def waiting(self, ref: ModelRef | None = None) -> list[Client]:
        return [client for client in self.live(ref) if client.state == "waiting"]

    def holding(self, ref: ModelRef) -> list[Client]:
        return [client for client in self.live(ref) if client.state == "holding"]

    def reading(self, ref: ModelRef) -> list[Client]:
        """Those whose answer is on its way from a model that is really there."""
        return [client for client in self.holding(ref) if not client.orphan]

    # what is noticed, as the engine does it

    def look(self) -> None:
        pids = {r: self.backends[r.backend].processes(r.name) for r in self.planner.resident()}
        held = {ref: self.cards.of(own) for ref, own in pids.items() if own}
        self.scheduler.observe({card: self._reading(card, held) for card in self.cards.sizes})
        for ref, share in held.items():
            before = self.planner.ledger.share_of(ref)
            self.scheduler.holds(ref, {c: max(n, before.get(c, 0)) for c, n in share.items()})
        self.on_notice()

    def _reading(self, card: str, held: Mapping[ModelRef, Mapping[str, int]]) -> Reading:
        ours = {ref: share[card] for ref, share in held.items() if card in share}
        return Reading(self.cards.sizes[card], self.cards.used(card), ours)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    async def _list_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LIST_S)
            for backend in self.backends.values():
                if backend.lists:
                    await self._list(backend)

    async def _list(self, backend: UnrulyBackend) -> None:
        since = self.loop.clock.now()
        await asyncio.sleep(NET_S)
        told = backend.listing()
        await asyncio.sleep(NET_S)
        for name, footprint in told.items():
            held = self._held(footprint) if footprint else None
            ref = ModelRef(backend.name, name)
            self.scheduler.seen(ref, footprint is not None, since, held)
        self.on_notice()

    def _held(self, told: Footprint) -> Held:
        share = unexplained(told.bytes, tuple(self.cards.sizes), self._unexplained)
        return Held(share, told.source, told.context, told.bytes)

    def _unexplained(self, card: str) -> int:
        return max(0, self.cards.used(card) - self.planner.ledger.own(card))
