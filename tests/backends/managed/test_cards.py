"""Lists of devices as llama.cpp prints them, whose cards they are, and what presets leave."""

from __future__ import annotations

import pytest

from smarterrouter.backends.managed.cards import (
    Card,
    matched,
    reach,
    reach_unasked,
    read_list,
    read_told,
)
from smarterrouter.backends.managed.presets import Preset, read_arguments
from smarterrouter.domain.devices import HOST, GpuDevice

CUDA = """Available devices:
  CUDA0: NVIDIA GeForce RTX 3090 (24135 MiB, 23800 MiB free)
  CUDA1: NVIDIA GeForce RTX 3060 (11907 MiB, 11600 MiB free)
"""
ROCM = """Available devices:
  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24500 MiB free)
"""
VULKAN = """Available devices:
  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24100 MiB free)
  Vulkan1: AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO) (15862 MiB, 15000 MiB free)
  Vulkan2: NVIDIA GeForce RTX 3060 (12288 MiB, 11800 MiB free)
"""
SYCL = """Available devices:
  SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)
"""
METAL = """Available devices:
  MTL0: Apple M3 Max (98304 MiB, 98303 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
"""
NONE = "Available devices:\n  (none)\n"
CHATTY = "ggml_cuda_init: found 2 CUDA devices:\n  Device 0: NVIDIA GeForce RTX 3090\n" + CUDA

RAM = GpuDevice("ram", "local", HOST, "host RAM", 64 << 30)
RTX3090 = GpuDevice("nvidia0", "local", "nvidia", "NVIDIA GeForce RTX 3090", 24 << 30)
RTX3060 = GpuDevice("nvidia1", "local", "nvidia", "NVIDIA GeForce RTX 3060", 12 << 30)
RX7900 = GpuDevice("amd0", "local", "amd", "Navi 31 [Radeon RX 7900 XTX]", 24 << 30)
ARC = GpuDevice("intel0", "local", "intel", "DG2 [Arc A770]", 16 << 30)
M3 = GpuDevice("apple0", "local", "apple", "Apple M3 Max", 96 << 30)
BOTH = (RAM, RTX3090, RTX3060)


def names(text: str, *devices: GpuDevice, **environment: str) -> dict[str, str]:
    found = matched(read_list(text), devices, environment)
    return {device: card.name for device, card in found.items()}


def preset(words: str = "") -> Preset:
    return read_arguments(words.split())


def reached(words: str, text: str = CUDA, devices: tuple[GpuDevice, ...] = BOTH) -> tuple[str, ...]:
    cards = read_list(text)
    return reach(preset(words), cards, matched(cards, devices, {}), devices)


# --- reading ------------------------------------------------------------------------------------


def test_a_list_tells_each_cards_name_and_description() -> None:
    assert read_list(CUDA) == (
        Card("CUDA0", "NVIDIA GeForce RTX 3090", 0),
        Card("CUDA1", "NVIDIA GeForce RTX 3060", 1),
    )
    assert [card.description for card in read_list(VULKAN)][:2] == [
        "AMD Radeon RX 7900 XTX (RADV NAVI31)",
        "AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)",
    ]


def test_what_is_printed_before_the_list_is_passed_over() -> None:
    assert read_list(CHATTY) == read_list(CUDA)


def test_a_library_that_computes_in_ram_is_no_card() -> None:
    assert [card.name for card in read_list(METAL)] == ["MTL0"]


def test_a_build_without_cards_lists_none() -> None:
    assert read_list(NONE) == ()


@pytest.mark.parametrize("text", ["", "error: invalid argument: --list-devices\n"])
def test_anything_else_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="does not list"):
        read_list(text)


def told(name: str, kind: str, device_id: str = "") -> dict[str, str]:
    type_ = f"GGML_BACKEND_DEVICE_TYPE_{kind}"
    return {"name": name, "description": name, "type": type_, "device_id": device_id}


def test_the_wheels_processor_and_libraries_are_no_cards() -> None:
    assert read_told([told("CPU", "CPU"), told("BLAS", "ACCEL")]) == ()


def test_of_a_card_that_the_wheel_has_two_libraries_for_the_first_counts() -> None:
    twice = [told("CUDA0", "GPU", "0000:01:00.0"), told("Vulkan0", "GPU", "0000:01:00.0")]
    other = told("Vulkan1", "GPU", "0000:02:00.0")
    found = read_told([*twice, other, told("CPU", "CPU")])
    assert [(card.name, card.index) for card in found] == [("CUDA0", 0), ("Vulkan1", 1)]


def test_an_integrated_card_counts_only_where_there_is_no_other() -> None:
    small, large = told("Vulkan0", "IGPU"), told("Vulkan1", "GPU")
    assert [card.name for card in read_told([small, large])] == ["Vulkan1"]
    assert [card.name for card in read_told([small])] == ["Vulkan0"]


# --- whose cards they are -----------------------------------------------------------------------


def test_a_numbered_card_is_the_vendors_card_of_that_number() -> None:
    assert names(CUDA, *BOTH) == {"nvidia0": "CUDA0", "nvidia1": "CUDA1"}
    assert names(ROCM, RAM, RX7900) == {"amd0": "ROCm0"}
    assert names(SYCL, RAM, ARC) == {"intel0": "SYCL0"}
    assert names(METAL, RAM, M3) == {"apple0": "MTL0"}


def test_a_device_of_another_node_is_found_by_its_number_too() -> None:
    far = GpuDevice("desk/nvidia1", "desk", "nvidia", "NVIDIA GeForce RTX 3060", None)
    assert names(CUDA, far) == {"desk/nvidia1": "CUDA1"}


def test_vulkans_cards_go_by_their_descriptions() -> None:
    found = names(VULKAN, RAM, RX7900, RTX3060)
    assert found == {"amd0": "Vulkan0", "nvidia1": "Vulkan2"}


def test_two_cards_of_one_name_go_in_their_order() -> None:
    text = """Available devices:
  Vulkan0: NVIDIA GeForce RTX 3090 (24576 MiB, 24000 MiB free)
  Vulkan1: NVIDIA GeForce RTX 3090 (24576 MiB, 24000 MiB free)
"""
    twin = GpuDevice("nvidia1", "local", "nvidia", RTX3090.name, 24 << 30)
    assert names(text, RTX3090, twin) == {"nvidia0": "Vulkan0", "nvidia1": "Vulkan1"}


def test_a_card_with_two_names_has_the_numbered_one() -> None:
    text = CUDA + "  Vulkan0: NVIDIA GeForce RTX 3090 (24576 MiB, 24000 MiB free)\n"
    assert names(text, *BOTH) == {"nvidia0": "CUDA0", "nvidia1": "CUDA1"}


def test_where_a_library_passes_over_a_card_its_numbers_say_nothing() -> None:
    integrated = GpuDevice("amd0", "local", "amd", "Raphael [Radeon Graphics]", 2 << 30)
    large = GpuDevice("amd1", "local", "amd", RX7900.name, RX7900.total_bytes)
    assert names(ROCM, RAM, integrated, large) == {"amd1": "ROCm0"}
    assert names(ROCM, integrated, large, HIP_VISIBLE_DEVICES="1") == {"amd1": "ROCm0"}


def test_cards_that_the_environment_hides_shift_the_numbers() -> None:
    first = CUDA.replace("  CUDA1: NVIDIA GeForce RTX 3060 (11907 MiB, 11600 MiB free)\n", "")
    assert names(first, *BOTH, CUDA_VISIBLE_DEVICES="1") == {"nvidia1": "CUDA0"}
    swapped = names(CUDA, *BOTH, CUDA_VISIBLE_DEVICES="1, 0")
    assert swapped == {"nvidia1": "CUDA0", "nvidia0": "CUDA1"}


def test_cards_that_are_shown_by_an_id_go_by_their_descriptions() -> None:
    text = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3060 (1 MiB, 1 MiB free)\n"
    assert names(text, *BOTH, CUDA_VISIBLE_DEVICES="GPU-8932f937") == {"nvidia1": "CUDA0"}


def test_a_card_nobody_knows_is_no_device_of_ours() -> None:
    text = "Available devices:\n  RPC0[10.0.0.2:50052]: 10.0.0.2:50052 (1 MiB, 1 MiB free)\n"
    assert names(text, *BOTH) == {}
    assert names(CUDA, RAM) == {}


# --- what may be used ---------------------------------------------------------------------------


def test_every_card_that_llama_cpp_has_may_be_used() -> None:
    assert reached("") == ("nvidia0", "nvidia1")
    assert reached("--n-gpu-layers 99 --split-mode row") == ("nvidia0", "nvidia1")


@pytest.mark.parametrize("words", ["--n-gpu-layers 0", "-ngl 0", "--device none"])
def test_a_model_that_may_use_no_card_lies_in_ram(words: str) -> None:
    assert reached(words) == ("ram",)


def test_a_build_without_cards_uses_ram_whatever_is_in_the_machine() -> None:
    assert reached("", NONE) == ("ram",)


def test_a_preset_names_the_cards_that_are_left() -> None:
    assert reached("--device CUDA1") == ("nvidia1",)
    assert reached("--split-mode none --main-gpu 1") == ("nvidia1",)
    assert reached("--split-mode none") == ("nvidia0",)
    assert reached("--tensor-split 0,1") == ("nvidia1",)
    assert reached("--tensor-split 3,1") == ("nvidia0", "nvidia1")


def test_where_no_card_of_llama_cpp_is_known_nobody_knows() -> None:
    assert reached("", CUDA, (RAM,)) == ()


def test_until_llama_cpp_has_said_only_a_machine_without_cards_is_sure() -> None:
    assert reach(preset(), None, {}, BOTH) == ()
    assert reach(preset(), None, {}, (RAM,)) == ("ram",)
    assert reach(preset("--n-gpu-layers 0"), None, {}, BOTH) == ("ram",)


def test_of_a_llama_cpp_nobody_can_ask_all_cards_count_but_those_its_flags_leave_out() -> None:
    assert reach_unasked(preset(), BOTH) == ("nvidia0", "nvidia1")
    assert reach_unasked(preset("--device CUDA1"), BOTH) == ("nvidia1",)
    assert reach_unasked(preset("--device Vulkan1"), BOTH) == ("nvidia0", "nvidia1")
    assert reach_unasked(preset("--n-gpu-layers 0"), BOTH) == ("ram",)
    assert reach_unasked(preset(), (RAM,)) == ("ram",)
