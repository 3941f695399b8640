from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from smarterrouter.errors import ConfigError
from smarterrouter.profiling.checkers.shell import MOST_COMMAND, check, parses
from smarterrouter.profiling.checkers.specs import Shell, Variant
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.sandbox import Limits, Sandbox, find

FRUIT = Shell({"fruit.txt": "pear\napple\npear\n", "sub/x.txt": ""}, "apple\npear\n")
TWICE = Shell(FRUIT.files, FRUIT.stdout, variants=[Variant({"fruit.txt": "fig\n"}, "fig\n")])
SHORT = Limits(seconds=1.0, processes=8)


@pytest.fixture
async def sandbox() -> Sandbox:
    try:
        return await find()
    except ConfigError as error:
        pytest.skip(error.message)


GOOD = {
    "bare": "sort -u fruit.txt",
    "a block": "Use this:\n\n```bash\nsort -u fruit.txt\n```\n\nIt sorts.",
    "a block without a language": "```\nsort -u fruit.txt\n```",
    "a session": "```console\n$ sort -u fruit.txt\napple\npear\n```",
    "in the words": "You can use `sort` for that: `sort -u fruit.txt` does it.",
    "another way after it": "```sh\nsort -u fruit.txt\n```\nor\n```sh\nsort fruit.txt | uniq\n```",
    "several lines": "```sh\n# all of them\nsort fruit.txt |\n  uniq\n```",
    "a script": "```sh\n#!/bin/sh\nset -e\nsort fruit.txt > t\nuniq t; rm t\n```",
    "space at the ends": "sort -u fruit.txt | sed 's/$/  /'; echo",
    "awk": "awk '!seen[$0]++' fruit.txt | sort",
    "an exit code": "sort -u fruit.txt; false",
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_right_command_scores_1(sandbox: Sandbox, name: str) -> None:
    verdict = await check(FRUIT, GOOD[name], sandbox, SHORT)
    assert (verdict.score, verdict.how) == (1.0, How.RUN), verdict.why


@pytest.mark.parametrize("name", GOOD)
def test_a_right_command_parses(name: str) -> None:
    verdict = parses(FRUIT, GOOD[name])
    assert (verdict.score, verdict.how) == (1.0, How.PARSED), verdict.why


WRONG = {
    "another order": ("sort -ru fruit.txt", "line 1 is 'pear', not 'apple'"),
    "too much": ("sort fruit.txt", "line 3 is 'pear', not missing"),
    "too little": ("echo apple", "line 2 is missing, not 'pear'"),
    "nothing": ("true", "line 1 is missing, not 'apple'"),
    "no such program": ("no-such-program fruit.txt", "not found"),
    "no command": ("```sh\n\n```", "no command"),
    "a loop": ("while :; do :; done", "it did not end within 1 s"),
    "reading on": ("cat - fruit.txt | sort -u | tail -n 1", "line 1 is 'pear', not 'apple'"),
    "much output": ("yes", "it wrote more than 64 KiB"),
    "a fork bomb": ("b() { b | b & }; b; sleep 9", "it "),
    "the home folder": ("rm -rf ~ / 2>&1; ls ~ | head -n 1", "line 1 is"),
    "a NUL": ("echo \0", "NUL"),
    "too long": ("echo " + "x" * MOST_COMMAND, "longer than"),
    "half a character": ("echo '\ud800'", "line 1 is '?', not 'apple'"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_command_scores_0_and_says_why(sandbox: Sandbox, name: str) -> None:
    answer, why = WRONG[name]
    verdict = await check(FRUIT, answer, sandbox, SHORT)
    assert (verdict.score, verdict.how) == (0.0, How.RUN)
    assert why in verdict.why
    assert (await check(FRUIT, GOOD["bare"], sandbox)).score == 1.0


async def test_order_counts_only_where_it_is_asked_for(sandbox: Sandbox) -> None:
    anyhow = Shell(FRUIT.files, FRUIT.stdout, unordered=True)
    assert (await check(anyhow, "sort -ru fruit.txt", sandbox)).score == 1.0
    assert (await check(anyhow, "sort fruit.txt", sandbox)).score == 0.0


@pytest.mark.parametrize("name", GOOD)
async def test_a_right_command_is_right_with_other_files(sandbox: Sandbox, name: str) -> None:
    verdict = await check(TWICE, GOOD[name], sandbox, SHORT)
    assert (verdict.score, verdict.how) == (1.0, How.RUN), verdict.why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("echo apple; echo pear", "with other files, line 1 is 'apple', not 'fig'"),
        ("```sh\nprintf 'apple\\npear\\n'\n```\nThat's all.", "with other files, line 1"),
        ("sort -u fruit.txt; cat sub/x.txt >&2 || echo no", "with other files, line 2 is 'no'"),
        ("grep -q pear fruit.txt && echo apple; echo pear", "with other files, line 1 is 'pear'"),
        ("grep -q pear fruit.txt || sleep 9; sort -u fruit.txt", "did not end within 1 s"),
        ("sort fruit.txt", "line 3 is 'pear', not missing"),
    ],
)
async def test_what_only_fits_the_files_told_is_wrong(
    sandbox: Sandbox, answer: str, why: str
) -> None:
    verdict = await check(TWICE, answer, sandbox, SHORT)
    assert (verdict.score, verdict.how) == (0.0, How.RUN)
    assert why in verdict.why


async def test_the_variants_lines_may_come_in_any_order_where_it_may(sandbox: Sandbox) -> None:
    more = [Variant({"fruit.txt": "fig\nkiwi\nfig\n"}, "fig\nkiwi\n")]
    anyhow = Shell(FRUIT.files, FRUIT.stdout, unordered=True, variants=more)
    assert (await check(anyhow, "sort -ru fruit.txt", sandbox)).score == 1.0
    assert (await check(anyhow, "sort -r fruit.txt", sandbox)).score == 0.0


async def test_a_run_leaves_no_files_to_the_next(sandbox: Sandbox) -> None:
    kept = "sort -u fruit.txt; test -e seen && echo again; touch seen"
    assert (await check(TWICE, kept, sandbox, SHORT)).score == 1.0


def test_variants_are_read_from_a_task() -> None:
    told = b"files={}\nstdout='x'\nkind='shell'\n[[variants]]\nfiles={a='b'}\nstdout='c'"
    assert msgspec.toml.decode(told, type=Shell) == Shell(
        {}, "x", variants=[Variant({"a": "b"}, "c")]
    )


async def test_space_within_and_before_a_line_counts(sandbox: Sandbox) -> None:
    assert (await check(FRUIT, "sort -u fruit.txt | sed 's/^/ /'", sandbox)).score == 0.0


async def test_a_sandbox_that_fails_leaves_the_answer_unmeasured(sandbox: Sandbox) -> None:
    broken = Sandbox(sandbox.bwrap, sandbox.python, ("--ro-bind", "/no/such/folder", "/usr"))
    assert (await check(FRUIT, GOOD["bare"], broken)).score is None


@pytest.mark.parametrize(
    "answer", ["", "```sh\n```", "sort 'fruit.txt", "if true; then echo", "a | | b", "(" * 10_000]
)
def test_what_sh_cannot_read_scores_0(answer: str) -> None:
    verdict = parses(FRUIT, answer)
    assert (verdict.score, verdict.how) == (0.0, How.PARSED)


def test_parsing_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    command = f"cat fruit.txt; touch {mark}; $(touch {mark}); : ${{x:=$(touch {mark})}}"
    assert parses(FRUIT, command).score == 1.0
    assert not mark.exists()


def test_without_sh_it_is_unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parses(FRUIT, GOOD["bare"]).score is None


@pytest.mark.parametrize(
    ("prose", "why"),
    [
        ("Hello from tiny 60m alpha bravo", "'Hello'"),
        ("The file fruit.txt has three lines", "'The'"),
        ("sort it and keep one of each", "none of the files"),
    ],
)
def test_words_that_sh_can_read_are_no_command(prose: str, why: str) -> None:
    verdict = parses(FRUIT, prose)
    assert verdict.score == 0.0
    assert why in verdict.why


@pytest.mark.parametrize(
    "command",
    [
        "LC_ALL=C sort -u fruit.txt",
        "# each once\nsort -u fruit.txt",
        "(sort fruit.txt) | uniq",
        "for f in *; do sort -u $f; done",
        "/usr/bin/awk '!a[$0]++' fruit.txt",
        "files=fruit.txt\nsort -u $files",
    ],
)
def test_commands_of_many_forms_parse(command: str) -> None:
    assert parses(FRUIT, command).score == 1.0
