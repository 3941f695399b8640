"""The routes for whoever looks after the daemon. Decides nothing but which of a model's homes is
meant when people load, unload, pin or unpin it: the one that is loaded, else the first."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream
from msgspec import Struct, to_builtins

from smarterrouter.assembly import Engine
from smarterrouter.daemon import vram
from smarterrouter.daemon.attendance import Attendance
from smarterrouter.daemon.events import Events
from smarterrouter.daemon.reply import Reply
from smarterrouter.domain.chat import Message, asking
from smarterrouter.domain.ids import new_id
from smarterrouter.domain.models import ModelRef
from smarterrouter.errors import (
    BadRequest,
    Conflict,
    ModelNotFound,
    SmarterRouterError,
    Unavailable,
)

VERBS = ("load", "unload", "pin", "unpin")
LETTING_GO = ("unload", "unpin")


def admin_routes(engine: Engine, events: Events) -> list[Any]:
    """Every route below /admin."""
    return [
        *_explain_routes(engine),
        *_record_routes(engine),
        *_vram_routes(engine),
        _model_route(engine),
        _events_route(events),
    ]


def _explain_routes(engine: Engine) -> list[Any]:
    @get("/admin/explain", sync_to_thread=False)
    def explain(
        prompt: FromQuery[str],
        model: FromQuery[str | None] = None,
        image: FromQuery[bool] = False,
        tools: FromQuery[bool] = False,
    ) -> dict[str, object]:
        return explained(Question(prompt, model, image, tools))

    @post("/admin/explain", status_code=200, sync_to_thread=False)
    def explain_long(data: JSONBody[Question]) -> dict[str, object]:
        return explained(data)

    def explained(asked: Question) -> dict[str, object]:
        if not asked.prompt.strip():
            raise BadRequest("'prompt' is empty.", param="prompt")
        request = asking(
            [Message("user", asked.prompt)],
            model=asked.model or engine.settings.external_model_name,
            image=asked.image,
            tools=asked.tools,
        )
        return {"schema": 1, "decision": engine.completions.decide(request).as_json()}

    return [explain, explain_long]


def _record_routes(engine: Engine) -> list[Any]:
    @get("/admin/decisions", sync_to_thread=False)
    def decisions(limit: FromQuery[int] = 50) -> dict[str, object]:
        kept = list(engine.completions.decisions)[-max(1, limit) :]
        return {"schema": 1, "decisions": [one.as_json() for one in reversed(kept)]}

    @get("/admin/decisions/{decision_id:str}", sync_to_thread=True)
    def decision(decision_id: FromPath[str]) -> dict[str, object]:
        return {"schema": 1, **_kept(engine, decision_id)}

    @get("/admin/stats", sync_to_thread=True)
    def stats(since: FromQuery[float] = 0.0) -> dict[str, object]:
        figures = to_builtins(engine.queries.stats(since))
        return {"schema": 1, **figures, "store": asdict(engine.writer.counts)}

    return [decisions, decision, stats]


def _vram_routes(engine: Engine) -> list[Any]:
    @get("/admin/vram", sync_to_thread=False)
    def report() -> vram.Report:
        return vram.report(engine)

    @get("/admin/vram/history", sync_to_thread=False)
    def history(limit: FromQuery[int] = 50) -> dict[str, object]:
        return {"schema": vram.SCHEMA, "history": vram.history(engine, limit)}

    return [report, history]


def _model_route(engine: Engine) -> Any:
    @post("/admin/models/{asked:path}", status_code=200)
    async def change(asked: FromPath[str], request: Request[Any, Any, Any]) -> dict[str, object]:
        name, _, verb = asked.removeprefix("/").rpartition("/")
        if verb not in VERBS or not name:
            raise NotFoundException(f"POST to /admin/models/MODEL/ and one of {', '.join(VERBS)}.")
        ref, mark = _meant(engine, name, verb), vram.newest(engine)
        try:
            with Attendance(request.receive, Reply(request.send, new_id())):
                await _done(engine, ref, verb)
        except asyncio.CancelledError:
            raise Unavailable("smarterrouter is shutting down.") from None
        happened = vram.concerning(vram.since(engine, mark), ref)
        return {
            "schema": vram.SCHEMA,
            **vram.entry(engine, ref),
            "happened": [vram.told(engine, one) for one in happened],
        }

    return change


def _meant(engine: Engine, name: str, verb: str) -> ModelRef:
    """Which home is meant. Raises ``ModelNotFound``, or ``Conflict`` where we manage nothing."""
    homes = _homes(engine, name, verb)
    seats = {ref: engine.planner.seat(ref) for ref in homes}
    ours = [ref for ref in homes if seats[ref].counted]
    if not ours:
        raise Conflict(
            f"{homes[0].backend} manages the memory of {name} itself: smarterrouter neither loads "
            "nor unloads it, and only limits how many requests it gets at once."
        )
    wanted = [ref for ref in ours if seats[ref].pinned] if verb == "unpin" else []
    wanted += [ref for ref in ours if not seats[ref].away]
    return [*wanted, *ours][0]


def _homes(engine: Engine, name: str, verb: str) -> list[ModelRef]:
    """Of that name; one that nobody lists any more can still be let go."""
    try:
        return [home.ref for home in engine.catalogue.homes(name)]
    except (ModelNotFound, Unavailable):
        left = [
            ref
            for ref, seat in engine.planner.seats.items()
            if name in (str(ref), ref.name) and (seat.pinned or not seat.away)
        ]
        if verb not in LETTING_GO or not left:
            raise
        return left


async def _done(engine: Engine, ref: ModelRef, verb: str) -> None:
    """Do it. A load that has begun goes on to its end, even if nobody waits for it any more."""
    scheduler = engine.scheduler
    match verb:
        case "load":
            await scheduler.load(ref)
        case "unload":
            await scheduler.unload(ref)
        case "pin":
            await scheduler.pin(ref)
        case "unpin":
            scheduler.unpin(ref)


def _events_route(events: Events) -> Any:
    @get("/admin/events", sync_to_thread=False)
    def listen() -> Stream:
        quiet = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return Stream(events.listen(), media_type="text/event-stream", headers=quiet)

    return listen


def _kept(engine: Engine, name: str) -> dict[str, object]:
    """A decision with what became of it; where that cannot be read, as it is remembered."""
    made = (one for one in list(engine.completions.decisions) if one.id == name)
    remembered = next(made, None)
    try:
        stored = engine.queries.decision(name)
    except Unavailable:
        if remembered is None:
            raise
        stored = None
    if stored is not None:
        return {
            "decision": msgspec.json.decode(stored.decision),
            "outcomes": to_builtins(stored.outcomes),
            "made_at": stored.made_at,
            "prompt_sha256": stored.prompt_sha256,
            "prompt": to_builtins(stored.prompt),
        }
    if remembered is None:
        raise NotKept(f"No decision '{name}' is kept.")
    return {"decision": remembered.as_json(), "outcomes": []}


class Question(Struct, forbid_unknown_fields=True):
    """What ``/admin/explain`` is asked; by POST where it is too long for an address."""

    prompt: str
    model: str | None = None
    image: bool = False
    tools: bool = False


class NotKept(SmarterRouterError):
    """A decision that is no longer, or never was, kept."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
