"""The shapes of a text that speak for a group: code lines, formulas, tables; data only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A structural cue: how often a pattern matches, up to ``most``, times the weights.

    The pattern is tried only if one of ``hints`` is in the text, or one of ``words`` among its
    words. Each hint comes after its rarest sign, as to miss one character is cheapest.
    """

    name: str
    pattern: re.Pattern[str]
    hints: tuple[tuple[str, str], ...]
    words: frozenset[str]
    weights: Mapping[str, float]
    most: int = 1


def _shape(
    name: str, pattern: str, *hints: str, words: str = "", most: int = 1, **weights: float
) -> Shape:
    signed = tuple((_sign(hint), hint) for hint in hints)
    compiled = re.compile(pattern, re.MULTILINE)
    return Shape(name, compiled, signed, frozenset(words.split()), weights, most)


def _sign(hint: str) -> str:
    """A character of the hint that prose has few of; nothing if it has none."""
    rare = [char for char in hint if not char.isalnum() and char != " "]
    return (rare or [char for char in hint if char.isupper()] or [""])[0]


SHAPES: tuple[Shape, ...] = (
    _shape("fence", "```", "```", code_read=0.7, code_write=0.3),
    _shape(
        "stack trace",
        r"Traceback \(|Error\b|Exception\b|error(?:\[|:| [A-Z]*\d)|\tat [\w.$]+\(|    at [\w.$]+\(",
        "Error",
        "Exception",
        "Traceback",
        "error",
        "\tat ",
        "    at ",
        most=2,
        code_read=0.9,
    ),
    _shape(
        "sql statement",
        r"\bSELECT\b[^?]{1,300}?\bFROM\b|select \* from|CREATE TABLE",
        "SELECT",
        "select *",
        "CREATE TABLE",
        data_query=1.8,
    ),
    _shape(
        "shell prompt",
        r"^[ \t]*\$ \w|\| ?(?:grep|awk|sed|xargs|sort|head)\b| --[a-z]{2,}",
        "$ ",
        "|",
        " --",
        data_query=0.9,
    ),
    _shape(
        "arithmetic",
        r"\d[xyzn)]? ?[-+*/^×÷=] ?\(?[\dxyzn]|\d% of \d",  # noqa: RUF001
        "+",
        "*",
        "/",
        "^",
        "=",
        "×",  # noqa: RUF001
        "÷",
        " - ",
        "% of ",
        most=2,
        math=0.8,
    ),
    _shape(
        "worded arithmetic",
        r"\d ?(?:times|plus|minus|(?:multiplied|divided) by|squared|cubed|modulo|percent of) ?\d?"
        r"|\b(?:sqrt|log|sin|cos|tan|gcd|lcm) ?\(|\d (?:a )?prime\b|prime (?:number|factor)",
        words="times plus minus multiplied divided squared cubed modulo percent sqrt log sin cos "
        "tan gcd lcm prime",
        math=1.9,
    ),
    _shape(
        "definition",
        r"^\s*(?:def|function|fn|func|class) \w+ ?[({:]",
        words="def function fn func class",
        code_read=1.3,
        code_write=0.3,
        knowledge=-0.6,
    ),
    _shape("unknown", r"\b[xyzn] ?[-+^=²] ?\d", "^", "=", "²", "x -", "x +", math=1.0),
    _shape(
        "latex",
        r"\\(?:frac|int|sum|sqrt|lim|mathbb|begin|le|ge)\b|\$[^$\n]{0,60}[\\^_=<][^$\n]{0,60}\$",
        "\\",
        "$",
        math=1.5,
    ),
    _shape("inline code", r"`[^`\n]{1,40}`", "`", code_read=0.5, code_write=0.4),
    _shape("money", r"[$€£]\d|\d ?[€£%]", "$", "€", "£", "%", most=2, math=0.3),
    _shape(
        "closing quantity",
        r"(?:[Hh]ow (?:many|much|long|far|old|fast|tall)|hat (?:is|are) the (?:total|prob|sum)\w*)"
        r"\b[^?]{0,200}\?\s*\Z",
        words="many much long far old fast tall total sum prob probability probabilities",
        math=0.9,
    ),
    _shape("analogy", r"\w ?: ?\w+ ?:: ?\w|\bis to \w+ as\b", "::", " is to ", logic=2.2),
    _shape(
        "named role",
        r"\A\W{0,9}(?:You are|you are|You're|Du bist|Tu es|Eres) (?:now )?[A-Z]",
        "ou are",
        "ou're",
        "Du bist",
        "Tu es",
        "Eres",
        roleplay=1.6,
    ),
    _shape("table row", r"^\|.*\|", "|", formatting=0.5, extraction=0.3),
    _shape(
        "json payload",
        r"[{\[]\s*\"\w+\"\s*:",
        '":',
        formatting=0.4,
        extraction=0.2,
        data_query=0.2,
    ),
    _shape("blank to fill", r"_{3}|\[blank\]", "___", "[blank]", extraction=0.3, knowledge=0.5),
)

NUMBER = re.compile(r"\d[\d.,]*")
NUMBER_WEIGHT, MOST_NUMBERS = 0.13, 7
CODE_STARTS = (
    "def ", "import ", "from ", "#include", "public ", "private ", "fn ", "func ", "function ",
    "const ", "let ", "var ", "return ", "return;", "@", "elif ", "while (", "for (", "if (",
    "class ", "</", "<div", "<html", "package ", "using ", "assert ", "static ", "void ",
)  # fmt: skip
CODE_ENDS = (";", "{", "}", "});", "/>", "):", "])", "()")
CODE_SIGNS = tuple((_sign(it), it) for it in (" => ", "();", " == ", "</", " := ", "!="))
MOST_CODE_LINES = 4
CODE_LINE_WEIGHTS: Mapping[str, float] = {"code_read": 0.45, "code_write": 0.2}
ASKING = frozenset(("opening: ask a fact", "opening: explain", "opening: repair"))
TECHNICAL = frozenset(("language", "framework", "database", "pattern language", "shell"))
BULLETS = ("- ", "* ", "• ", "1.", "2.", "3.", "4.", "5.", "6.", "7.", "8.", "9.", "1)", "2)", "3)")
