"""What does a loaded model hold? Decides which of several figures is believed.

1. What its own processes were seen to hold: measured.
2. What the devices held more after the load than before, three samples alike, when nothing else
   came or went on them and it is near what was expected: measured.
3. What its backend says: reported, lying where it was planned.
4. What was planned.

A load is not held up for 2: the model is in use by then, and its share is corrected afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from smarterrouter.domain.models import Footprint
from smarterrouter.residency.events import Held, Used
from smarterrouter.residency.ledger import Share

NEAR_LEAST, NEAR_MOST, REPORTED_LEAST = 0.5, 1.6, 0.95
"""A difference between two readings is believed within these multiples of what was expected, or
at least of what the backend has reported."""

NOISE = 0.05
"""A device that grew by less than this part of the model holds nothing of it."""


class Devices(Protocol):
    """How devices and processes are looked at."""

    def busy(self) -> AbstractContextManager[None]:
        """Entered while something comes or goes."""

    async def settled(self, devices: Collection[str]) -> Used:
        """Used bytes, when three samples in a row agree."""

    async def used(self, devices: Collection[str]) -> Used:
        """Used bytes at this moment."""

    async def of_processes(self, pids: Collection[int], devices: Collection[str]) -> Share:
        """What these processes hold by device; empty where that cannot be seen."""


def at_once(planned: Share, source: str, footprint: Footprint | None, own: Share) -> Held:
    """What is known when a load has just succeeded (1, 3, 4). ``own``: of its processes."""
    context = footprint.context if footprint else None
    reported = footprint.bytes if footprint and footprint.source == "reported" else None
    if own:
        return Held(own, "measured", context, reported)
    if footprint is None:
        return Held(planned, source, context)
    return Held(spread(footprint.bytes, planned), footprint.source, context, reported)


def difference(before: Used, after: Used, expected: int, *, reported: bool = False) -> Share | None:
    """What the devices hold more than before (2); ``None`` when that is not to be believed.

    A backend's report leaves out what its driver takes besides, so a difference that is clearly
    less means that something else went meanwhile. What grew by next to nothing is noise.
    """
    grown: dict[str, int] = {}
    for device, was in before.items():
        now = after.get(device)
        if was is None or now is None:
            return None
        if now > was:
            grown[device] = now - was
    grown = {device: count for device, count in grown.items() if count >= NOISE * expected}
    least = REPORTED_LEAST if reported else NEAR_LEAST
    near = least * expected <= sum(grown.values()) <= NEAR_MOST * expected
    return grown if near and grown else None


def spread(count: int, planned: Share) -> Share:
    """``count`` bytes, shared out as was planned."""
    together = sum(planned.values())
    if not together:
        return dict.fromkeys(list(planned)[:1], count)
    shares = {device: count * part // together for device, part in planned.items()}
    first = next(iter(shares))
    return {**shares, first: shares[first] + count - sum(shares.values())}


def unexplained(count: int, devices: Collection[str], spare: Callable[[str], int]) -> Share:
    """Where a model lies that others loaded: on the device with most bytes that nobody explains.

    ``spare`` tells these bytes by device; without a single device that has them, they are shared.
    """
    if not devices or not count:
        return {}
    best = max(devices, key=spare)
    if len(devices) == 1 or spare(best) >= count:
        return {best: count}
    room = {device: max(1, spare(device)) for device in devices}
    return spread(count, room)
