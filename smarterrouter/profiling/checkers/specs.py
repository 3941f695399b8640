"""How an answer is to be judged: one form for each kind of checker, as task files have them.

Decides nothing. The module of the same name as its kind carries it out.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Checker(Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """How an answer is judged; ``checkers`` has what each kind does."""


class Number(Checker, frozen=True, tag="number"):
    """The final number of the answer is ``answer``, at most ``tolerance`` away from it."""

    answer: float
    tolerance: float = 0.0


class Exact(Checker, frozen=True, tag="exact"):
    """The answer comes down to one of ``answers``, and to none of the ``rivals``.

    Case, punctuation, articles and emphasis do not count; words around it may stand there.
    """

    answers: list[str]
    rivals: list[str] = []


class Choice(Checker, frozen=True, tag="choice"):
    """The answer picks the option with the letter ``answer``; ``options`` by letter."""

    answer: str
    options: dict[str, str]


class Json(Checker, frozen=True, tag="json"):
    """The answer holds JSON that fits ``schema`` and contains ``expect``.

    Objects may have more keys than ``expect``; lists must be equal in length and order, but for
    those of ``unordered`` keys. Strings are compared without regard to case and outer spaces. An
    expected number or truth value may be in quotes, unless the schema demands its type.
    ``bare``: there may be nothing but the JSON (a code fence is allowed).
    """

    schema: dict[str, object] = {}
    expect: object = None
    unordered: list[str] = []
    bare: bool = False


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of form; exactly one of the fields is set.

    Ranges are ``[least, most]``. Patterns are regular expressions without regard to case, with
    ``^`` and ``$`` at lines.
    """

    words: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    sentences: tuple[int, int] | None = None
    paragraphs: tuple[int, int] | None = None
    bullets: tuple[int, int] | None = None
    numbered: tuple[int, int] | None = None
    characters: tuple[int, int] | None = None
    has: str | None = None
    lacks: str | None = None
    starts: str | None = None
    ends: str | None = None
    every_line: str | None = None
    case: Literal["upper", "lower", "title"] | None = None
    table: tuple[int, int] | None = None
    """A Markdown table of so many rows below its head, and so many columns."""
    csv: tuple[int, int] | None = None
    """So many lines of comma-separated values, the head counted, each of so many fields."""
    yaml_keys: list[str] | None = None
    in_order: list[str] | None = None
    """Patterns of which each is found after the one before."""


class Format(Checker, frozen=True, tag="format"):
    """Every rule holds for the answer.

    A code fence is the answer where it is plain text or the larger part; CSV and YAML are always
    taken from it.
    """

    rules: list[Rule]


class Facts(Checker, frozen=True, tag="facts"):
    """Every line of ``need`` is found, and nothing of ``avoid``: patterns as in ``Rule``.

    ``most_words`` is how long the answer may be. ``least`` of ``need`` suffice, where set.
    """

    need: list[str]
    avoid: list[str] = []
    least: int | None = None
    most_words: int | None = None


class Python(Checker, frozen=True, tag="python"):
    """Code with a function ``function`` for which every one of ``tests`` (statements) runs.

    ``arguments``: what ``parses`` asks of it where code is not run: so many positional ones.
    """

    function: str
    arguments: int
    tests: list[str]


class Variant(Struct, frozen=True, forbid_unknown_fields=True):
    """Other files, in place of all of a ``Shell``'s, and what is to be printed for them."""

    files: dict[str, str]
    stdout: str


class Shell(Checker, frozen=True, tag="shell"):
    """A command for ``sh`` that prints ``stdout`` in a folder with ``files``.

    It must do so with the files of each of the ``variants``, too: no command that only echoes what
    the question tells can.
    """

    files: dict[str, str]
    stdout: str
    unordered: bool = False
    variants: list[Variant] = []


class Sql(Checker, frozen=True, tag="sql"):
    """A query (SQLite's dialect) that gives ``rows`` in a database that ``setup`` makes."""

    setup: str
    rows: list[list[object]]
    ordered: bool = False


class Pattern(Checker, frozen=True, tag="pattern"):
    """A regular expression that finds all of ``matches`` and none of ``misses``.

    ``whole``: it is to match from the first to the last character.
    """

    matches: list[str]
    misses: list[str]
    whole: bool = True


class Judged(Checker, frozen=True, tag="judged"):
    """Nobody can check it: a judge compares two models' answers. ``look_for`` is told the judge."""

    look_for: str = ""


AnyChecker = (
    Number | Exact | Choice | Json | Format | Facts | Python | Shell | Sql | Pattern | Judged
)
