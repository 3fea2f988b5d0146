"""The chain of events: whatever is altered in it, is found."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import FIRST, append, verify
from onereward.people.tables import EVENTS, HEAD


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    """Five events, of which the guards that refuse changes are taken away."""
    with Database(place) as database:
        with database.writing() as connection:
            for number in range(5):
                append(connection, "note", "ann" if number % 2 else None, number, text=f"nr {number}", list=[1, "ä"])
            for change in ("update", "delete"):
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(f"DROP TRIGGER events_refuse_{change}")
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("DROP TRIGGER events_refuse_change ON events")
        yield database


def head_of(database: Database) -> str:
    with database.reading() as connection:
        return verify(connection).head


def test_a_chain_that_was_left_alone_holds(database: Database) -> None:
    with database.reading() as connection:
        found = verify(connection)
        rows = connection.execute(sa.select(EVENTS).order_by(EVENTS.c.sequence)).all()
        for place, kept in ((1, rows[0].hash), (3, rows[2].hash), (5, found.head)):
            assert verify(connection, expected=kept) == replace(found, expected=place)
        with pytest.raises(ValueError, match="no event has the hash ffff"):
            verify(connection, expected="f" * 64)
    assert found.events == 5 and rows[0].previous == FIRST and rows[4].hash == found.head
    assert json.loads(rows[3].body) == {"text": "nr 3", "list": [1, "ä"]}


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", 7.5), ("kind", "vote"), ("person", "bob"), ("person", None), ("body", "{}"),
     ("previous", "0" * 64), ("hash", "1" * 64)],
)  # fmt: skip
@pytest.mark.parametrize("event", [2, 4])
def test_a_change_is_found(database: Database, event: int, column: str, value: object) -> None:
    with database.writing() as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.sequence == event).values({column: value}))
    with database.reading() as connection, pytest.raises(ValueError, match=rf"event {event} .* was changed after"):
        verify(connection)


@pytest.mark.parametrize(("event", "message"), [(1, "event 1 is missing"), (3, "event 3 is missing"),
                                                (5, "ends at event 4, but 5 were written")])  # fmt: skip
def test_what_is_missing_is_found(database: Database, event: int, message: str) -> None:
    with database.writing() as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.sequence == event))
    with database.reading() as connection, pytest.raises(ValueError, match=message):
        verify(connection)


def test_another_order_is_found(database: Database) -> None:
    with database.writing() as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(EVENTS.update().where(EVENTS.c.sequence == old).values(sequence=new))
    with database.reading() as connection, pytest.raises(ValueError, match="event 2"):
        verify(connection)


def test_a_log_that_was_cut_or_written_anew_with_care_is_told_by_a_hash_that_was_kept(database: Database) -> None:
    kept = head_of(database)
    with database.writing() as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.sequence > 3))
        last = connection.execute(sa.select(EVENTS.c.hash).where(EVENTS.c.sequence == 3)).scalar_one()
        connection.execute(HEAD.update().values(sequence=3, hash=last))
    assert head_of(database) == last  # it looks whole, to whoever kept nothing
    with database.writing() as connection:
        append(connection, "note", None, 3, text="nr 3, or so")
        append(connection, "note", None, 4, text="nr 4")
    with database.reading() as connection, pytest.raises(ValueError, match="no event has the hash"):
        verify(connection, expected=kept)
