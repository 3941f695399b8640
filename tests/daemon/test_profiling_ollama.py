"""Profiling of Ollama's models, which load and think by Ollama's own rules."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smarterrouter.assembly.rig import EngineRig
from smarterrouter.profiling.bench import Bench, Options
from smarterrouter.profiling.checkers.specs import Exact
from smarterrouter.profiling.probes import CITY, COLOURS, png
from smarterrouter.profiling.runner import Runner
from smarterrouter.profiling.task import Task
from tests.support.daemon import running
from tests.support.ollama import GIB, Call, Ollama, OllamaModel, Says, Turn
from tests.support.upstream import Json

SMALL = OllamaModel(
    name="qwen3:4b",
    size=2 * GIB,
    capabilities=("completion", "tools", "thinking"),
    tokens_per_s=1000,
    load_s=0.05,
)
LARGE = OllamaModel(
    name="gemma3:12b",
    size=8 * GIB,
    capabilities=("completion", "vision"),
    tokens_per_s=250,
    load_s=0.2,
)
VECTORS = OllamaModel(
    name="nomic-embed-text", size=GIB // 4, capabilities=("embedding",), dimensions=768
)
CARD = {"name": "desk", "vram_total_gb": 24}
TASKS = tuple(
    Task(
        id=f"logic-{number}",
        level="easy",
        group="logic",
        prompt=f"Riddle {number}: yes or no?",
        check=Exact(answers=["yes"], rivals=["no"]),
        max_tokens=64,
    )
    for number in range(6)
)


@dataclass(frozen=True, slots=True)
class Clever(Says):
    """Calls the tool that it is given, names the colour of a picture, and is right about riddles
    only after it has thought."""

    def pieces(self, turn: Turn) -> Iterator[Json]:
        asked: Mapping[str, Any] = turn.received.body
        last = asked["messages"][-1] if asked.get("messages") else {}
        if turn.thinks:
            yield {"thinking": "Let me see. No, yes."}
        if asked.get("tools"):
            yield {"tool_calls": [Call(arguments={"city": CITY}).as_json(0)]}
            return
        if images := last.get("images"):
            seen = {base64.b64encode(png(rgb)).decode(): name for name, rgb in COLOURS.items()}
            yield {"content": seen[images[0]]}
            return
        if "Riddle" in last.get("content", ""):
            yield {"content": "Yes." if turn.thinks or turn.model.size > 4 * GIB else "No."}
            return
        yield from ({"content": text} for text in self.words(turn))


async def test_what_ollama_tells_is_measured_and_each_model_is_loaded_once(tmp_path: Path) -> None:
    async with Ollama(SMALL, LARGE, VECTORS, vram_total=(24 * GIB,)) as ollama:
        ollama.play(Clever())
        desk = {"name": "desk", "kind": "ollama", "url": ollama.url, "node": "desk"}
        settings = {"backend": [desk], "node": [CARD], "database": tmp_path / "kept.db"}
        quiet = {"on_start": False}
        async with running(**settings, profile=quiet) as daemon, daemon.client() as client:
            engine = daemon.engine
            bench = Bench(
                rig=EngineRig(engine),
                notes=engine.notes,
                clock=engine.clock,
                options=Options(tasks=TASKS),
            )
            outcome = await Runner(bench).run()
            report = (await client.get("/admin/profiles")).json()
        loads = [(load.name, load.num_ctx) for load in ollama.loads]
    assert outcome == {"nomic-embed-text:latest": None, "qwen3:4b": None, "gemma3:12b": None}
    of = {one["model"]: one for one in report["models"]}
    small, large, vectors = of["qwen3:4b"], of["gemma3:12b"], of["nomic-embed-text:latest"]

    assert small["speed"]["counters"] == "the backend's"
    assert small["speed"]["decode_tps"] > 2 * large["speed"]["decode_tps"] > 0
    assert [row["requests"] for row in large["parallel"]] == [2, 4]
    assert len(large["load"]["unknown"]) > 1
    assert min(large["load"]["unknown"]) >= 0.2
    assert vectors["dimensions"] == 768

    def able(one: Mapping[str, Any]) -> set[str]:
        return {name for name, ability in one["abilities"].items() if ability["able"]}

    assert able(small) == {"tools", "json", "thinking"}
    assert able(large) == {"vision", "json"}
    scores = {c["subject"]: c["overall"]["mean"] for c in small["candidates"]}
    assert scores == {"qwen3:4b": 1.0, "qwen3:4b#no-think": 0.0}

    memory = large["memory"]
    assert (memory["usual"]["context"], memory["larger"]["context"]) == (8192, 16384)
    usual, larger = (sum(memory[key]["devices"].values()) for key in ("usual", "larger"))
    assert larger - usual == 8192 * LARGE.kv_bytes_per_token * ollama.scheduler.num_parallel
    times = len(large["load"]["unknown"])
    assert loads.count(("gemma3:12b", 8192)) <= times + 1
    assert loads.count(("gemma3:12b", 16384)) == 1
