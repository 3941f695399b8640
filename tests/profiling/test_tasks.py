"""The bundled tasks: well formed, and of one mind with their checkers on answers of every style."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smarterrouter.domain.groups import GROUPS
from smarterrouter.errors import BadRequest
from smarterrouter.profiling import checkers
from smarterrouter.profiling.checkers.reading import answer_of
from smarterrouter.profiling.checkers.specs import Judged, Python, Shell
from smarterrouter.profiling.task import Task, bundled, read

ANSWERS = Path(__file__).parent / "answers"
TASKS = {task.id: task for task in bundled()}


def samples() -> list[Any]:
    found = []
    for path in sorted(ANSWERS.glob("*.toml")):
        rows = tomllib.loads(path.read_text())["answer"]
        for number, row in enumerate(rows):
            name = f"{row['task']}-{number}"
            found.append(pytest.param(row["task"], row["text"], row["score"], id=name))
    return found


@pytest.mark.parametrize(("task", "text", "score"), samples())
def test_a_sample_answer_counts_what_it_should(task: str, text: str, score: float) -> None:
    spec = TASKS[task].check
    answer = answer_of(text)
    if isinstance(spec, Python | Shell):
        verdict = checkers.parses(spec, answer)
        assert score == 0 or verdict.score == 1, verdict.why
    else:
        verdict = checkers.check(spec, answer)
        assert verdict.score == score, verdict.why


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_every_task_is_told_apart_and_has_room_for_its_answer(task: Task) -> None:
    assert task.id.replace("-", "_").startswith(task.group)
    assert 16 <= task.max_tokens <= 1500
    assert task.said[-1].role == "user"


@pytest.mark.parametrize("group", sorted({task.group for task in TASKS.values()}))
def test_every_group_goes_from_easy_to_hard_and_has_quick_ones(group: str) -> None:
    there = [task for task in TASKS.values() if task.group == group]
    levels = Counter(task.level for task in there)
    assert len(there) >= 12
    assert min(levels[level] for level in ("easy", "medium", "hard")) >= 3
    assert sum(task.quick for task in there) >= 3


def test_every_task_that_can_be_checked_has_a_right_and_a_wrong_sample() -> None:
    seen: dict[str, set[float]] = {}
    for one in samples():
        seen.setdefault(one.values[0], set()).add(one.values[2])
    lacking = [
        task.id
        for task in TASKS.values()
        if not isinstance(task.check, Judged) and seen.get(task.id, set()) != {0, 1}
    ]
    assert lacking == []


def test_a_key_changes_with_whatever_would_change_a_score() -> None:
    form = (
        'group = "math"\n[[task]]\nid = "x"\nlevel = "easy"\nprompt = "{}"\n'
        'check = {{kind = "number", answer = {}}}\n'
    )
    keys = {read(form.format(*one).encode(), "f")[0].key for one in (("a", 1), ("b", 1), ("a", 2))}
    assert len(keys) == 3
    assert read(form.format("a", 1).encode(), "f")[0].key in keys


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("task = 3", "task: Expected 'array', got 'int'"),
        ("task = [", "is not a file of tasks"),
        ("", "it has no task"),
        (
            "group='math'\n[[task]]\nid='a'\nlevel='middle'\nprompt='?'\ncheck={kind='judged'}",
            "task 1 (a), level: 'middle' is not known here; it is one of easy, medium, hard",
        ),
        (
            "group='maths'\n[[task]]\nid='a'\nlevel='easy'\nprompt='?'\ncheck={kind='judged'}",
            "a has the group 'maths'; one of code_write",
        ),
        ("[[task]]\nid='a'\nlevel='easy'\ncheck={kind='exact',answers=['b']}", "has no group"),
        (
            "group='math'\n[[task]]\nid='a'\nlevel='easy'\ncheck={kind='exact',answers=['b']}",
            "needs either prompt or messages",
        ),
        (
            "group='math'\n[[task]]\nid='a'\nlevel='easy'\nprompt='?'\ncheck={kind='guess'}",
            "Invalid value 'guess'",
        ),
        (
            "group='math'\n[[task]]\nid='a'\nlevel='easy'\nprompt=' '\ncheck={kind='judged'}",
            "asks nothing",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(text.encode(), "mine.toml")
    assert complaint in refused.value.message
    assert refused.value.message.startswith("mine.toml")


def test_groups_are_those_of_the_prompts() -> None:
    assert {task.group for task in TASKS.values()} <= set(GROUPS)
