"""Which devices a machine is found to have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from smarterrouter.gpu.detect import probes
from tests.support.fake_nvml import Card, FakeNvml, build

GIB = 1 << 30

LISTED = """
import sys
from pathlib import Path
from smarterrouter.gpu.detect import probes
found = [probe.snapshots() for probe in probes(Path(sys.argv[1]), "desk", system="linux")]
print(*(f"{seen.device.id}@{seen.device.node}" for told in found for seen in told))
"""


def amd_card(sys_root: Path) -> None:
    """A discrete card of AMD's, as its driver shows it."""
    device = sys_root / "devices/pci0000:00/0000:03:00.0"
    driver = sys_root / "bus/pci/drivers/amdgpu"
    card = sys_root / "class/drm/card0"
    for folder in (device, driver, card):
        folder.mkdir(parents=True)
    (device / "driver").symlink_to(driver)
    (card / "device").symlink_to(device)
    files = {"vendor": "0x1002", "device": "0x744c", "mem_info_vram_total": 8 * GIB}
    files |= {"mem_info_vram_used": GIB, "mem_info_gtt_total": GIB, "mem_info_gtt_used": 0}
    files |= {"mem_busy_percent": 0}
    for name, value in files.items():
        (device / name).write_text(f"{value}\n")


def kinds(system: str, machine: str) -> list[str]:
    return [type(probe).__name__ for probe in probes(system=system, machine=machine)]


def test_cards_come_first_and_ram_is_there_beside_them(tmp_path: Path) -> None:
    nvml = FakeNvml(build(tmp_path), tmp_path / "state")
    nvml.write(Card(24 * GIB), Card(24 * GIB, bus=2))
    amd_card(tmp_path / "sys")
    listed = subprocess.run(
        [sys.executable, "-W", "error", "-c", LISTED, str(tmp_path / "sys")],
        env={**os.environ, **nvml.env()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split() == ["nvidia0@desk", "nvidia1@desk", "amd0@desk", "ram@desk"]


def test_a_machine_without_cards_has_its_ram(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    told = [seen for probe in probes(tmp_path / "sys") for seen in probe.snapshots()]
    assert [seen.device.id for seen in told] == ["ram"]


def test_on_apple_silicon_the_ram_is_listed_once() -> None:
    assert kinds("darwin", "arm64") == ["AppleGpu"]


def test_an_older_mac_has_only_its_ram() -> None:
    assert kinds("darwin", "x86_64") == ["HostMemory"]


def test_apple_is_looked_for_on_its_own_system_only() -> None:
    assert "AppleGpu" not in kinds("linux", "aarch64")
