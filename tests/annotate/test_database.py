import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from onereward.annotate.database import CastVote, VoteDatabase
from onereward.people.tables import METADATA
from onereward.terms import Dimension, Task, Vote, VoterKind


def answer(number: int, best: int | None = 0, worst: int | None = 1, candidates: str = "abc") -> CastVote:
    vote = Vote(
        triplet_id=f"t{number}",
        dimension=Dimension.STRUCTURE,
        best=best,
        worst=worst,
        voter="ann",
        kind=VoterKind.PERSON,
        weight=0.5,
    )
    return CastVote(uuid=str(UUID(int=number)), candidates=candidates, task=Task.FILL, vote=vote)


def test_answers_come_back_in_order_and_a_retry_is_no_second_vote(tmp_path: Path) -> None:
    given = [answer(2), answer(1, best=None, worst=None), answer(3)]
    with VoteDatabase(str(tmp_path / "new" / "votes.sqlite")) as database:
        assert database.add(given[:2]) == 2
        assert database.add(given) == 1
        assert database.add([]) == 0
        database.add([answer(4, candidates="def")])
    with VoteDatabase(str(tmp_path / "new" / "votes.sqlite"), create=False) as database:
        assert database.answers("abc") == given
        assert database.answers("none") == []


def test_a_uuid_with_another_content_is_refused_whole(tmp_path: Path) -> None:
    with VoteDatabase(str(tmp_path / "votes.sqlite")) as database:
        database.add([answer(1)])
        with pytest.raises(ValueError, match=r"was given before as .*a correction needs a uuid of its own"):
            database.add([answer(2), answer(1, best=1, worst=0)])
        assert database.answers("abc") == [answer(1)]


@pytest.mark.parametrize("statement", ["UPDATE votes SET best = 3", "DELETE FROM votes"])
def test_answers_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "votes.sqlite"
    with VoteDatabase(str(path)) as database:
        database.add([answer(1)])
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)


def test_the_migrations_make_the_tables_that_the_code_names(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"
    VoteDatabase(str(path)).__exit__(None, None, None)
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Each thread opens the database (and may create it) and appends one by one; half of the answers come twice."""
    path = str(tmp_path / "votes.sqlite")

    def write(start: int) -> int:
        with VoteDatabase(path) as database:
            return sum(database.add([answer(number)]) for number in range(start, start + 20))

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(write, [10 * thread for thread in range(8)]))
    with VoteDatabase(path) as database:
        assert added == len(database.answers("abc")) == 90


WRITER = """
import sys
from onereward.annotate.database import VoteDatabase
from tests.annotate.test_database import answer

with VoteDatabase(sys.argv[1]) as database:
    for number in range(100_000):
        database.add([answer(2 * number), answer(2 * number + 1)])
        print(number, flush=True)
"""


def test_sigkill_keeps_every_answer_that_was_confirmed(tmp_path: Path) -> None:
    path = str(tmp_path / "votes.sqlite")
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        confirmed = 5 + len(process.stdout.read().split())
    with VoteDatabase(path) as database:
        kept = database.answers("abc")
    assert len(kept) % 2 == 0 and len(kept) >= 2 * confirmed
    assert kept == [answer(number) for number in range(len(kept))]


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no database at .*gone\.sqlite"):
        VoteDatabase(str(tmp_path / "gone.sqlite"), create=False)
    assert not (tmp_path / "gone.sqlite").exists()
    (tmp_path / "text").write_text("this is a text file, long enough to be looked at " * 40)
    for create in (True, False):
        with pytest.raises(ValueError, match="as a database of votes"):
            VoteDatabase(str(tmp_path / "text"), create=create)
    with pytest.raises(ValueError, match="unable to open"):
        VoteDatabase(str(tmp_path))


def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is no database of votes"):
        VoteDatabase(str(path), create=False)
    assert path.read_bytes() == before


def test_an_answer_is_compared_with_all_it_holds(tmp_path: Path) -> None:
    with VoteDatabase(str(tmp_path / "votes.sqlite")) as database:
        database.add([answer(1)])
        for other in (replace(answer(1), candidates="def"), replace(answer(1), task=Task.TEXT)):
            with pytest.raises(ValueError, match="given before"):
                database.add([other])
