"""Whoever has the database's file can change it, but not unseen: each alteration of a result is found."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from onereward.people.persons import Role
from onereward.study.audit import audit
from onereward.study.closing import close, results_of
from tests.postgres import Postgres
from tests.study.running import Made, answer_all, answer_next, begin, study

ALTERATIONS = {
    "who made an output": (
        "UPDATE study_outputs SET system = 'other' WHERE item = 1 AND system = 'zebra-net'",
        "not what was frozen",
    ),
    "what was asked for": ("UPDATE study_items SET prompt = 'else' WHERE id = 2", "not what was frozen"),
    "which pages there are": ("UPDATE study_blocks SET pages = '[]' WHERE id = 1", "not what was frozen"),
    "that there was a block": ("DELETE FROM study_blocks WHERE id = 2", "not what was frozen"),
    "what somebody left": ("UPDATE study_blocks SET pages = '[]' WHERE id = 3", "of those who left"),
    "what somebody is": ("UPDATE people SET role = 'annotator' WHERE role = 'admin'", "who somebody is"),
    "what somebody is called": ("UPDATE personal SET name = 'Eve'", "who somebody is"),
    "that there was a name": ("DELETE FROM personal", "who somebody is"),
    "which pictures there are": ("UPDATE pictures SET content = 'f' WHERE item = 1", "not what was frozen"),
    "which side an output was on": ("UPDATE study_trials SET shown = '[]' WHERE position = 3", "was shown"),
    "what is counted": ("UPDATE study_trials SET purpose = 'practice' WHERE position = 3", "was shown"),
    "what a check asked for": ("UPDATE study_trials SET asked = 1 WHERE asked IS NOT NULL", "was shown"),
    "the order": ("UPDATE study_trials SET position = position + 50 WHERE position = 4", "was shown"),
    "an answer": ("UPDATE study_answers SET value = 1 - value WHERE criterion = 'usability'", "an answer"),
    "how long it took": ("UPDATE study_answers SET seconds = 99", "an answer"),
    "that there was an answer": ("DELETE FROM study_answers WHERE sequence = 4", "an answer"),
    "who answered": ("UPDATE study_trials SET answered_at = NULL WHERE position = 5", "an answer"),
    "who is not counted": ("UPDATE people SET dropped = true WHERE role = 'participant'", "not counted"),
    "that somebody asked not to be": ("UPDATE people SET dropped = false", "not counted"),
    "when they left": ("UPDATE people SET withdrawn_at = withdrawn_at + 1", "who has left"),
    "who agreed": ("UPDATE study_participants SET consented_at = consented_at + 1", "agreed to take part"),
    "whose a block was": ("UPDATE study_blocks SET person = NULL WHERE id = 1", "whose a block is"),
    "when it was closed": ("UPDATE settings SET value = '1.0' WHERE name = 'study_closed_at'", "was closed"),
    "an event": ("UPDATE events SET body = '{}' WHERE kind = 'close'", "was changed after it was written"),
}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def closed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A closed study of three people, one of whom has left and is not counted."""
    place = None
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        place = server.new_database()
    folder = tmp_path_factory.mktemp(request.param)
    with study(folder, items=4, practice=2, check_every=3, place=place) as made:
        made.link_of("Lea", Role.ADMIN)
        gone = begin(made, "Cid")
        answer_next(made.collecting, gone)
        made.collecting.withdraw(gone, drop=True)
        for name in ("Ann", "Bob"):
            made.clock.now += 60
            answer_all(made.collecting, begin(made, name))
        close(made.database, made.clock, anyway=True)
        yield made


def test_what_was_not_altered_holds(closed: Made) -> None:
    with closed.database.reading() as connection:
        assert audit(connection).events > 20
    assert results_of(closed.database).results.participants == 2


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_are_found(closed: Made, name: str) -> None:
    statement, message = ALTERATIONS[name]
    with closed.database.writing() as connection:
        for table in ("study_answers", "events"):
            _without_guard(connection, table)
        changed = connection.execute(sa.text(statement)).rowcount
        assert changed
        with pytest.raises(ValueError, match=message):
            audit(connection)
        connection.rollback()


def _without_guard(connection: sa.Connection, table: str) -> None:
    """Whoever has the file can take the triggers away first."""
    if connection.dialect.name == "sqlite":
        for change in ("update", "delete"):
            connection.execute(sa.text(f"DROP TRIGGER {table}_refuse_{change}"))
    else:
        connection.execute(sa.text(f"DROP TRIGGER {table}_refuse_change ON {table}"))
