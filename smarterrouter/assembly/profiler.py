"""When the daemon profiles: on demand, and by itself while nobody asks anything.

1. What somebody asked for is done at once, as soon as nobody needs the models; one run at a time.
2. By itself the daemon profiles what is new or has changed: quickly, a model at a time, only after
   ``profile.idle_s`` without a request. A model that failed is left alone until the next start.
3. What was asked for goes before what the daemon does by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from smarterrouter.assembly.engine import Engine
from smarterrouter.assembly.profiling import Profiling, Wish, own_tasks
from smarterrouter.domain.ids import new_id
from smarterrouter.errors import Conflict, ModelNotFound, SmarterRouterError
from smarterrouter.profiling.events import Event, ModelEnded
from smarterrouter.profiling.progress import Progress, Status, span

log = logging.getLogger(__name__)

ASKED_FOR_IDLE_S = 1.0
LOOK_AGAIN_S = 30.0
RUNS_KEPT = 20


class _Run:
    def __init__(self, name: str) -> None:
        self.name = name
        self.progress = Progress()
        self.state = "running"
        self.why: str | None = None
        self.error: SmarterRouterError | None = None
        self.task: asyncio.Task[None] | None = None

    def tell(self, event: Event) -> None:
        if line := self.progress.add(event):
            failed = isinstance(event, ModelEnded) and event.failure
            log.log(logging.WARNING if failed else logging.INFO, "profiling: %s", line)

    def over(self, task: asyncio.Task[None]) -> None:
        """It has ended, perhaps before it began."""
        if task.cancelled():
            self.state = "cancelled"

    @property
    def status(self) -> Status:
        return Status(self.name, self.state, self.why, self.progress.status())


class Profiler:
    """See above. ``run_by_itself`` is a task that lasts as long as the daemon."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._asked_for: _Run | None = None
        self._own: _Run | None = None
        self._tried: set[str] = set()

    async def start(self, wish: Wish) -> str:
        """Begin what was asked for; the name of the run. Raises ``Conflict`` while one is on."""
        own = await own_tasks(wish)
        if self._asked_for is not None and self._asked_for.state == "running":
            left_s = self._asked_for.progress.all_left_s
            left = "" if left_s is None else f", about {span(left_s)} left"
            raise Conflict(
                f"Models are being profiled already ({self._asked_for.name}{left}). Wait for that "
                f"to end, or DELETE /admin/profiling_status/{self._asked_for.name}."
            )
        run = _Run(f"profile-{new_id()}")
        profiling = Profiling(self._engine, wish, run.tell, idle_s=ASKED_FOR_IDLE_S, own=own)
        self._keep(run)
        self._asked_for = run
        self._set_going(run, profiling, self._own)
        return run.name

    def cancel(self, name: str) -> Status:
        """Break a run off; what was found out is kept. Raises ``ModelNotFound``."""
        run = self._run(name)
        if run.task is not None:
            run.task.cancel()
        return run.status

    def status(self, name: str) -> Status:
        """How far a run has come. Raises ``ModelNotFound`` where there is none of that name."""
        return self._run(name).status

    @property
    def now(self) -> dict[str, object]:
        """What is going on, in a few words, for whoever asks how the daemon does."""
        running = [run for run in self._runs.values() if run.state == "running"]
        if not running:
            return {"state": "idle"}
        told = running[-1].progress
        return {
            "state": "paused" if told.paused else "running",
            "task": running[-1].name,
            "left_s": told.all_left_s,
        }

    async def close(self) -> None:
        """Break off what is running."""
        tasks = [run.task for run in self._runs.values() if run.task and not run.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run_by_itself(self) -> None:
        """Profile what is new, for ever (2)."""
        idle_s = self._engine.settings.profile.idle_s
        while True:
            await asyncio.sleep(min(idle_s, LOOK_AGAIN_S) or 0.01)
            if self._asked_for is not None and self._asked_for.state == "running":
                continue
            try:
                await self._next_new(idle_s)
            except SmarterRouterError as error:
                log.warning("profiling by itself: %s", error.message)
            await asyncio.sleep(0 if self._own else LOOK_AGAIN_S)

    async def _next_new(self, idle_s: float) -> None:
        """One model that is new, if there is one."""
        self._own = None
        looking = Profiling(self._engine, Wish(quick=True), idle_s=idle_s)
        fresh = [(m, s) for m, s in await looking.plan() if looking.identity(m) not in self._tried]
        if not fresh:
            return
        model, seconds = fresh[0]
        self._tried.add(looking.identity(model))
        await looking.quiet()
        log.info("nobody asks anything: %s is to be profiled, about %s", model.id, span(seconds))
        run = self._own = self._keep(_Run(f"idle-{new_id()}"))
        wish = Wish(models=(str(model.ref),), quick=True)
        profiling = Profiling(self._engine, wish, run.tell, idle_s=idle_s)
        await asyncio.wait({self._set_going(run, profiling)})
        if isinstance(run.error, Conflict):  # another process profiles: later, then
            self._runs.pop(run.name, None)
            self._own = None
        if isinstance(run.error, Conflict) or run.state == "cancelled":
            self._tried.discard(looking.identity(model))

    def _set_going(
        self, run: _Run, profiling: Profiling, instead_of: _Run | None = None
    ) -> asyncio.Task[None]:
        work = self._through(run, profiling, instead_of)
        run.task = asyncio.get_running_loop().create_task(work)
        run.task.add_done_callback(run.over)
        return run.task

    async def _through(self, run: _Run, profiling: Profiling, instead_of: _Run | None) -> None:
        if instead_of is not None and instead_of.task is not None:
            instead_of.task.cancel()
            await asyncio.wait({instead_of.task})
        try:
            await profiling.run()
            run.state = "done"
        except SmarterRouterError as error:
            run.state, run.why, run.error = "failed", error.message, error
            log.warning("profiling: %s", error.message)
        except Exception as error:
            run.state, run.why = "failed", f"smarterrouter itself failed: {error!r}"
            log.exception("profiling failed in a way nobody foresaw")

    def _keep(self, run: _Run) -> _Run:
        self._runs[run.name] = run
        while len(self._runs) > RUNS_KEPT:
            self._runs.popitem(last=False)
        return run

    def _run(self, name: str) -> _Run:
        try:
            return self._runs[name]
        except KeyError:
            raise ModelNotFound(f"There is no profiling run {name}.", code="not_found") from None
