"""What a model is asked to find out how good it is, and how its answer is to be judged.

Decides which task files are well formed. The bundled tasks are in ``tasks/``, one TOML file a
group; ``--prompts FILE`` has the owner's own in the same form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from smarterrouter.domain.groups import GROUPS
from smarterrouter.errors import BadRequest
from smarterrouter.profiling.checkers.specs import AnyChecker

Level = Literal["easy", "medium", "hard"]
UNSET_TOKENS = 1024
LARGEST_FILE, MOST_TASKS = 1 << 20, 1000
"""Bytes and tasks of a file: reading more would take seconds, and asking more would take days."""
NAMES = " ".join(GROUPS)


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """One message of the conversation that a task consists of."""

    role: Literal["system", "user", "assistant"]
    text: str


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt, or a conversation whose last message is the user's, and its checker.

    ``max_tokens`` is how long the answer may get, reasoning not counted. ``quick``: asked even
    where there are but two minutes for a model.
    """

    id: str
    level: Level
    check: AnyChecker
    group: str = ""
    prompt: str | None = None
    messages: list[Said] | None = None
    max_tokens: int = UNSET_TOKENS
    quick: bool = False

    @property
    def said(self) -> tuple[Said, ...]:
        """The conversation, however it was written down."""
        return tuple(self.messages) if self.messages else (Said("user", self.prompt or ""),)

    @property
    def text(self) -> str:
        """What stands for the task in a profile file: everything but the model's own words."""
        return "\n\n".join(one.text for one in self.said if one.role != "assistant")

    @property
    def key(self) -> str:
        """Changes with whatever would change a score: answers are kept under it."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]


class _File(Struct, forbid_unknown_fields=True):
    task: list[Task] = []
    group: str = ""


@cache
def bundled() -> tuple[Task, ...]:
    """The tasks that come with smarterrouter, group by group."""
    folder = resources.files("smarterrouter.profiling") / "tasks"
    found: list[Task] = []
    for group in GROUPS:
        file = folder / f"{group}.toml"
        if file.is_file():
            found += read(file.read_bytes(), f"tasks/{group}.toml")
    return tuple(found)


def read(raw: bytes, name: str) -> tuple[Task, ...]:
    """Tasks in TOML; a group that the file names at its top is that of all without their own."""
    if len(raw) > LARGEST_FILE:
        raise BadRequest(f"{name} is larger than {LARGEST_FILE >> 20} MB: split it.")
    try:
        file = msgspec.toml.decode(raw, type=_File)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{name}: {_where(str(error), raw)}.") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{name} is not UTF-8 text.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"{name} is not a file of tasks: {error}.") from None
    except RecursionError:
        raise BadRequest(f"{name} is not a file of tasks: it is nested too deeply.") from None
    tasks = tuple(msgspec.structs.replace(t, group=t.group or file.group) for t in file.task)
    if problem := next(_problems(tasks), None):
        raise BadRequest(f"{name}: {problem}.")
    return tasks


_AT = re.compile(r" - at `\$\.?(?:task\[(\d+)\]\.?)?([^`]*)`")
_ENUM = re.compile(r"Invalid enum value ('[^']*')")


def _where(error: str, raw: bytes) -> str:
    """A decoder's complaint in words: which task it is about, and what may stand there."""
    found = _AT.search(error)
    said = _ENUM.sub(r"\1 is not known here", _AT.sub("", error)).replace("`", "'")
    number, field = (found[1], found[2]) if found else (None, "")
    if field == "level":
        said += f"; it is one of {', '.join(get_args(Level))}"
    if number is None:
        return f"{field}: {said}" if field else said
    task = msgspec.toml.decode(raw)["task"][int(number)]
    name = task.get("id") if isinstance(task, dict) else None
    which = f"task {int(number) + 1}" + (f" ({name})" if name else "")
    return f"{which}, {field}: {said}" if field else f"{which}: {said}"


def _problems(tasks: Sequence[Task]) -> Iterator[str]:
    if not tasks:
        yield "it has no task; each begins with [[task]]"
    if len(tasks) > MOST_TASKS:
        yield f"it has {len(tasks)} tasks; {MOST_TASKS} are the most"
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            yield f"two tasks have the id {task.id}"
        seen.add(task.id)
        if task.group not in GROUPS:
            has = f"has the group '{task.group}'" if task.group else "has no group"
            yield f"{task.id} {has}; one of {NAMES} is wanted"
        if (task.prompt is None) == (task.messages is None):
            yield f"{task.id} needs either prompt or messages"
        elif task.said[-1:] and task.said[-1].role != "user":
            yield f"the last message of {task.id} is not the user's"
        elif not task.text.strip():
            yield f"{task.id} asks nothing"
        if task.max_tokens < 1:
            yield f"max_tokens of {task.id} is less than 1"
