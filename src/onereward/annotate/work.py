"""What an annotator does: take the next item, keep it while at work, answer, correct.

An item wants as many answers as it has slots. A slot is claimed for a lease that heartbeats extend; when the lease is
over somebody else may claim it. Everything is committed before the reply, and every request that changes something
carries the client's uuid, so that a retry after a lost reply changes nothing more.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from onereward.annotate.answers import (
    Choice,
    ConflictError,
    Reason,
    Submission,
    check,
    in_order,
    keep,
    kept,
    last_answers,
)
from onereward.annotate.project import ProjectConfig, is_paused, project_of
from onereward.annotate.queue import (
    GOLD,
    LATE,
    REPEAT,
    WORK,
    free,
    next_slot,
    note_late,
    order_of,
    settle,
    still_open,
    still_to_come,
    take_back,
)
from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock, Persons, new_id
from onereward.people.tables import CLAIMS, ITEMS, PEOPLE, PICTURES, SLOTS, VOTES
from onereward.terms import Dimension, Task, dimensions_of

__all__ = [
    "GOLD",
    "HELD",
    "LATE",
    "REPEAT",
    "WORK",
    "Assignment",
    "Choice",
    "ConflictError",
    "LostAssignmentError",
    "Nothing",
    "Progress",
    "Reason",
    "State",
    "Submission",
    "TooSoonError",
    "UnknownAssignmentError",
    "Work",
]

HELD = 2
"""Items that a person may hold: the one at work and the next."""
_PACE = 20  # answers that the pace is taken from


class Nothing(StrEnum):
    """Why there is no next item: all is done, the project is paused, or what is left is with others."""

    FINISHED = "finished"
    PAUSED = "paused"
    BUSY = "busy"


class State(StrEnum):
    """What became of an answer; a late one is kept and not counted, since its item had been taken back by then."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    LATE = "late"


class UnknownAssignmentError(ValueError):
    """The person has no such assignment."""


class LostAssignmentError(ValueError):
    """The lease was over and somebody else has it."""


class TooSoonError(ValueError):
    """The answer came before the item can have been looked at; `left` are the seconds to wait."""

    def __init__(self, left: float) -> None:
        super().__init__(f"take your time: this item can be answered in {left:.0f} seconds")
        self.left = left


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """An item in somebody's hands; `order[place]` is the candidate index shown at that place, as is `candidates`."""

    id: str
    item: int
    task: Task
    prompt: str
    source: str
    mask: str
    size: tuple[int, int]
    order: tuple[int, ...]
    candidates: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    lease_seconds: float
    minimum_seconds: float
    choices: tuple[Choice, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A person's: answered in time, held or still to be had, and the median seconds of the last answers."""

    done: int
    remaining: int
    seconds_an_item: float | None


class Work:
    """The items of a database, handed out to people (by their ids); called from several threads."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock
        self._persons = Persons(database, clock)
        self._known_config: ProjectConfig | None = None

    def held(self, person: str) -> list[Assignment]:
        """What the person holds and nobody else has taken since, oldest first; their leases begin anew."""
        with self._database.writing() as connection:
            config = self._config(connection)
            open_ones = _CLAIMED.where(SLOTS.c.person == person, SLOTS.c.done_at.is_(None)).order_by(CLAIMS.c.at)
            claims = connection.execute(open_ones).all()
            for claim in claims:
                self._extend(connection, claim, config)
            return [_assignment(claim, config) for claim in claims]

    def claim(self, person: str, request: UUID) -> Assignment | Nothing:
        """The next item; the same one for the same request. ConflictError for somebody who holds enough or has left."""
        with self._database.writing() as connection:
            config, at = self._config(connection), self._clock()
            known = connection.execute(_CLAIMED.where(CLAIMS.c.request == str(request))).one_or_none()
            if known is not None:
                return _again(connection, known, person, config)
            if is_paused(connection):
                return Nothing.PAUSED
            _refuse_if_gone(connection, person)
            _require_room(connection, person)
            slot = next_slot(connection, person, config, at)
            if slot is None:
                return Nothing.BUSY if still_open(connection, person) else Nothing.FINISHED
            claim = {
                "id": new_id(),
                "item": slot.item,
                "purpose": slot.purpose,
                "shown": json.dumps(order_of(connection, config.seed, person, slot)),
            }
            connection.execute(CLAIMS.insert(), {**claim, "request": str(request), "person": person, "at": at})
            held = {"person": person, "claim": claim["id"], "leased_until": at + config.lease_seconds}
            connection.execute(SLOTS.update().where(SLOTS.c.id == slot.id).values(held))
            append(connection, "claim", person, at, **claim)
            return _assignment(_claimed(connection, person, str(claim["id"])), config)

    def heartbeat(self, person: str, assignment: str) -> float:
        """Begin the lease anew and return its seconds; LostAssignmentError if somebody else has the slot by now."""
        with self._database.writing() as connection:
            config, claim = self._config(connection), _claimed(connection, person, assignment)
            _require_present(claim)
            self._extend(connection, claim, config)
            return config.lease_seconds

    def reopen(self, person: str, assignment: str) -> Assignment:
        """An answered item with what was answered; that counts until another answer comes."""
        with self._database.writing() as connection:
            config, claim = self._config(connection), _claimed(connection, person, assignment)
            choices = last_answers(connection, [claim.id]).get(claim.id)
            if choices is None:
                raise ConflictError("there is no answer to this item that could be changed")
            append(connection, "undo", person, self._clock(), claim=claim.id)
            return _assignment(claim, config, choices)

    def answer(self, person: str, submission: Submission) -> State:
        """Keep an answer; one that comes again is known and changes nothing.

        Raises ConflictError if its uuid came with another content, the choices do not fit the item or the person has
        left; TooSoonError.
        """
        with self._database.writing() as connection:
            config, at = self._config(connection), self._clock()
            claim = _claimed(connection, person, submission.assignment)
            known = kept(connection, submission.uuid, claim.id)
            if known:
                if known != in_order(submission.choices):
                    raise ConflictError("an answer of this uuid was given before with other choices")
                return State.KNOWN
            _refuse_if_gone(connection, person)
            check(submission, Task(claim.task), claim.prompt, json.loads(claim.shown))
            left = config.minimum_seconds - min(at - claim.at, submission.seconds)
            if left > 0 and claim.done_at is None:
                raise TooSoonError(left)
            slot = claim.slot or take_back(connection, claim)
            purpose = LATE if slot is None else claim.slot_purpose or WORK
            votes = keep(connection, submission, claim, purpose)
            if slot is None:
                note_late(connection, claim, at)
            elif claim.done_at is None:
                connection.execute(SLOTS.update().where(SLOTS.c.id == slot).values(done_at=at))
            if purpose == WORK:
                settle(connection, config, claim.item)
            state = State.LATE if purpose == LATE else State.ACCEPTED
            append(connection, "answer", person, at, state=state, votes=votes)
            return state

    def progress(self, person: str) -> Progress:
        """How far the person has come."""
        mine = sa.and_(SLOTS.c.person == person, SLOTS.c.purpose != LATE)
        query = sa.select(sa.func.count(SLOTS.c.done_at).label("done"), sa.func.count().label("all")).where(mine)
        last = sa.select(SLOTS.c.claim).where(mine, SLOTS.c.done_at.is_not(None)).order_by(SLOTS.c.done_at.desc())
        with self._database.reading() as connection:
            count = connection.execute(query).one()
            claims = connection.execute(last.limit(_PACE)).scalars().all()
            paces = sa.select(sa.func.max(VOTES.c.seconds)).where(VOTES.c.claim.in_(claims)).group_by(VOTES.c.claim)
            seconds = list(connection.execute(paces).scalars())
            remaining = count.all - count.done + still_to_come(connection, person, self._config(connection))
        return Progress(done=count.done, remaining=remaining, seconds_an_item=median(seconds) if seconds else None)

    def may_see(self, person: str, picture: str) -> bool:
        """Whether the picture belongs to an item that the person was given."""
        query = (
            sa.select(CLAIMS.c.id)
            .join(PICTURES, PICTURES.c.item == CLAIMS.c.item)
            .where(PICTURES.c.id == picture, CLAIMS.c.person == person)
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def release(self, assignment: str) -> None:
        """Take an item that is not answered from who holds it, so that it can be given to somebody else."""
        with self._database.writing() as connection:
            held = SLOTS.c.claim == assignment, SLOTS.c.done_at.is_(None)
            if not free(connection, self._config(connection), *held):
                raise UnknownAssignmentError("nobody holds this assignment")
            append(connection, "release", None, self._clock(), claim=assignment)

    def withdraw(self, person: str, *, drop: bool) -> None:
        """End somebody's link and sessions and give what they hold to others.

        With `drop` what they answered is not counted, and is asked again.
        """
        with self._database.writing() as connection:
            config = self._config(connection)
            free(connection, config, SLOTS.c.person == person, SLOTS.c.done_at.is_(None))
            if drop:
                free(connection, config, SLOTS.c.person == person, SLOTS.c.purpose == WORK)
            self._persons.withdraw(connection, person, drop=drop)

    def _config(self, connection: sa.Connection) -> ProjectConfig:
        """The project's, which never changes once it is there."""
        if self._known_config is None:
            self._known_config = project_of(connection).config
        return self._known_config

    def _extend(self, connection: sa.Connection, claim: "sa.Row[Any]", config: ProjectConfig) -> None:
        until = self._clock() + config.lease_seconds
        connection.execute(SLOTS.update().where(SLOTS.c.id == claim.slot).values(leased_until=until))


_CLAIMED = (
    sa.select(
        CLAIMS,
        *(ITEMS.c[name] for name in ("candidates", "triplet_id", "task", "prompt", "source", "mask", "options")),
        PICTURES.c.width,
        PICTURES.c.height,
        SLOTS.c.id.label("slot"),
        SLOTS.c.purpose.label("slot_purpose"),
        SLOTS.c.done_at,
    )
    .join(ITEMS, ITEMS.c.id == CLAIMS.c.item)
    .join(PICTURES, PICTURES.c.id == ITEMS.c.source)
    .join(SLOTS, SLOTS.c.claim == CLAIMS.c.id, isouter=True)
)
"""Claims with their items, and with the slots that are still theirs."""


def _claimed(connection: sa.Connection, person: str, assignment: str) -> "sa.Row[Any]":
    query = _CLAIMED.where(CLAIMS.c.id == assignment, CLAIMS.c.person == person)
    claim = connection.execute(query).one_or_none()
    if claim is None:
        raise UnknownAssignmentError("there is no such assignment")
    return claim


def _again(connection: sa.Connection, claim: "sa.Row[Any]", person: str, config: ProjectConfig) -> Assignment:
    """What the request was given before, with what has been answered since, perhaps on another device."""
    if claim.person != person:
        raise ConflictError("this request was made by somebody else")
    _require_present(claim)
    return _assignment(claim, config, last_answers(connection, [claim.id]).get(claim.id))


def _require_present(claim: "sa.Row[Any]") -> None:
    if claim.slot is None:
        raise LostAssignmentError("this item has been given to somebody else")


def _refuse_if_gone(connection: sa.Connection, person: str) -> None:
    """A request that was on its way when its person was withdrawn: what they held is others' by now."""
    if connection.execute(sa.select(PEOPLE.c.withdrawn_at).where(PEOPLE.c.id == person)).scalar_one() is not None:
        raise ConflictError("you take part no longer: thank you for what you have done")


def _require_room(connection: sa.Connection, person: str) -> None:
    """Raise ConflictError for somebody who holds enough."""
    held = sa.select(sa.func.count()).where(SLOTS.c.person == person, SLOTS.c.done_at.is_(None))
    if connection.execute(held).scalar_one() >= HELD:
        raise ConflictError(f"answer one of the {HELD} items that you hold first")


def _assignment(claim: "sa.Row[Any]", config: ProjectConfig, choices: tuple[Choice, ...] | None = None) -> Assignment:
    pictures: Mapping[int, str] = dict(json.loads(claim.options))
    order = tuple(json.loads(claim.shown))
    return Assignment(
        id=claim.id,
        item=claim.item,
        task=Task(claim.task),
        prompt=claim.prompt,
        source=claim.source,
        mask=claim.mask,
        size=(claim.width, claim.height),
        order=order,
        candidates=tuple(pictures[index] for index in order),
        dimensions=dimensions_of(Task(claim.task), claim.prompt),
        lease_seconds=config.lease_seconds,
        minimum_seconds=config.minimum_seconds,
        choices=choices,
    )
