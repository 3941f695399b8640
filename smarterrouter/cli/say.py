"""What a command tells a person beside its answer: on stderr, wrapped at words in a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap

import typer


def say(*sentences: str | None) -> None:
    """All that are not empty, as one paragraph."""
    text = " ".join(filter(None, sentences))
    if sys.stderr.isatty():
        width = max(20, shutil.get_terminal_size().columns - 1)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    typer.echo(text, err=True)
