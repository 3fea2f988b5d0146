"""Whether a project is what the chain of events tells of: items and pictures, who was shown what, and people's votes.

What is held against the events is every column of a vote, whose answers are not counted, and that nobody who is in the
project has a vote that no event tells of. Votes of programs are in no event: they can be asked again.
"""

import sqlalchemy as sa

from onereward.annotate.project import audit_settings, contents_of, refuse_study
from onereward.people.audit import audit_people, events_of, hold
from onereward.people.events import Verified
from onereward.people.tables import CLAIMS, PEOPLE, VOTES
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
