"""What the daemon makes of cards: told by a driver, by sysfs, by another machine, or not at all.

NVIDIA's cards are those of a compiled stand-in for the driver's library, so that the daemon is a
process of its own there; what lies on them is kept in step with what the Ollama double holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import web

from tests.gpu.trees.grow import grow
from tests.support.daemon import Running, backend_of, running, served
from tests.support.fake_nvml import GPU_IS_LOST, Card, FakeNvml, build
from tests.support.ollama import Ollama, OllamaModel
from tests.support.upstream import Stream, Upstream

REPOSITORY = Path(__file__).parents[2]
GIB, MIB = 1 << 30, 1 << 20
HELLO = [{"role": "user", "content": "Say hello."}]
STEP_S = 0.01
PATIENCE_S = 10.0
CARD = "desk/nvidia0"

Report = dict[str, Any]


# --- a machine with cards -----------------------------------------------------------------------


@dataclass(slots=True)
class Desk:
    """Cards of which the driver tells what ``ollama`` and ``others`` hold there, card by card.

    ``lost`` are out of reach. ``shown`` is what the driver has told, with the time of each change.
    """

    nvml: FakeNvml
    ollama: Ollama
    totals: tuple[int, ...]
    others: list[int]
    lost: set[int] = field(default_factory=set)
    epoch: int = 0
    shown: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def others_take(self, count: int, card: int = 0) -> None:
        """Another program, which Ollama sees as well."""
        self.others[card] = count
        self.ollama.scheduler.others_vram = tuple(self.others)

    def tell(self) -> None:
        own = [*self.ollama.cards_used, *[0] * len(self.totals)]
        used = tuple(map(sum, zip(own, self.others, strict=False)))
        cards = [
            Card(total, card + 1, used[card], error=GPU_IS_LOST if card in self.lost else 0)
            for card, total in enumerate(self.totals)
        ]
        self.nvml.write(*cards, epoch=self.epoch)
        if not self.shown or self.shown[-1][1] != used:
            self.shown.append((time.monotonic(), used))

    async def keep_telling(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(STEP_S)

    def when_shown(self, used: tuple[int, ...]) -> float:
        """The last time that the cards came to hold this."""
        return next(when for when, held in reversed(self.shown) if held == used)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@asynccontextmanager
async def in_step(desk: Desk) -> AsyncIterator[None]:
    desk.tell()
    telling = asyncio.create_task(desk.keep_telling())
    try:
        yield
    finally:
        telling.cancel()


@asynccontextmanager
async def served_with(
    folder: Path, env: Mapping[str, str], arguments: Sequence[str] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a daemon in a process of its own, which this loop must not wait for."""
    usual = {
        "PYTHONPATH": str(REPOSITORY),
        "ROUTER_VRAM_MONITOR_INTERVAL": "0.2",
        "ROUTER_VRAM_SYSFS": str(folder / "no-sysfs"),
    }
    process = served(folder, *arguments, env={**usual, **env})
    told = await asyncio.to_thread(process.__enter__)
    try:
        async with a_client(told.url) as client:
            yield client
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


def a_client(url: str, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, **more)


@asynccontextmanager
async def at_desk(
    library: Path,
    folder: Path,
    *models: OllamaModel,
    cards: tuple[int, ...] = (24 * GIB,),
    file: str = "",
    env: Mapping[str, str] | None = None,
    **habits: Any,
) -> AsyncIterator[tuple[Desk, httpx.AsyncClient]]:
    """A daemon beside an Ollama with these ``habits``, on a machine with these cards.

    ``file`` is the daemon's; OLLAMA in it stands for the address.
    """
    async with Ollama(*models, **{"vram_total": cards, **habits}) as ollama:
        desk = Desk(FakeNvml(library, folder / "nvml.state"), ollama, cards, [0] * len(cards))
        whole = {**desk.nvml.env(), **(env or {})}
        if file:
            (folder / "smarterrouter.toml").write_text(file.replace("OLLAMA", ollama.url))
        else:
            whole["ROUTER_OLLAMA_URL"] = ollama.url
        async with in_step(desk), served_with(folder, whole) as client:
            yield desk, client


# --- what is asked and told ---------------------------------------------------------------------


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 8}
    return await client.post("/v1/chat/completions", json=body)


async def answered(client: httpx.AsyncClient, model: str) -> None:
    answer = await ask(client, model)
    assert answer.status_code == 200, answer.text


async def refused(client: httpx.AsyncClient, model: str, status: int = 507) -> str:
    answer = await ask(client, model)
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


async def report(client: httpx.AsyncClient) -> Report:
    answer = await client.get("/admin/vram")
    assert answer.status_code == 200, answer.text
    told: Report = answer.json()
    return told


async def once(client: httpx.AsyncClient, holds: Callable[[Report], bool]) -> Report:
    """The first report of which that is true."""
    until = time.monotonic() + PATIENCE_S
    while not holds(told := await report(client)):
        assert time.monotonic() < until, told
        await asyncio.sleep(0.05)
    return told


def measured(name: str) -> Callable[[Report], bool]:
    """That what the model holds has been measured."""
    return lambda told: bool(model(told, name)["bytes_source"] == "measured")


def device(told: Report, name: str = "nvidia0") -> Report:
    return next(one for one in told["devices"] if one["id"] == name)


def model(told: Report, name: str) -> Report:
    return next(one for one in told["models"] if one["model"].removesuffix(":latest") == name)


def lies(told: Report, name: str) -> dict[str, int]:
    """The model's bytes by device."""
    return {one["id"]: one["bytes"] for one in model(told, name)["devices"]}


def gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def of_size(name: str, count: int, **more: Any) -> OllamaModel:
    """A model that takes that much, whatever its context, and whose file is nearly as large."""
    return OllamaModel(name=name, size=count - 2 * GIB, footprint=lambda *_: count, **more)


# --- one card -----------------------------------------------------------------------------------


async def test_a_model_on_a_card_is_told_with_what_the_card_shows(
    library: Path, tmp_path: Path
) -> None:
    async with at_desk(library, tmp_path, of_size("a", 8 * GIB)) as (desk, client):
        desk.others_take(3 * GIB)
        before = device(await once(client, lambda told: device(told)["used_bytes"] == 3 * GIB))
        assert model(await report(client), "a")["bytes_source"] == "estimated"
        await answered(client, "a")
        told = await once(client, measured("a"))
        after = device(told)
    assert (before["node"], before["vendor"], before["source"]) == ("local", "nvidia", "nvml")
    assert (before["total_bytes"], before["free_bytes"]) == (24 * GIB, 21 * GIB)
    assert before["foreign_bytes"] == 3 * GIB
    assert before["budget_bytes"] == int(24 * GIB * 0.9)
    assert lies(told, "a") == {"nvidia0": 8 * GIB}
    assert (after["used_bytes"], after["free_bytes"]) == (11 * GIB, 13 * GIB)
    assert (after["foreign_bytes"], after["own_bytes"]) == (3 * GIB, 8 * GIB)


async def test_what_another_program_takes_is_foreign_and_leaves_no_room_for_a_large_model(
    library: Path, tmp_path: Path
) -> None:
    models = (of_size("small", 6 * GIB), of_size("large", 18 * GIB))
    async with at_desk(library, tmp_path, *models) as (desk, client):
        desk.others_take(10 * GIB)
        await once(client, lambda told: device(told)["foreign_bytes"] == 10 * GIB)
        said = await refused(client, "large:latest")
        await answered(client, "small")
        desk.others_take(0)
        await once(client, lambda told: device(told)["foreign_bytes"] == 0)
        await answered(client, "large")
    assert "large:latest needs " in said
    room = 24 * GIB - 10 * GIB - int(1.5e9)
    assert f"nvidia0 has at most {gb(room)} for models" in said
    assert f"{gb(10 * GIB)} used by other programs" in said
    assert [load.name for load in desk.ollama.loads] == ["small:latest", "large:latest"]


async def test_a_model_waits_until_the_card_shows_that_the_one_before_it_has_gone(
    library: Path, tmp_path: Path
) -> None:
    models = (of_size("a", 14 * GIB), of_size("b", 14 * GIB))
    async with at_desk(library, tmp_path, *models, release_s=0.8) as (desk, client):
        await answered(client, "a")
        asking = asyncio.create_task(answered(client, "b"))
        leaving = await once(client, lambda told: model(told, "a")["state"] == "unloading")
        freeing = await once(client, lambda told: not desk.ollama.loaded)
        await asking
        told = await once(client, measured("b"))
        history = (await client.get("/admin/vram/history")).json()["history"]
    loads = [
        r.arrived_s
        for r in desk.ollama.requests
        if r.body["model"] == "b:latest" and not r.body.get("messages")
    ]
    assert desk.when_shown((0,)) < loads[0]
    assert device(leaving)["used_bytes"] == device(freeing)["used_bytes"] == 14 * GIB
    assert model(freeing, "b")["state"] == "unloaded"
    assert [one.why for one in desk.ollama.evictions] == ["asked"]
    assert all(sum(used) <= 14 * GIB for _, used in desk.shown)
    assert lies(told, "b") == {"nvidia0": 14 * GIB}
    assert [(one["kind"], one["model"]) for one in reversed(history)] == [
        ("load", "a:latest"),
        ("unload", "a:latest"),
        ("load", "b:latest"),
    ]
    assert "to make room for" in history[1]["why"]


# --- several cards ------------------------------------------------------------------------------


async def test_cards_of_two_vendors_share_a_ceiling_by_their_sizes(
    library: Path, tmp_path: Path
) -> None:
    env = {
        "ROUTER_VRAM_MAX_TOTAL_GB": "20",
        "ROUTER_VRAM_SYSFS": str(grow("rx7900xtx", tmp_path / "tree")),
    }
    async with at_desk(library, tmp_path, of_size("a", 4 * GIB), env=env) as (desk, client):
        desk.others_take(2 * GIB)
        told = await once(client, lambda told: device(told)["used_bytes"] == 2 * GIB)
    nvidia, amd, ram = told["devices"]
    sizes = (24 * GIB, 25753026560)
    assert [one["id"] for one in told["devices"]] == ["nvidia0", "amd0", "ram"]
    assert (nvidia["total_bytes"], amd["total_bytes"]) == sizes
    assert (amd["vendor"], amd["name"]) == ("amd", "AMD Radeon RX 7900 XTX")
    assert (amd["used_bytes"], amd["foreign_bytes"]) == (1288994816, 1288994816)
    assert amd["source"] == "sysfs amdgpu vram"
    budgets = (nvidia["budget_bytes"], amd["budget_bytes"])
    assert budgets == tuple(int(20e9 * size / sum(sizes)) for size in sizes)
    assert ram["budget_bytes"] == int(ram["total_bytes"] * 0.9)


async def test_a_model_that_ollama_spreads_over_two_cards_is_weighed_on_both(
    library: Path, tmp_path: Path
) -> None:
    sizes = {"fits": 20 * GIB, "wide": 26 * GIB}  # Ollama leaves a fifth of a card free
    models = [of_size(name, size) for name, size in sizes.items()]
    async with at_desk(library, tmp_path, *models, cards=(24 * GIB, 16 * GIB)) as (desk, client):
        for name, size in sizes.items():
            await answered(client, name)
            told = await once(client, measured(name))
            there = dict(zip(("nvidia0", "nvidia1"), desk.ollama.cards_used, strict=True))
            assert min(there.values()) > 0
            assert lies(told, name) == there
            assert model(told, name)["bytes"] == sum(there.values()) == size
            await once(client, lambda t: [c["foreign_bytes"] for c in t["devices"][:2]] == [0, 0])


async def test_a_lost_card_is_told_as_gone_while_the_other_serves_until_it_returns(
    library: Path, tmp_path: Path
) -> None:
    models = (of_size("small", 4 * GIB), of_size("large", 17 * GIB))
    cards = (24 * GIB, 12 * GIB)
    async with at_desk(library, tmp_path, *models, cards=cards) as (desk, client):
        await once(client, lambda told: device(told, "nvidia1")["free_bytes"] == 12 * GIB)
        desk.lost.add(0)
        desk.ollama.scheduler.others_vram = (24 * GIB, 0)
        gone = await once(client, lambda told: device(told)["gone"])
        await answered(client, "small")
        served_by = lies(await report(client), "small")
        said = await refused(client, "large:latest")
        desk.lost.clear()
        desk.epoch += 1  # the driver has been loaded anew
        desk.ollama.scheduler.others_vram = 0
        back = await once(client, lambda told: not device(told)["gone"])
        await answered(client, "large")
        healthy = lies(await report(client), "large")
    lost, other = device(gone), device(gone, "nvidia1")
    assert (lost["used_bytes"], lost["free_bytes"], lost["foreign_bytes"]) == (None,) * 3
    assert lost["total_bytes"] == 24 * GIB
    assert (other["gone"], other["free_bytes"]) == (False, 12 * GIB)
    assert set(served_by) == {"nvidia1"}
    assert "large:latest needs " in said
    assert "nvidia0 has gone" in said
    assert "nvidia1 has at most " in said
    assert (device(back)["used_bytes"], device(back)["free_bytes"]) == (0, 24 * GIB)
    assert set(healthy) == {"nvidia0"}


# --- another machine ----------------------------------------------------------------------------


class Exporter:
    """A dcgm-exporter of a machine with one card, as text over HTTP; it may go and come back."""

    def __init__(self, ollama: Ollama, total: int) -> None:
        self._ollama = ollama
        self._total = total
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    async def _metrics(self, request: web.Request) -> web.Response:
        used = self._ollama.vram_used
        labels = 'gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA RTX A5000"'
        figures = {"USED": used, "FREE": self._total - used, "TOTAL": self._total}
        rows = [f"DCGM_FI_DEV_FB_{what}{{{labels}}} {n // MIB}" for what, n in figures.items()]
        return web.Response(text="\n".join(rows) + "\n")


@asynccontextmanager
async def an_exporter(ollama: Ollama, total: int) -> AsyncIterator[Exporter]:
    exporter = Exporter(ollama, total)
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.stop()


def looking(folder: Path) -> dict[str, Any]:
    return {"monitor_interval": 0.1, "sysfs": folder / "no-sysfs"}


@asynccontextmanager
async def far(
    ollama: Ollama, exporter: Exporter, folder: Path, **vram: Any
) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A daemon whose models lie on another machine, which that exporter tells of."""
    async with running(
        backend=[{"name": "far", "kind": "ollama", "url": ollama.url, "node": "desk"}],
        node=[{"name": "desk", "metrics_url": exporter.url}],
        vram={**looking(folder), **vram},
    ) as daemon:
        async with daemon.client() as client:
            yield daemon, client


async def loaded_by_somebody_else(ollama: Ollama, name: str) -> None:
    async with a_client(ollama.url) as client:
        body = {"model": name, "keep_alive": -1, "stream": False, "options": {"num_ctx": 8192}}
        assert (await client.post("/api/generate", json=body)).status_code == 200


async def test_models_of_another_machine_lie_on_the_cards_that_its_exporter_tells(
    tmp_path: Path,
) -> None:
    total = 24 * GIB
    models = (of_size("a", 8 * GIB), of_size("b", 20 * GIB))
    async with Ollama(*models, vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        async with far(ollama, exporter, tmp_path) as (_, client):
            await answered(client, "a")
            there = await once(client, measured("a"))
            await exporter.stop()
            away = await once(client, lambda told: device(told, CARD)["used_bytes"] is None)
            await answered(client, "b")
            blind = await report(client)
            await exporter.start()
            back = await once(client, lambda told: bool(device(told, CARD)["used_bytes"]))
    card = device(there, CARD)
    assert (card["node"], card["name"], card["total_bytes"]) == ("desk", "NVIDIA RTX A5000", total)
    assert card["source"] == "dcgm-exporter"
    assert lies(there, "a") == {CARD: 8 * GIB}
    assert device(there, "ram")["own_bytes"] == 0
    card = device(away, CARD)
    assert (card["total_bytes"], card["gone"], card["source"]) == (total, False, "away")
    assert lies(blind, "a") == {}
    assert lies(blind, "b") == {CARD: 20 * GIB}
    assert device(back, CARD)["used_bytes"] == 20 * GIB


async def test_what_somebody_else_has_loaded_is_no_longer_foreign_once_it_is_listed(
    tmp_path: Path,
) -> None:
    total = 24 * GIB
    models = (of_size("a", 8 * GIB), of_size("b", 18 * GIB))
    async with Ollama(*models, vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        async with far(ollama, exporter, tmp_path, monitor_interval=60) as (daemon, client):
            await loaded_by_somebody_else(ollama, "a")
            async with asyncio.timeout(PATIENCE_S):
                while device(await report(client), CARD)["foreign_bytes"] != 8 * GIB:
                    await daemon.engine.look()
            await daemon.engine.catalogue.refresh()
            told = await once(client, lambda told: device(told, CARD)["foreign_bytes"] == 0)
            await answered(client, "b")
    assert lies(told, "a") == {CARD: 8 * GIB}
    assert [one.why for one in ollama.evictions] == ["asked"]


async def test_a_model_that_was_there_before_its_devices_were_told_is_counted_on_them(
    tmp_path: Path,
) -> None:
    total = 24 * GIB
    models = (of_size("a", 8 * GIB), of_size("b", 18 * GIB))
    async with Ollama(*models, vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        await exporter.stop()
        async with far(ollama, exporter, tmp_path) as (daemon, client):
            await answered(client, "a")
            before = await report(client)
            await exporter.start()
            await once(client, lambda told: CARD in [one["id"] for one in told["devices"]])
            await daemon.engine.catalogue.refresh()
            told = await once(client, lambda told: device(told, CARD)["foreign_bytes"] == 0)
            await answered(client, "b")
    assert (lies(before, "a"), model(before, "a")["bytes"]) == ({}, 8 * GIB)
    assert lies(told, "a") == {CARD: 8 * GIB}


async def test_a_stated_card_counts_no_more_once_the_real_one_is_seen(tmp_path: Path) -> None:
    total = 24 * GIB
    models = (of_size("a", 8 * GIB), of_size("b", 18 * GIB))
    async with Ollama(*models, vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        await exporter.stop()
        async with running(
            backend=[{"name": "far", "kind": "ollama", "url": ollama.url, "node": "desk"}],
            node=[{"name": "desk", "metrics_url": exporter.url, "vram_total_gb": 64}],
            vram=looking(tmp_path),
        ) as daemon:
            async with daemon.client() as client:
                stated = (await report(client))["budget_bytes"]
                await exporter.start()
                listed = lambda told: CARD in [one["id"] for one in told["devices"]]  # noqa: E731
                told = await once(client, listed)
    assert device(told, "desk/stated")["budget_bytes"] == 0
    assert device(told, CARD)["budget_bytes"] == int(0.9 * 64e9)
    assert told["budget_bytes"] == stated, "one card is not counted twice"


async def test_what_lay_in_ram_before_the_daemon_came_is_not_counted_on_the_card(
    tmp_path: Path,
) -> None:
    model_in_ram = of_size("a", 8 * GIB)
    async with Ollama(model_in_ram, vram_total=()) as ollama:
        await loaded_by_somebody_else(ollama, "a")
        async with an_exporter(ollama, 24 * GIB) as exporter:
            async with far(ollama, exporter, tmp_path) as (_, client):
                told = await report(client)
    assert model(told, "a")["state"] == "ready"
    assert lies(told, "a") == {}
    assert (device(told, CARD)["own_bytes"], device(told, CARD)["used_bytes"]) == (0, 0)


async def test_another_smarterrouter_tells_what_its_machine_has(tmp_path: Path) -> None:
    tree = grow("rx7900xtx", tmp_path / "desk")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        desk = await enter(
            running(
                backend=[backend_of("http://127.0.0.1:9")], vram={"sysfs": tree}, admin_api_key="k"
            )
        )
        total = 25753026560
        ollama = await enter(Ollama(of_size("a", 8 * GIB), vram_total=total))
        daemon = await enter(
            running(
                backend=[{"name": "far", "kind": "ollama", "url": ollama.url, "node": "desk"}],
                node=[{"name": "desk", "metrics_url": desk.url, "api_key": "k"}],
                vram=looking(tmp_path),
            )
        )
        client = await enter(daemon.client())
        await answered(client, "a")
        told = await report(client)
    card = device(told, "desk/amd0")
    assert (card["node"], card["vendor"], card["source"]) == ("desk", "amd", "smarterrouter")
    assert (card["total_bytes"], card["used_bytes"]) == (total, 1288994816)
    assert device(told, "desk/ram")["total_bytes"]
    assert lies(told, "a") == {"desk/amd0": 8 * GIB}


# --- no card, or one of no use ------------------------------------------------------------------


def a_container(folder: Path, limit: int, used: int) -> Path:
    """Its /sys: a control group with that limit."""
    sysfs = folder / "box/sys"
    group = sysfs / "fs/cgroup"
    group.mkdir(parents=True)
    (folder / "box/proc/self").mkdir(parents=True)
    (folder / "box/proc/self/cgroup").write_text("0::/\n")
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text("inactive_file 0\nactive_file 0\n")
    return sysfs


async def test_without_a_card_a_container_s_limit_is_the_budget(
    tmp_path: Path, made_models: Path
) -> None:
    limit, used = GIB, 400 * MIB
    assert psutil.virtual_memory().total > limit
    env = {
        "ROUTER_VRAM_SYSFS": str(a_container(tmp_path, limit, used)),
        "ROUTER_MODEL_CONTEXT": "512",
    }
    arguments = ("--models-dir", str(made_models))
    async with served_with(tmp_path, env, arguments) as client:
        await answered(client, "tiny-5m")
        told = await report(client)
        said = await refused(client, "tiny-200m")
    [ram] = told["devices"]
    assert (ram["id"], ram["total_bytes"]) == ("ram", limit)
    assert ram["budget_bytes"] == told["budget_bytes"] == int(limit * 0.9)
    assert set(lies(told, "tiny-5m")) == {"ram"}
    assert "tiny-200m needs " in said
    assert "ram has at most " in said


async def test_models_that_cannot_use_the_card_lie_in_ram_beside_it(
    library: Path, tmp_path: Path, made_models: Path
) -> None:
    nvml = FakeNvml(library, tmp_path / "nvml.state")
    nvml.write(Card(24 * GIB))
    arguments = ("--models-dir", str(made_models))
    env = {**nvml.env(), "ROUTER_MODEL_CONTEXT": "512"}
    async with served_with(tmp_path, env, arguments) as client:
        await answered(client, "tiny-20m")
        told = await report(client)
    assert set(lies(told, "tiny-20m")) == {"ram"}
    assert model(told, "tiny-20m")["bytes_source"] == "measured"
    card = device(told)
    assert (card["own_bytes"], card["used_bytes"], card["foreign_bytes"]) == (0, 0, 0)


# --- what was to be on a card, and is not -------------------------------------------------------

SPILLING = """
[[backend]]
name = "ollama"
kind = "ollama"
url = "OLLAMA"

[[backend]]
name = "cloud"
kind = "openai"
url = "CLOUD"
"""


async def test_a_model_that_ollama_puts_into_ram_did_not_fit(library: Path, tmp_path: Path) -> None:
    names = ("partly", "wholly")
    fat = [OllamaModel(name=n, size=8 * GIB, footprint=lambda *_: 30 * GIB) for n in names]
    async with Upstream(Stream(["From afar"]), models=["cloud"]) as cloud:
        file = SPILLING.replace("CLOUD", cloud.url)
        async with at_desk(library, tmp_path, *fat, file=file) as (desk, client):
            in_part = await refused(client, "partly:latest")
            await asyncio.sleep(0.5)  # the library's figures follow the cards with a delay
            desk.ollama.scheduler.cards = ()  # it no longer sees the card
            all_of_it = await refused(client, "wholly:latest")
            told = await once(client, lambda told: device(told)["used_bytes"] == 0)
            answer = await ask(client, "smarterrouter/main")
    assert f"partly:latest takes {gb(30 * GIB)}" in in_part
    assert f"{gb(6 * GIB)} of it into RAM" in in_part
    assert f"wholly:latest takes {gb(30 * GIB)}" in all_of_it
    assert f"{gb(30 * GIB)} of it into RAM" in all_of_it
    assert [one.why for one in desk.ollama.evictions] == ["asked", "asked"]
    assert {model(told, name)["state"] for name in names} == {"failed"}
    assert [lies(told, name) for name in names] == [{}, {}]
    assert answer.status_code == 200
    assert answer.headers["x-smarterrouter-model"] == "cloud"
