"""The completions that are shipped are those of this version."""

from pathlib import Path

import pytest

from tests.support.completions import SHELLS, completion

FOLDER = Path(__file__).parent.parent / "completions"


@pytest.mark.parametrize(("shell", "name"), SHELLS.items())
def test_the_shipped_completion_is_what_the_command_prints(shell: str, name: str) -> None:
    printed = completion(shell)
    assert "_SMARTERROUTER_COMPLETE" in printed
    assert (FOLDER / name).read_text() == printed
