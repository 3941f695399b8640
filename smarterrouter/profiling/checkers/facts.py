"""Does an answer state the facts that were asked for, and nothing that is wrong?

Decides it by patterns alone: what is needed is looked for in the answer as it stands, without its
marks, and without its line breaks.
"""

from __future__ import annotations

import re

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.counting import words
from smarterrouter.profiling.checkers.plain import plain
from smarterrouter.profiling.checkers.reading import body
from smarterrouter.profiling.checkers.verdict import Verdict

FLAGS = re.IGNORECASE | re.MULTILINE


def check(spec: specs.Facts, answer: str) -> Verdict:
    """1 if enough of ``need`` is found and nothing of ``avoid``, within ``most_words``.

    ``None`` if a pattern of the task is no regular expression.
    """
    try:
        return _checked(spec, answer)
    except re.error as error:
        return Verdict(None, f"a pattern of the task cannot be used: {error}")


def _checked(spec: specs.Facts, answer: str) -> Verdict:
    bare = plain(answer)
    texts = (answer, bare, " ".join(bare.split()))
    lacking = [pattern for pattern in spec.need if not found(pattern, texts)]
    wrong = [pattern for pattern in spec.avoid if found(pattern, texts)]
    enough = len(spec.need) if spec.least is None else spec.least
    if wrong:
        return Verdict(0.0, f"it says what it should not: {wrong[0]}")
    if (stated := len(spec.need) - len(lacking)) < enough:
        return Verdict(0.0, f"{stated} of {enough} needed facts; not found: {lacking[0]}")
    if spec.most_words is not None and (length := words(body(answer))) > spec.most_words:
        return Verdict(0.0, f"{length} words are more than {spec.most_words}")
    return Verdict(1.0, f"it has {stated} of {len(spec.need)} facts")


def found(pattern: str, texts: tuple[str, ...]) -> bool:
    """Whether any of the texts has it. Raises ``re.error``."""
    wanted = re.compile(pattern, FLAGS)
    return any(wanted.search(text) for text in texts)
