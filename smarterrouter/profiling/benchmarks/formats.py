"""Tables of benchmark scores as they are published, made into rows.

Decides what a column means and which rows are kept. ``tables`` takes the file apart. Understood are

- the Open LLM Leaderboard, both editions: its contents table as CSV, JSON or JSON lines, pages of
  the datasets server, and the answer of its own API;
- the LMSYS (LMArena) leaderboard: its CSV, its table by category, and its JSON of ratings;
- any other table with the name of a model and columns such as HumanEval.

Units: per cent as published (the second edition has chance taken off already, the first has not),
Elo points for ``arena`` and ``arena:<category>``, 1 to 10 for MT-bench. What a source publishes as
a fraction is turned into per cent, so that a benchmark has one unit.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import unescape

from msgspec import Struct
from msgspec.structs import replace

from smarterrouter.errors import BadRequest
from smarterrouter.profiling.benchmarks import names, tables

V2, V1, ARENA, OTHER = "open-llm-leaderboard", "open-llm-leaderboard-v1", "arena", "table"

SECOND_EDITION = frozenset({"IFEval", "BBH", "MATH Lvl 5", "GPQA", "MUSR", "MMLU-PRO"})
FIRST_EDITION = frozenset({"ARC", "HellaSwag", "TruthfulQA", "Winogrande", "GSM8K"})

BENCHMARKS = {
    "ifeval": "IFEval",
    "bbh": "BBH",
    "bigbenchhard": "BBH",
    "mathlvl5": "MATH Lvl 5",
    "mathhard": "MATH Lvl 5",
    "gpqa": "GPQA",
    "musr": "MUSR",
    "mmlupro": "MMLU-PRO",
    "arc": "ARC",
    "arcchallenge": "ARC",
    "hellaswag": "HellaSwag",
    "mmlu": "MMLU",
    "truthfulqa": "TruthfulQA",
    "truthfulqamc": "TruthfulQA",
    "winogrande": "Winogrande",
    "gsm8k": "GSM8K",
    "humaneval": "HumanEval",
    "mbpp": "MBPP",
    "mtbench": "MT-bench",
    "mtbenchscore": "MT-bench",
}
NAMES = ("fullname", "modelnameforquery", "modelname", "modeldisplayname", "key", "model", "name")
RATINGS = ("arenaelorating", "arenascore", "arenaelo", "rating", "elorating", "elo")
DATES = ("leaderboardpublishdate", "publishdate")
CATEGORIES = {
    "": "arena",
    "overall": "arena",
    "full": "arena",
    "text": "arena",
    "hard_6": "arena:hard_prompts",
    "if": "arena:instruction_following",
    "long_user": "arena:longer_query",
    "multiturn": "arena:multi_turn",
}
LEAST_ELO, MOST_ELO = 100.0, 5000.0
"""Ratings outside are of something else: stars, or places in a list."""

_SHOTS = re.compile(r"\(\s*\d+\s*-?\s*shot\s*\)", re.IGNORECASE)
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\([^()\n]{0,2000}\)")
_TAG = re.compile(r"<[^<>]{0,2000}>")


class BenchmarkRow(Struct, frozen=True):
    """What one table says of one model. Unknown is ``None``.

    ``scores`` by benchmark, in the units above. ``tuned``: trained to chat rather than a base
    model. ``official``: from whoever trained it. ``precision`` is what it was measured at.
    """

    source: str
    model_name: str
    scores: Mapping[str, float]
    parameters: int | None = None
    precision: str | None = None
    tuned: bool | None = None
    official: bool | None = None
    merged: bool = False

    @property
    def family(self) -> str:
        """The family its name tells."""
        return names.parse(self.model_name).family


def parse(raw: bytes, name: str) -> tuple[BenchmarkRow, ...]:
    """The rows of a file, in its order; ``name`` is for messages.

    Rows without a model's name or a known score are passed over, and so are those that the
    leaderboard itself has flagged. Raises ``BadRequest``, which says what was expected, if
    nothing is left.
    """
    found = [row for item in tables.records(raw, name) if (row := _row(_plain(item)))]
    if not found:
        raise BadRequest(
            f"{name} has no benchmark scores that are known here. Expected is the contents table "
            "of the Open LLM Leaderboard (fullname, IFEval, BBH, ...) or the LMSYS arena's "
            "(key or model_name, with rating or Arena Elo rating), as CSV or JSON."
        )
    source = _source({benchmark for row, _ in found for benchmark in row.scores})
    rows = _newest_together(found) if source == ARENA else [row for row, _ in found]
    if source in (ARENA, OTHER):
        rows = _per_cent(rows)
    return tuple(replace(row, source=source) for row in rows)


def _row(cells: Mapping[str, object]) -> tuple[BenchmarkRow, str] | None:
    """A row, its source still open, and when it was published, so far as it says."""
    name = next((text for key in NAMES if (text := _name(cells.get(key)))), "")
    scores = dict(_scores(cells))
    if not name or not scores or _yes(cells.get("flagged")):
        return None
    billions = _number(cells.get("paramsb")) or 0.0
    kind = str(cells.get("type") or "").lower()
    row = BenchmarkRow(
        "",
        name,
        scores,
        parameters=round(billions * 1e9) if 0 < billions < 1e5 else None,
        precision=str(cells.get("precision") or "") or None,
        tuned=_tuned(kind),
        official=_yes(cells.get("officialproviders")),
        merged=bool(_yes(cells.get("merged"))) or "merge" in kind,
    )
    return row, next((str(cells[key]) for key in DATES if cells.get(key)), "")


def _plain(item: Mapping[str, object]) -> dict[str, object]:
    plain: dict[str, object] = {}
    for column, value in item.items():
        plain.setdefault(_bare(str(column)[:200]), value)
    return plain


@lru_cache(maxsize=4096)
def _bare(column: str) -> str:
    """A column by its letters and digits alone: ``#Params (B)`` is ``paramsb``."""
    letters = _SHOTS.sub("", column).lower()
    return "".join(c for c in letters if c.isascii() and c.isalnum())


def _scores(cells: Mapping[str, object]) -> Iterable[tuple[str, float]]:
    for column, cell in cells.items():
        if benchmark := BENCHMARKS.get(column):
            score = _number(cell)
            if score is not None and 0 <= score <= (10 if benchmark == "MT-bench" else 100):
                yield benchmark, score
    rating = next((r for key in RATINGS if (r := _number(cells.get(key))) is not None), None)
    if rating is None and "votes" in cells:
        rating = _number(cells.get("score"))
    if rating is not None and LEAST_ELO <= rating <= MOST_ELO:
        yield _board(str(cells.get("category") or "")[:80]), rating


@lru_cache(maxsize=4096)
def _board(category: str) -> str:
    """What the arena's rating in a category is called here."""
    plain = re.sub(r"[\s-]+", "_", category.strip().lower())
    return CATEGORIES.get(plain, f"arena:{plain}")


def _source(benchmarks: set[str]) -> str:
    if any(b.startswith("arena") for b in benchmarks) or "MT-bench" in benchmarks:
        return ARENA
    if len(benchmarks & SECOND_EDITION) > 1:
        return V2
    return V1 if len(benchmarks & FIRST_EDITION) > 1 else OTHER


def _newest_together(found: Iterable[tuple[BenchmarkRow, str]]) -> list[BenchmarkRow]:
    """One row a model, with all its categories; of several dates, the last that each has.

    Nobody votes on base models, so all of them are tuned.
    """
    rows: dict[str, BenchmarkRow] = {}
    scores: dict[str, dict[str, tuple[str, float]]] = defaultdict(dict)
    for row, date in found:
        rows.setdefault(row.model_name, row)
        of_model = scores[row.model_name]
        for benchmark, score in row.scores.items():
            if benchmark not in of_model or date >= of_model[benchmark][0]:
                of_model[benchmark] = (date, score)
    return [
        replace(row, tuned=True, scores={b: score for b, (_, score) in scores[name].items()})
        for name, row in rows.items()
    ]


def _per_cent(rows: list[BenchmarkRow]) -> list[BenchmarkRow]:
    most: dict[str, float] = defaultdict(float)
    for row in rows:
        for benchmark, score in row.scores.items():
            most[benchmark] = max(most[benchmark], score)
    fractions = {b for b, score in most.items() if score <= 1.0 and b != "MT-bench"}
    return [
        replace(row, scores={b: s * 100 if b in fractions else s for b, s in row.scores.items()})
        for row in rows
    ]


def _name(cell: object) -> str:
    """A model's name out of a cell, which may be a link in HTML or Markdown."""
    if not isinstance(cell, str):
        return ""
    text = cell[:4000]
    if "<" in text or "[" in text:
        text = _LINK.sub(r"\1", unescape(_TAG.sub(" ", text)))
    return " ".join(text.split())[: names.LONGEST]


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return None
    try:
        number = float(cell.strip().rstrip("%").replace(",", "") if isinstance(cell, str) else cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _yes(cell: object) -> bool | None:
    if isinstance(cell, bool):
        return cell
    return {"true": True, "1": True, "false": False, "0": False}.get(str(cell).strip().lower())


def _tuned(kind: str) -> bool | None:
    if "pretrained" in kind:
        return False
    return True if any(word in kind for word in ("chat", "tuned", "merge")) else None
