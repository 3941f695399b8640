"""Apple's machines, by texts as ``sysctl`` and ``vm_stat`` print them; none was here to try."""

from __future__ import annotations

import sys

import pytest

from smarterrouter.domain.devices import MemorySnapshot
from smarterrouter.gpu.apple import SYSCTL, VM_STAT, AppleGpu, run

GIB = 1 << 30
PAGE = 16384

M2_MAX = """\
hw.memsize: 34359738368
hw.optional.arm64: 1
machdep.cpu.brand_string: Apple M2 Max
iogpu.wired_limit_mb: 0
"""
LIMITED = M2_MAX.replace("wired_limit_mb: 0", "wired_limit_mb: 28672")
VENTURA = M2_MAX.replace("iogpu.wired_limit_mb: 0\n", "")
INTEL_MAC = """\
hw.memsize: 17179869184
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
"""
PAGES = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               61442.
Pages active:                            393216.
Pages inactive:                          380114.
Pages speculative:                         9120.
Pages throttled:                              0.
Pages wired down:                        196608.
Pages purgeable:                           5121.
"Translation faults":                 512345678.
Pages copy-on-write:                    9876543.
Pages zero filled:                    234567890.
Pages reactivated:                      1234567.
Pages purged:                            345678.
File-backed pages:                       288000.
Anonymous pages:                         494450.
Pages stored in compressor:              250000.
Pages occupied by compressor:             65536.
Decompressions:                         2222222.
Compressions:                           3333333.
Pageins:                                4444444.
Pageouts:                                 55555.
Swapins:                                      0.
Swapouts:                                     0.
"""
HELD = (393216 + 196608 + 65536) * PAGE


class Mac:
    """Answers the two commands, as long as it is asked nothing else."""

    def __init__(self, sysctl: str, vm_stat: str = PAGES) -> None:
        self.texts = {SYSCTL: sysctl, VM_STAT: vm_stat}

    def __call__(self, command: tuple[str, ...]) -> str:
        return self.texts[command]


def only(probe: AppleGpu) -> MemorySnapshot:
    [snapshot] = probe.snapshots()
    return snapshot


def test_three_quarters_of_the_ram_count_as_the_gpus() -> None:
    seen = only(AppleGpu(read=Mac(M2_MAX)))
    assert (seen.device.id, seen.device.vendor) == ("apple0", "apple")
    assert seen.device.name == "Apple M2 Max"
    assert seen.device.total_bytes == 24 * GIB
    assert seen.used_bytes == HELD
    assert seen.free_bytes == 24 * GIB - HELD


def test_a_limit_that_a_person_has_set_counts_instead() -> None:
    assert only(AppleGpu(read=Mac(LIMITED))).device.total_bytes == 28 * GIB


def test_a_limit_above_the_ram_is_the_ram() -> None:
    far = M2_MAX.replace("wired_limit_mb: 0", "wired_limit_mb: 999999")
    assert only(AppleGpu(read=Mac(far))).device.total_bytes == 32 * GIB


def test_a_macos_that_does_not_know_the_limit_has_the_default() -> None:
    assert only(AppleGpu(read=Mac(VENTURA))).device.total_bytes == 24 * GIB


def test_a_mac_with_an_intel_processor_has_no_such_device() -> None:
    assert AppleGpu(read=Mac(INTEL_MAC)).snapshots() == ()


def test_more_used_than_the_total_leaves_nothing_free() -> None:
    tight = M2_MAX.replace("wired_limit_mb: 0", "wired_limit_mb: 4096")
    seen = only(AppleGpu(read=Mac(tight)))
    assert (seen.used_bytes, seen.free_bytes) == (HELD, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vm_stat: command not found",
        PAGES.replace("16384", "many"),
        PAGES.replace("Pages wired down:                        196608.\n", ""),
        PAGES.replace("65536.", "-"),
    ],
)
def test_unreadable_pages_leave_used_unknown(text: str) -> None:
    seen = only(AppleGpu(read=Mac(M2_MAX, text)))
    assert seen.device.total_bytes == 24 * GIB
    assert (seen.used_bytes, seen.free_bytes) == (None, None)


@pytest.mark.parametrize("text", ["", "garbage", "hw.memsize: soon\nhw.optional.arm64: 1\n"])
def test_a_machine_that_tells_nothing_has_no_device(text: str) -> None:
    assert AppleGpu(read=Mac(text)).snapshots() == ()


def test_a_machine_that_falls_silent_keeps_its_device_without_figures() -> None:
    mac = Mac(M2_MAX)
    probe = AppleGpu(read=mac)
    before = only(probe)
    mac.texts[SYSCTL] = ""
    assert only(probe) == MemorySnapshot(before.device, None, None, before.source)


@pytest.mark.skipif(sys.platform == "darwin", reason="looks at this machine")
def test_elsewhere_nothing_is_asked_and_nothing_found() -> None:
    assert AppleGpu().snapshots() == ()


def test_a_command_that_fails_still_tells_what_it_printed() -> None:
    assert run(("/bin/sh", "-c", "echo hw.memsize: 1; exit 1")) == "hw.memsize: 1\n"


def test_a_command_that_is_missing_tells_nothing() -> None:
    assert run(("/no/such/command",)) == ""
