"""The reading side, against the same sums in plain Python."""

import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smarterrouter.domain.outcomes import Outcome, Status
from smarterrouter.store import database
from smarterrouter.store.decisions import Record
from smarterrouter.store.queries import Figures, Queries, Spread, Stats
from smarterrouter.store.writer import Writer
from tests.store.records import outcome, record, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "smarterrouter.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.open_to_write(path)) as connection:
        yield connection


def test_before_anything_is_written_all_answers_are_empty(path: Path) -> None:
    queries = Queries(path)
    assert queries.decision("x") is None
    assert queries.decisions(10) == ()
    assert queries.stats(5.0) == Stats(5.0, Figures(), 0, ())
    assert not path.exists()
    path.touch()
    assert queries.decisions(10) == ()
    database.open_to_write(path).close()
    assert queries.stats(5.0) == Stats(5.0, Figures(), 0, ())


def test_a_decision_is_found_by_its_id_the_requests_and_the_answers(
    path: Path, connection: sqlite3.Connection
) -> None:
    for name in ("1", "2"):
        record(name).write(connection)
    found = [Queries(path).decision(f"{of}-2") for of in ("decision", "request", "response")]
    assert {one.outcomes[0].request_id for one in found if one} == {"request-2"}
    assert None not in found
    assert Queries(path).decision("request-3") is None


def test_the_latest_decisions_come_first(path: Path, connection: sqlite3.Connection) -> None:
    for number in range(5):
        model = "big" if number % 2 else "small"
        record(str(number), started_at=float(number), model=model).write(connection)

    def ids(limit: int, model: str | None = None) -> list[float]:
        return [one.made_at for one in Queries(path).decisions(limit, model)]

    assert ids(3) == [4.0, 3.0, 2.0]
    assert ids(10, "big") == [3.0, 1.0]
    assert ids(1, "big") == [3.0]
    assert ids(10, "none") == ids(0) == ids(-1) == []


seconds = st.one_of(st.none(), st.floats(0, 100), st.sampled_from([0.5, 1.0]))
tokens = st.one_of(st.none(), st.integers(0, 5000))
outcomes = st.builds(
    outcome,
    started_at=st.integers(0, 10).map(float),
    model=st.sampled_from([None, "a", "b", "c"]),
    status=st.sampled_from(Status),
    duration_s=st.floats(0, 100),
    ttft_s=seconds,
    prompt_tokens=tokens,
    completion_tokens=tokens,
    tried=st.lists(st.sampled_from(["a", "b", "x"]), max_size=2).map(tuple),
)


def spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread()
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[math.ceil(len(ordered) * percent / 100) - 1]

    return Spread(pytest.approx(math.fsum(values) / len(values)), rank(50), rank(95))


def figures(of: Sequence[Outcome]) -> dict[str, object]:
    done = [one for one in of if one.status is Status.OK]
    timed = [
        (one.completion_tokens, one.duration_s - one.ttft_s)
        for one in done
        if one.completion_tokens is not None and one.ttft_s is not None
        if one.duration_s > one.ttft_s
    ]
    rate = sum(n for n, _ in timed) / math.fsum(s for _, s in timed) if timed else None
    return {
        "requests": len(of),
        "errors": sum(one.status is Status.ERROR for one in of),
        "hung_up": sum(one.status is Status.HUNG_UP for one in of),
        "prompt_tokens": sum(one.prompt_tokens or 0 for one in of),
        "completion_tokens": sum(one.completion_tokens or 0 for one in of),
        "tokens_per_second": None if rate is None else pytest.approx(rate),
        "ttft_s": spread([one.ttft_s for one in done if one.ttft_s is not None]),
        "duration_s": spread([one.duration_s for one in done]),
    }


def shown(found: Figures) -> dict[str, object]:
    return {name: getattr(found, name) for name in Figures.__struct_fields__}


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kept=st.lists(outcomes, max_size=30), since=st.integers(0, 11))
def test_stats_are_what_plain_python_finds(
    path: Path, connection: sqlite3.Connection, kept: list[Outcome], since: int
) -> None:
    connection.execute("BEGIN")
    connection.execute("DELETE FROM outcomes")
    for one in kept:
        Record(one).write(connection)
    connection.execute("COMMIT")
    found = Queries(path).stats(float(since))
    of = [one for one in kept if one.started_at >= since]
    assert shown(found.totals) == figures(of)
    assert found.cascades == sum(bool(one.tried) for one in of)
    named = {one.model for one in of} | {name for one in of for name in one.tried}
    assert {one.model for one in found.models} == named
    assert len(found.models) == len(named)
    for model in found.models:
        assert shown(model) == figures([one for one in of if one.model == model.model])
        assert model.passed_over == sum(one.tried.count(model.model or "") for one in of)


def test_one_slow_answer_in_twenty_is_not_yet_the_95th_percentile(
    path: Path, connection: sqlite3.Connection
) -> None:
    for number in range(20):
        slow = number == 7
        record(str(number), duration_s=9.0 if slow else 1.0, ttft_s=None).write(connection)
    [model] = Queries(path).stats().models
    assert model.duration_s == Spread(pytest.approx(1.4), 1.0, 1.0)
    record("20", duration_s=9.0).write(connection)
    assert Queries(path).stats().models[0].duration_s.p95 == 9.0


def test_readers_see_whole_requests_while_the_writer_writes(path: Path) -> None:
    writer, queries = Writer(path, gather_s=0.0), Queries(path)
    writer.start()
    done, wrong = threading.Event(), []
    asked = [0, 0, 0]

    def read(place: int) -> None:
        seen = 0
        while not done.is_set():
            asked[place] += 1
            stats = queries.stats()
            latest = queries.decisions(20)
            if not seen <= stats.totals.requests == sum(one.requests for one in stats.models):
                wrong.append(stats)
            wrong.extend(one for one in latest if len(one.outcomes) != 1)
            seen = stats.totals.requests

    readers = [threading.Thread(target=read, args=(place,)) for place in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1500):
            assert writer.submit(record(str(number), model=f"model-{number % 3}"))
        assert writer.close()
        until(lambda: min(asked) > 2 or wrong)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert queries.stats().totals.requests == writer.counts.written == 1500
