"""AMD's cards, on trees like the kernel's."""

from __future__ import annotations

from pathlib import Path

from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.domain.ports import GpuProbe
from smarterrouter.gpu.amdgpu import AmdGpus
from tests.gpu.trees.grow import forbid, grow, unplug

GIB = 1 << 30
MIB = 1 << 20


def only(probe: GpuProbe) -> MemorySnapshot:
    [snapshot] = probe.snapshots()
    return snapshot


def device_file(sys: Path, card: str, name: str) -> Path:
    return (sys / "class/drm" / card / "device").resolve() / name


def test_a_discrete_card_is_its_vram(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("rx7900xtx", tmp_path)))
    assert (seen.device.id, seen.device.node, seen.device.vendor) == ("amd0", "local", "amd")
    assert seen.device.total_bytes == 25753026560
    assert seen.used_bytes == 1288994816
    assert seen.free_bytes == 25753026560 - 1288994816
    assert seen.source == "sysfs amdgpu vram"
    assert seen.processes is None


def test_a_card_is_named_by_its_maker_or_else_by_libdrm_or_else_by_its_id(tmp_path: Path) -> None:
    names = {
        tree: only(AmdGpus(grow(tree, tmp_path / tree))).device.name
        for tree in ("instinct", "rx7900xtx", "vega10")
    }
    assert names == {
        "instinct": "AMD INSTINCT MI210",
        "rx7900xtx": "AMD Radeon RX 7900 XTX",
        "vega10": "AMD GPU 1002:687f",
    }


def test_an_apu_with_little_set_aside_is_its_gtt(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("phoenix-apu", tmp_path)))
    assert seen.device.total_bytes == 15960244224
    assert seen.used_bytes == 1610612736
    assert seen.source == "sysfs amdgpu gtt"
    assert seen.device.name == "AMD Radeon 780M Graphics"


def test_an_apu_with_much_set_aside_is_its_vram(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("strix-halo-carved", tmp_path)))
    assert seen.device.total_bytes == 96 * GIB
    assert seen.free_bytes == 94 * GIB  # however little RAM is left beside it
    assert seen.source == "sysfs amdgpu vram"


def test_no_more_of_an_apus_gtt_is_free_than_the_host_has_available(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("strix-halo-gtt", tmp_path)))
    assert seen.device.total_bytes == 108 * GIB
    assert seen.free_bytes == 20000000 << 10
    assert seen.used_bytes == 108 * GIB - (20000000 << 10)


def test_a_stated_total_counts_for_an_apu(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("phoenix-apu", tmp_path), override_bytes=20 * GIB))
    assert seen.device.total_bytes == 20 * GIB
    assert seen.used_bytes == 1610612736
    assert seen.free_bytes == 20 * GIB - 1610612736


def test_a_stated_total_below_what_is_used_leaves_nothing_free(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("phoenix-apu", tmp_path), override_bytes=GIB))
    assert (seen.used_bytes, seen.free_bytes) == (1610612736, 0)


def test_a_stated_total_does_not_touch_a_discrete_card(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("rx7900xtx", tmp_path), override_bytes=GIB))
    assert seen.device.total_bytes == 25753026560


def test_an_old_discrete_card_is_not_taken_for_an_apu(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("vega10", tmp_path)))
    assert seen.device.total_bytes == 8573157376


def test_cards_are_numbered_by_pci_address_and_nothing_else_is_a_card(tmp_path: Path) -> None:
    seen = AmdGpus(grow("two-radeons", tmp_path), node="attic").snapshots()
    assert [(s.device.id, s.device.name, s.device.node) for s in seen] == [
        ("amd0", "AMD Radeon RX 7900 XT", "attic"),  # card10, domain 0000
        ("amd1", "AMD Radeon RX 7900 XTX", "attic"),  # card9, domain 10000
    ]


def test_a_card_that_vanishes_keeps_its_id_and_comes_back_under_it(tmp_path: Path) -> None:
    sys = grow("two-radeons", tmp_path)
    probe = AmdGpus(sys)
    whole = probe.snapshots()
    (sys / "class/drm/card10").rename(tmp_path / "card10")
    first, second = probe.snapshots()
    assert first == MemorySnapshot(whole[0].device, None, None, whole[0].source, gone=True)
    assert second == whole[1]
    (tmp_path / "card10").rename(sys / "class/drm/card10")
    assert probe.snapshots() == whole


def test_a_card_whose_driver_was_unloaded_has_gone_too(tmp_path: Path) -> None:
    sys = grow("rx7900xtx", tmp_path)
    probe = AmdGpus(sys)
    before = only(probe)
    unplug(sys, "card1")
    assert only(probe) == MemorySnapshot(before.device, None, None, before.source, gone=True)


def test_a_card_that_comes_later_does_not_move_the_others(tmp_path: Path) -> None:
    sys = grow("two-radeons", tmp_path)
    (sys / "class/drm/card10").rename(tmp_path / "card10")
    probe = AmdGpus(sys)
    assert only(probe).device.name == "AMD Radeon RX 7900 XTX"
    (tmp_path / "card10").rename(sys / "class/drm/card10")
    assert [(s.device.id, s.device.name) for s in probe.snapshots()] == [
        ("amd0", "AMD Radeon RX 7900 XTX"),
        ("amd1", "AMD Radeon RX 7900 XT"),
    ]


def test_garbage_is_unknown_and_not_an_error(tmp_path: Path) -> None:
    seen = AmdGpus(grow("amd-garbage", tmp_path)).snapshots()
    assert [(s.device.total_bytes, s.used_bytes, s.free_bytes) for s in seen] == [
        (None, None, None),
        (None, 12, None),
        (None, None, None),
        (1000, 4000, 0),
    ]


def test_a_figure_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    seen = only(AmdGpus(grow("instinct", tmp_path)))
    assert seen.device.total_bytes == 68702699520
    assert (seen.used_bytes, seen.free_bytes) == (None, None)


def test_a_total_that_was_known_stays_known_while_the_driver_is_busy(tmp_path: Path) -> None:
    sys = grow("rx7900xtx", tmp_path)
    probe = AmdGpus(sys)
    before = only(probe)
    for figure in ("total", "used"):
        forbid(device_file(sys, "card1", f"mem_info_vram_{figure}"))
    assert only(probe) == MemorySnapshot(before.device, None, None, before.source)


def test_a_machine_without_cards_has_none(tmp_path: Path) -> None:
    assert AmdGpus(tmp_path / "sys").snapshots() == ()
    forbid(tmp_path / "closed")
    assert AmdGpus(tmp_path / "closed").snapshots() == ()
    (tmp_path / "odd/class").mkdir(parents=True)
    (tmp_path / "odd/class/drm").write_text("no folder")
    assert AmdGpus(tmp_path / "odd").snapshots() == ()


def test_our_processes_are_told_with_each_opening_counted_once(tmp_path: Path) -> None:
    probe = AmdGpus(grow("rx7900xtx", tmp_path), pids=lambda: [4242, 31337])
    assert only(probe).processes == {4242: 768 * MIB + 128 * MIB}


def test_on_an_apu_processes_are_told_of_the_memory_that_counts(tmp_path: Path) -> None:
    probe = AmdGpus(grow("phoenix-apu", tmp_path), pids=lambda: (77,))
    assert only(probe).processes == {77: 1024 * MIB}


def test_a_process_of_another_user_is_not_told(tmp_path: Path) -> None:
    sys = grow("rx7900xtx", tmp_path)
    (tmp_path / "proc/13").mkdir()
    forbid(tmp_path / "proc/13/fd")
    assert only(AmdGpus(sys, pids=lambda: (13, 900))).processes == {900: 256 * MIB}
