"""Whose a block of pages is: nobody's yet, one person's, or what somebody has left for another.

Each of these is done in the caller's transaction, which is alone in changing something (see `Database.writing`).
"""

import json

import sqlalchemy as sa

from onereward.people.events import append
from onereward.people.persons import Persons
from onereward.people.settings import setting
from onereward.people.tables import PEOPLE, STUDY_BLOCKS, STUDY_OUTPUTS, STUDY_TRIALS
from onereward.study.project import CLOSED_AT, study_of
from onereward.study.trials import WORK

_FREE = sa.select(STUDY_BLOCKS).where(STUDY_BLOCKS.c.person.is_(None)).order_by(STUDY_BLOCKS.c.id).limit(1)


def block_of(connection: sa.Connection, person: str) -> "sa.Row[tuple[object, ...]] | None":
    """The person's own, finished or not."""
    return connection.execute(sa.select(STUDY_BLOCKS).where(STUDY_BLOCKS.c.person == person)).one_or_none()


def has_place(connection: sa.Connection, at: float) -> bool:
    """Whether a block is nobody's, or could be taken from somebody who has not come back."""
    return any(connection.execute(query).first() is not None for query in (_FREE, _lapsed(connection, at)))


def take_block(
    connection: sa.Connection, persons: Persons, person: str, at: float
) -> "sa.Row[tuple[object, ...]] | None":
    """Give the person the next block that is nobody's, or else what is left of one whose person has not come back."""
    while (block := connection.execute(_FREE).one_or_none()) is None:
        away = connection.execute(_lapsed(connection, at)).scalar()
        if away is None:
            return None
        append(connection, "lapse", away, at)
        leave(connection, persons, away, at, drop=False)
    values = {"person": person, "claimed_at": at}
    connection.execute(STUDY_BLOCKS.update().where(STUDY_BLOCKS.c.id == block.id).values(values))
    return block


def finish_block(connection: sa.Connection, person: str, at: float) -> None:
    """Keep that all of the person's block is answered."""
    connection.execute(STUDY_BLOCKS.update().where(STUDY_BLOCKS.c.person == person).values(finished_at=at))


def leave(connection: sa.Connection, persons: Persons, person: str, at: float, *, drop: bool) -> None:
    """End the person's part; what then lacks an answer (with `drop` all that was theirs) is a block for another."""
    pages = _given_back(connection, person, drop=drop)
    if pages and setting(connection, CLOSED_AT) is None:
        kept = json.dumps(pages)
        [block] = connection.execute(STUDY_BLOCKS.insert().returning(STUDY_BLOCKS.c.id), {"pages": kept}).one()
        append(connection, "remainder", person, at, block=block, pages=kept)
    persons.withdraw(connection, person, drop=drop)


def _given_back(connection: sa.Connection, person: str, *, drop: bool) -> list[list[int | str]]:
    """The pages of the person's that counted until now, or still could, and will not any more."""
    query = sa.select(PEOPLE.c.withdrawn_at, PEOPLE.c.dropped).where(PEOPLE.c.id == person)
    before = connection.execute(query).one_or_none()
    if before is None:
        return []
    mine = [STUDY_TRIALS.c.person == person, STUDY_TRIALS.c.purpose == WORK]
    trials = connection.execute(sa.select(STUDY_TRIALS).where(*mine).order_by(STUDY_TRIALS.c.position)).all()
    lost = [
        trial
        for trial in trials
        if (before.withdrawn_at is None if trial.answered_at is None else drop and not before.dropped)
    ]
    systems = dict(connection.execute(sa.select(STUDY_OUTPUTS.c.picture, STUDY_OUTPUTS.c.system)).all())
    return [[trial.item, *(systems[picture] for picture in json.loads(trial.shown))] for trial in lost]


def _lapsed(connection: sa.Connection, at: float) -> "sa.Select[str]":
    """Who holds a block that is not finished and was not seen for `lapse_hours`; the longest away first."""
    hours = study_of(connection).config.lapse_hours
    seen = sa.func.coalesce(PEOPLE.c.seen_at, STUDY_BLOCKS.c.claimed_at)
    unanswered = STUDY_TRIALS.c.answered_at.is_(None), STUDY_TRIALS.c.purpose == WORK
    wanting = sa.exists().where(STUDY_TRIALS.c.person == PEOPLE.c.id, *unanswered)  # not an attention check alone
    return (
        sa.select(PEOPLE.c.id)
        .join(STUDY_BLOCKS, STUDY_BLOCKS.c.person == PEOPLE.c.id)
        .where(STUDY_BLOCKS.c.finished_at.is_(None), PEOPLE.c.withdrawn_at.is_(None))
        .where(sa.literal(hours > 0), seen < at - 3600 * hours, wanting)
        .order_by(seen)
    )
