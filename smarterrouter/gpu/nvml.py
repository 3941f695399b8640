"""NVIDIA's cards, as NVML (the library of their driver) tells of them.

Decides which card has which id, and keeps it so while cards go away and come back. NVML is asked
anew only every so often where it is missing or has lost a card: starting it costs something.

A card's total is what programs can have of it: where NVML tells what the driver keeps for itself,
that is taken off, so that used and free make up the total. ``used`` is then what nvidia-smi shows.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot

NVIDIA = "nvidia"
SOURCE = "nvml"
RETRY_S = 30.0

# NVML's codes, by their names in nvml.h.
UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
LIB_RM_VERSION_MISMATCH = 18

SESSION_OVER = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH})
UNTOLD = frozenset({NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND})
"""Nothing is wrong with the card: a board without memory of its own, or a card cut up (MIG)."""

PROBLEMS = {
    LIBRARY_NOT_FOUND: "There is no NVIDIA driver here: libnvidia-ml.so.1 was not found. "
    "A container must be started with its GPUs (--gpus all).",
    DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded. "
    "Run `modprobe nvidia`, or restart the machine.",
    LIB_RM_VERSION_MISMATCH: "NVIDIA's library and the loaded driver are of different versions, "
    "as after an update. Restart the machine, or only this program if that is done.",
    NO_PERMISSION: "The NVIDIA driver refuses this user. "
    "See who may read and write /dev/nvidiactl and /dev/nvidia0.",
}

Figures = tuple[int | None, int | None, int | None]
UNKNOWN: Figures = (None, None, None)


class _Ended(Exception):
    """The session with the driver is over."""


@dataclass(slots=True)
class _Card:
    """A card that was seen once. Without a ``handle`` it is out of reach; ``fault`` says why."""

    number: int
    name: str = "NVIDIA GPU"
    total_bytes: int | None = None
    handle: object | None = None
    fault: str | None = None


class NvidiaGpus:
    """See ``ports.GpuProbe``. Devices ``nvidia0``, ``nvidia1``, ... in the order of their buses.

    ``problem`` is for a person: why there are no cards, or what is wrong with one; else ``None``.
    To be asked from one thread at a time.
    """

    def __init__(
        self,
        node: str = "local",
        *,
        retry_s: float = RETRY_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: str | None = None
        self._node = node
        self._retry_s = retry_s
        self._now = now
        self._retry_at = -math.inf
        self._open = False
        self._cards: dict[str, _Card] = {}

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        if not self._whole() and self._now() >= self._retry_at:
            self._reopen()
        for mend in (self._reopen, self._close):
            try:
                return self._look()
            except _Ended as error:  # the driver went away, and may be back already
                self.problem = f"NVML has ended: {error}."
                mend()
        return self._look()

    def _whole(self) -> bool:
        """Whether NVML runs and every card that was ever seen is within reach."""
        return self._open and all(card.handle is not None for card in self._cards.values())

    def _ordered(self) -> list[_Card]:
        return sorted(self._cards.values(), key=lambda card: card.number)

    # --- the session ----------------------------------------------------------------------------

    def _reopen(self) -> None:
        """Start NVML anew and find the cards. Where that fails, ``problem`` says why."""
        import pynvml  # type: ignore[import-untyped]

        self._close()
        self._retry_at = self._now() + self._retry_s
        try:
            pynvml.nvmlInit()
            self._open = True
            self._enumerate(pynvml)
        except pynvml.NVMLError as error:
            self._close()
            self.problem = PROBLEMS.get(error.value, f"NVML does not start: {error}.")
            return
        if not self._cards:  # its device files may be made later than its driver is loaded
            self._close()
            self.problem = "The NVIDIA driver is loaded but sees no card."

    def _close(self) -> None:
        import pynvml

        if self._open:
            with suppress(pynvml.NVMLError):  # it may have ended by itself
                pynvml.nvmlShutdown()
        self._open = False
        for card in self._cards.values():
            card.handle = None

    def _enumerate(self, nvml: Any) -> None:
        first = not self._cards
        for card in self._cards.values():
            card.fault = "is no longer there"
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                address = str(nvml.nvmlDeviceGetPciInfo(handle).busId)
            except nvml.NVMLError as error:
                if error.value in SESSION_OVER:
                    raise
                if first:  # later on it is one of those that are known and not found
                    self._cards[_nameless(index)] = _Card(index, fault=_words(error))
                continue
            card = self._card_at(address, index)
            card.handle, card.name = handle, _name(nvml, handle) or card.name

    def _card_at(self, address: str, index: int) -> _Card:
        """The card in that place, known before or new: ids stay while indexes move up."""
        if address not in self._cards:
            taken = {card.number for card in self._cards.values()}
            free = next(number for number in range(len(taken) + 1) if number not in taken)
            self._cards[address] = self._cards.pop(_nameless(index), _Card(free))
        return self._cards[address]

    # --- the figures ----------------------------------------------------------------------------

    def _look(self) -> tuple[MemorySnapshot, ...]:
        found = tuple(self._snapshot(card) for card in self._ordered())
        if self._open:
            self.problem = _sum_up(self._ordered())
        return found

    def _snapshot(self, card: _Card) -> MemorySnapshot:
        """What the card holds. Raises ``_Ended`` when NVML has to be started anew first."""
        import pynvml

        if card.handle is None:
            return self._unknown(card)
        try:
            figures = _memory(pynvml, card.handle)
        except pynvml.NVMLError as error:
            if error.value in SESSION_OVER:
                raise _Ended(error) from error
            if error.value not in UNTOLD:
                card.handle, card.fault = None, _words(error)
                self._retry_at = self._now() + self._retry_s
                return self._unknown(card)
            figures = UNKNOWN
            card.fault = "keeps its memory to itself" if error.value == NO_PERMISSION else None
        else:
            card.fault = None
        card.total_bytes, used, free = figures
        held = _processes(pynvml, card.handle)
        return MemorySnapshot(self._device(card), used, free, SOURCE, held)

    def _unknown(self, card: _Card) -> MemorySnapshot:
        return MemorySnapshot(self._device(card), None, None, SOURCE, gone=True)

    def _device(self, card: _Card) -> GpuDevice:
        identity = f"{NVIDIA}{card.number}"
        return GpuDevice(identity, self._node, NVIDIA, card.name, card.total_bytes)


def _nameless(index: int) -> str:
    """Stands for the address of a card that has not told it yet."""
    return f"index {index}"


def _words(error: Exception) -> str:
    return f"is out of reach: {error}. A reset (nvidia-smi --gpu-reset) or a restart may help"


def _sum_up(cards: list[_Card]) -> str | None:
    told = [f"{NVIDIA}{card.number} ({card.name}) {card.fault}." for card in cards if card.fault]
    return " ".join(told) or None


def _name(nvml: Any, handle: object) -> str | None:
    try:
        return str(nvml.nvmlDeviceGetName(handle))
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def _memory(nvml: Any, handle: object) -> Figures:
    """Total, used and free. Raises ``NVMLError`` where the card does not tell."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        total = info.total - info.reserved
    except nvml.NVMLError:  # older drivers only know the first form, where the reserve is in use
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
        total = info.total
    if not total:  # a board that lives in the machine's RAM
        return UNKNOWN
    return int(total), int(info.used), int(info.free)


def _processes(nvml: Any, handle: object) -> dict[int, int] | None:
    """Bytes by pid, without those whose size is not told; ``None`` where nothing is told.

    A process that computes and draws stands in both lists with the same bytes: counted once.
    """
    lists = [_running(nvml, handle, kind) for kind in ("Compute", "Graphics")]
    held: dict[int, int] = {}
    for listed in lists:
        for pid, size in _by_pid(listed or []).items():
            held[pid] = max(size, held.get(pid, 0))
    silent = not held and (any(lists) or [] not in lists)
    return None if silent else held


def _running(nvml: Any, handle: object, kind: str) -> list[Any] | None:
    for version in ("v3", "v2"):  # by the driver's age
        try:
            listed = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_{version}")(handle)
        except nvml.NVMLError as error:
            if error.value == FUNCTION_NOT_FOUND:
                continue
            return None
        return list(listed)
    return None


def _by_pid(listed: list[Any]) -> Counter[int]:
    """A process may stand in a list several times, for several parts of a card."""
    held: Counter[int] = Counter()
    for process in listed:
        if process.usedGpuMemory is not None:
            held[process.pid] += process.usedGpuMemory
    return held
