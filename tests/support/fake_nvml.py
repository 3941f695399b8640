"""NVIDIA cards without any: a library for the real pynvml, whose cards a test writes to a file.

    nvml = FakeNvml(build(folder), folder / "nvml.state")
    nvml.write(Card(24 * GIB, compute={pid: 4 * GIB}), Card(24 * GIB, bus=2))
    subprocess.Popen(..., env={**os.environ, **nvml.env()})
    nvml.write(Card(24 * GIB, error=LOST), Card(24 * GIB, bus=2))

The library reads the file at every call, so what is written is seen at once, also by a process
that runs. Lines of the file (bytes; an error is a code of NVML's, 0 for none):

    driver INIT_ERROR EPOCH OLD DELAY_MS
    card BUS TOTAL RESERVED USED ERROR MEMORY_ERROR PROCESS_ERROR NAME
    process BUS C|G PID BYTES          (-1: not told)
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = "libnvidia-ml.so.1"
NO_COMPILER = "the tests need a C compiler: install one (gcc or clang), or name it in CC"

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
VERSION_MISMATCH = 18


def build(folder: Path) -> Path:
    """The compiled library, made in ``folder`` unless it is there already."""
    library = folder / LIBRARY
    if library.exists() and library.stat().st_mtime > SOURCE.stat().st_mtime:
        return library
    folder.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    part = folder / f"{LIBRARY}.{os.getpid()}"
    words = [*compiler, "-shared", "-fPIC", "-o", str(part), str(SOURCE)]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(NO_COMPILER) from None
    except subprocess.CalledProcessError as failed:
        raise RuntimeError(f"{SOURCE.name} does not compile: {failed.stderr}") from None
    part.replace(library)
    return library


@dataclass(frozen=True, slots=True)
class Card:
    """One card. ``used_bytes`` is the sum of its processes unless given.

    ``compute`` and ``graphics`` are bytes by pid, ``None`` where the driver does not tell. An
    ``error`` fails every call about the card, the other two those about its memory and processes.
    """

    total_bytes: int
    bus: int = 1
    used_bytes: int | None = None
    reserved_bytes: int = 0
    name: str = "NVIDIA Fake 24"
    compute: Mapping[int, int | None] = field(default_factory=dict)
    graphics: Mapping[int, int | None] = field(default_factory=dict)
    error: int = 0
    memory_error: int = 0
    process_error: int = 0

    def lines(self) -> Iterator[str]:
        listed = {"C": self.compute, "G": self.graphics}
        used = self.used_bytes
        if used is None:  # who stands in both lists holds the same bytes twice over
            used = sum(size or 0 for size in {**self.graphics, **self.compute}.values())
        errors = f"{self.error} {self.memory_error} {self.process_error}"
        figures = f"{self.total_bytes} {self.reserved_bytes} {used}"
        yield f"card {self.bus} {figures} {errors} {self.name}"
        for kind, processes in listed.items():
            for pid, size in processes.items():
                yield f"process {self.bus} {kind} {pid} {-1 if size is None else size}"


@dataclass(frozen=True, slots=True)
class FakeNvml:
    """The library and the file with its state. Before the first ``write`` there is no card."""

    library: Path
    state: Path

    def write(
        self, *cards: Card, init: int = 0, epoch: int = 0, old: bool = False, delay_s: float = 0.0
    ) -> None:
        """Replace the state. ``init`` is what starting fails with; another ``epoch`` is a driver
        that was loaded anew; an ``old`` driver lacks newer functions; every call takes
        ``delay_s``. Cards are in the order of their buses, as the driver lists them."""
        ordered = sorted(cards, key=lambda card: card.bus)
        lines = [f"driver {init} {epoch} {int(old)} {int(delay_s * 1000)}"]
        lines += [line for card in ordered for line in card.lines()]
        part = self.state.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n")
        part.replace(self.state)

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to see these cards."""
        before = os.environ.get("LD_LIBRARY_PATH", "")
        paths = os.pathsep.join(filter(None, [str(self.library.parent), before]))
        return {"LD_LIBRARY_PATH": paths, "FAKE_NVML_STATE": str(self.state)}
