"""What lies where at this moment, and what happened to it: what ``vram`` prints and ``top`` draws.

Decides only how it is told. A model that is loaded, or on its way in or out, is told with what it
holds or has reserved; one that is away with what it is expected to hold. Bytes throughout, lengths
of time in seconds, unknown is ``None``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smarterrouter.assembly import Engine
from smarterrouter.assembly.engine import MonotonicClock
from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.domain.models import ModelRef
from smarterrouter.residency.history import Happening, Kind
from smarterrouter.residency.seat import Seat
from smarterrouter.residency.states import Residency

Report = dict[str, object]

SCHEMA = 1
RECENT_S, STEP_S = 600.0, 15.0
"""How far a device's recent use reaches back, and how far apart its figures are."""

_now = MonotonicClock().now


def report(engine: Engine) -> Report:
    """Devices, models and queue, as ``vram --json`` prints them."""
    now, latest = _now(), engine.machines.monitor.latest
    recent = _recent(engine, now)
    return {
        "schema": SCHEMA,
        "devices": [_device(engine, seen, recent.get(name, [])) for name, seen in latest.items()],
        "budget_bytes": sum(limit.budget_bytes for limit in engine.ledger.limits.values()),
        "models": [_model(engine, ref, now) for ref in _models(engine)],
        "queue": _queue(engine, now),
    }


def entry(engine: Engine, ref: ModelRef) -> Report:
    """One model, as in the report."""
    return _model(engine, ref, _now())


def history(engine: Engine, limit: int) -> list[Report]:
    """The last ``limit`` happenings, newest first."""
    events = list(engine.scheduler.history.events)[-max(1, limit) :]
    return [told(engine, one) for one in reversed(events)]


def told(engine: Engine, happening: Happening) -> Report:
    """One happening."""
    return {
        "at": happening.at,
        "kind": happening.kind,
        "model": _id(engine, happening.model),
        "backend": happening.model.backend,
        "why": happening.why,
        "seconds": happening.seconds,
        "bytes": happening.bytes,
    }


def newest(engine: Engine) -> Happening | None:
    """The last happening: a mark for ``since``."""
    events = engine.scheduler.history.events
    return events[-1] if events else None


def since(engine: Engine, mark: Happening | None) -> list[Happening]:
    """What has happened after ``mark``, oldest first; all that is kept where it is forgotten."""
    found: list[Happening] = []
    for one in reversed(engine.scheduler.history.events):
        if one is mark:
            break
        found.append(one)
    return found[::-1]


def concerning(happenings: Iterable[Happening], ref: ModelRef) -> Iterator[Happening]:
    """Those of the model itself, and who went to make room for it."""
    for one in happenings:
        made_way = one.kind is Kind.UNLOAD and one.why.startswith(f"to make room for {ref},")
        if one.model == ref or made_way:
            yield one


# devices


def _device(engine: Engine, seen: MemorySnapshot, recent: list[list[float | int]]) -> Report:
    device, ledger = seen.device, engine.ledger
    limit = ledger.limits.get(device.id)
    counted = limit is not None and seen.used_bytes is not None
    return {
        "id": device.id,
        "node": device.node,
        "vendor": device.vendor,
        "name": device.name,
        "total_bytes": device.total_bytes,
        "used_bytes": seen.used_bytes,
        "free_bytes": seen.free_bytes,
        "foreign_bytes": ledger.foreign.get(device.id) if counted else None,
        "own_bytes": ledger.own(device.id),
        "budget_bytes": limit.budget_bytes if limit else None,
        "gone": seen.gone,
        "source": seen.source,
        "recent": recent,
    }


def _recent(engine: Engine, now: float) -> dict[str, list[list[float | int]]]:
    """The last figure of every step, by device: how long ago it was, and the bytes in use."""
    steps: dict[str, dict[int, list[float | int]]] = {}
    for at, used in reversed(engine.machines.monitor.history):
        if at < now - RECENT_S:
            break
        for device, count in used.items():
            if count is not None:
                row = steps.setdefault(device, {})
                row.setdefault(int(at // STEP_S), [round(now - at, 1), count])
    return {device: list(row.values())[::-1] for device, row in steps.items()}


# models


def _models(engine: Engine) -> Iterator[ModelRef]:
    """Every model that is listed; then those that hold memory although nobody lists them now."""
    listed = [model.ref for model in engine.catalogue.models]
    yield from listed
    for ref in sorted(set(engine.planner.resident()) - set(listed)):
        if engine.planner.seat(ref).counted:
            yield ref


def _model(engine: Engine, ref: ModelRef, now: float) -> Report:
    seat, share = engine.planner.seat(ref), engine.ledger.share_of(ref)
    shown = seat.seen if seat.ready and seat.seen else share
    count, source = _bytes(engine, ref, seat)
    failed = seat.state is Residency.FAILED and seat.failure is not None
    return {
        "model": _id(engine, ref),
        "backend": ref.backend,
        "node": engine.backends[ref.backend].node,
        "managed": seat.counted,
        "state": seat.state,
        "devices": [{"id": device, "bytes": held} for device, held in shown.items()],
        "bytes": count,
        "bytes_source": source,
        "reserved_bytes": sum(share.values()) or None,
        "leases": seat.leases,
        "waiting": len(engine.planner.line.waiting_for(ref)),
        "concurrency": seat.conduct.slots,
        "pinned": seat.pinned,
        "last_used_s": _idle_s(seat, now),
        "keep_alive_s": seat.conduct.keep_alive_s,
        "load_s": seat.load_s,
        "failure": seat.failure.message if failed and seat.failure else None,
    }


def _bytes(engine: Engine, ref: ModelRef, seat: Seat) -> tuple[int | None, str | None]:
    """What the model holds, has reserved, or is expected to take; and how that is known."""
    if not seat.counted:
        return None, None
    held = sum(engine.ledger.share_of(ref).values())
    if held and seat.state is Residency.LOADING:
        return held, engine.planner.planned_source(ref, seat.loading_for)
    if seat.ready and seat.seen:
        return sum(seat.seen.values()), seat.source
    if held:
        return held, seat.source
    if seat.state in (Residency.READY, Residency.UNLOADING):  # on devices that nobody counts
        return seat.reported, "reported" if seat.reported is not None else None
    demand = engine.demands.of(ref)
    return (demand.least, demand.source) if demand else (None, None)


def _idle_s(seat: Seat, now: float) -> float | None:
    if seat.leases:
        return 0.0
    return max(0.0, now - seat.last_used) if seat.last_used else None


def _queue(engine: Engine, now: float) -> list[Report]:
    line = engine.planner.line
    return [
        {
            "model": _id(engine, ref),
            "waiting": len(line.waiting_for(ref)),
            "oldest_s": max(0.0, now - line.oldest(ref)),
        }
        for ref in line.models
    ]


def _id(engine: Engine, ref: ModelRef) -> str:
    """What clients call the model; of one that nobody lists any more, backend and name."""
    model = engine.catalogue.by_ref(ref)
    return model.id if model else str(ref)
