"""Requests as they come to the store, and what the tests ask of the file itself."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from smarterrouter.domain.chat import Endpoint, Message
from smarterrouter.domain.decision import (
    Candidate,
    Difficulty,
    PromptFeatures,
    RouteDecision,
    ScoreTerm,
)
from smarterrouter.domain.models import Capability, ModelRef
from smarterrouter.domain.outcomes import Outcome, Status
from smarterrouter.store.decisions import Record

FEATURES = PromptFeatures(
    category="coding",
    group="code_write",
    difficulty=Difficulty.EASY,
    difficulty_score=0.1,
    prompt_tokens=10,
    answer_tokens=200,
    max_tokens=300,
    needs=frozenset({Capability.TOOLS, Capability.CHAT}),
)


def decision(name: str, model: str = "small") -> RouteDecision:
    terms = (ScoreTerm("quality", 0.5, "measured"), ScoreTerm("seconds", -0.1, "2 s"))
    chosen = Candidate(ModelRef("desk", model), model, 0.5, 2.0, True, terms)
    return RouteDecision(name, "smarterrouter/main", FEATURES, 0.5, (chosen,), ())


def outcome(name: str = "1", **changes: object) -> Outcome:
    told: dict[str, object] = {
        "request_id": f"request-{name}",
        "decision_id": f"decision-{name}",
        "response_id": f"response-{name}",
        "started_at": time.time(),
        "endpoint": Endpoint.CHAT,
        "caller": "me",
        "virtual_model": "smarterrouter/main",
        "model": "small",
        "backend": "desk",
        "streamed": True,
        "status": Status.OK,
        "duration_s": 2.0,
        "ttft_s": 0.5,
        "prompt_tokens": 10,
        "completion_tokens": 30,
    }
    return Outcome(**told | changes)  # type: ignore[arg-type]


def record(name: str = "1", text: str = "Hello", keep: bool = False, **changes: object) -> Record:
    return Record(
        outcome(name, **changes),
        decision(f"decision-{name}"),
        (Message("user", text),),
        keep,
    )


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    """The rows, by a connection that knows nothing of the store."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def count(path: Path, table: str = "outcomes") -> int:
    [[number]] = ask(path, f"SELECT count(*) FROM {table}")
    assert isinstance(number, int)
    return number


def is_sound(path: Path) -> bool:
    return ask(path, "PRAGMA integrity_check") == [("ok",)]


def until(done: Callable[[], object], timeout_s: float = 8.0) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
