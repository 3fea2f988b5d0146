"""Whether the votes of people are those that the chain of events tells of: none changed, none missing, none added.

What is held against the events is every column of a vote, whose answers are not counted, and that nobody who is in the
project has a vote that no event tells of. Votes of programs are in no event: they can be asked again.
"""

import json
from typing import Any

import sqlalchemy as sa

from onereward.people.events import Verified, verify
from onereward.people.tables import EVENTS, PEOPLE, VOTES


def audit(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain and hold it against votes and people; ValueError, saying what, where they differ."""
    verified = verify(connection, expected=expected)
    _audit_votes(connection)
    _audit_dropped(connection)
    return verified


def _audit_votes(connection: sa.Connection) -> None:
    told = {vote["uuid"]: vote for body in _bodies(connection, "answer") for vote in body["votes"]}
    people = sa.select(PEOPLE.c.id)
    query = sa.select(VOTES).where(sa.or_(VOTES.c.submission.is_not(None), VOTES.c.voter.in_(people)))
    kept = {row["uuid"]: dict(row) for row in connection.execute(query).mappings()}
    order = sorted(told, key=lambda uuid: kept[uuid]["sequence"] if uuid in kept else 0)
    if order != list(told):
        raise ValueError("the votes are not in the order in which the log of events has them, or some are missing")
    for uuid in kept.keys() | told.keys():
        row = {name: value for name, value in kept.get(uuid, {}).items() if name != "sequence"}
        if row != told.get(uuid):
            raise ValueError(f"the vote {uuid} is not what the log of events has")


def _audit_dropped(connection: sa.Connection) -> None:
    query = sa.select(EVENTS.c.person, EVENTS.c.body).where(EVENTS.c.kind == "withdrawal")
    told = {row.person for row in connection.execute(query) if json.loads(row.body)["drop"]}
    kept = set(connection.execute(sa.select(PEOPLE.c.id).where(PEOPLE.c.dropped)).scalars())
    if told != kept:
        who = ", ".join(sorted(told ^ kept))
        raise ValueError(f"whose answers are not counted is not what the log of events has: {who}")


def _bodies(connection: sa.Connection, kind: str) -> list[dict[str, Any]]:
    query = sa.select(EVENTS.c.body).where(EVENTS.c.kind == kind).order_by(EVENTS.c.sequence)
    return [json.loads(body) for body in connection.execute(query).scalars()]
