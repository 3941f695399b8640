"""How many words, lines, bullets, rows a text has, as a reader would count them.

Decides what Markdown counts as; not how many there should be.
"""

from __future__ import annotations

import csv
import re

from smarterrouter.profiling.checkers.plain import plain
from smarterrouter.profiling.checkers.reading import sentences as split_sentences

_BULLET = re.compile(r"([ \t]*)[-*•\u2013+‣◦▪●][ \t]+(?=\S)")
_NUMBERED = re.compile(
    r"([ \t]*)(?:#{1,6}[ \t]+)?(?:\*\*|__)?\(?\d{1,3}[.):](?:\*\*|__)?[ \t]+(?=\S)"
)
_HEADING = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]|(?:\*\*|__)[^*_\n]{1,120}(?<![.!])(?:\*\*|__):?[ \t]*$)"
)
_RULE = re.compile(r"[ \t]*(?:-[ \t]?){3,}$|[ \t]*(?:\*[ \t]?){3,}$|[ \t]*_{3,}[ \t]*$")
_DASHES = re.compile(r"--+|[—\u2013/]")


def lines(text: str) -> list[str]:
    """The lines that have something on them, rules across the page not counted."""
    return [line for line in text.split("\n") if line.strip() and not _RULE.match(line)]


def is_heading(line: str) -> bool:
    """``## Title`` or a line that is bold as a whole, and no sentence."""
    return bool(_HEADING.match(line))


def unmarked(line: str) -> str:
    """A line without the bullet or number before it, and without emphasis."""
    mark = _BULLET.match(line) or _NUMBERED.match(line)
    return plain(line[mark.end() :] if mark else line).strip()


def words(text: str) -> int:
    """Words as a reader counts them: the marks of lists and lone signs are none."""
    return len(word_list(text))


def word_list(text: str) -> list[str]:
    """The words, with the punctuation that clings to them; "well-known" is one."""
    bare = "\n".join(unmarked(line) for line in lines(text))
    spaced = _DASHES.sub(lambda dash: dash[0] if dash[0] == "/" else " ", bare)
    return [word for word in spaced.split() if any(map(str.isalnum, word))]


def sentences(text: str) -> int:
    """Sentences of the prose; a heading is none, an entry of a list is one or more."""
    kept = [line for line in text.split("\n") if not is_heading(line) and not _RULE.match(line)]
    joined: list[str] = []
    for line in kept:
        new = not joined or not joined[-1] or not line.strip() or is_entry(line)
        if new or joined[-1].rstrip().endswith((".", "!", "?", ":")):
            joined.append(unmarked(line))
        else:
            joined[-1] += " " + unmarked(line)
    return len(split_sentences("\n".join(joined)))


def is_entry(line: str) -> bool:
    """Whether the line begins an entry of a list."""
    return bool(_BULLET.match(line) or _NUMBERED.match(line))


def paragraphs(text: str) -> tuple[int, ...]:
    """How many there are between empty lines; where there are none, each line may be one."""
    blocks = [block for block in re.split(r"\n(?=[ \t]*\n)", text) if _says_something(block)]
    whole = [block for block in blocks if not all(is_heading(line) for line in lines(block))]
    by_line = len(lines(text)) if len(blocks) == 1 else len(whole)
    return (len(whole), by_line)


def _says_something(block: str) -> bool:
    return any(any(map(str.isalnum, line)) for line in lines(block))


def bullets(text: str) -> tuple[int, ...]:
    """Entries with a bullet: all of them, and those of the outermost level."""
    return _entries(_BULLET, text)


def numbered(text: str) -> tuple[int, ...]:
    """Entries with a number: all of them, and those of the outermost level."""
    return _entries(_NUMBERED, text)


def _entries(mark: re.Pattern[str], text: str) -> tuple[int, ...]:
    depths = [len(found[1].expandtabs()) for line in lines(text) if (found := mark.match(line))]
    outermost = min(depths, default=0)
    return (len(depths), sum(depth <= outermost + 1 for depth in depths))


def tables(text: str) -> list[tuple[int, int | None]]:
    """Rows and columns of each Markdown table; columns ``None`` where its rows differ in them."""
    found: list[tuple[int, int | None]] = []
    rows = [line.strip() for line in text.split("\n")]
    for at in range(1, len(rows)):
        if not _divides(rows[at]) or "|" not in rows[at - 1] or _divides(rows[at - 1]):
            continue
        end = at + 1
        while end < len(rows) and "|" in rows[end]:
            end += 1
        widths = {len(_cells(row)) for row in (*rows[at - 1 : at + 1], *rows[at + 1 : end])}
        found.append((end - at - 1, widths.pop() if len(widths) == 1 else None))
    return found


def _divides(row: str) -> bool:
    return "-" in row and "|" in row and not row.strip("|:- \t")


def _cells(row: str) -> list[str]:
    return row.replace(r"\|", "/").removeprefix("|").removesuffix("|").split("|")


def csv_widths(text: str) -> list[int] | None:
    """How many fields each line of comma-separated values has; ``None`` if it is not such."""
    try:
        rows = csv.reader(text.strip().split("\n"), strict=True, skipinitialspace=True)
        return [len(row) for row in rows if row]
    except csv.Error:
        return None


_KEY = re.compile(r"(?:([\w.-]{1,100})|\"([^\"]{1,100})\"|'([^']{1,100})'):(?:[ \t]|$)")


def yaml_keys(text: str) -> list[str] | None:
    """The keys at the outermost level; ``None`` where something there is no key."""
    keys: list[str] = []
    block = False
    for line in text.split("\n"):
        if not line.strip() or line.startswith(("#", "---", "...")):
            continue
        if line[0] in " \t":
            if not keys or (line[0] == "\t" and not block):
                return None
        elif line.startswith("- ") and keys:
            continue
        elif key := _KEY.match(line):
            keys.append(key[1] or key[2] or key[3])
            block = line.rstrip().endswith(("|", ">", "|-", ">-"))
        elif not (keys and line.strip() in ("}", "]")):
            return None
    return keys


def is_titled(text: str) -> bool:
    """Whether every word but the small ones begins with a capital."""
    found = [word.lstrip("\"'([{*_#") for word in word_list(text)]
    large = [word for word in found if word and word.lower().rstrip(".,;:!?") not in _SMALL]
    return bool(large) and all(not word[0].islower() for word in large)


_SMALL = frozenset(
    "a an and as at but by de en for from in into nor of off on onto or out over per so the to "  # noqa: SIM905
    "up via vs with yet".split()
)
