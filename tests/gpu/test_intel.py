"""Intel's cards, on trees like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.gpu.intel import BOARDS, IntelGpus
from tests.gpu.trees.grow import forbid, grow, unplug

GIB = 1 << 30
MIB = 1 << 20


def only(probe: IntelGpus) -> MemorySnapshot:
    [snapshot] = probe.snapshots()
    return snapshot


def test_intels_own_i915_tells_total_and_used(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("a770-i915-intel", tmp_path)))
    assert (seen.device.id, seen.device.vendor) == ("intel0", "intel")
    assert seen.device.name == "Intel Arc A770"
    assert seen.device.total_bytes == 17095983104
    assert seen.used_bytes == 17095983104 - 12801015808
    assert seen.free_bytes == 12801015808
    assert seen.source == "sysfs i915"


def test_with_linuxs_own_i915_the_total_is_the_window_and_used_is_unknown(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("a770-i915-linux", tmp_path)))
    assert seen.device.total_bytes == 16 * GIB
    assert (seen.used_bytes, seen.free_bytes) == (None, None)
    assert seen.source == "pci bar"


def test_our_own_processes_are_told_even_where_used_is_not(tmp_path: Path) -> None:
    probe = IntelGpus(grow("a770-i915-linux", tmp_path), pids=lambda: (500, 501))
    assert only(probe).processes == {500: 4 * GIB}


def test_a_card_is_not_larger_than_its_name_promises(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("b580-xe-root", tmp_path)))
    assert seen.device.total_bytes == 12 * GIB  # its window is 16 GiB


def test_where_all_processes_can_be_seen_used_is_their_sum(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("b580-xe-root", tmp_path)))
    assert seen.used_bytes == 2148 * MIB  # an opening that two processes share counts once
    assert seen.free_bytes == 12 * GIB - 2148 * MIB
    assert seen.source == "pci bar + fdinfo"


def test_where_one_process_cannot_be_seen_used_is_unknown(tmp_path: Path) -> None:
    sys = grow("b580-xe-root", tmp_path)
    (tmp_path / "proc/800").mkdir()
    forbid(tmp_path / "proc/800/fd")
    assert only(IntelGpus(sys)).used_bytes is None


def test_inside_a_container_used_is_unknown(tmp_path: Path) -> None:
    sys = grow("b580-xe-root", tmp_path)
    (tmp_path / "proc/1/ns/pid").unlink()
    (tmp_path / "proc/1/ns/pid").symlink_to("pid:[4026532811]")
    assert only(IntelGpus(sys)).used_bytes is None


def test_on_a_kernel_that_does_not_tell_memory_used_is_unknown(tmp_path: Path) -> None:
    sys = grow("b580-xe-root", tmp_path)
    (tmp_path / "proc/600/fdinfo/8").write_text("drm-client-id: 3\ndrm-pdev: 0000:04:00.0\n")
    assert only(IntelGpus(sys)).used_bytes is None


def test_the_first_xe_told_the_size(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("b580-xe-first", tmp_path)))
    assert seen.device.total_bytes == 12 * GIB
    assert (seen.used_bytes, seen.source) == (None, "sysfs xe")


def test_the_memory_of_several_tiles_adds_up(tmp_path: Path) -> None:
    sys = grow("b580-xe-first", tmp_path)
    tile = (sys / "class/drm/card0/device").resolve() / "tile1"
    tile.mkdir()
    (tile / "physical_vram_size_bytes").write_text("12884901888\n")
    assert only(IntelGpus(sys)).device.total_bytes == 24 * GIB


def test_without_a_resizable_bar_only_an_unambiguous_name_tells_the_size(tmp_path: Path) -> None:
    seen = IntelGpus(grow("intel-small-bars", tmp_path)).snapshots()
    assert [(s.device.name, s.device.total_bytes) for s in seen] == [
        ("Intel Arc B580", 12 * GIB),
        ("Intel Arc A770", None),
        ("Intel GPU 8086:e2ff", None),
    ]


def test_a_card_that_is_not_listed_is_at_most_its_window(tmp_path: Path) -> None:
    seen = only(IntelGpus(grow("intel-unlisted", tmp_path)))
    assert (seen.device.total_bytes, seen.source) == (32 * GIB, "pci bar")


@pytest.mark.parametrize("pids", [None, lambda: (500,)])
def test_an_integrated_gpu_is_no_device(tmp_path: Path, pids: object) -> None:
    assert IntelGpus(grow("intel-integrated", tmp_path), pids=pids).snapshots() == ()  # type: ignore[arg-type]


def test_a_card_that_vanishes_is_told_without_figures(tmp_path: Path) -> None:
    sys = grow("a770-i915-intel", tmp_path)
    probe = IntelGpus(sys)
    before = only(probe)
    unplug(sys, "card1")
    assert only(probe) == MemorySnapshot(before.device, None, None, before.source, gone=True)


def test_garbage_is_unknown_and_not_an_error(tmp_path: Path) -> None:
    seen = IntelGpus(grow("intel-garbage", tmp_path)).snapshots()
    assert [(s.device.total_bytes, s.used_bytes, s.source) for s in seen] == [
        (None, None, "pci bar"),
        (17095983104, None, "sysfs i915"),
        (12 * GIB, None, "pci bar"),
    ]


def test_a_machine_without_cards_has_none(tmp_path: Path) -> None:
    assert IntelGpus(tmp_path / "sys").snapshots() == ()


def test_every_listed_board_has_a_size() -> None:
    assert all(name and sizes for name, sizes in BOARDS.values())
