"""The scheduler inside the Ollama double: which models are resident, who waits, who must go.

Decides what loads, reloads, waits and leaves as Ollama's own scheduler decides it (llama-server
builds, 0.30 and later); knows nothing of HTTP. Its habits, each pinned in ``test_ollama.py``:

1. A request whose model is resident under suitable options takes it at once, past every queue.
2. All others queue, first in first out; beyond ``max_queue`` they are refused.
3. One at a time is taken from the queue and kept until its model is resident. It
   a. waits for its own model to go idle and leave, if that needs other options (a reload);
   b. evicts while ``max_loaded`` models are resident (three for each card), however small;
   c. evicts while others are resident and its need exceeds 80 % of the free memory of all cards;
   d. goes to the card with the most free memory, if 80 % of that suffices, else to all cards, by
      what is free on each;
   e. loads whatever is left over into system memory, if it is alone and still does not fit.
   Without a card all is system memory, and only their number (b) makes models leave.
4. The victim is the idle model with the shortest keep_alive, then by path; with none idle, the
   shortest keep_alive of all: the queue stands still until that one has finished.
5. A client that leaves while its model loads aborts the load; one that leaves while a victim
   finishes is noticed only afterwards.
6. A model that leaves is off the list at once; its memory is free ``release_s`` later, and the
   queue waits up to ``recovery_wait_s`` to see it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

GIB = 1 << 30
HEADROOM = 0.8
FOREVER = timedelta(microseconds=(2**63 - 1) // 1000)
MODELS_PER_CARD = 3
ONE_SLOT = {"mllama", "qwen3vl", "qwen35", "qwen3next", "lfm2", "nemotron_h"}
RUNNER_OPTIONS = {"num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "shift"}

Why = Literal["room", "count", "reload", "expired", "asked", "idle"]


# --- models -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OllamaModel:
    """A model on disk.

    ``context_length`` is what it was trained for, ``num_ctx`` a default set in its Modelfile,
    ``parameters`` the Modelfile's other parameters. ``blob`` names the weights: two models that
    share it share one runner. ``load_error`` makes every load fail with that message. ``info``
    goes over what ``/api/show`` says of the file, by keys without the family before them.
    """

    name: str
    size: int = 4 * GIB
    digest: str = ""
    family: str = "llama"
    parameter_size: str = "8.0B"
    quantization_level: str = "Q4_K_M"
    context_length: int = 32_768
    capabilities: tuple[str, ...] = ("completion", "tools")
    num_ctx: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    load_s: float = 0.0
    load_error: str | None = None
    tokens_per_s: float = math.inf
    dimensions: int = 8
    kv_bytes_per_token: int = 65_536
    footprint: Callable[[int, int], int] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    blob: str = ""
    modified_at: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __post_init__(self) -> None:
        if ":" not in self.name:
            object.__setattr__(self, "name", f"{self.name}:latest")
        digest = self.digest or hashlib.sha256(self.name.encode()).hexdigest()
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "blob", self.blob or f"/models/blobs/{self.name}")

    @property
    def generates(self) -> bool:
        return "completion" in self.capabilities

    def needs_bytes(self, num_ctx: int, num_parallel: int) -> int:
        """Weights and cache together, for this context in each of so many slots."""
        if self.footprint is not None:
            return self.footprint(num_ctx, num_parallel)
        return self.size + self.kv_bytes_per_token * num_ctx * num_parallel


# --- what is asked, what is resident ------------------------------------------------------------


@dataclass(eq=False)
class Wanted:
    """A request for a runner. ``auto``: nobody named a context, the server's default applies."""

    model: OllamaModel
    num_ctx: int
    auto: bool
    keep_alive_s: float | None
    options: Mapping[str, Any]
    answer: asyncio.Future[Runner]

    @property
    def given_up(self) -> bool:
        return self.answer.cancelled()


@dataclass(eq=False)
class Runner:
    """A resident model with its options; ``users`` are the requests that hold it.

    ``cards`` is what it holds on each card, ``size`` that and what it holds in system memory.
    """

    model: OllamaModel
    num_ctx: int
    num_parallel: int
    auto: bool
    keep_alive_s: float
    options: Mapping[str, Any]
    size: int
    cards: tuple[int, ...]
    slots: asyncio.Semaphore
    users: int = 0
    leaves: Why | None = None
    idle_until: datetime | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def size_vram(self) -> int:
        return sum(self.cards)

    @property
    def expires_at(self) -> datetime:
        """When it will go; before it has ever been idle, what it would be from now on."""
        return self.idle_until or until(self.keep_alive_s)

    def serves(self, wanted: Wanted) -> bool:
        """Whether it can be used as it is, without a reload."""
        same = self.num_ctx == min(wanted.num_ctx, self.model.context_length)
        mine, theirs = dict(self.options), dict(wanted.options)
        if theirs.get("num_gpu", -1) < 0:
            mine.pop("num_gpu", None)
            theirs.pop("num_gpu", None)
        return mine == theirs and (same or (self.auto and wanted.auto))

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def until(seconds: float) -> datetime:
    lasts = FOREVER if math.isinf(seconds) else timedelta(seconds=seconds)
    return datetime.now(UTC) + lasts


@dataclass(frozen=True, slots=True)
class Load:
    """A load that was begun, whether or not it came to an end."""

    name: str
    num_ctx: int


@dataclass(frozen=True, slots=True)
class Eviction:
    """A model that left, and why: it made ``room``, was one too many (``count``), had to
    ``reload``, ``expired``, was ``asked`` to go, or had a keep_alive of 0 and went ``idle``."""

    name: str
    num_ctx: int
    why: Why


class ServerBusy(Exception):
    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class LoadFailed(Exception):
    pass


# --- the scheduler ------------------------------------------------------------------------------


class Scheduler:
    """Every attribute without an underscore may be read and, where it is a setting, changed.

    ``vram_total`` is the size of the one card, or of each card; none is a machine without a card.
    ``others_vram`` is what other programs hold, likewise (one number: on the first card).
    """

    def __init__(
        self,
        *,
        vram_total: int | Sequence[int] = 16 * GIB,
        others_vram: int | Sequence[int] = 0,
        max_loaded: int | None = None,
        max_queue: int = 512,
        num_parallel: int = 1,
        keep_alive_s: float = 300.0,
        context_length: int | None = None,
        release_s: float = 0.0,
        recovery_wait_s: float = 5.0,
        aborts_abandoned_loads: bool = True,
        resets_keep_alive: bool = False,
    ) -> None:
        self.cards = (vram_total,) if isinstance(vram_total, int) else tuple(vram_total)
        self.others_vram = others_vram
        self.max_loaded = max_loaded or MODELS_PER_CARD * max(1, len(self.cards))
        self.max_queue = max_queue
        self.num_parallel = num_parallel
        self.keep_alive_s = keep_alive_s
        self.context_length = context_length
        self.release_s = release_s
        self.recovery_wait_s = recovery_wait_s
        self.aborts_abandoned_loads = aborts_abandoned_loads
        self.resets_keep_alive = resets_keep_alive
        self.loads: list[Load] = []
        self.evictions: list[Eviction] = []
        self.aborted: list[Load] = []
        self._forget()

    def _forget(self) -> None:
        self.runners: dict[str, Runner] = {}
        self.loading: OllamaModel | None = None
        self.waiting = 0
        self._loading: tuple[int, ...] = ()
        self._releasing: list[tuple[int, ...]] = []
        self._queue: asyncio.Queue[Wanted] = asyncio.Queue()
        self._unloaded = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # what a test looks at

    @property
    def vram_total(self) -> int:
        return sum(self.cards)

    @property
    def cards_used(self) -> tuple[int, ...]:
        """What the driver would report for Ollama: resident, loading, and not yet released."""
        held = [runner.cards for runner in self.runners.values()] + [self._loading]
        used = [0] * len(self.cards)
        for one in held + self._releasing:
            for card, size in enumerate(one):
                used[card] += size
        return tuple(used)

    @property
    def vram_used(self) -> int:
        return sum(self.cards_used)

    @property
    def cards_free(self) -> tuple[int, ...]:
        others = [self.others_vram] if isinstance(self.others_vram, int) else [*self.others_vram]
        others += [0] * len(self.cards)
        taken = zip(self.cards, others, self.cards_used, strict=False)
        return tuple(max(0, total - other - own) for total, other, own in taken)

    @property
    def vram_free(self) -> int:
        return sum(self.cards_free)

    @property
    def default_num_ctx(self) -> int:
        """OLLAMA_CONTEXT_LENGTH, or by the size of the card."""
        if self.context_length is not None:
            return self.context_length
        tiers = ((47 * GIB, 262_144), (23 * GIB, 32_768))
        return next((tokens for least, tokens in tiers if self.vram_total >= least), 4096)

    # running

    def start(self) -> None:
        self._forget()
        self._spawn(self._serve())

    async def stop(self) -> None:
        """Everything goes at once, as when the process is killed."""
        for runner in self.runners.values():
            runner.stop_timer()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._forget()

    @asynccontextmanager
    async def runner(
        self, model: OllamaModel, options: Mapping[str, Any], keep_alive_s: float | None
    ) -> AsyncIterator[Runner]:
        """Hold the model's runner, loading it first if need be; leaving the block returns it."""
        wanted = self._wanted(model, options, keep_alive_s)
        resident = self.runners.get(model.blob)
        if resident is not None and resident.serves(wanted):
            held = self._lend(resident, wanted)
        else:
            held = await self._queued(wanted)
        try:
            yield held
        finally:
            self._give_back(held)

    def expire(self, model: OllamaModel) -> None:
        """Unload on request: now, or when idle. A load under way does not hear of it."""
        runner = self.runners.get(model.blob)
        if runner is not None:
            runner.idle_until = datetime.now(UTC)
            self._send_away(runner, "asked")

    # asking

    def _wanted(
        self, model: OllamaModel, options: Mapping[str, Any], keep_alive_s: float | None
    ) -> Wanted:
        named = options.get("num_ctx", model.num_ctx)
        num_ctx = max(4, int(named or self.default_num_ctx))
        if "vision" in model.capabilities:
            num_ctx = max(2048, num_ctx)
        rest = {key: value for key, value in options.items() if key in RUNNER_OPTIONS}
        answer: asyncio.Future[Runner] = asyncio.get_running_loop().create_future()
        return Wanted(model, num_ctx, named is None, keep_alive_s, rest, answer)

    async def _queued(self, wanted: Wanted) -> Runner:
        if self._queue.qsize() >= self.max_queue:
            raise ServerBusy
        self._queue.put_nowait(wanted)
        self.waiting += 1
        try:
            return await wanted.answer
        except asyncio.CancelledError:
            # The answer may have come in the same turn of the loop as the hang-up.
            if not wanted.answer.cancelled() and wanted.answer.exception() is None:
                self._give_back(wanted.answer.result())
            raise
        finally:
            self.waiting -= 1

    def _lend(self, runner: Runner, wanted: Wanted) -> Runner:
        runner.users += 1
        runner.stop_timer()
        if wanted.keep_alive_s is not None:
            runner.keep_alive_s = wanted.keep_alive_s
        elif self.resets_keep_alive:
            runner.keep_alive_s = self.keep_alive_s
        return runner

    def _give_back(self, runner: Runner) -> None:
        runner.users -= 1
        if runner.users > 0 or self.runners.get(runner.model.blob) is not runner:
            return
        if runner.leaves or runner.keep_alive_s <= 0:
            self._unload(runner, runner.leaves or "idle")
            return
        runner.idle_until = until(runner.keep_alive_s)
        if not math.isinf(runner.keep_alive_s):
            later = asyncio.get_running_loop().call_later
            runner.timer = later(runner.keep_alive_s, self._unload, runner, "expired")

    # placing

    async def _serve(self) -> None:
        while True:
            await self._place(await self._queue.get())

    async def _place(self, wanted: Wanted) -> None:
        while not wanted.given_up:
            own = self.runners.get(wanted.model.blob)
            if own is not None and own.serves(wanted):
                wanted.answer.set_result(self._lend(own, wanted))
                return
            if own is not None:
                await self._evict(own, "reload")
            elif len(self.runners) >= self.max_loaded:
                await self._evict(victim(self.runners.values()), "count")
            elif self.runners and self.cards and self._need(wanted) > HEADROOM * self.vram_free:
                await self._evict(victim(self.runners.values()), "room")
            else:
                await self._load(wanted)
                return

    async def _evict(self, runner: Runner, why: Why) -> None:
        """Send one away and wait until some model has gone and its memory is seen free."""
        self._unloaded.clear()
        self._send_away(runner, why)
        await self._unloaded.wait()

    def _parallel(self, model: OllamaModel) -> int:
        alone = not model.generates or model.family in ONE_SLOT
        return 1 if alone else self.num_parallel

    def _need(self, wanted: Wanted) -> int:
        model = wanted.model
        num_ctx = min(wanted.num_ctx, model.context_length)
        return model.needs_bytes(num_ctx, self._parallel(model))

    async def _load(self, wanted: Wanted) -> None:
        model = wanted.model
        num_ctx = min(wanted.num_ctx, model.context_length)
        load = Load(model.name, num_ctx)
        need = self._need(wanted)
        self.loads.append(load)
        self.loading = model
        self._loading = placed(need, self.cards_free)
        try:
            await self._time_passes(wanted)
            if wanted.given_up and self.aborts_abandoned_loads:
                self.aborted.append(load)
                return
            if model.load_error is not None:
                if not wanted.given_up:
                    wanted.answer.set_exception(LoadFailed(model.load_error))
                return
            runner = Runner(
                model=model,
                num_ctx=num_ctx,
                num_parallel=self._parallel(model),
                auto=wanted.auto,
                keep_alive_s=self.keep_alive_s,
                options=wanted.options,
                size=need,
                cards=self._loading,
                slots=asyncio.Semaphore(self._parallel(model)),
            )
        finally:
            self.loading = None
            self._loading = ()
        self.runners[model.blob] = self._lend(runner, wanted)
        if wanted.given_up:
            self._give_back(runner)
        else:
            wanted.answer.set_result(runner)

    async def _time_passes(self, wanted: Wanted) -> None:
        """The load's time, or less of it if it is to be aborted when the client leaves."""
        if self.aborts_abandoned_loads:
            await asyncio.wait({wanted.answer}, timeout=wanted.model.load_s)
        else:
            await asyncio.sleep(wanted.model.load_s)

    # leaving

    def _send_away(self, runner: Runner, why: Why) -> None:
        runner.stop_timer()
        runner.keep_alive_s = 0.0
        runner.leaves = runner.leaves or why
        if runner.users == 0:
            self._unload(runner, runner.leaves)

    def _unload(self, runner: Runner, why: Why) -> None:
        """Off the list now; the memory follows."""
        runner.stop_timer()
        del self.runners[runner.model.blob]
        self.evictions.append(Eviction(runner.model.name, runner.num_ctx, why))
        self._releasing.append(runner.cards)
        self._spawn(self._release(runner.cards))

    async def _release(self, cards: tuple[int, ...]) -> None:
        seen = min(self.release_s, self.recovery_wait_s)
        await asyncio.sleep(seen)
        if self.release_s <= self.recovery_wait_s:
            self._releasing.remove(cards)
        self._unloaded.set()
        if self.release_s > self.recovery_wait_s:
            await asyncio.sleep(self.release_s - seen)
            self._releasing.remove(cards)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def victim(runners: Iterable[Runner]) -> Runner:
    """The idle one with the shortest keep_alive, then by path; with none idle, of them all."""
    return min(runners, key=lambda r: (r.users > 0, r.keep_alive_s, r.model.blob))


def placed(need: int, free: tuple[int, ...]) -> tuple[int, ...]:
    """What of a model goes to each card; less than it needs is what the cards cannot take."""
    roomiest = max(range(len(free)), key=lambda card: free[card], default=None)
    if roomiest is None:
        return ()
    if need <= HEADROOM * free[roomiest]:
        return tuple(need if card == roomiest else 0 for card in range(len(free)))
    total = sum(free)
    fits = min(need, total)
    shares = [fits * one // total if total else 0 for one in free]
    shares[roomiest] += fits - sum(shares)
    return tuple(shares)
