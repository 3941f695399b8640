"""Writes the shell completions, as the installed command prints them.

python -m tests.support.completions completions
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHELLS = {"bash": "smarterrouter.bash", "zsh": "_smarterrouter", "fish": "smarterrouter.fish"}


def completion(shell: str) -> str:
    """The script for one shell."""
    done = subprocess.run(
        [Path(sys.executable).parent / "smarterrouter"],
        env={**os.environ, "_SMARTERROUTER_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.rstrip() + "\n"


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for shell, name in SHELLS.items():
        (folder / name).write_text(completion(shell))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
