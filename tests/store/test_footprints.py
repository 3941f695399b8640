"""What models were seen to hold, kept and read again."""

from __future__ import annotations

from pathlib import Path

from smarterrouter.store.footprints import FootprintRecord
from smarterrouter.store.queries import Queries
from smarterrouter.store.writer import Writer


def test_the_newest_footprint_of_a_name_counts(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    writer = Writer(path)
    writer.start()
    for count, source in ((5, "reported"), (7, "measured")):
        assert writer.submit(FootprintRecord("o/a|1|8192x1", count, source))
    assert writer.submit(FootprintRecord("o/b|2|8192x1", 9, "measured"))
    assert writer.close()
    assert set(Queries(path).footprints()) == {
        FootprintRecord("o/a|1|8192x1", 7, "measured"),
        FootprintRecord("o/b|2|8192x1", 9, "measured"),
    }


def test_before_anything_is_written_there_are_none(tmp_path: Path) -> None:
    assert Queries(tmp_path / "none.db").footprints() == ()
