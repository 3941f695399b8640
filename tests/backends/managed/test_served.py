"""Who listens where on this machine, and what can be seen of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from smarterrouter.backends.managed.child import resident_bytes
from smarterrouter.backends.managed.served import lies_in_ram, look, port_here
from tests.support.llama_binary import NO_BINARY, RealRouter, find_llama_server


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:8080", 8080),
        ("http://localhost:8080/v1", 8080),
        ("http://[::1]:9", 9),
        ("http://127.0.0.2", 80),
        ("https://localhost", 443),
        ("http://attic:8080", None),
        ("http://192.168.1.7:8080", None),
    ],
)
def test_only_an_address_of_this_machine_has_processes_to_look_at(
    url: str, port: int | None
) -> None:
    assert port_here(url) == port


def test_where_nobody_listens_there_is_nobody() -> None:
    assert look(1) is None


def test_a_process_without_a_card_lies_in_ram_where_that_can_be_seen() -> None:
    assert lies_in_ram([os.getpid()]) == (sys.platform == "linux")
    assert not lies_in_ram([os.getpid(), 4_000_000])


def test_what_processes_hold_is_unknown_once_one_is_gone() -> None:
    held = resident_bytes([os.getpid()])
    assert held
    assert held > 1e6
    assert resident_bytes([os.getpid(), 4_000_000]) is None


@pytest.mark.skipif(find_llama_server() is None, reason=NO_BINARY)
async def test_a_real_routers_children_are_told_by_their_names(
    tmp_path: Path, made_models: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("tiny-5m", "tiny-20m"):
        (models / f"{name}.gguf").symlink_to(made_models / f"{name}.gguf")
    async with RealRouter(models) as one, RealRouter(models) as other:
        async with one.client() as client, other.client() as stranger:
            for who, name in ((client, "tiny-5m"), (client, "tiny-20m"), (stranger, "tiny-5m")):
                await who.get("/props", params={"model": name})
        seen = look(one.port)
        assert seen
        assert seen.models == {name: (one.process(name).pid,) for name in ("tiny-5m", "tiny-20m")}
        assert seen.folder == Path.cwd()
        assert all(lies_in_ram(pids) for pids in seen.models.values())
