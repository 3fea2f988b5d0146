"""Whether a project is what the chain of events tells of: items and pictures, who was shown what, and people's votes.

What is held against the events is every column of a vote, whose answers are not counted, and that nobody who is in the
project has a vote that no event tells of. Votes of programs are in no event: they can be asked again. What is wanted of
whom is in none either, and is held against what was given out and answered.
"""

import sqlalchemy as sa

from onereward.annotate.project import audit_settings, contents_of, project_of, refuse_study
from onereward.annotate.queue import WORK
from onereward.people.audit import audit_people, events_of, hold
from onereward.people.events import Verified
from onereward.people.tables import CLAIMS, ITEMS, PEOPLE, SLOTS, VOTES
from onereward.terms import VoterKind


def audit(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain and hold it against all that is kept; ValueError, saying what, where they differ."""
    refuse_study(connection)
    verified = audit_people(connection, expected=expected)
    audit_settings(connection)
    items = {item: content for event in events_of(connection, "items") for item, content in event.body["items"].items()}
    hold("an item or a picture of it", contents_of(connection), items)
    _audit_claims(connection)
    _audit_votes(connection)
    _audit_slots(connection)
    return verified


def _audit_claims(connection: sa.Connection) -> None:
    kept = {
        row.id: (row.person, row.at, row.item, row.purpose, row.shown) for row in connection.execute(sa.select(CLAIMS))
    }
    told = {
        event.body["id"]: (event.person, event.at, *(event.body[name] for name in ("item", "purpose", "shown")))
        for event in events_of(connection, "claim")
    }
    hold("what somebody was shown", kept, told)


def _audit_votes(connection: sa.Connection) -> None:
    told = {vote["uuid"]: vote for event in events_of(connection, "answer") for vote in event.body["votes"]}
    people = sa.select(PEOPLE.c.id)
    query = sa.select(VOTES).where(
        sa.or_(VOTES.c.submission.is_not(None), VOTES.c.voter.in_(people), VOTES.c.kind == VoterKind.PERSON)
    )
    kept = {row["uuid"]: dict(row) for row in connection.execute(query.order_by(VOTES.c.sequence)).mappings()}
    for row in kept.values():
        del row["sequence"]
    hold("a vote", kept, told)
    if list(kept) != list(told):
        raise ValueError("the votes are not in the order in which the log of events has them")


def _audit_slots(connection: sa.Connection) -> None:
    """A slot is its claim's, done if that was answered, and an answered claim's is there; an item has as many slots as
    it may have, and is open while one of them is not done.
    """
    if connection.execute(sa.select(ITEMS.c.id).limit(1)).first() is None:
        return
    done = SLOTS.c.done_at.is_not(None)
    answered = sa.exists().where(VOTES.c.claim == SLOTS.c.claim, VOTES.c.purpose == SLOTS.c.purpose)
    held = sa.or_(SLOTS.c.person.is_not(None), SLOTS.c.claim.is_not(None))
    own = CLAIMS.c.person == SLOTS.c.person, CLAIMS.c.item == SLOTS.c.item
    another = sa.and_(held, sa.not_(sa.func.coalesce(sa.and_(*own), sa.false())))
    slots = (
        sa.select(SLOTS.c.item)
        .join(CLAIMS, CLAIMS.c.id == SLOTS.c.claim, isouter=True)
        .where(sa.or_(another, done != answered))
    )
    of_work = SLOTS.c.item == ITEMS.c.id, SLOTS.c.purpose == WORK
    count = sa.select(sa.func.count()).where(*of_work).scalar_subquery()
    config = project_of(connection).config
    most = config.annotators + config.extra
    number = sa.and_(ITEMS.c.gold.is_(None), ~count.between(config.annotators, most))
    items = sa.select(ITEMS.c.id).where(sa.or_(ITEMS.c.open != sa.exists().where(*of_work, ~done), number))
    counted = (
        sa.select(CLAIMS.c.item)
        .join(VOTES, VOTES.c.claim == CLAIMS.c.id)
        .join(PEOPLE, PEOPLE.c.id == CLAIMS.c.person)
        .where(VOTES.c.purpose == WORK, ~PEOPLE.c.dropped, ~sa.exists().where(SLOTS.c.claim == CLAIMS.c.id, done))
    )
    if wrong := sorted({item for query in (slots, items, counted) for item in connection.execute(query).scalars()}):
        raise ValueError(
            f"what is wanted of whom does not follow from what was given out and answered: {len(wrong)} items differ, "
            f"such as {wrong[0]}"
        )
