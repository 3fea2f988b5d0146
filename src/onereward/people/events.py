"""The log of what happened: a chain in which each event has the hash of the one before; no past can be changed unseen.

Whoever keeps the last hash (`verify` prints it) can tell later whether anything up to it was altered or left out. What
a person could be known by never enters it, only a salted hash, so that erasing somebody breaks nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from onereward.people.tables import EVENTS, HEAD

FIRST = "0" * 64
"""What the first event names as the one before."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A chain that holds: how many events, the hash of the last, and which event has the one that was expected."""

    events: int
    head: str
    expected: int | None = None


def append(connection: sa.Connection, kind: str, person: str | None, at: float, **body: Any) -> None:
    """Add an event in the caller's transaction, which is a writing one: there is no other at the time."""
    head = connection.execute(sa.select(HEAD)).one()
    event: dict[str, Any] = {
        "sequence": head.sequence + 1,
        "at": float(at),  # as it comes back: the hash tells 5 from 5.0
        "kind": kind,
        "person": person,
        "body": json.dumps(body, sort_keys=True, separators=(",", ":")),
        "previous": head.hash,
    }
    event["hash"] = _hash(event)
    connection.execute(EVENTS.insert(), event)
    connection.execute(HEAD.update().values(sequence=event["sequence"], hash=event["hash"]))


def verify(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain from its beginning to its end; with `expected`, a hash that was kept, it must be among them.

    Raises ValueError, naming the event, where it does not hold.
    """
    previous, count, found = FIRST, 0, None
    for row in connection.execute(sa.select(EVENTS).order_by(EVENTS.c.sequence)).mappings():
        count += 1
        if row["sequence"] != count:
            raise ValueError(f"event {count} is missing: the next one is {row['sequence']}")
        if row["previous"] != previous or row["hash"] != _hash(row):
            raise ValueError(f"event {count} ({row['kind']}) was changed after it was written")
        previous = row["hash"]
        if previous == expected:
            found = count
    head = connection.execute(sa.select(HEAD)).one()
    if (head.sequence, head.hash) != (count, previous):
        raise ValueError(f"the log ends at event {count}, but {head.sequence} were written: the last are missing")
    if expected is not None and found is None:
        raise ValueError(f"no event has the hash {expected}: the log was written anew, or is another one")
    return Verified(events=count, head=previous, expected=found)


def _hash(event: "Mapping[str, Any] | sa.RowMapping") -> str:
    names = "sequence", "at", "kind", "person", "body", "previous"
    return hashlib.sha256(json.dumps([event[name] for name in names]).encode()).hexdigest()
