"""Profile files: models and evidence as people keep and share them. Decides what is well formed.

The form is ``{"schema": 1, "models": [...], "evidence": [...]}``; see docs/profile-files.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from smarterrouter.domain.evidence import Evidence
from smarterrouter.domain.groups import GROUPS
from smarterrouter.domain.models import Capability, Model, ModelProfile, ModelRef
from smarterrouter.domain.profiles import Answer, Depth, Figures, ProfiledModel, ProfileRecord
from smarterrouter.errors import BadRequest
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.findings import IMPORTED, Found
from smarterrouter.profiling.measuring import Abilities, AtOnce, LoadTimes, Memory
from smarterrouter.profiling.quiz import NO_THINK
from smarterrouter.profiling.speed import Speed

SCHEMA = 1
UNNAMED_BACKEND = "profiles"
STEPS: Mapping[str, type[Struct]] = {
    "load": LoadTimes,
    "speed": Speed,
    "abilities": Abilities,
    "parallel": AtOnce,
    "memory": Memory,
}
"""The steps of profiling whose figures are shared, and their form."""

RATE, LEAST_RATE = "tps", 1e-6
"""How the name of a rate ends, and tokens a second: slower than that is no model."""
TOO_MUCH = 2**63
"""No figure is so large; the database could not hold it."""


class _Model(msgspec.Struct):
    model: str
    backend: str = UNNAMED_BACKEND
    size_bytes: int | None = None
    parameters: float | None = None
    quantization: str | None = None
    context_length: int | None = None
    capabilities: list[str] | None = None
    footprint_bytes: int | None = None
    load_seconds: float | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None
    ttft_s: float | None = None
    figures: dict[str, msgspec.Raw] | None = None


class _Evidence(msgspec.Struct):
    prompt: str
    scores: dict[str, float]
    group: str | None = None
    task: str | None = None
    task_id: str | None = None
    level: str | None = None
    judged: bool = False


class _File(msgspec.Struct):
    evidence: list[_Evidence]
    models: list[_Model] = msgspec.field(default_factory=list)
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """Models with what was measured of each (by model id), and the evidence of all."""

    models: tuple[Model, ...]
    profiles: dict[str, ModelProfile]
    evidence: tuple[Evidence, ...]


def read_profiles(path: Path) -> ProfileFile:
    """The file's content. A model that only the evidence names is in the pool, too.

    Raises ``BadRequest`` naming the file and what is wrong with it.
    """
    file = _read(path)
    evidence = tuple(_evidence(item, path) for item in file.evidence)
    given = _given(file)
    return ProfileFile(
        models=tuple(_model(entry) for entry in given.values()),
        profiles={name: _profile(entry) for name, entry in given.items()},
        evidence=evidence,
    )


def read_records(path: Path, at: float) -> tuple[ProfileRecord, ...]:
    """The file's content as records of models that somebody else has measured.

    ``at`` is the Unix time that they are taken to be from. Raises as ``read_profiles`` does.
    """
    file = _read(path)
    entries = [one for name, one in _given(file).items() if not name.endswith(NO_THINK)]
    backends = {entry.model: entry.backend for entry in entries}
    records = [record for entry in entries for record in _of_model(entry, _steps(entry, path), at)]
    for item in file.evidence:
        _evidence(item, path)
        grouped = item if item.group in GROUPS else structs.replace(item, group=None)
        records += [_answer(grouped, backends, name, at) for name in item.scores]
    return tuple(records)


def write_profiles(found: Sequence[Found], tasks: Set[str] | None) -> tuple[str, int, int]:
    """A file's text, and how many models and prompts are in it.

    ``tasks`` are the keys of those whose prompts may be told; ``None``: all.
    """
    evidence: dict[str, _Evidence] = {}
    for one in found:
        for answer in one.answers:
            if answer.score is not None and (tasks is None or answer.task in tasks):
                item = evidence.setdefault(answer.task, _item(answer))
                item.scores[answer.subject] = answer.score
    file = _File(list(evidence.values()), [_entry(one) for one in found])
    text = msgspec.json.format(msgspec.json.encode(file), indent=1).decode()
    return text, len(file.models), len(evidence)


def _read(path: Path) -> _File:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not a profile file: {error}.") from None
    except RecursionError:
        raise BadRequest(f"{path} is not a profile file: it is nested too deeply.") from None
    if file.schema != SCHEMA:
        raise BadRequest(f"{path} has schema {file.schema}; this version reads schema {SCHEMA}.")
    for entry in file.models:
        _check(entry, path)
    return file


def _check(entry: _Model, path: Path) -> None:
    """Raises ``BadRequest`` for the first figure that can be none, of the entry or of a step."""
    steps = msgspec.to_builtins(_steps(entry, path))
    for name, number in _numbers("", structs.asdict(entry) | {"figures": steps}):
        least = _least(name.rpartition(".")[2])
        if not least <= number < TOO_MUCH:
            raise BadRequest(
                f"{path}: {name} of {entry.model} is {number!s:.25}; it must be at least "
                f"{least:g} and below 2**63."
            )


def _least(name: str) -> float:
    if name.endswith(RATE):
        return LEAST_RATE
    return 1 if name == "context_length" else 0


def _numbers(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Every number in it, with the names that lead there."""
    match value:
        case bool():
            return
        case int() | float():
            yield name, value
        case dict():
            for key, inner in value.items():
                yield from _numbers(f"{name}.{key}" if name else key, inner)
        case list() | tuple():
            for inner in value:
                yield from _numbers(name, inner)


def _steps(entry: _Model, path: Path) -> dict[str, Struct]:
    return {
        step: _step(entry.model, step, body, path) for step, body in (entry.figures or {}).items()
    }


def _step(model: str, step: str, body: msgspec.Raw, path: Path) -> Struct:
    """Raises ``BadRequest`` where it is not what that step of profiling writes."""
    if step not in STEPS:
        raise BadRequest(
            f"{path}: the figures of {model} have a step '{step}'; known ones are "
            f"{', '.join(STEPS)}."
        )
    try:
        return msgspec.json.decode(body, type=STEPS[step])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = str(error)
    except RecursionError:
        why = "it is nested too deeply"
    raise BadRequest(f"{path}: the figures of {model} have a wrong step '{step}': {why}.")


def _given(file: _File) -> dict[str, _Model]:
    """Each model by its id; one that only the evidence names, too."""
    given = {entry.model: entry for entry in file.models}
    for name in (name for item in file.evidence for name in item.scores):
        given.setdefault(name, _Model(name))
    return given


def _of_model(entry: _Model, measured: Mapping[str, Struct], at: float) -> Iterator[ProfileRecord]:
    identity = _identity(entry.backend, entry.model)
    yield ProfiledModel(
        identity=identity,
        model=entry.model,
        backend=entry.backend,
        depth=Depth.FULL,
        done=True,
        failure=None,
        at=at,
        size_bytes=entry.size_bytes,
        parameters=int(entry.parameters) if entry.parameters else None,
        quantization=entry.quantization,
        context_length=entry.context_length,
        capabilities=tuple(entry.capabilities or ()),
    )
    steps: dict[str, Struct] = {"speed": _speed(entry), **measured}
    if "load" not in steps and entry.load_seconds is not None:
        steps["load"] = LoadTimes(unknown=(entry.load_seconds,))
    for step, figures in steps.items():
        body = msgspec.Raw(msgspec.json.encode(figures))
        yield Figures(identity=identity, step=step, body=body, at=at)


def _speed(entry: _Model) -> Speed:
    return Speed(
        lengths=(),
        ttft_s=entry.ttft_s,
        prefill_tps=entry.prefill_tps,
        decode_tps=entry.decode_tps,
        counters="unknown",
    )


def _answer(item: _Evidence, backends: Mapping[str, str], name: str, at: float) -> Answer:
    task = item.task or hashlib.sha256(item.prompt.encode()).hexdigest()[:16]
    model = name.removesuffix(NO_THINK)
    return Answer(
        identity=_identity(backends.get(model, UNNAMED_BACKEND), model),
        subject=name,
        task=task,
        task_id=item.task_id or task,
        group=item.group or "",
        level=item.level or "medium",
        prompt=item.prompt,
        score=item.scores[name],
        how=How.JUDGED if item.judged else How.CHECKED,
        why="imported",
        text="",
        prompt_tokens=None,
        answer_tokens=None,
        seconds=0.0,
        at=at,
    )


def _identity(backend: str, model: str) -> str:
    return f"{IMPORTED}{backend}/{model}"


def _item(answer: Answer) -> _Evidence:
    return _Evidence(
        prompt=answer.prompt,
        scores={},
        group=answer.group,
        task=answer.task,
        task_id=answer.task_id,
        level=answer.level,
        judged=answer.how == How.JUDGED,
    )


def _entry(one: Found) -> _Model:
    model, profile = one.model, one.profile
    steps = {
        "load": one.load,
        "speed": one.speed,
        "abilities": one.abilities,
        "parallel": one.parallel,
        "memory": one.memory,
    }
    return _Model(
        model=model.model,
        backend=model.backend,
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        quantization=model.quantization,
        context_length=model.context_length or None,
        capabilities=list(model.capabilities),
        footprint_bytes=profile.footprint_bytes,
        load_seconds=profile.load_seconds,
        prefill_tps=profile.prefill_tps,
        decode_tps=profile.decode_tps,
        ttft_s=profile.ttft_s,
        figures={
            name: msgspec.Raw(msgspec.json.encode(step))
            for name, step in steps.items()
            if step is not None
        },
    )


def _evidence(item: _Evidence, path: Path) -> Evidence:
    for model, score in item.scores.items():
        if not 0.0 <= score <= 1.0:
            raise BadRequest(f"{path}: a score of {model} is {score}; scores run from 0 to 1.")
    return Evidence(item.prompt, item.group, item.scores, item.judged)


def _model(entry: _Model) -> Model:
    """Capabilities that are not listed are uncertain; those of a list that omits them, absent."""
    known = frozenset(Capability(name) for name in entry.capabilities or () if name in _NAMES)
    unsaid = entry.capabilities is None
    return Model(
        ref=ModelRef(entry.backend, entry.model),
        id=entry.model,
        capabilities=known or frozenset({Capability.CHAT}),
        uncertain=frozenset({Capability.TOOLS, Capability.VISION}) if unsaid else frozenset(),
        size_bytes=entry.size_bytes,
        parameters=int(entry.parameters) if entry.parameters else None,
        quantization=entry.quantization,
        context_length=entry.context_length,
    )


_NAMES = frozenset(capability.value for capability in Capability)


def _profile(entry: _Model) -> ModelProfile:
    return ModelProfile(
        footprint_bytes=entry.footprint_bytes,
        load_seconds=entry.load_seconds,
        prefill_tps=entry.prefill_tps,
        decode_tps=entry.decode_tps,
        ttft_s=entry.ttft_s,
    )
