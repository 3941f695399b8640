"""Grows a machine's /sys and /proc from a manifest: one entry a line, under the folder in brackets.

    [sys/devices/pci0000:00/0000:03:00.0]
    vendor = 0x1002              a file; \\n stands for a line's end
    driver -> ../drivers/amdgpu  a link, which may lead nowhere
    mem_info_vram_total !        there, but not to be read

Lines that begin with # are comments. The manifests describe real kinds of machines; their figures
were written by hand from the kernel's documents and from published listings, not recorded.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HERE = Path(__file__).parent


def grow(name: str, under: Path) -> Path:
    """The machine's /sys."""
    folder = under
    for row in (HERE / f"{name}.txt").read_text().splitlines():
        if row.startswith("["):
            folder = under / row.strip("[]")
            folder.mkdir(parents=True, exist_ok=True)
        elif row.strip() and not row.startswith("#"):
            _plant(folder, row)
    return under / "sys"


def _plant(folder: Path, row: str) -> None:
    sign = next(sign for sign in (" ->", " =", " !") if sign in row)
    name, _, rest = row.partition(sign)
    path = folder / name.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    if sign == " !":
        forbid(path)
    elif sign == " ->":
        path.symlink_to(rest.strip())
    else:
        path.write_text(rest.strip().replace("\\n", "\n") + "\n")


def forbid(path: Path) -> None:
    """Make it unreadable, for root too: a link to itself fails whoever asks."""
    if path.exists() and not path.is_symlink():
        path.unlink()
    if os.geteuid() == 0:
        path.symlink_to(path.name)
    else:
        path.touch(mode=0)


def unplug(sys: Path, card: str) -> None:
    """Take a card out, as the kernel does when its driver lets go of it."""
    device = (sys / "class/drm" / card / "device").resolve()
    (sys / "class/drm" / card).unlink()
    shutil.rmtree(device)
