"""Real llama.cpp children over a folder of real models: what they answer, hold and leave behind.

With ``llama-server`` on PATH these run on it, otherwise on the xllamacpp wheel.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.wire import Timeouts
from smarterrouter.daemon.decode import decode
from smarterrouter.domain import sse
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.domain.collect import Collector
from smarterrouter.domain.devices import HOST, GpuDevice
from smarterrouter.domain.models import Capability, Model, ModelRef, Placement, Placing
from smarterrouter.errors import BackendError, BackendTimeout, ConfigError
from tests.support.children import address_of, child, children, key_of, peek
from tests.support.split_gguf import split

RAM = GpuDevice("ram", "local", HOST, "host RAM", 64 << 30)
CARDS = tuple(
    GpuDevice(f"nvidia{i}", "local", "nvidia", f"NVIDIA RTX {i}", 24 << 30) for i in range(2)
)
TWO_CARDS = """#!/bin/sh
if [ "$1" = --list-devices ]; then
    echo 'Available devices:'
    echo '  CUDA0: NVIDIA RTX 0 (24000 MiB, 23000 MiB free)'
    echo '  CUDA1: NVIDIA RTX 1 (24000 MiB, 23000 MiB free)'
    exit 0
fi
echo "$@" > "$(dirname "$0")/words"
echo "$CUDA_DEVICE_ORDER $LLAMA_ARG_FIT $MTMD_BACKEND_DEVICE" > "$(dirname "$0")/surroundings"
echo "error: this is no server" >&2
exit 1
"""
SMOLLM2 = "SmolLM2-135M-Instruct"
CAPITAL = "What is the capital of France? Answer with one word."

Make = Callable[..., ManagedBackend]


@pytest.fixture
async def managed(models_dir: Path, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes backends over ``models_dir``; in the end nothing of theirs may be left."""
    made: list[ManagedBackend] = []

    def make(presets: str = "", **options: Any) -> ManagedBackend:
        file = tmp_path / "presets.ini"
        file.write_text(presets)
        options = {"context": 1024, **options}
        made.append(
            ManagedBackend(ManagedOptions("local", models_dir, file, **options), Timeouts())
        )
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()
    assert not children(models_dir)
    assert not [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]


async def listed(backend: ManagedBackend) -> dict[str, Model]:
    return {model.ref.name: model for model in await backend.models()}


def question(model: Model, text: str, **fields: Any) -> ChatRequest:
    body = {"model": model.id, "messages": [{"role": "user", "content": text}], **fields}
    return decode(json.dumps(body).encode(), Endpoint.CHAT, "test")


async def answer(backend: ManagedBackend, model: Model, text: str = "Hello?", **fields: Any) -> str:
    collector = Collector()
    async with backend.stream(question(model, text, **fields), model) as blocks:
        async for block in blocks:
            for data in sse.datas(block):
                if data != sse.DONE:
                    collector.add(data)
    said = json.loads(collector.body())["choices"][0]["message"]["content"]
    assert isinstance(said, str)
    return said


async def vectors(backend: ManagedBackend, model: Model, *texts: str) -> list[list[float]]:
    body = json.dumps({"model": model.id, "input": texts}).encode()
    async with backend.stream(decode(body, Endpoint.EMBEDDINGS, "test"), model) as blocks:
        [whole] = [block async for block in blocks]
    return [item["embedding"] for item in json.loads(whole)["data"]]


def resident_bytes(folder: Path) -> int:
    return sum(process.memory_info().rss for process in children(folder))


# --- models, answers, memory --------------------------------------------------------------------


async def test_four_models_side_by_side_answer_each_in_their_own_words(managed: Make) -> None:
    backend = managed()
    models = await listed(backend)
    for name in ("tiny-5m", "tiny-20m", "tiny-60m", SMOLLM2):
        await backend.load(name)
    for name in ("tiny-5m", "tiny-60m", "tiny-20m"):
        said = await answer(backend, models[name], max_tokens=4)
        assert said == f"Hello from {name.replace('-', ' ')}"
    assert "Paris" in await answer(backend, models[SMOLLM2], CAPITAL, temperature=0, max_tokens=16)


async def test_footprints_are_measured_and_ordered_like_the_models(managed: Make) -> None:
    backend = managed()
    models = await listed(backend)
    names = ["tiny-5m", "tiny-20m", "tiny-60m", "tiny-200m"]
    found = [await backend.load(name) for name in names]
    held = [footprint.bytes for footprint in found if footprint]
    assert {footprint.source for footprint in found if footprint} == {"measured"}
    assert held == sorted(held)
    for footprint, name in zip(held, names, strict=True):
        size = models[name].size_bytes
        assert size
        assert size < footprint < size + 150e6


async def test_unloading_gives_the_memory_back(managed: Make, models_dir: Path) -> None:
    backend = managed()
    await backend.models()
    kept = await backend.load("tiny-5m")
    both = await backend.load("tiny-60m")
    assert kept
    assert both
    before = resident_bytes(models_dir)
    await backend.unload("tiny-60m")
    assert before - resident_bytes(models_dir) > 60e6
    assert backend.footprint("tiny-60m") is None
    assert backend.footprint("tiny-5m") is not None
    await backend.unload("tiny-5m")
    assert resident_bytes(models_dir) == 0


async def test_two_who_load_the_same_model_share_one_process(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    await backend.models()
    await asyncio.gather(backend.load("tiny-5m"), backend.load("tiny-5m"))
    assert len(children(models_dir)) == 1


async def test_a_model_in_two_files_loads_and_answers(
    managed: Make, models_dir: Path, made_models: Path
) -> None:
    shards = split(made_models / "tiny-5m.gguf", models_dir / "shards")
    backend = managed()
    model = (await listed(backend))["shards/tiny-5m"]
    assert model.size_bytes == sum(shard.stat().st_size for shard in shards)
    await backend.load(model.ref.name)
    assert await answer(backend, model, max_tokens=4) == "Hello from tiny 5m"


# --- presets ------------------------------------------------------------------------------------


async def test_a_preset_with_embeddings_makes_vectors(managed: Make, made_models: Path) -> None:
    backend = managed(f"[vectors]\nmodel = {made_models}/tiny-20m.gguf\nembeddings = true\n")
    models = await listed(backend)
    assert models["vectors"].capabilities == {Capability.EMBEDDING}
    assert models["tiny-20m"].capabilities == {Capability.CHAT}
    await backend.load("vectors")
    one, other = await vectors(backend, models["vectors"], "alpha bravo", "zulu")
    [again] = await vectors(backend, models["vectors"], "alpha bravo")
    made = backend.recipe("vectors")
    assert made
    assert len(one) == len(other) == made.entry.header.embedding_length
    assert one == pytest.approx(again, abs=1e-4)
    assert one != pytest.approx(other, abs=1e-2)


async def test_presets_reach_the_child(managed: Make, models_dir: Path) -> None:
    presets = "[*]\nc = 1024\n[tiny-5m]\nctx-size = 3072\nparallel = 2\nno-warmup = true\n"
    backend = managed(presets)
    models = await listed(backend)
    assert models["tiny-5m"].served_context == 1536
    assert models["tiny-20m"].served_context == 1024
    await backend.load("tiny-5m")
    process = await child(models_dir)
    assert [slot["n_ctx"] for slot in await peek(process, "slots")] == [1536, 1536]
    assert (await peek(process, "props"))["total_slots"] == 2
    words = " ".join(process.cmdline())
    assert "--cache-ram 0" in words or '"cache_ram_mib": 0,' in words
    assert "--no-warmup" in words or '"warmup": false' in words


async def test_without_a_preset_context_slots_and_prompt_cache_are_bounded(
    managed: Make, models_dir: Path
) -> None:
    backend = managed(context=512, parallel=3)
    models = await listed(backend)
    assert models["tiny-5m"].served_context == 512
    await backend.load("tiny-5m")
    process = await child(models_dir)
    assert [slot["n_ctx"] for slot in await peek(process, "slots")] == [512, 512, 512]
    words = " ".join(process.cmdline())
    assert "--cache-ram 0" in words or '"cache_ram_mib": 0,' in words


async def test_a_flag_that_llama_cpp_refuses_is_told_in_its_words(managed: Make) -> None:
    backend = managed("[tiny-5m]\nflash-attn = sideways\n")
    await backend.models()
    with pytest.raises(BackendError, match=r"tiny-5m failed to load\..*(?i:sideways)"):
        await backend.load("tiny-5m")


async def test_a_flag_nobody_knows_is_for_llama_server_to_judge(managed: Make) -> None:
    backend = managed("[tiny-5m]\nwarp-drive = 9\n")
    await backend.models()
    with pytest.raises(BackendError) as refused:
        await backend.load("tiny-5m")
    if shutil.which("llama-server"):
        assert "invalid argument: --warp-drive" in refused.value.message
    else:
        assert "'warp-drive', which the xllamacpp wheel cannot" in refused.value.message
        assert "llama-server on PATH" in refused.value.message


async def test_load_on_startup_is_told_of_each_model(managed: Make) -> None:
    models = await listed(managed("[tiny-5m]\nload-on-startup = true\n"))
    assert [name for name, model in models.items() if model.preload] == ["tiny-5m"]


# --- cards --------------------------------------------------------------------------------------


@pytest.fixture
def two_cards(tmp_path: Path) -> Path:
    """What looks like a llama-server with two cards of NVIDIA, and serves nothing."""
    path = tmp_path / "llama-server"
    path.write_text(TWO_CARDS)
    path.chmod(0o755)
    return path


@pytest.fixture
def mute(two_cards: Path) -> Path:
    """One that does not list its cards."""
    two_cards.write_text("#!/bin/sh\nexit 1\n")
    return two_cards


async def told(backend: ManagedBackend, name: str, share: dict[str, int], server: Path) -> str:
    """The flags and surroundings that a load gives the child."""
    with pytest.raises(BackendError, match="this is no server"):
        await backend.load(name, Placement(share))
    files = (server.with_name("words"), server.with_name("surroundings"))
    return " ".join(file.read_text().strip() for file in files)


async def test_a_model_lies_on_the_cards_that_it_is_placed_on(
    managed: Make, two_cards: Path
) -> None:
    backend = managed("[tiny-20m]\nn-gpu-layers = 0\n", llama_server=two_cards)
    assert backend.placing is Placing.CHOSEN
    await backend.models()
    devices = (RAM, *CARDS)
    assert backend.reach("tiny-5m", devices) == ("nvidia0", "nvidia1")
    assert backend.reach("tiny-20m", devices) == ("ram",)
    on_card, in_ram = backend.layout("tiny-5m"), backend.layout("tiny-20m")
    assert on_card
    assert in_ram
    assert (on_card.on_gpu, in_ram.on_gpu) == (True, False)
    assert (on_card.context, on_card.parallel) == (1024, 1)
    one = await told(backend, "tiny-5m", {"nvidia1": 1 << 30}, two_cards)
    assert "--device CUDA1 --split-mode none" in one
    assert one.endswith("PCI_BUS_ID off CUDA1")
    both = await told(backend, "tiny-5m", {"nvidia1": 1 << 30, "nvidia0": 3 << 30}, two_cards)
    assert "--device CUDA0,CUDA1 --tensor-split 3072,1024" in both
    ram = await told(backend, "tiny-20m", {"ram": 1 << 30}, two_cards)
    assert "--device" not in ram
    assert ram.endswith("PCI_BUS_ID")


async def test_a_llama_cpp_that_does_not_list_its_cards_is_told_once_and_serves_all_the_same(
    managed: Make, mute: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = managed(llama_server=mute)
    for _ in range(2):
        assert "tiny-5m" in await listed(backend)
    assert caplog.text.count("does not say which cards it can use") == 1
    assert backend.reach("tiny-5m", (RAM,)) == ("ram",)
    assert backend.reach("tiny-5m", (RAM, *CARDS)) == ()


async def test_a_model_in_ram_tells_its_processes_and_what_they_hold(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    models = await listed(backend)
    assert models["tiny-5m"].slots == 1
    assert backend.reach("tiny-5m", (RAM,)) == ("ram",)
    assert backend.reach("nobody", (RAM,)) == ()
    assert backend.layout("nobody") is None
    held = await backend.load("tiny-5m", Placement({"ram": 1 << 30}))
    process = await child(models_dir)
    assert process.pid in backend.processes("tiny-5m")
    assert held
    assert held.bytes == pytest.approx(process.memory_info().rss, rel=0.2)
    process.kill()
    async with asyncio.timeout(5):
        while backend.processes("tiny-5m"):
            await asyncio.sleep(0.01)


# --- the child's door ---------------------------------------------------------------------------


async def test_only_whoever_has_the_key_is_answered_and_no_command_line_shows_it(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    await backend.models()
    await backend.load("tiny-5m")
    process = await child(models_dir)
    assert key_of(process) not in " ".join(process.cmdline())
    assert {c.laddr.ip for c in process.net_connections("tcp")} == {"127.0.0.1"}
    async with httpx.AsyncClient(trust_env=False, base_url=address_of(process)) as stranger:
        refused = await stranger.post("/v1/chat/completions", json={"messages": []})
    assert refused.status_code == 401


# --- death and failure --------------------------------------------------------------------------


async def test_a_killed_child_is_noticed_explained_and_replaced(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    models = await listed(backend)
    noticed: asyncio.Queue[tuple[ModelRef, str]] = asyncio.Queue()
    backend.watch(lambda ref, reason: noticed.put_nowait((ref, reason)))
    endless = models["endless-20m"]
    await backend.load("endless-20m")
    process = await child(models_dir)

    async def listen() -> None:
        async with backend.stream(question(endless, "Go."), endless) as blocks:
            await anext(blocks)
            process.send_signal(signal.SIGKILL)
            async for _ in blocks:
                pass

    with pytest.raises(BackendError, match=r"stopped while it was answering\. .*SIGKILL"):
        await listen()
    async with asyncio.timeout(5):
        ref, reason = await noticed.get()
    assert ref == ModelRef("local", "endless-20m")
    assert "SIGKILL" in reason
    assert backend.footprint("endless-20m") is None
    await backend.load("endless-20m")
    assert await answer(backend, endless, max_tokens=4) == "Hello from endless 20m"
    assert noticed.empty()


async def test_a_child_that_is_asked_to_go_is_not_reported_as_lost(managed: Make) -> None:
    backend = managed()
    await backend.models()
    lost: list[str] = []
    backend.watch(lambda ref, reason: lost.append(reason))
    await backend.load("tiny-5m")
    await backend.unload("tiny-5m")
    await backend.load("tiny-5m")
    await backend.aclose()
    assert not lost


async def test_a_file_that_only_llama_cpp_finds_broken_is_told_in_its_words(
    managed: Make, models_dir: Path, made_models: Path
) -> None:
    whole = (made_models / "tiny-5m.gguf").read_bytes()
    broken = whole.replace(b"output_norm.weight", b"output_nork.weight")
    (models_dir / "broken.gguf").write_bytes(broken)
    backend = managed()
    assert "broken" in await listed(backend)
    with pytest.raises(BackendError) as failed:
        await backend.load("broken")
    assert failed.value.message.startswith("broken failed to load. Its process ended with exit")
    assert "'output_norm.weight' not found" in failed.value.message
    assert not children(models_dir)


async def test_a_load_that_takes_too_long_leaves_no_child(managed: Make, models_dir: Path) -> None:
    backend = managed(load_timeout_s=0.01)
    await backend.models()
    with pytest.raises(BackendTimeout, match=r"tiny-200m was not loaded after 0\.01 s"):
        await backend.load("tiny-200m")
    assert not children(models_dir)


async def test_a_cancelled_load_leaves_no_child_and_the_next_one_works(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    models = await listed(backend)
    loading = asyncio.create_task(backend.load("tiny-5m"))
    process = await child(models_dir)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not process.is_running()
    await backend.load("tiny-5m")
    assert await answer(backend, models["tiny-5m"], max_tokens=4) == "Hello from tiny 5m"


async def test_closing_ends_a_load_under_way(managed: Make, models_dir: Path) -> None:
    backend = managed()
    await backend.models()
    loading = asyncio.create_task(backend.load("tiny-200m"))
    while not (started := children(models_dir)):
        await asyncio.sleep(0)  # the load takes a few tenths of a second
    assert not loading.done()
    await backend.aclose()
    with pytest.raises(BackendError):
        await loading
    assert not started[0].is_running()


async def test_a_child_that_will_not_go_is_made_to(managed: Make, models_dir: Path) -> None:
    backend = managed("[tiny-5m]\nstop-timeout = 1\n")
    await backend.models()
    await backend.load("tiny-5m")
    process = await child(models_dir)
    process.suspend()
    await backend.unload("tiny-5m")
    assert not process.is_running()


async def test_an_unload_that_is_cancelled_ends_the_child_all_the_same(
    managed: Make, models_dir: Path
) -> None:
    backend = managed()
    await backend.models()
    await backend.load("tiny-5m")
    process = await child(models_dir)
    process.suspend()
    unloading = asyncio.create_task(backend.unload("tiny-5m"))
    await asyncio.sleep(0)
    unloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unloading
    await backend.load("tiny-5m")
    assert not process.is_running()
    await backend.unload("tiny-5m")
    assert not children(models_dir)


def test_without_a_folder_there_is_no_backend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none is not a folder"):
        ManagedBackend(ManagedOptions("local", tmp_path / "none"), Timeouts())


def test_a_llama_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    options = ManagedOptions("local", tmp_path, llama_server=tmp_path / "llama-server")
    with pytest.raises(ConfigError, match=f"{os.sep}llama-server, and there is no such file"):
        ManagedBackend(options, Timeouts())
