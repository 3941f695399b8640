"""How a llama.cpp is asked for its cards: a script for a binary, the real binary, the wheel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from smarterrouter.backends.managed.inventory import cards_of
from tests.backends.managed.test_cards import CUDA
from tests.support.llama_binary import NO_BINARY, find_llama_server


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_binary_is_asked_for_its_list_in_the_order_of_the_buses(tmp_path: Path) -> None:
    asked = '[ "$CUDA_DEVICE_ORDER $*" = "PCI_BUS_ID --list-devices" ] || exit 1'
    server = script(tmp_path / "llama-server", f"{asked}\ncat <<END\n{CUDA}END")
    assert [card.name for card in cards_of(server)] == ["CUDA0", "CUDA1"]


def test_a_binary_is_asked_once_until_it_is_another(tmp_path: Path) -> None:
    count = tmp_path / "count"
    text = f"echo asked >> {count}\necho 'Available devices:'\necho '  (none)'"
    server = script(tmp_path / "llama-server", text)
    assert cards_of(server) == cards_of(server) == ()
    assert count.read_text().count("asked") == 1
    server.unlink()
    script(server, text.replace("(none)", "MTL0: Apple M1 (1 MiB, 1 MiB free)"))
    assert [card.name for card in cards_of(server)] == ["MTL0"]


def test_a_binary_that_does_not_list_is_asked_again(tmp_path: Path) -> None:
    server = script(tmp_path / "llama-server", "exit 1")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            cards_of(server)
    with pytest.raises(OSError, match="No such file"):
        cards_of(tmp_path / "none")


def test_the_wheel_lists_its_cards_without_being_imported_here() -> None:
    pytest.importorskip("xllamacpp")
    assert isinstance(cards_of(None), tuple)


@pytest.mark.skipif(find_llama_server() is None, reason=NO_BINARY)
def test_the_real_binarys_list_is_understood() -> None:
    assert isinstance(cards_of(find_llama_server()), tuple)
