"""Is an answer right? Each checker's module decides that for its kind."""

from __future__ import annotations

from smarterrouter.profiling.checkers.verdict import Verdict

__all__ = ["Verdict"]
