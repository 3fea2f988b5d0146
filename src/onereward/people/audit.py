"""Whether who people are, who has left, and whose answers are not counted is what the chain of events tells of."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from onereward.people.events import Verified, verify
from onereward.people.persons import hashed
from onereward.people.tables import EVENTS, PEOPLE, PERSONAL


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as what is kept elsewhere is held against it."""

    sequence: int
    at: float
    person: str | None
    body: Mapping[str, Any]


def audit_people(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain and hold it against the people; ValueError, saying what, where they differ."""
    verified = verify(connection, expected=expected)
    hold("who somebody is", *_identities(connection))
    told: dict[str | None, tuple[float, bool]] = {}
    for event in events_of(connection, "withdrawal", "erasure"):
        since, dropped = told.get(event.person, (event.at, False))
        told[event.person] = since, dropped or bool(event.body.get("drop"))
    query = sa.select(PEOPLE).where(sa.or_(PEOPLE.c.withdrawn_at.is_not(None), PEOPLE.c.dropped))
    kept = {row.id: (row.withdrawn_at, row.dropped) for row in connection.execute(query)}
    hold("who has left, and whose answers are not counted,", kept, told)
    return verified


def _identities(connection: sa.Connection) -> tuple[Mapping[str | None, Any], Mapping[str | None, Any]]:
    """Role and salted hash of the name, none once erased: as kept, and as the events told."""
    people = sa.select(PEOPLE.c.id, PEOPLE.c.role, PERSONAL.c.salt, PERSONAL.c.name)
    rows = connection.execute(people.join(PERSONAL, PERSONAL.c.person == PEOPLE.c.id, isouter=True))
    kept = {row.id: (row.role, None if row.name is None else hashed(row.salt + row.name)) for row in rows}
    erased = {event.person for event in events_of(connection, "erasure")}
    told = {
        event.person: (event.body["role"], None if event.person in erased else event.body["name"])
        for event in events_of(connection, "person")
    }
    return kept, told


def events_of(connection: sa.Connection, *kinds: str) -> Iterator[Event]:
    """Events of these kinds in their order."""
    query = sa.select(EVENTS).where(EVENTS.c.kind.in_(kinds)).order_by(EVENTS.c.sequence)
    for row in connection.execute(query):
        yield Event(sequence=row.sequence, at=row.at, person=row.person, body=json.loads(row.body))


def hold(what: str, kept: Mapping[Any, Any], told: Mapping[Any, Any]) -> None:
    """Raise ValueError where what is kept is not, key by key, what the events told."""
    altered = {key for key in kept.keys() | told.keys() if key not in kept or key not in told or kept[key] != told[key]}
    if altered:
        first = min(map(str, altered))
        raise ValueError(f"{what} is not what the log of events has: {len(altered)} differ, such as {first}")
