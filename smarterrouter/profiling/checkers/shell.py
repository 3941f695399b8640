"""A command for the shell: does it print what was asked? Run in the sandbox, or else only read.

Decides which part of an answer is the command, and whether its output is the wanted one. Not where
it may run, nor for how long: that is ``sandbox``'s.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from itertools import zip_longest

from smarterrouter.errors import Unavailable
from smarterrouter.profiling.checkers.reading import fenced
from smarterrouter.profiling.checkers.specs import Shell, Variant
from smarterrouter.profiling.checkers.verdict import How, Verdict
from smarterrouter.profiling.sandbox import Limits, Ran, Sandbox

MOST_COMMAND = 16 * 1024
"""A longer command is not looked at, in characters."""
READING_S = 5.0
SHOWN = 60
_LANGUAGES = ("sh", "bash", "shell", "console", "shell-session", "terminal", "zsh")
_SPAN = re.compile(r"`([^`\n]+)`")


def parses(spec: Shell, answer: str) -> Verdict:
    """1 if ``sh`` can read the answer's command, and it is about the files; it runs nothing.

    ``None`` where there is no sh.
    """
    command = _command(answer.encode(errors="replace").decode())
    if trouble := _trouble(command) or _prose(command, spec.files):
        return Verdict(0.0, trouble, How.PARSED)
    shell = shutil.which("sh")
    if shell is None:
        return Verdict(None, "there is no sh here that could read it", How.PARSED)
    try:
        done = subprocess.run(  # noqa: S603 - with -n it executes nothing
            [shell, "-n"],
            input=command.encode(),
            capture_output=True,
            timeout=READING_S,
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired:
        return Verdict(0.0, f"sh did not come to the end of it within {READING_S:g} s", How.PARSED)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[:200]
        return Verdict(0.0, f"it does not parse: {said}", How.PARSED)
    return Verdict(1.0, "it parses", How.PARSED)


async def check(
    spec: Shell, answer: str, sandbox: Sandbox, limits: Limits | None = None
) -> Verdict:
    """1 if the command prints the wanted lines, space at their ends apart; its exit is its own.

    Each variant of the files has a run of its own, until one of them goes wrong.
    """
    limits = limits or Limits()
    command = _command(answer.encode(errors="replace").decode())
    if trouble := _trouble(command):
        return Verdict(0.0, trouble, How.RUN)
    for given in (Variant(spec.files, spec.stdout), *spec.variants):
        try:
            ran = await sandbox.run(["sh", "-c", command], files=given.files, limits=limits)
        except Unavailable as error:
            return Verdict(None, error.message, How.RUN)
        if ran.stopped:
            return Verdict(0.0, f"it {limits.exceeded(ran.stopped)}", How.RUN)
        if difference := _difference(given.stdout, ran, unordered=spec.unordered):
            other = "" if given.files is spec.files else "with other files, "
            return Verdict(0.0, other + difference, How.RUN)
    return Verdict(1.0, "it prints what was wanted", How.RUN)


def _difference(stdout: str, ran: Ran, *, unordered: bool) -> str | None:
    got, wanted = _lines(ran.stdout), _lines(stdout)
    if unordered:
        got, wanted = sorted(got), sorted(wanted)
    if got == wanted:
        return None
    complaint = ran.stderr.strip().splitlines()[-1:]
    if not got and complaint:
        return f"it printed nothing, but said {complaint[0][:200]!r}"
    pairs = enumerate(zip_longest(got, wanted), 1)
    number, (have, want) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    return f"line {number} is {_shown(have)}, not {_shown(want)}"


def _shown(line: str | None) -> str:
    return "missing" if line is None else repr(line[:SHOWN])


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")] if text.strip() else []


def _trouble(command: str) -> str | None:
    if not command.strip():
        return "there is no command in the answer"
    if "\0" in command:
        return "no command has a NUL in it"
    if len(command) > MOST_COMMAND:
        return f"the command is longer than {MOST_COMMAND} characters"
    return None


_TOOLS = frozenset(
    "awk bash cat column comm cut diff echo expr find gawk grep egrep fgrep head jq join less ls "  # noqa: SIM905
    "mawk nl paste perl printf python python3 sed seq sh shuf sort tac tail tee test tr uniq wc "
    "xargs for while until if case set export read cd { (".split()
)
_BEFORE = re.compile(r"(?:\s*(?:#[^\n]*\n|\w+=\S*\s))*\s*")


def _prose(command: str, files: Mapping[str, str]) -> str | None:
    """Why it seems to be words and no command: to ``sh`` nearly any words are one."""
    begins = _BEFORE.match(command)
    first = command[begins.end() if begins else 0 :].split(maxsplit=1)[:1]
    word = first[0].rpartition("/")[2] if first else ""
    if word not in _TOOLS and not word.startswith(("(", "{")) and "=" not in word:
        return f"it begins with {word[:SHOWN]!r}, which is no usual command"
    if "*" not in command and not any(name in command for name in files):
        return "it names none of the files"
    return None


def _command(answer: str) -> str:
    """The first block of code (those after it mostly are other ways), without prompts.

    Without a block: the longest code among the words, or else all of the answer.
    """
    blocks = fenced(answer, *_LANGUAGES) or fenced(answer)
    if blocks:
        return _typed(textwrap.dedent(blocks[0]).strip("\n"))
    spans = _SPAN.findall(answer)
    return _typed(max(spans, key=len) if spans else answer.strip())


def _typed(text: str) -> str:
    """What was typed: of a session with prompts, only the lines after one."""
    typed = [line[2:] for line in text.split("\n") if line.startswith(("$ ", "> "))]
    return "\n".join(typed) if text.startswith("$ ") else text
