"""What all that is kept of profiling comes to: evidence, profiles, and what models can do. Pure.

Decides what counts where several things are known of one model's id:

1. What was measured here counts; what was imported only where nothing was measured.
2. Of several files or backends under one id, the one that was profiled last.
3. An answer that was not measured is no evidence.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct

from smarterrouter.domain.evidence import Evidence
from smarterrouter.domain.models import ModelProfile
from smarterrouter.domain.profiles import Answer, Figures, ProfiledModel, in_form
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.measuring import Abilities, AtOnce, LoadTimes, Memory
from smarterrouter.profiling.speed import Speed

IMPORTED = "imported|"
"""How the identity of a model begins that somebody else has measured."""

_T = TypeVar("_T", bound=Struct)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything of one model. ``answers`` are of all its subjects."""

    model: ProfiledModel
    load: LoadTimes | None = None
    speed: Speed | None = None
    abilities: Abilities | None = None
    parallel: AtOnce | None = None
    memory: Memory | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The candidates that have answered: as it comes, and told not to think."""
        return tuple(dict.fromkeys(answer.subject for answer in self.answers))

    @property
    def imported(self) -> bool:
        return self.model.identity.startswith(IMPORTED)

    @property
    def profile(self) -> ModelProfile:
        """As routing takes it. A load's seconds are the median of all loads."""
        loads, usual = self.load, self.memory.usual if self.memory else None
        every = (*loads.cold, *loads.warm, *loads.unknown) if loads else ()
        return ModelProfile(
            footprint_bytes=sum(usual.devices.values()) if usual else None,
            load_seconds=statistics.median(every) if every else None,
            prefill_tps=self.speed.prefill_tps if self.speed else None,
            decode_tps=self.speed.decode_tps if self.speed else None,
            ttft_s=self.speed.ttft_s if self.speed else None,
        )


def found(
    models: Sequence[ProfiledModel], figures: Iterable[Figures], answers: Iterable[Answer]
) -> tuple[Found, ...]:
    """One for each model's id (1, 2), in the order of their names."""
    by_step: dict[str, dict[str, bytes]] = {}
    for one in figures:
        by_step.setdefault(one.identity, {})[one.step] = bytes(one.body)
    by_model: dict[str, list[Answer]] = {}
    for answer in answers:
        by_model.setdefault(answer.identity, []).append(answer)
    counting: dict[str, ProfiledModel] = {}
    for model in sorted(models, key=lambda one: (not _imported(one), one.at)):
        counting[model.model] = model
    return tuple(
        _put_together(
            model, by_step.get(model.identity, {}), tuple(by_model.get(model.identity, ()))
        )
        for _, model in sorted(counting.items())
    )


def evidence(of: Iterable[Found]) -> tuple[Evidence, ...]:
    """Each task with the scores of all who answered it (3)."""
    prompts: dict[str, Answer] = {}
    scores: dict[str, dict[str, float]] = {}
    for one in of:
        for answer in one.answers:
            if answer.score is not None:
                prompts[answer.task] = answer
                scores.setdefault(answer.task, {})[answer.subject] = answer.score
    return tuple(
        Evidence(
            prompt=prompts[task].prompt,
            group=prompts[task].group,
            scores=of_task,
            judged=prompts[task].how == How.JUDGED,
        )
        for task, of_task in scores.items()
    )


def profiles(of: Iterable[Found]) -> Mapping[str, ModelProfile]:
    """By the model's id."""
    return {one.model.model: one.profile for one in of}


def _put_together(
    model: ProfiledModel, steps: Mapping[str, bytes], answers: tuple[Answer, ...]
) -> Found:
    return Found(
        model=model,
        load=in_form(steps.get("load"), LoadTimes),
        speed=in_form(steps.get("speed"), Speed),
        abilities=in_form(steps.get("abilities"), Abilities),
        parallel=in_form(steps.get("parallel"), AtOnce),
        memory=in_form(steps.get("memory"), Memory),
        answers=answers,
    )


def _imported(model: ProfiledModel) -> bool:
    return model.identity.startswith(IMPORTED)
