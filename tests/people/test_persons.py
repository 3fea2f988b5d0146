"""Links, sessions, leaving and being forgotten."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import verify
from onereward.people.persons import SESSION_SECONDS, Person, Persons, Role, UnknownPersonError, hashed
from onereward.people.tables import EVENTS, METADATA, PERSONAL, SESSIONS
from tests.annotate.desk import FakeClock
from tests.postgres import Postgres


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    with Database(place) as database:
        yield database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def persons(database: Database, clock: FakeClock) -> Persons:
    return Persons(database, clock)


def signed_in(persons: Persons, token: str) -> tuple[Person, str]:
    found = persons.sign_in(token)
    assert found is not None
    return found


def test_a_link_signs_in_on_several_devices_until_there_is_a_new_one(persons: Persons) -> None:
    person, token = persons.make("Ann", Role.ADMIN)
    sessions = [signed_in(persons, token) for _ in range(2)]
    assert [who for who, _ in sessions] == [Person(id=person, role=Role.ADMIN)] * 2
    assert len(token) >= 22 and len({token, *(session for _, session in sessions)}) == 3
    assert all(persons.of_session(session) == who for who, session in sessions)
    other = persons.new_link(person)
    assert persons.sign_in(token) is None and all(persons.of_session(session) is None for _, session in sessions)
    assert signed_in(persons, other)[0].id == person
    for wrong in ("", "x" * 32, hashed(other)):
        assert persons.sign_in(wrong) is None and persons.of_session(wrong) is None
    with pytest.raises(UnknownPersonError, match="nobody has the id nobody"):
        persons.new_link("nobody")


def test_a_session_ends_by_signing_out_or_after_its_time(persons: Persons, clock: FakeClock) -> None:
    _, token = persons.make("Ann", Role.ANNOTATOR)
    one, two = (signed_in(persons, token)[1] for _ in range(2))
    persons.sign_out(one)
    assert persons.of_session(one) is None and persons.of_session(two) is not None
    clock.pass_(SESSION_SECONDS - 1)
    assert persons.of_session(two) is not None
    clock.pass_(1)
    assert persons.of_session(two) is None
    signed_in(persons, token)
    assert persons.all()[0].seen_at == clock.now - 1


def test_no_token_is_kept(database: Database, persons: Persons) -> None:
    _, token = persons.make("Ann", Role.ANNOTATOR)
    _, session = signed_in(persons, token)
    with database.reading() as connection:
        for table in METADATA.sorted_tables:
            text = str(connection.execute(sa.select(table)).all())
            assert token not in text and session not in text
        assert connection.execute(sa.select(SESSIONS.c.token)).scalar_one() == hashed(session)


def test_settings_are_each_persons_own(persons: Persons) -> None:
    one, two = (persons.make(name, Role.ANNOTATOR)[0] for name in ("Ann", "Bob"))
    persons.change_settings(one, '{"keys":{"best":"j"}}')
    assert (persons.settings(one), persons.settings(two)) == ('{"keys":{"best":"j"}}', "{}")


def test_the_log_has_a_salted_hash_of_the_name_and_no_name(database: Database, persons: Persons) -> None:
    person, _ = persons.make("Ann Example", Role.ANNOTATOR)
    with database.reading() as connection:
        salt = connection.execute(sa.select(PERSONAL.c.salt)).scalar_one()
        [body] = connection.execute(sa.select(EVENTS.c.body).where(EVENTS.c.person == person)).scalars()
    assert hashed(salt + "Ann Example") in body and "Ann" not in body and hashed("Ann Example") not in body


def test_who_is_forgotten_cannot_sign_in_and_the_log_still_holds(database: Database, persons: Persons) -> None:
    person, token = persons.make("Ann Example", Role.ANNOTATOR)
    other, _ = persons.make("Bob", Role.ANNOTATOR)
    _, session = signed_in(persons, token)
    persons.erase(person)
    assert persons.sign_in(token) is None and persons.of_session(session) is None
    entries = {entry.id: entry for entry in persons.all()}
    assert entries[person].name is None and entries[person].withdrawn_at is not None
    assert entries[other].name == "Bob" and entries[other].withdrawn_at is None
    with database.reading() as connection:
        assert verify(connection).events == 4
    with pytest.raises(UnknownPersonError):
        persons.erase("nobody")


NAMES = {number: f"Name-{number:04d}-" + "x" * (17 * number % 90) for number in range(60)}
"""Enough, and of such lengths, that the table's pages split."""


def left_in(folder: Path, *words: str) -> list[str]:
    """Which of the words the files of a folder still have."""
    data = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [word for word in words if word.encode() in data]


def made(database: Database, persons: Persons) -> tuple[list[str], dict[str, str]]:
    """Ids of people of these names, and the salt of each."""
    ids = [persons.make(name, Role.ANNOTATOR)[0] for name in NAMES.values()]
    with database.reading() as connection:
        return ids, {row.person: row.salt for row in connection.execute(sa.select(PERSONAL))}


def test_the_bytes_of_a_name_are_gone_from_the_files_of_sqlite(tmp_path: Path) -> None:
    with Database(str(tmp_path / "votes.sqlite")) as database:
        persons = Persons(database)
        ids, salts = made(database, persons)
        gone = range(5, 60, 6)
        secrets = [word for number in gone for word in (NAMES[number], salts[ids[number]])]
        assert left_in(tmp_path, *secrets) == secrets
        for number in gone:
            persons.erase(ids[number])
        assert left_in(tmp_path, *secrets) == []
        assert left_in(tmp_path, NAMES[0], salts[ids[0]]) == [NAMES[0], salts[ids[0]]]


def test_a_reader_that_keeps_the_old_state_is_said_and_erasing_again_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onereward.people.database._FORGET_MS", 50)
    path = tmp_path / "votes.sqlite"
    with Database(str(path)) as database:
        persons = Persons(database)
        person, _ = persons.make("Ann Example", Role.ANNOTATOR)
        with contextlib.closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM people").fetchone()
            with pytest.raises(OSError, match="another program reads it: try again"):
                persons.erase(person)
        persons.erase(person)
        assert left_in(tmp_path, "Ann Example") == []


@pytest.mark.postgres
def test_the_bytes_of_a_name_are_gone_from_the_tables_of_postgresql(postgres: Postgres, migrated: str) -> None:
    """Its write-ahead log goes on having them until it is used again, as do backups of it."""
    with Database(postgres.new_database(like=migrated)) as database:
        persons = Persons(database)
        ids, salts = made(database, persons)
        engine = sa.create_engine(database.place.replace("://", "+pg8000://"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
            assert left_in(postgres.data / "base", NAMES[5]) == [NAMES[5]]
            persons.erase(ids[5])
            connection.exec_driver_sql("CHECKPOINT")
        assert left_in(postgres.data / "base", NAMES[5], salts[ids[5]]) == []
        engine.dispose()


@pytest.mark.postgres
def test_a_reader_of_postgresql_that_keeps_the_old_state_is_said_and_erasing_again_does_it(
    postgres: Postgres, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onereward.people.database._FORGET_MS", 50)
    with Database(postgres.new_database(like=migrated)) as database:
        persons = Persons(database)
        person, _ = persons.make("Ann Example", Role.ANNOTATOR)
        with database.reading() as reader:
            reader.execute(sa.select(PERSONAL)).all()
            with pytest.raises(OSError, match="another program reads it: try again"):
                persons.erase(person)
        persons.erase(person)
        assert [entry.name for entry in persons.all()] == [None]
