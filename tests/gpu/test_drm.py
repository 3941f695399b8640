"""What the vendors' probes share: which cards there are, and who holds memory on one."""

from __future__ import annotations

from pathlib import Path

import pytest

from smarterrouter.domain.ports import GpuProbe
from smarterrouter.gpu.amdgpu import AmdGpus
from smarterrouter.gpu.drm import Client, cards, clients, held_by, whole
from smarterrouter.gpu.intel import IntelGpus
from tests.gpu.trees.grow import forbid, grow

MIB = 1 << 20
XTX, ARC = "0000:03:00.0", "0000:04:00.0"


def told(probe: GpuProbe) -> list[tuple[str, str, object]]:
    return [(s.device.id, s.device.name, s.processes) for s in probe.snapshots()]


def test_two_vendors_on_one_machine_do_not_see_each_others_cards(tmp_path: Path) -> None:
    sys = grow("amd-and-intel", tmp_path)
    amd, intel = (kind(sys, pids=lambda: (4242,)) for kind in (AmdGpus, IntelGpus))
    assert told(amd) == [("amd0", "AMD Radeon RX 7900 XTX", {4242: 1024 * MIB})]
    assert told(intel) == [("intel0", "Intel Arc B580", {4242: 2048 * MIB})]


def test_a_card_counts_for_its_vendor_under_that_vendors_driver_only(tmp_path: Path) -> None:
    sys = grow("amd-and-intel", tmp_path)
    assert [card.address for card in cards(sys, "0x1002", ("amdgpu",))] == [XTX]
    assert cards(sys, "0x1002", ("radeon",)) == []
    assert [card.address for card in cards(sys, "0x8086", ("xe",))] == [ARC]


def test_an_opening_that_several_descriptors_share_is_told_once(tmp_path: Path) -> None:
    grow("rx7900xtx", tmp_path)
    found = clients(tmp_path / "proc/4242", XTX, "vram")
    assert found == [Client("51", 768 * MIB), Client("52", 128 * MIB)]
    assert clients(tmp_path / "proc/4242", ARC, "vram") == []


def test_a_process_that_has_ended_holds_nothing_and_a_closed_one_is_unknown(
    tmp_path: Path,
) -> None:
    (tmp_path / "13").mkdir()
    forbid(tmp_path / "13/fd")
    assert clients(tmp_path / "14", XTX, "vram") == []
    assert clients(tmp_path / "13", XTX, "vram") is None


def test_nobody_is_told_of_where_nobody_was_asked_about(tmp_path: Path) -> None:
    sys = grow("rx7900xtx", tmp_path)
    [card] = cards(sys, "0x1002", ("amdgpu",))
    assert held_by(tmp_path / "proc", None, card, "vram") is None
    assert held_by(tmp_path / "proc", lambda: (), card, "vram") == {}
    assert held_by(tmp_path / "proc", lambda: (900, 31337), card, "vram") == {900: 256 * MIB}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "0x10", "9" * 21, "\u0661"])
def test_what_is_no_plain_number_is_unknown(text: str) -> None:
    assert whole(text) is None
