"""Profile files: what is taken from them, and what is refused before anything is kept."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from smarterrouter.domain.profiles import Depth, Figures, ProfiledModel
from smarterrouter.errors import BadRequest
from smarterrouter.profiling.files import read_profiles, read_records, write_profiles
from smarterrouter.profiling.findings import Found, found
from smarterrouter.profiling.measuring import Abilities, AtOnce, LoadTimes, Memory
from smarterrouter.profiling.probes import Ability
from smarterrouter.profiling.rig import Weighed
from smarterrouter.profiling.speed import Parallel, Speed, Timed

SPEED = Speed(
    lengths=(
        Timed(prompt_tokens=128, ttft_s=0.0, prefill_tps=900.0, decode_tps=None, answers=3),
        Timed(prompt_tokens=0, ttft_s=None, prefill_tps=None, decode_tps=20.0, answers=1),
    ),
    ttft_s=0.1,
    prefill_tps=900.0,
    decode_tps=22.0,
    counters="the clock's",
    why="prompts of 4096 tokens take too long",
)
WHOLE = Found(
    model=ProfiledModel(
        identity="fake/m|1",
        model="m",
        backend="fake",
        depth=Depth.FULL,
        done=True,
        failure=None,
        at=1.0,
        size_bytes=0,
        parameters=0,
        context_length=0,
        capabilities=("chat",),
    ),
    load=LoadTimes(cold=(0.0, 2.5), warm=(0.5,)),
    speed=SPEED,
    abilities=Abilities(found={"tools": Ability(None, "it timed out")}, dimensions=None),
    parallel=AtOnce(rows=(Parallel(requests=2, tps=None, slots=None),)),
    memory=Memory(
        usual=Weighed(devices={"ram": 0, "gpu": 2**40}, source="measured", context=0, samples=3),
        why_not_larger="not looked for",
    ),
)


def written(folder: Path, content: object) -> Path:
    file = folder / "friends.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def of_model(**more: object) -> dict[str, object]:
    """A file with a sound model before the one that is given."""
    return {"models": [{"model": "sound"}, {"model": "m", **more}], "evidence": []}


def refusals(file: Path) -> set[str]:
    """What is said of it: to ``profile import``, and to ``route --profiles``."""
    with pytest.raises(BadRequest) as to_import:
        read_records(file, 1.0)
    with pytest.raises(BadRequest) as to_route:
        read_profiles(file)
    return {to_import.value.message, to_route.value.message}


def test_whatever_is_exported_can_be_imported(tmp_path: Path) -> None:
    file = written(tmp_path, write_profiles([WHOLE], None)[0])
    records = read_records(file, 2.0)
    models = [one for one in records if isinstance(one, ProfiledModel)]
    [again] = found(models, [one for one in records if isinstance(one, Figures)], [])
    for step in ("load", "speed", "abilities", "parallel", "memory"):
        assert getattr(again, step) == getattr(WHOLE, step)
    assert read_profiles(file).profiles["m"] == WHOLE.profile


def test_of_a_step_only_what_is_known_is_kept(tmp_path: Path) -> None:
    load = {"cold": [1.5], "mine": [{"deep": 1}]}
    records = read_records(written(tmp_path, of_model(figures={"load": load})), 1.0)
    [kept] = [one for one in records if isinstance(one, Figures) and one.step == "load"]
    assert msgspec.json.decode(kept.body, type=LoadTimes) == LoadTimes(cold=(1.5,))
    assert b"mine" not in bytes(kept.body)


@pytest.mark.parametrize(
    ("step", "body", "why"),
    [
        ("settled:m", "boo", "known ones are load, speed, abilities, parallel, memory"),
        ("settled:m", {"groups": [1], "overall": 3}, "known ones are"),
        ("", {}, "known ones are"),
        ("speed", "fast", "Expected `object`, got `str`"),
        ("speed", None, "Expected `object`, got `null`"),
        ("speed", {"lengths": []}, "missing required field `ttft_s`"),
        ("load", {"cold": ["x"]}, "Expected `float`, got `str` - at `$.cold[0]`"),
        ("abilities", {"found": {"tools": [True, "x"]}}, "got `array` - at `$.found[...]`"),
    ],
)
def test_figures_that_profiling_does_not_write_are_refused(
    tmp_path: Path, step: str, body: object, why: str
) -> None:
    file = written(tmp_path, of_model(figures={step: body}))
    [message] = refusals(file)
    assert message.startswith(f"{file}: the figures of m have a ")
    assert f"step '{step}'" in message
    assert why in message


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("size_bytes", 10**30, "0"),
        ("size_bytes", 2**63, "0"),
        ("size_bytes", -1, "0"),
        ("parameters", 1e300, "0"),
        ("parameters", -1, "0"),
        ("context_length", 10**400, "1"),
        ("context_length", 0, "1"),
        ("footprint_bytes", -10, "0"),
        ("load_seconds", -3, "0"),
        ("load_seconds", 1e19, "0"),
        ("ttft_s", -0.1, "0"),
        ("decode_tps", 0, "1e-06"),
        ("decode_tps", -1e9, "1e-06"),
        ("decode_tps", 1e-320, "1e-06"),
        ("prefill_tps", 0.0, "1e-06"),
        ("prefill_tps", 1e300, "1e-06"),
    ],
)
def test_a_figure_that_can_be_none_is_refused(
    tmp_path: Path, name: str, value: float, least: str
) -> None:
    file = written(tmp_path, of_model(**{name: value}))
    [message] = refusals(file)
    assert message.startswith(f"{file}: {name} of m is ")
    assert message.endswith(f"; it must be at least {least} and below 2**63.")
    assert len(message) < len(str(file)) + 120


@pytest.mark.parametrize(
    ("found", "where"),
    [
        (replace(SPEED, decode_tps=0.0), "speed.decode_tps"),
        (replace(SPEED, decode_tps=1e-320), "speed.decode_tps"),
        (
            replace(SPEED, lengths=(replace(SPEED.lengths[0], ttft_s=-1.0),)),
            "speed.lengths.ttft_s",
        ),
        (LoadTimes(warm=(1.0, -1.0)), "load.warm"),
        (AtOnce(rows=(Parallel(requests=-1, tps=None, slots=None),)), "parallel.rows.requests"),
        (AtOnce(rows=(Parallel(requests=2, tps=0.0, slots=None),)), "parallel.rows.tps"),
        (Abilities(found={}, dimensions=2**63), "abilities.dimensions"),
        (
            Memory(usual=Weighed(devices={"ram": -1}, source="x", context=None, samples=1)),
            "memory.usual.devices.ram",
        ),
    ],
)
def test_a_figure_within_a_step_that_can_be_none_is_refused(
    tmp_path: Path, found: msgspec.Struct, where: str
) -> None:
    step = where.partition(".")[0]
    file = written(tmp_path, of_model(figures={step: msgspec.to_builtins(found)}))
    [message] = refusals(file)
    assert message.startswith(f"{file}: figures.{where} of m is ")


def test_unknown_and_nothing_are_no_bad_figures(tmp_path: Path) -> None:
    names = ("size_bytes", "parameters", "footprint_bytes", "load_seconds", "ttft_s")
    nothing = of_model(**dict.fromkeys(names, 0))
    assert len(read_profiles(written(tmp_path, nothing)).models) == 2
    unknown = of_model(**dict.fromkeys((*names, "context_length", "decode_tps"), None))
    assert read_records(written(tmp_path, unknown), 1.0)


DEEP = "[" * 200_000


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        f'{{"models": {DEEP}',
        f'{{"evidence": [], "mine": {DEEP}',
        f'{{"evidence": [], "models": [{{"model": "m", "figures": {{"speed": {DEEP}',
        f'{{"evidence": [], "models": [{{"model": "m", "figures": {{"load": {{"mine": {DEEP}',
    ],
    ids=["alone", "models", "passed over", "a step", "within a step"],
)
def test_a_file_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    [message] = refusals(file)
    assert message.startswith(f"{file} is not a profile file: ")


def test_a_step_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "friends.json"
    start = b'{"evidence": [], "models": [{"model": "m", "figures": {"load": {"why": "'
    file.write_bytes(start + b'\xff\xfe"}}}]}')
    [message] = refusals(file)
    assert "the figures of m have a wrong step 'load': Invalid UTF-8" in message
