"""NVIDIA's cards through the real pynvml: the probe runs in a process with a library of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    VERSION_MISMATCH,
    Card,
    FakeNvml,
    build,
)

GIB = 1 << 30
MIB = 1 << 20

# One look for each line it is sent; the line is the time that the probe is told.
PROBE = """
import dataclasses, json, sys
from smarterrouter.gpu.nvml import NvidiaGpus
time = 0.0
probe = NvidiaGpus(retry_s=30.0, now=lambda: time)
for line in sys.stdin:
    time = float(line)
    seen = [dataclasses.asdict(snapshot) for snapshot in probe.snapshots()]
    print(json.dumps({"seen": seen, "problem": probe.problem}), flush=True)
"""


@dataclass
class Probe:
    """The probe in its process."""

    process: subprocess.Popen[str]
    problem: str | None = None

    def look(self, time: float = 0.0) -> dict[str, Any]:
        """What it tells, by device id, at that time."""
        assert self.process.stdin
        assert self.process.stdout
        print(time, file=self.process.stdin, flush=True)
        told = json.loads(self.process.stdout.readline())
        self.problem = told["problem"]
        return {snapshot["device"]["id"]: snapshot for snapshot in told["seen"]}

    def used(self, time: float = 0.0) -> dict[str, int | None]:
        return {name: snapshot["used_bytes"] for name, snapshot in self.look(time).items()}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> FakeNvml:
    return FakeNvml(library, tmp_path / "nvml.state")


def started(env: dict[str, str]) -> Iterator[Probe]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROBE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as process:
        yield Probe(process)


@pytest.fixture
def probe(nvml: FakeNvml) -> Iterator[Probe]:
    yield from started(nvml.env())


@pytest.fixture
def probe_alone() -> Iterator[Probe]:
    """On a machine that knows nothing of NVIDIA."""
    yield from started({"LD_LIBRARY_PATH": ""})


def test_cards_are_told_in_the_order_of_their_buses(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(
        Card(24 * GIB, bus=65, used_bytes=3 * GIB, name="NVIDIA B"),
        Card(8 * GIB, bus=1, used_bytes=1 * GIB, name="NVIDIA A"),
    )
    seen = probe.look()
    assert list(seen) == ["nvidia0", "nvidia1"]
    assert seen["nvidia0"]["device"] == {
        "id": "nvidia0",
        "node": "local",
        "vendor": "nvidia",
        "name": "NVIDIA A",
        "total_bytes": 8 * GIB,
    }
    assert seen["nvidia1"]["used_bytes"] == 3 * GIB
    assert seen["nvidia1"]["free_bytes"] == 21 * GIB
    assert seen["nvidia1"]["source"] == "nvml"
    assert probe.problem is None


def test_what_the_driver_keeps_is_no_part_of_the_total(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, used_bytes=2 * GIB, reserved_bytes=400 * MIB))
    card = probe.look()["nvidia0"]
    assert card["used_bytes"] == 2 * GIB
    assert card["device"]["total_bytes"] == 24 * GIB - 400 * MIB
    assert card["used_bytes"] + card["free_bytes"] == card["device"]["total_bytes"]


def test_an_old_driver_counts_what_it_keeps_as_used(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(
        Card(24 * GIB, used_bytes=2 * GIB, reserved_bytes=400 * MIB, compute={7: GIB}), old=True
    )
    card = probe.look()["nvidia0"]
    assert card["device"]["total_bytes"] == 24 * GIB
    assert card["used_bytes"] == 2 * GIB + 400 * MIB
    assert card["processes"] == {"7": GIB}


def test_processes_are_told_with_what_they_hold(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, compute={11: 4 * GIB, 12: GIB}, graphics={13: 300 * MIB}))
    assert probe.look()["nvidia0"]["processes"] == {"11": 4 * GIB, "12": GIB, "13": 300 * MIB}


def test_a_process_that_computes_and_draws_is_counted_once(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, compute={11: 4 * GIB}, graphics={11: 4 * GIB}))
    assert probe.look()["nvidia0"]["processes"] == {"11": 4 * GIB}


def test_a_process_whose_size_is_not_told_is_left_out(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, compute={11: 4 * GIB, 12: None}))
    assert probe.look()["nvidia0"]["processes"] == {"11": 4 * GIB}


def test_where_no_size_is_told_the_processes_are_unknown(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, compute={11: None, 12: None}))
    assert probe.look()["nvidia0"]["processes"] is None
    nvml.write(Card(24 * GIB, process_error=NOT_SUPPORTED))
    assert probe.look()["nvidia0"]["processes"] is None
    nvml.write(Card(24 * GIB))
    assert probe.look()["nvidia0"]["processes"] == {}


@pytest.mark.parametrize("card", [Card(0), Card(24 * GIB, memory_error=NOT_SUPPORTED)])
def test_a_board_that_lives_in_ram_has_no_total(nvml: FakeNvml, probe: Probe, card: Card) -> None:
    nvml.write(card)
    seen = probe.look()["nvidia0"]
    assert (seen["device"]["total_bytes"], seen["used_bytes"], seen["free_bytes"]) == (None,) * 3
    assert probe.problem is None


def test_a_card_that_may_not_be_asked_is_unknown(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, memory_error=NO_PERMISSION))
    assert probe.used() == {"nvidia0": None}
    assert probe.problem
    assert "nvidia0" in probe.problem


def test_a_card_that_falls_off_the_bus_keeps_its_id(nvml: FakeNvml, probe: Probe) -> None:
    good = Card(24 * GIB, bus=2, used_bytes=GIB)
    nvml.write(Card(8 * GIB), good)
    assert probe.used() == {"nvidia0": 0, "nvidia1": GIB}
    nvml.write(Card(8 * GIB, error=GPU_IS_LOST), good)
    seen = probe.look()
    assert seen["nvidia0"]["used_bytes"] is seen["nvidia0"]["free_bytes"] is None
    assert seen["nvidia0"]["device"]["total_bytes"] == 8 * GIB
    assert seen["nvidia1"]["used_bytes"] == GIB
    assert probe.problem
    assert "nvidia0" in probe.problem
    assert "nvidia1" not in probe.problem


def test_cards_keep_their_ids_when_one_before_them_is_unplugged(
    nvml: FakeNvml, probe: Probe
) -> None:
    nvml.write(Card(8 * GIB), Card(24 * GIB, bus=2, used_bytes=GIB))
    probe.look()
    nvml.write(Card(24 * GIB, bus=2, used_bytes=2 * GIB), epoch=1)
    assert probe.used() == {"nvidia0": None, "nvidia1": 2 * GIB}
    nvml.write(Card(8 * GIB), Card(24 * GIB, bus=2, used_bytes=3 * GIB), Card(GIB, bus=3), epoch=2)
    assert probe.used() == {"nvidia0": 0, "nvidia1": 3 * GIB, "nvidia2": 0}
    assert probe.problem is None


def test_a_lost_card_is_looked_for_again_every_so_often(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB))
    probe.look()
    nvml.write(Card(24 * GIB, error=GPU_IS_LOST))
    assert probe.used(1.0) == {"nvidia0": None}
    nvml.write(Card(24 * GIB, used_bytes=GIB))
    assert probe.used(20.0) == {"nvidia0": None}
    assert probe.used(32.0) == {"nvidia0": GIB}
    assert probe.problem is None


def test_a_card_lost_from_the_start_has_its_place_kept(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(8 * GIB, error=GPU_IS_LOST), Card(24 * GIB, bus=2, used_bytes=GIB))
    assert probe.used() == {"nvidia0": None, "nvidia1": GIB}
    nvml.write(Card(8 * GIB), Card(24 * GIB, bus=2, used_bytes=GIB))
    assert probe.used(31.0) == {"nvidia0": 0, "nvidia1": GIB}


def test_a_driver_that_was_reloaded_is_asked_on_at_once(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB, used_bytes=GIB))
    probe.look()
    nvml.write(Card(24 * GIB, used_bytes=2 * GIB), epoch=1)
    assert probe.used() == {"nvidia0": 2 * GIB}


def test_a_driver_that_was_unloaded_leaves_its_cards_unknown(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(Card(24 * GIB))
    probe.look()
    nvml.write(init=DRIVER_NOT_LOADED, epoch=1)
    assert probe.used() == {"nvidia0": None}
    assert probe.problem
    assert "modprobe nvidia" in probe.problem
    nvml.write(Card(24 * GIB), epoch=2)
    assert probe.used(31.0) == {"nvidia0": 0}


def test_a_driver_that_comes_after_boot_is_found_later(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(init=DRIVER_NOT_LOADED)
    assert probe.used() == {}
    nvml.write()
    assert probe.used(31.0) == {}
    assert probe.problem == "The NVIDIA driver is loaded but sees no card."
    nvml.write(Card(24 * GIB))
    assert probe.used(40.0) == {}
    assert probe.used(62.0) == {"nvidia0": 0}


def test_an_updated_library_says_that_a_restart_is_due(nvml: FakeNvml, probe: Probe) -> None:
    nvml.write(init=VERSION_MISMATCH)
    assert probe.used() == {}
    assert probe.problem
    assert "different versions" in probe.problem


def test_without_a_driver_there_are_no_cards_and_a_reason(probe_alone: Probe) -> None:
    assert probe_alone.used() == {}
    assert probe_alone.problem
    assert "libnvidia-ml.so.1 was not found" in probe_alone.problem


def test_without_a_compiler_the_reason_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(RuntimeError, match="need a C compiler"):
        build(tmp_path)
