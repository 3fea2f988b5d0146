"""Whether the votes of people are those that the chain of events tells of: none changed, none missing, none added."""

import json
from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from onereward.people.events import Verified, verify
from onereward.people.tables import EVENTS, VOTES


def audit(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain and hold every answer in it against the votes; ValueError, saying which, where they differ."""
    verified = verify(connection, expected=expected)
    told = {}
    for body in connection.execute(sa.select(EVENTS.c.body).where(EVENTS.c.kind == "answer")).scalars():
        answer = json.loads(body)
        told[answer["submission"]] = [_choice(choice) for choice in answer["choices"]]
    kept: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    query = sa.select(VOTES).where(VOTES.c.submission.is_not(None)).order_by(VOTES.c.dimension)
    for row in connection.execute(query).mappings():
        kept[row["submission"]].append(_choice(row))
    for submission in sorted(told.keys() | kept.keys()):
        if told.get(submission) != kept.get(submission):
            raise ValueError(f"the votes of answer {submission} are not those that the log of events has")
    return verified


def _choice(row: Any) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("dimension", "best", "worst", "reason"))
