"""A rig whose models answer as a test says, without any backend; and tasks of known difficulty."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Capability, Model, ModelRef
from smarterrouter.errors import ModelNotFound
from smarterrouter.profiling.asking import Reply
from smarterrouter.profiling.checkers.specs import Exact
from smarterrouter.profiling.rig import Disturbed, Pace, Weighed
from smarterrouter.profiling.task import Task

Says = Callable[[ChatRequest, Model], Reply]
"""What a model answers; it may raise."""


def model(name: str, size: int = 10**9, *, digest: str = "1", embeds: bool = False) -> Model:
    can = Capability.EMBEDDING if embeds else Capability.CHAT
    return Model(
        ref=ModelRef("fake", name),
        id=name,
        capabilities=frozenset({can}),
        size_bytes=size,
        context_length=8192,
        digest=digest,
    )


def tasks(count: int = 12, groups: Sequence[str] = ("math", "logic")) -> tuple[Task, ...]:
    """``count`` tasks in each group; the right answer to each is ``yes``."""
    levels = ("easy", "medium", "hard")
    return tuple(
        Task(
            id=f"{group}-{number}",
            level=levels[number % 3],  # type: ignore[arg-type]
            check=Exact(answers=["yes"], rivals=["no"]),
            group=group,
            prompt=f"Question {number} of {group}: yes or no?",
            max_tokens=64,
            quick=number < 3,
        )
        for group in groups
        for number in range(count)
    )


def said(text: str, *, seconds: float = 0.1, finish: str = "stop", reasoning: str = "") -> Reply:
    return Reply(
        text=text,
        reasoning=reasoning,
        finish=finish,
        prompt_tokens=20,
        answer_tokens=10,
        prefill_tokens=20,
        prefill_s=0.02,
        decode_tokens=10,
        decode_s=0.1,
        ttft_s=0.02,
        seconds=seconds,
    )


def right(share: Mapping[str, float]) -> Says:
    """Models that answer so large a share of all prompts rightly, always the same ones."""

    def says(request: ChatRequest, model: Model) -> Reply:
        prompt = request.messages[-1].text
        digest = hashlib.sha256(f"{model.id}{prompt}".encode()).digest()
        chance = int.from_bytes(digest[:4], "big") / 2**32
        return said("Yes." if chance < share.get(model.id, 0.5) else "No.")

    return says


class FakeRig:
    """Implements ``profiling.rig.Rig``. ``asked`` are the prompts so far, by model, in order.

    ``disturbances`` is how many questions are given up, ``answer_s`` how long each takes.
    """

    def __init__(self, models: Sequence[Model], says: Says, answer_s: float = 0.0) -> None:
        self.there = list(models)
        self.says = says
        self.answer_s = answer_s
        self.asked: list[tuple[str, str]] = []
        self.loaded: list[str] = []
        self.unloaded: list[str] = []
        self.disturbances = 0
        self.elsewhere: dict[str, str] = {}
        self.at_once = 2
        self.most_at_once = self._now = 0
        self.waits = 0

    def models(self) -> Sequence[Model]:
        return self.there

    def left_out(self) -> Mapping[str, str]:
        return self.elsewhere

    def identity(self, model: Model) -> str:
        return f"{model.ref}|{model.digest}"

    def pace(self, model: Model) -> Pace:
        return Pace(load_s=1.0, prefill_tps=1000.0, decode_tps=100.0)

    def context(self, model: Model) -> int | None:
        return model.usable_context

    def slots(self, model: Model) -> int:
        return self.at_once

    def loads(self, model: Model) -> bool:
        return True

    async def quiet(self) -> None:
        self.waits += 1

    async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.answer_s)
            if self.disturbances:
                self.disturbances -= 1
                raise Disturbed
            self.asked.append((model.id, request.messages[-1].text))
            return self.says(request, model)
        finally:
            self._now -= 1

    async def embed(self, request: ChatRequest, model: Model, limit_s: float) -> Sequence[int]:
        return [384 for _ in msgspec.json.decode(request.fields["input"])]

    async def load(self, model: Model, context: int = 0) -> float:
        if model not in self.there:
            raise ModelNotFound(f"{model.id} is no longer there.")
        self.loaded.append(model.id)
        return 1.5

    async def unload(self, model: Model) -> None:
        self.unloaded.append(model.id)

    async def drop_cache(self, model: Model) -> bool:
        return True

    async def weigh(self, model: Model) -> Weighed | None:
        held = {"ram": (model.size_bytes or 0) + 10}
        return Weighed(devices=held, source="measured", context=8192, samples=3)

    def larger_context(self, model: Model) -> int | None:
        return 16384

    def questions(self, name: str) -> list[str]:
        """The tasks' prompts that a model was asked, probes and timings left out."""
        return [text for who, text in self.asked if who == name and text.startswith("Question")]
