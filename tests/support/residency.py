"""A planner or a scheduler over made-up models of sizes that a test names. Decides nothing.

Sizes are given in gigabytes, since that is what messages tell; inside they are bytes.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import ParamSpec

from smarterrouter.domain.models import ModelRef
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import SmarterRouterError
from smarterrouter.residency.demand import Conduct, Demand
from smarterrouter.residency.events import Held, Limits
from smarterrouter.residency.ledger import DeviceLimit, VramLedger
from smarterrouter.residency.line import Ticket
from smarterrouter.residency.planner import Planner
from smarterrouter.residency.room import Rules
from smarterrouter.residency.scheduler import Learn, Scheduler
from smarterrouter.residency.weighing import Devices
from tests.support.virtual_time import VirtualLoop, virtually

GB = 10**9
LONGEST_S = 5000.0
"""A test that takes longer, in virtual time, hangs."""

Takes = float | Demand | Callable[[int], Demand] | None
"""What a model takes: gigabytes on any card, a demand, or one by context. ``None``: it manages
itself."""

Args = ParamSpec("Args")

_ids = itertools.count(1)


def ref(name: str) -> ModelRef:
    return ModelRef("slow", name)


def gb(count: float) -> int:
    return round(count * GB)


def ticket(name: str, since: float = 0.0, caller: str = "me", context: int = 0) -> Ticket:
    return Ticket(next(_ids), ref(name), caller, since, context)


def share(count: float, card: str = "gpu0") -> dict[str, int]:
    return {card: gb(count)}


def held(count: float, card: str = "gpu0", context: int | None = None) -> Held:
    return Held(share(count, card), "measured", context)


def limit(total: float, budget: float | None = None, buffer: float = 0.0) -> DeviceLimit:
    return DeviceLimit(gb(total), gb(total if budget is None else budget), gb(buffer))


def by_context(usual: float, per_thousand: float, cards: tuple[str, ...] = ("gpu0",)) -> Takes:
    """A model that takes so many gigabytes more for each thousand tokens above the first."""
    return lambda context: Demand(
        gb(usual + per_thousand * max(0, context - 1000) / 1000), "measured", cards
    )


def planner(
    takes: Mapping[str, Takes],
    cards: Mapping[str, float | DeviceLimit] | None = None,
    *,
    limits: Limits | None = None,
    rules: Rules | None = None,
    conduct: Mapping[str, Conduct] | None = None,
) -> Planner:
    """A planner over ``cards`` (one of 10 GB). ``takes`` may be changed later."""
    sizes = cards or {"gpu0": 10.0}
    books = VramLedger(
        {card: one if isinstance(one, DeviceLimit) else limit(one) for card, one in sizes.items()}
    )

    def demand(model: ModelRef, context: int) -> Demand | None:
        wanted = takes[model.name]
        if callable(wanted):
            return wanted(context)
        if isinstance(wanted, Demand) or wanted is None:
            return wanted
        return Demand(gb(wanted), "measured", tuple(sizes))

    manners = conduct or {}
    return Planner(books, demand, limits, rules, lambda model: manners.get(model.name, Conduct()))


@asynccontextmanager
async def scheduled(
    backend: Backend,
    plan: Planner,
    devices: Devices | None = None,
    learn: Learn = lambda model, context, held: None,
    suspect: Callable[[ModelRef], None] = lambda model: None,
) -> AsyncIterator[Scheduler]:
    """A scheduler over one backend, for as long as the block lasts. In virtual time only."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    backends, clock = {"slow": backend}, loop.clock
    async with Scheduler(plan, backends, clock, devices, learn, suspect) as scheduler:
        yield scheduler


async def use(
    scheduler: Scheduler,
    name: str,
    seconds: float = 0.0,
    *,
    caller: str = "me",
    context: int = 0,
    served: list[str] | None = None,
) -> None:
    """One request that takes so long once it is served."""
    async with scheduler.lease(ref(name), caller, context):
        if served is not None:
            served.append(caller)
        await asyncio.sleep(seconds)


async def passed(seconds: float) -> None:
    """Let so much virtual time go by."""
    await asyncio.sleep(seconds)


def now() -> float:
    return asyncio.get_running_loop().time()


def virtual(test: Callable[Args, Awaitable[None]]) -> Callable[Args, None]:
    """Run the test in virtual time. Nothing that it starts may break unnoticed."""

    @functools.wraps(test)
    def run(*args: Args.args, **kwargs: Args.kwargs) -> None:
        loop = VirtualLoop()
        virtually(asyncio.wait_for(test(*args, **kwargs), LONGEST_S), loop)
        bugs = [one for one in loop.broken if not isinstance(one, SmarterRouterError)]
        assert bugs == []

    return run
