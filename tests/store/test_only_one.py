"""Two processes do not profile over one database; a dead one holds up nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smarterrouter.errors import Conflict
from smarterrouter.store.only_one import only_one

HOLDER = """
import sys, time
from pathlib import Path
from smarterrouter.store.only_one import only_one
with only_one(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


def test_another_process_is_refused_until_the_first_has_ended_even_by_being_killed(
    tmp_path: Path,
) -> None:
    database = tmp_path / "new" / "kept.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Conflict, match="busy"), only_one(database, "busy"):
        pass
    holder.kill()
    holder.communicate()
    with only_one(database, "busy"):
        pass


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_one(tmp_path / "a.db", "busy"):
        raise ZeroDivisionError
    with only_one(tmp_path / "a.db", "busy"), only_one(tmp_path / "b.db", "busy"):
        pass


def test_a_folder_that_cannot_be_made_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with only_one(tmp_path / "file" / "a.db", "busy"):
        pass
