"""The routes of profiling: what was found out or imported, and runs on demand. Decides nothing."""

from __future__ import annotations

from typing import Any

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import to_builtins

from smarterrouter.assembly import Engine
from smarterrouter.assembly.known import shelf, whole_report
from smarterrouter.assembly.profiler import Profiler
from smarterrouter.assembly.profiling import Wish, forecast

SCHEMA = 1


def profiling_routes(engine: Engine, profiler: Profiler) -> list[Any]:
    """``/admin/profiles``, ``/benchmarks``, ``/learn``, ``/reprofile``, ``/profiling_status``."""

    @get("/admin/profiles", sync_to_thread=True)
    def profiles() -> dict[str, object]:
        return whole_report(engine.notes)

    @get("/admin/benchmarks", sync_to_thread=True)
    def benchmarks() -> dict[str, object]:
        used = engine.settings.profile.benchmarks
        return shelf(engine.notes).report(engine.catalogue.models, used=used)

    @post("/admin/learn", status_code=200)
    async def learn() -> dict[str, object]:
        await engine.learn()
        used = engine.settings.profile.benchmarks
        return {
            "schema": SCHEMA,
            "models": len(engine.completions.known.profiles),
            "benchmarks": used,
        }

    @post("/admin/reprofile", status_code=200)
    async def reprofile(
        data: JSONBody[Wish], dry_run: FromQuery[bool] = False
    ) -> dict[str, object]:
        if dry_run:
            return await forecast(engine, data)
        return {"schema": SCHEMA, "task": await profiler.start(data)}

    @get("/admin/profiling_status/{task:str}", sync_to_thread=False)
    def status(task: FromPath[str]) -> dict[str, object]:
        return {"schema": SCHEMA, **to_builtins(profiler.status(task))}

    @delete("/admin/profiling_status/{task:str}", status_code=200, sync_to_thread=False)
    def cancel(task: FromPath[str]) -> dict[str, object]:
        return {"schema": SCHEMA, **to_builtins(profiler.cancel(task))}

    return [profiles, benchmarks, learn, reprofile, status, cancel]
