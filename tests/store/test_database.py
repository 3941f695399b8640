"""Where the file lies, what it may be, and how it comes up to date."""

import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from smarterrouter.errors import ConfigError, Unavailable
from smarterrouter.store import database, migrations
from smarterrouter.store.queries import Queries
from tests.store.records import ask, is_sound

HOME = Path("/home/me")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "smarterrouter.db"


def made(path: Path, version: int = migrations.LATEST) -> None:
    """A database as an earlier version left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
        migrations.migrate(connection, migrations.STEPS[:version])


def test_each_platform_has_its_own_folder() -> None:
    name = Path("smarterrouter") / "smarterrouter.db"
    path = database.default_path
    assert path("linux", {}, HOME) == HOME / ".local/share" / name
    assert path("linux", {"XDG_DATA_HOME": "/data"}, HOME) == Path("/data") / name
    assert path("linux", {"XDG_DATA_HOME": "data"}, HOME) == HOME / ".local/share" / name
    assert path("darwin", {}, HOME) == HOME / "Library/Application Support" / name
    assert path("win32", {"LOCALAPPDATA": "/local"}, HOME) == Path("/local") / name
    assert path("win32", {}, HOME) == HOME / "AppData/Local" / name


def test_a_new_database_is_in_wal_mode_and_has_all_tables(path: Path) -> None:
    with closing(database.open_to_write(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (250,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert migrations.version(connection) == migrations.LATEST
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for [name] in tables} == {
            "decisions",
            "outcomes",
            "footprints",
            "profile_answers",
            "profile_figures",
            "profile_models",
            "profile_verdicts",
            "benchmark_choices",
            "benchmark_tables",
        }


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_only_its_owner_may_read_it(path: Path) -> None:
    with closing(database.open_to_write(path)) as connection:
        connection.execute("INSERT INTO decisions VALUES ('a',1,0,0,0,0,0,0,0,0,0,0,0,0,'',0,'')")
        files = list(path.parent.iterdir())
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_path_with_signs_that_mean_something_in_an_address_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "who? 100% #1" / "a b?mode=memory.db"
    database.open_to_write(path).close()
    assert path.is_file()


def test_version_1_becomes_the_latest_and_keeps_its_data(path: Path) -> None:
    made(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO decisions (id, made_at, prompt_sha256, decision) "
            "VALUES ('d', 5.0, 'abc', '{\"id\": \"d\"}')"
        )
        connection.execute(
            "INSERT INTO outcomes (request_id, decision_id, started_at, endpoint, caller, "
            "streamed, status, duration_s, tried) "
            "VALUES ('r', 'd', 5.0, 'chat/completions', 'me', 1, 'ok', 2.5, '[\"big\"]')"
        )
        connection.commit()
    with pytest.raises(Unavailable, match="older"):
        Queries(path).decision("d")
    database.open_to_write(path).close()
    assert is_sound(path)
    assert ask(path, "PRAGMA user_version") == [(migrations.LATEST,)]
    found = Queries(path).decision("r")
    assert found is not None
    assert bytes(found.decision) == b'{"id": "d"}'
    assert [(one.tried, one.response_id) for one in found.outcomes] == [(("big",), None)]


def test_every_version_on_the_way_leads_to_the_same_tables(tmp_path: Path) -> None:
    schemas = []
    for version in range(migrations.LATEST + 1):
        path = tmp_path / f"{version}.db"
        made(path, version)
        database.open_to_write(path).close()
        schemas.append(ask(path, "SELECT sql FROM sqlite_master ORDER BY name"))
    assert all(schema == schemas[0] for schema in schemas)


def test_a_step_that_fails_leaves_nothing_behind_of_those_before_it(path: Path) -> None:
    made(path, 1)

    def broken(db: Database) -> None:
        db.create_table("half", {"id": int}, pk="id")
        db.table("half").create_index(["id"])
        raise RuntimeError("no")

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(RuntimeError):
            migrations.migrate(connection, (*migrations.STEPS, broken))
        assert not connection.in_transaction
    assert ask(path, "PRAGMA user_version") == [(1,)]
    assert ask(path, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql > ''") == []
    assert ask(path, "SELECT name FROM sqlite_master WHERE name = 'half'") == []


def test_the_steps_are_numbered_in_order() -> None:
    numbers = [int(step.__name__[1:5]) for step in migrations.STEPS]
    assert numbers == list(range(1, migrations.LATEST + 1))


def test_a_newer_database_is_refused_and_not_touched(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    told = r"newer smarterrouter.*ROUTER_DATABASE"
    for opening in (database.check, database.open_to_write, database.open_to_read):
        with pytest.raises((ConfigError, Unavailable), match=told):
            opening(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    for opening in (database.check, database.open_to_write, database.open_to_read):
        with pytest.raises((ConfigError, Unavailable), match="another program"):
            opening(path)
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        database.check(tmp_path)


def test_what_is_not_there_yet_or_ours_passes_the_check_and_is_not_made(path: Path) -> None:
    database.check(path)
    assert not path.parent.exists()
    made(path)
    database.check(path)


def test_what_may_get_better_by_itself_passes_the_check(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    database.check(path)


def test_a_damaged_file_is_moved_with_its_log_and_never_over_another(path: Path) -> None:
    path.parent.mkdir()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        Path(f"{path}-wal").write_bytes(content)
        aside = database.set_aside(path, "why")
        assert aside.read_bytes() == Path(f"{aside}-wal").read_bytes() == content
    assert len(os.listdir(path.parent)) == 4


def test_a_reader_cannot_write(path: Path) -> None:
    made(path)
    with closing(database.open_to_read(path)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM outcomes")


def test_a_reader_of_a_damaged_file_hears_so(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    with pytest.raises(Unavailable, match="not a database"):
        Queries(path).stats()
