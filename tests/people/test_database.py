"""One writer, whole readers, migrations and rows that stay, on SQLite and on PostgreSQL."""

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from onereward.annotate.database import VoteDatabase
from onereward.people.database import Database
from onereward.people.events import verify
from onereward.people.migrations.versions import v0001_votes
from onereward.people.persons import Persons, Role
from onereward.people.tables import METADATA, SETTINGS, VOTES
from onereward.terms import Dimension, Task
from tests.postgres import Postgres

VOTE = {
    "uuid": "00000000-0000-0000-0000-000000000001", "candidates": "abc", "task": "fill", "triplet_id": "t1",
    "dimension": "structure", "best": 0, "worst": 2, "voter": "ann", "kind": "person", "weight": 0.5,
}  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there are no tables yet."""
    if request.param == "sqlite":
        return str(tmp_path / "votes.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def engine_of(place: str) -> sa.Engine:
    url = place.replace("postgresql:", "postgresql+pg8000:") if "://" in place else f"sqlite:///{place}"
    return sa.create_engine(url, poolclass=sa.NullPool)


def test_votes_of_the_first_schema_stay_and_count(bare: str) -> None:
    with engine_of(bare).begin() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            v0001_votes.upgrade()
        context._ensure_version_table()
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('v0001')"))
        columns = ", ".join(VOTE)
        connection.execute(sa.text(f"INSERT INTO votes ({columns}) VALUES (:{columns.replace(', ', ', :')})"), VOTE)
    with VoteDatabase(bare, create=False) as database:
        [answer] = database.answers("abc")
        assert (answer.uuid, answer.task, answer.vote.best, answer.vote.weight) == (VOTE["uuid"], Task.FILL, 0, 0.5)
        assert answer.vote.dimension is Dimension.STRUCTURE
        with database.reading() as connection:
            row = connection.execute(sa.select(VOTES)).one()
            assert (row.sequence, row.purpose, row.claim) == (1, "work", None)
            assert verify(connection).events == 0
    with Database(bare):  # and once more, with nothing to do
        pass


def test_a_database_of_a_newer_version_is_left_as_it_is(bare: str) -> None:
    with Database(bare):
        pass
    with engine_of(bare).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v9999'"))
    for create in (True, False):
        with pytest.raises(ValueError, match=r"newer version of onereward \(schema v9999; .*pip install --upgrade"):
            Database(bare, create=create)
    with engine_of(bare).connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "v9999"


def test_the_tables_are_those_that_the_code_names(bare: str) -> None:
    with Database(bare), engine_of(bare).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_many_who_open_a_new_database_at_once_make_its_tables_once(bare: str) -> None:
    failed = []

    def open_it() -> None:
        try:
            Database(bare).__exit__(None, None, None)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("table", ["votes", "events"])
@pytest.mark.parametrize("change", ["UPDATE {} SET sequence = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_rows_cannot_be_changed(place: str, table: str, change: str) -> None:
    with Database(place) as database:
        Persons(database).make("Ann", Role.ANNOTATOR)
        with database.writing() as connection:
            connection.execute(VOTES.insert(), VOTE)
        if change.startswith("TRUNCATE") and "://" not in place:
            return  # SQLite has no such statement
        with pytest.raises(sa.exc.DatabaseError, match=f"{table} are append-only"), database.writing() as connection:
            connection.exec_driver_sql(change.format(table))


def test_a_reader_sees_one_state_while_others_write(place: str) -> None:
    count = sa.select(sa.func.count()).select_from(SETTINGS)
    with Database(place) as database, database.reading() as reader:
        assert reader.execute(count).scalar() == 0
        with database.writing() as connection:
            connection.execute(SETTINGS.insert(), {"name": "a", "value": "1"})
        assert reader.execute(count).scalar() == 0
        with database.reading() as later:
            assert later.execute(count).scalar() == 1


def test_readers_cannot_write_on_postgresql(place: str) -> None:
    with Database(place) as database, database.reading() as connection:
        if connection.dialect.name == "postgresql":
            with pytest.raises(sa.exc.DatabaseError, match="read-only"):
                connection.execute(SETTINGS.insert(), {"name": "a", "value": "1"})


def test_who_reads_and_then_writes_loses_nothing(place: str) -> None:
    """Two processes' worth of connections add 1 to a number, 4 times 25 times."""
    with Database(place) as one, Database(place) as other:
        with one.writing() as connection:
            connection.execute(SETTINGS.insert(), {"name": "n", "value": "0"})

        def add(database: Database) -> None:
            for _ in range(25):
                with database.writing() as connection:
                    number = int(connection.execute(sa.select(SETTINGS.c.value)).scalar_one())
                    time.sleep(0.001)  # in which whoever can, comes in between
                    connection.execute(SETTINGS.update().values(value=str(number + 1)))

        threads = [threading.Thread(target=add, args=(database,)) for database in (one, other) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.reading() as connection:
            assert connection.execute(sa.select(SETTINGS.c.value)).scalar_one() == "100"


def test_readers_do_not_wait_for_writers(place: str) -> None:
    with Database(place) as database, database.writing() as connection:
        connection.execute(SETTINGS.insert(), {"name": "a", "value": "1"})
        start = time.monotonic()
        with database.reading() as reader:
            assert reader.execute(sa.select(SETTINGS)).all() == []
        assert time.monotonic() - start < 5  # as long as SQLite would wait for a lock at the least


def test_what_fails_is_undone_whole(place: str) -> None:
    with Database(place) as database:
        row = {"name": "a", "value": "1"}
        with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
            connection.execute(SETTINGS.insert(), [row, row])
        with database.reading() as connection:
            assert connection.execute(sa.select(SETTINGS)).all() == []


def test_what_is_no_such_database_is_said() -> None:
    with pytest.raises(ValueError, match=r"got mysql://u:\*\*\*@h/d, expected the path of an SQLite file"):
        Database("mysql://u:secret@h/d")
    with pytest.raises(ValueError, match="expected the path of an SQLite file or a postgresql:// URL"):
        Database("://")
    with pytest.raises(OSError, match=r"cannot use the database at postgresql\+pg8000://u:\*\*\*@127"):
        Database("postgresql://u:secret@127.0.0.1:9/d")
