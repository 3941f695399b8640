"""Text without its marks: Markdown's emphasis and headings, LaTeX's commands, odd characters.

Decides how one and the same thing written in several ways comes out alike. Says nothing of what it
means. All of it takes time in proportion to the text.
"""

from __future__ import annotations

import re

_CHARACTERS = str.maketrans(
    {
        "\u2212": "-",
        "\u2010": "-",
        "\u2011": "-",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u200b": "",
        "\u2060": "",
        "\ufeff": "",
        "\r": "",
    }
)


def plain(text: str) -> str:
    """The text without emphasis, headings, links, LaTeX and code marks; lines stay lines."""
    return without_markdown(without_latex(text.translate(_CHARACTERS)))


_SYMBOLS = {
    r"\times": "\u00d7",
    r"\cdot": "·",
    r"\div": "÷",
    r"\approx": "≈",
    r"\simeq": "≈",
    r"\to": "→",
    r"\rightarrow": "→",
    r"\Rightarrow": "⇒",
    r"\implies": "⇒",
    r"\therefore": "therefore",
    r"\neq": "≠",
    r"\ne": "≠",
    r"\leq": "≤",
    r"\le": "≤",
    r"\geq": "≥",
    r"\ge": "≥",
    r"\degree": "°",
    r"\circ": "°",
    r"\pi": "π",
    r"\Theta": "Θ",
    r"\left": "",
    r"\right": "",
    r"\quad": " ",
    r"\qquad": " ",
    r"\displaystyle": "",
    r"\,": " ",
    r"\;": " ",
    r"\:": " ",
    r"\ ": " ",
    r"\!": "",
    r"\(": " ",
    r"\)": " ",
    r"\[": " ",
    r"\]": " ",
    r"\\": "\n",
}
_ARGUMENT = r"\{\s{0,3}(-?[\w.]{1,30})\s{0,3}\}"
_FRACTION = re.compile(rf"\\[dt]?frac\s{{0,3}}(?:{_ARGUMENT}\s{{0,3}}{_ARGUMENT}|(\d)(\d))")
_WRAPPER = (
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|mathcal"
    r"|operatorname|emph|underline|mbox)\s{0,3}\{"
)
_BRACES = re.compile(rf"({_WRAPPER})|[{{}}]")
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|[^\w\s]|[ ])")
_DOLLARS = re.compile(r"(?<![\w$])\${1,2}(?=[^\s$])([^$\n]{1,400})(?<=\S)\${1,2}(?!\d)")
_BLOCK_DOLLARS = re.compile(r"(?m)^[ \t]{0,9}\$\$|\$\$$")
_POWER = re.compile(r"\^\{(-?\w{1,9})\}")
_DEGREES = re.compile(r"\^\s?(?:\\circ\b|\{\s?\\circ\s?\})")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")


def without_latex(text: str) -> str:
    r"""``\boxed{\frac{3}{4}}`` is ``3/4``, ``$45$`` is ``45``; "$45 and $50" stays."""
    text = _DEGREES.sub("°", _DOLLARS.sub(r"\1", text.replace("{,}", ",")))
    text = _BLOCK_DOLLARS.sub("", text)
    if "\\" in text:
        text = _FRACTION.sub(_as_quotient, text)
        text = _unbraced(text)
        text = _COMMAND.sub(lambda m: _SYMBOLS.get(m[0], m[0][1:]), text)
    return _POWER.sub(r"^\1", text)


def _as_quotient(found: re.Match[str]) -> str:
    whole = found.string[: found.start()][-1:].isdigit()
    above, below = found[1] or found[3], found[2] or found[4]
    return f"{' ' if whole else ''}{above}/{below}"


def _unbraced(text: str) -> str:
    r"""Without ``\text{`` and the like, and the brace that closes it; other braces stay."""
    out: list[str] = []
    wrapped: list[bool] = []
    at = 0
    for brace in _BRACES.finditer(text):
        out.append(text[at : brace.start()])
        at = brace.end()
        if brace[0] == "}":
            out.append("" if wrapped and wrapped.pop() else "}")
        else:
            wrapped.append(brace[1] is not None)
            out.append("" if brace[1] else "{")
    return "".join(out) + text[at:]


def boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}``; ``None`` if there is none."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    depth, start = 1, boxes[-1].end()
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[start : brace.start()]
    return text[start:]


_LINK = re.compile(r"!?\[([^\[\]\n]{1,300})\]\((?:https?|www|/|#|\./)[^()\s]{0,500}\)")
_HEADING = re.compile(r"(?m)^[ \t]{0,3}#{1,6}[ \t]+")
_QUOTE = re.compile(r"(?m)^[ \t]{0,9}(?:>[ \t]?){1,9}")
_FENCE_LINE = re.compile(r"(?m)^[ \t]{0,20}(?:```|~~~)[`~]*[^`\n]*$")
_TAG = re.compile(r"</?(?:b|i|u|p|em|strong|span|sub|code|br|answer)[ ]?/?>", re.IGNORECASE)
_SUP = re.compile(r"<sup>([^<\n]{1,20})</sup>")
_STARS = re.compile(r"(?<![\w*])\*{1,3}+(?=\S)|(?<=\S)\*{1,3}+(?!\w)")
_LINES = re.compile(r"(?<![^\W_])_{1,3}+(?=[^\W_])|(?<=[^\s_])_{1,3}+(?!\w)")


def without_markdown(text: str) -> str:
    """``**Paris**`` is ``Paris``; bullets and numbers of lists stay, as does ``2 * 3``."""
    text = _FENCE_LINE.sub("", text).replace("`", "")
    text = _QUOTE.sub("", _HEADING.sub("", text))
    text = _TAG.sub("", _SUP.sub(r"^\1", _LINK.sub(r"\1", text)))
    return _LINES.sub("", _STARS.sub("", text)).replace("~~", "")
