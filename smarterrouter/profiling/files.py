"""Profile files: models and evidence as people keep and share them. Decides what is well formed.

The form is ``{"schema": 1, "models": [...], "evidence": [...]}``; see docs/profile-files.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from smarterrouter.domain.evidence import Evidence
from smarterrouter.domain.models import Capability, Model, ModelProfile, ModelRef
from smarterrouter.errors import BadRequest

SCHEMA = 1
UNNAMED_BACKEND = "profiles"


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


class _Evidence(msgspec.Struct):
    prompt: str
    scores: dict[str, float]
    group: str | None = None


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
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not a profile file: {error}.") from None
    if file.schema != SCHEMA:
        raise BadRequest(f"{path} has schema {file.schema}; this version reads schema {SCHEMA}.")
    evidence = tuple(_evidence(item, path) for item in file.evidence)
    given = {entry.model: entry for entry in file.models}
    for name in (name for item in evidence for name in item.scores):
        given.setdefault(name, _Model(name))
    return ProfileFile(
        models=tuple(_model(entry) for entry in given.values()),
        profiles={name: _profile(entry) for name, entry in given.items()},
        evidence=evidence,
    )


def _evidence(item: _Evidence, path: Path) -> Evidence:
    for model, score in item.scores.items():
        if not 0.0 <= score <= 1.0:
            raise BadRequest(f"{path}: a score of {model} is {score}; scores run from 0 to 1.")
    return Evidence(item.prompt, item.group, item.scores)


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
