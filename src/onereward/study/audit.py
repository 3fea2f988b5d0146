"""Whether a study is what the chain of events tells of: what was frozen, who was shown what, who answered what, when.

Results come only of a study for which all of it holds, so that nobody can better them in the database unseen.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from onereward.people.audit import audit_people, events_of, hold
from onereward.people.events import Verified
from onereward.people.settings import setting
from onereward.people.tables import STUDY_ANSWERS, STUDY_BLOCKS, STUDY_PARTICIPANTS, STUDY_TRIALS
from onereward.study.project import CLOSED_AT, frozen_study


def audit(connection: sa.Connection, *, expected: str | None = None) -> Verified:
    """Walk the chain and hold it against all that is kept; ValueError, saying what, where they differ."""
    verified = audit_people(connection, expected=expected)
    study = frozen_study(connection)
    _audit_close(connection)
    agreed = connection.execute(sa.select(STUDY_PARTICIPANTS.c.person, STUDY_PARTICIPANTS.c.consented_at)).all()
    told = {event.person: event.at for event in events_of(connection, "consent")}
    hold("who has agreed to take part", dict(agreed), told)
    blocks = sa.select(STUDY_BLOCKS.c.id, STUDY_BLOCKS.c.person, STUDY_BLOCKS.c.claimed_at)
    hold(
        "whose a block is",
        {row.id: (row.person, row.claimed_at) for row in connection.execute(blocks) if row.person is not None},
        {event.body["block"]: (event.person, event.at) for event in events_of(connection, "block")},
    )
    later = sa.select(STUDY_BLOCKS.c.id, STUDY_BLOCKS.c.pages).where(STUDY_BLOCKS.c.id > study.last_block)
    remainders = {event.body["block"]: event.body["pages"] for event in events_of(connection, "remainder")}
    hold("what a block has of those who left", dict(connection.execute(later).all()), remainders)
    hold("what somebody was shown", _shown(connection), _told_shown(connection))
    hold("an answer", _answers(connection), _told_answers(connection))
    return verified


def _audit_close(connection: sa.Connection) -> None:
    closed = [(event.at, event.sequence) for event in events_of(connection, "close")]
    if setting(connection, CLOSED_AT) != (closed[0][0] if closed else None):
        raise ValueError("when the study was closed is not what the log of events has")
    if closed and any(event.sequence > closed[0][1] for event in events_of(connection, "answer")):
        raise ValueError("the log of events has answers after the study was closed")


def _shown(connection: sa.Connection) -> Mapping[tuple[str, int], list[Any]]:
    """(person, position) -> the trial as the events have it."""
    names = STUDY_TRIALS.c.id, STUDY_TRIALS.c.purpose, STUDY_TRIALS.c.item, STUDY_TRIALS.c.shown, STUDY_TRIALS.c.asked
    query = sa.select(STUDY_TRIALS.c.person, STUDY_TRIALS.c.position, *names)
    return {(person, position): trial for person, position, *trial in connection.execute(query)}


def _told_shown(connection: sa.Connection) -> Mapping[tuple[str, int], list[Any]]:
    told: dict[str, list[list[Any]]] = {}
    for event in events_of(connection, "instructions", "block"):
        told.setdefault(str(event.person), []).extend(event.body["trials"])
    return {(person, at): trial for person, trials in told.items() for at, trial in enumerate(trials)}


def _answers(connection: sa.Connection) -> Mapping[str, tuple[Any, ...]]:
    """trial -> person, when, and each criterion with request, value and seconds."""
    values: dict[str, list[tuple[str, str, int, float]]] = {}
    for row in connection.execute(sa.select(STUDY_ANSWERS)):
        values.setdefault(row.trial, []).append((row.criterion, row.submission, row.value, row.seconds))
    trials = connection.execute(sa.select(STUDY_TRIALS.c.id, STUDY_TRIALS.c.person, STUDY_TRIALS.c.answered_at))
    return {
        trial: (person, at, sorted(values.get(trial, [])))
        for trial, person, at in trials
        if at is not None or trial in values
    }


def _told_answers(connection: sa.Connection) -> Mapping[str, tuple[Any, ...]]:
    told: dict[str, tuple[Any, ...]] = {}
    for event in events_of(connection, "answer"):
        body = event.body
        values = [(name, body["submission"], value, body["seconds"]) for name, value in body["values"].items()]
        told[body["trial"]] = event.person, event.at, sorted(values)
    return told
