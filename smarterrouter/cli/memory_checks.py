"""What ``doctor`` says of memory: each device, and those that should be seen and are not.

Changes nothing. What a running daemon holds itself is no lack: other models can have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smarterrouter.assembly.engine import MonotonicClock
from smarterrouter.assembly.machines import STATED, Machines
from smarterrouter.cli.client import ask_daemon
from smarterrouter.cli.doctor import Finding
from smarterrouter.config import Settings
from smarterrouter.domain.devices import HOST, GpuDevice, MemorySnapshot
from smarterrouter.domain.models import Model
from smarterrouter.domain.ports import Backend
from smarterrouter.errors import SmarterRouterError
from smarterrouter.gpu.nvml import NvidiaGpus
from smarterrouter.residency.ledger import DeviceLimit

SCARCE = 4
"""Memory is scarce when less than this part of the budget is free."""


async def look(settings: Settings) -> tuple[Machines, list[Finding]]:
    """The devices after one look at them, and what there is to say."""
    machines = Machines(settings, MonotonicClock())
    latest = await machines.sample()
    machines.close()
    own, limits = _own_bytes(settings), machines.limits()
    found = [_device(seen, limits.get(id), own.get(id, 0)) for id, seen in latest.items()]
    return machines, [*found, *_problems(machines, settings)]


def passed_over(
    backend: Backend, models: Sequence[Model], devices: Sequence[GpuDevice]
) -> tuple[str, ...]:
    """The cards that are there and that a llama.cpp of ours uses for none of its models."""
    cards = {one.id: one.name for one in devices if one.vendor not in (HOST, STATED)}
    if backend.kind != "managed":
        return ()
    reached = {id for model in models for id in backend.reach(model.ref.name, devices)}
    return tuple(cards.values()) if reached and reached.isdisjoint(cards) else ()


def _device(seen: MemorySnapshot, limit: DeviceLimit | None, own: int) -> Finding:
    device, check = seen.device, f"memory {seen.device.id}"
    if limit is None or not device.total_bytes:
        return Finding(check, "ok", f"{device.name}: its size is not known, so it is not counted")
    budget = f"{limit.budget_bytes / 1e9:.1f} GB for models"
    if seen.free_bytes is None:
        return Finding(check, "ok", f"{device.name}: it does not tell what is free; {budget}")
    found = f"{device.name}: {seen.free_bytes / 1e9:.1f} GB free, {budget}"
    if seen.free_bytes + own < limit.budget_bytes / SCARCE:
        remedy = "End what else uses memory, or lower ROUTER_VRAM_MAX_TOTAL_GB."
        return Finding(check, "warn", found, remedy)
    return Finding(check, "ok", found)


def _own_bytes(settings: Settings) -> dict[str, int]:
    """What the models of a daemon that serves there hold, by device."""
    try:
        devices = (ask_daemon("/admin/vram", settings) or {}).get("devices", [])
        return {device["id"]: device["own_bytes"] for device in devices}
    except (SmarterRouterError, KeyError, TypeError):
        return {}


def _problems(machines: Machines, settings: Settings) -> list[Finding]:
    """Machines that are away, and a card whose driver does not work, as of the last look."""
    found = [
        Finding(f"node {node.name}", "warn", "it does not tell what it holds", probe.problem)
        for node, probe in zip(settings.node, machines.remote, strict=True)
        if probe.problem
    ]
    for one in machines.local:
        if isinstance(one, NvidiaGpus) and one.problem and nvidia_card(settings.vram.sysfs):
            told = "a card is there that does not tell what it holds"
            found.append(Finding("memory nvidia", "warn", told, one.problem))
    return found


def nvidia_card(sysfs: Path) -> bool:
    """Whether a display controller of NVIDIA is plugged in, with a driver or without."""
    for device in sysfs.glob("bus/pci/devices/*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        if vendor.strip() == "0x10de" and kind.startswith("0x03"):
            return True
    return False
