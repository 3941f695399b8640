"""Is an answer right? Each checker's module decides that for its kind.

Decides which module is asked. Code that an answer holds is run by ``python`` and ``shell`` with a
sandbox of the caller's; here it is but read.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from smarterrouter.profiling.checkers import specs
from smarterrouter.profiling.checkers.verdict import How, Verdict

__all__ = ["CHECKED", "RUN", "Verdict", "check", "parses"]

CHECKED: dict[type[specs.Checker], str] = {
    specs.Number: "number",
    specs.Exact: "exact",
    specs.Choice: "choice",
    specs.Json: "json",
    specs.Format: "format",
    specs.Facts: "facts",
    specs.Sql: "sql",
    specs.Pattern: "pattern",
}
"""The module for each kind that needs neither a judge nor a sandbox."""

RUN: dict[type[specs.Checker], str] = {specs.Python: "python", specs.Shell: "shell"}
"""The module for each kind whose answers are run: ``await check(spec, answer, sandbox)``."""

EMPTY = Verdict(0.0, "the answer is empty")


def check(spec: specs.AnyChecker, answer: str) -> Verdict:
    """Whether an answer without its reasoning (``reading.answer_of``) is right.

    Raises nothing, whatever the answer. It may take seconds for ``Sql`` and ``Pattern``: call it
    in a thread. Kinds that are run, and those for a judge, have no score here.
    """
    if not answer.strip():
        return EMPTY
    if isinstance(spec, specs.Judged):
        return Verdict(None, "needs a judge", How.JUDGED)
    if type(spec) in RUN:
        return Verdict(None, "needs a sandbox", How.RUN)
    return _function(CHECKED[type(spec)], "check")(spec, answer)


def parses(spec: specs.AnyChecker, answer: str) -> Verdict:
    """Whether code that cannot be run is at least well formed; other kinds are checked."""
    if not answer.strip():
        return EMPTY
    if name := RUN.get(type(spec)):
        return _function(name, "parses")(spec, answer)
    return check(spec, answer)


def _function(module: str, name: str) -> Callable[[specs.AnyChecker, str], Verdict]:
    """Imported when needed: a run asks for few of the kinds."""
    found: Any = getattr(import_module(f"{__name__}.{module}"), name)
    return cast("Callable[[specs.AnyChecker, str], Verdict]", found)
