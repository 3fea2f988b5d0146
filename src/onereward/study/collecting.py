"""What a participant does: agree, read, practise, take a block, answer it, leave.

Which step somebody is at follows from what is in the database, so that their link goes on at the same place on any
device. Whoever changes something is alone in doing so (see `Database.writing`), and it is committed before the reply;
an answer carries the client's uuid, so that a retry after a lost reply changes nothing more.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock, Persons, Role, hashed
from onereward.people.settings import setting
from onereward.people.tables import (
    PEOPLE,
    PICTURES,
    STUDY_ANSWERS,
    STUDY_ITEMS,
    STUDY_PARTICIPANTS,
    STUDY_TRIALS,
)
from onereward.study.analysis import BETTER
from onereward.study.blocks import block_of, finish_block, has_place, leave, take_block
from onereward.study.criteria import Criterion, SubTask, criteria_of, subtask_of
from onereward.study.project import CLOSED_AT, OPEN_LINK, refuse_if_closed, study_of
from onereward.study.trials import PRACTICE, keep_trials, practice_of, trials_of
from onereward.terms import Task

AHEAD = 3
"""Trials that a browser is given at once, so that it can go on while the network is away."""


class Stage(StrEnum):
    """Where somebody is in the study."""

    CONSENT = "consent"
    INSTRUCTIONS = "instructions"
    PRACTICE = "practice"
    READY = "ready"  # to take a block
    WORK = "work"
    FINISHED = "finished"
    FULL = "full"  # no block is left
    CLOSED = "closed"


class State(StrEnum):
    """What became of an answer."""

    ACCEPTED = "accepted"
    KNOWN = "known"


class UnknownTrialError(ValueError):
    """The person has no such trial."""


class ConflictError(ValueError):
    """The request does not fit what was said before, or not where the person is."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A page as somebody sees it: one output to rate, or two to compare, left and right (ids of pictures)."""

    id: str
    subtask: SubTask
    prompt: str
    source: str
    mask: str
    size: tuple[int, int]
    shown: tuple[str, ...]
    practice: bool
    asked: int | None  # the answer that an attention check asks for in words

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """What is asked about the one output; nothing where there are two."""
        return criteria_of(self.subtask) if len(self.shown) == 1 else ()

    @property
    def allowed(self) -> Mapping[str, range]:
        """The answers that there are to each question."""
        return {criterion.value: criterion.values for criterion in self.criteria} or {BETTER: range(-1, 2)}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where somebody is: the trials that come next, and how many of this stage are answered."""

    stage: Stage
    trials: tuple[Trial, ...] = ()
    done: int = 0
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What somebody sends for a trial; `seconds` is how long they looked at it, by their own clock."""

    uuid: UUID
    trial: str
    seconds: float
    values: Mapping[str, int]


class Collecting:
    """The study of a database, as its participants (by their ids) go through it."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database, self._clock, self._persons = database, clock, Persons(database, clock)

    def place(self, person: str) -> Place:
        """Where the person is."""
        with self._database.reading() as connection:
            return _place(connection, person, self._clock())

    def stage_of_newcomers(self) -> Stage:
        """Where somebody is who has not taken part yet: at consent, or shut out of a study that is closed or full."""
        with self._database.reading() as connection:
            if setting(connection, CLOSED_AT) is not None:
                return Stage.CLOSED
            return Stage.CONSENT if has_place(connection, self._clock()) else Stage.FULL

    def opens(self, token: str) -> bool:
        """Whether this is the token of the study's open link."""
        with self._database.reading() as connection:
            return bool(setting(connection, OPEN_LINK) == hashed(token))

    def join(self, token: str) -> str | None:
        """A new participant who agrees, by the study's open link: the token of a link of their own.

        None for a token that is not the open link's; ConflictError where no block is left.
        """
        with self._database.writing() as connection:
            if setting(connection, OPEN_LINK) != hashed(token):
                return None
            count = _count(connection, PEOPLE.c.role == Role.PARTICIPANT)
            person, own = self._persons.add(connection, f"participant {count + 1}", Role.PARTICIPANT)
            self._agree(connection, person)
            return own

    def consent(self, person: str) -> None:
        """Keep that the person agrees to the study's consent text; known already, nothing changes."""
        with self._database.writing() as connection:
            self._agree(connection, person)

    def begin_practice(self, person: str) -> None:
        """Keep that the person has read the instructions, and give them what they practise on."""
        with self._database.writing() as connection:
            study = study_of(connection)
            refuse_if_closed(connection)
            _refuse_if_gone(connection, person)
            participant = _participant(connection, person)
            if participant is None:
                raise ConflictError("agree to take part first")
            if participant.instructed_at is not None:
                return
            at = self._clock()
            mine = STUDY_PARTICIPANTS.c.person == person
            connection.execute(STUDY_PARTICIPANTS.update().where(mine).values(instructed_at=at))
            trials = keep_trials(connection, person, practice_of(connection, study.config, person))
            append(connection, "instructions", person, at, trials=trials)

    def begin_block(self, person: str) -> None:
        """Take the next free block; the person's own one if they have it already.

        Raises ConflictError if practice is not over or no block is left.
        """
        with self._database.writing() as connection:
            study = study_of(connection)
            refuse_if_closed(connection)
            _refuse_if_gone(connection, person)
            if block_of(connection, person) is not None:
                return
            participant = _participant(connection, person)
            if participant is None or participant.instructed_at is None or _next_trials(connection, person):
                raise ConflictError("finish what comes before first")
            at = self._clock()
            block = take_block(connection, self._persons, person, at)
            if block is None:
                raise ConflictError("all places in this study are taken: thank you for your interest")
            drawn = trials_of(connection, study.config, person, json.loads(block.pages))
            append(connection, "block", person, at, block=block.id, trials=keep_trials(connection, person, drawn))

    def answer(self, person: str, submission: Submission) -> State:
        """Keep an answer; one that comes again is known and changes nothing.

        Raises UnknownTrialError; ConflictError if the uuid came with another content, the trial has another answer or
        the values do not fit it; ClosedError.
        """
        with self._database.writing() as connection:
            trial = _trial(connection, person, submission.trial)
            known = _answers(connection, STUDY_ANSWERS.c.submission == str(submission.uuid))
            if known:
                if known != {trial.id: submission.values}:
                    raise ConflictError("an answer of this uuid was given before with another content")
                return State.KNOWN
            refuse_if_closed(connection)
            _refuse_if_gone(connection, person)
            if trial.answered_at is not None:
                raise ConflictError("this was answered before, perhaps on another device")
            _check(_shown(connection, trial).allowed, submission.values)
            at = self._clock()
            row = {"submission": str(submission.uuid), "trial": trial.id, "seconds": submission.seconds}
            values = sorted(submission.values.items())
            rows = [{**row, "criterion": criterion, "value": value} for criterion, value in values]
            connection.execute(STUDY_ANSWERS.insert(), rows)
            connection.execute(STUDY_TRIALS.update().where(STUDY_TRIALS.c.id == trial.id).values(answered_at=at))
            if trial.purpose != PRACTICE and not _next_trials(connection, person):
                finish_block(connection, person, at)
            append(connection, "answer", person, at, **row, values=dict(values))
            return State.ACCEPTED

    def withdraw(self, person: str, *, drop: bool) -> None:
        """End the person's part; what then lacks an answer (with `drop` all that was theirs) is a block for another."""
        with self._database.writing() as connection:
            leave(connection, self._persons, person, self._clock(), drop=drop)

    def may_see(self, person: str, picture: str) -> bool:
        """Whether the picture belongs to what the person is shown."""
        query = (
            sa.select(STUDY_TRIALS.c.shown, STUDY_ITEMS.c.source, STUDY_ITEMS.c.mask)
            .join(STUDY_ITEMS, STUDY_ITEMS.c.id == STUDY_TRIALS.c.item)
            .join(PICTURES, PICTURES.c.item == STUDY_ITEMS.c.id)
            .where(PICTURES.c.id == picture, STUDY_TRIALS.c.person == person)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return any(picture in (row.source, row.mask, *json.loads(row.shown)) for row in rows)

    def _agree(self, connection: sa.Connection, person: str) -> None:
        study = study_of(connection)
        refuse_if_closed(connection)
        _refuse_if_gone(connection, person)
        if _participant(connection, person) is not None:
            return
        at = self._clock()
        if not has_place(connection, at):
            raise ConflictError("all places in this study are taken: thank you for your interest")
        connection.execute(STUDY_PARTICIPANTS.insert(), {"person": person, "consented_at": at})
        append(connection, "consent", person, at, consent=hashed(study.config.consent))


def _place(connection: sa.Connection, person: str, at: float) -> Place:
    participant, block = _participant(connection, person), block_of(connection, person)
    if block is not None and block.finished_at is not None:
        return Place(stage=Stage.FINISHED)
    if setting(connection, CLOSED_AT) is not None:
        return Place(stage=Stage.CLOSED)
    if block is None and not has_place(connection, at):
        return Place(stage=Stage.FULL)
    if participant is None:
        return Place(stage=Stage.CONSENT)
    if participant.instructed_at is None:
        return Place(stage=Stage.INSTRUCTIONS)
    trials = tuple(_shown(connection, trial) for trial in _next_trials(connection, person))
    if not trials:
        return Place(stage=Stage.READY)
    mine = [STUDY_TRIALS.c.person == person, (STUDY_TRIALS.c.purpose == PRACTICE) == trials[0].practice]
    return Place(
        stage=Stage.PRACTICE if trials[0].practice else Stage.WORK,
        trials=trials,
        done=_count(connection, *mine, STUDY_TRIALS.c.answered_at.is_not(None)),
        total=_count(connection, *mine),
    )


def _next_trials(connection: sa.Connection, person: str) -> "Sequence[sa.Row[tuple[object, ...]]]":
    """The person's next unanswered ones."""
    query = (
        sa.select(STUDY_TRIALS)
        .where(STUDY_TRIALS.c.person == person, STUDY_TRIALS.c.answered_at.is_(None))
        .order_by(STUDY_TRIALS.c.position)
        .limit(AHEAD)
    )
    return connection.execute(query).all()


def _shown(connection: sa.Connection, trial: "sa.Row[tuple[object, ...]]") -> Trial:
    query = (
        sa.select(STUDY_ITEMS, PICTURES.c.width, PICTURES.c.height)
        .join(PICTURES, PICTURES.c.id == STUDY_ITEMS.c.source)
        .where(STUDY_ITEMS.c.id == trial.item)
    )
    item = connection.execute(query).one()
    return Trial(
        id=trial.id,
        subtask=subtask_of(Task(item.task), item.prompt),
        prompt=item.prompt,
        source=item.source,
        mask=item.mask,
        size=(item.width, item.height),
        shown=tuple(json.loads(trial.shown)),
        practice=trial.purpose == PRACTICE,
        asked=trial.asked,
    )


def _check(allowed: Mapping[str, range], values: Mapping[str, int]) -> None:
    if values.keys() != allowed.keys():
        raise ConflictError(f"expected one answer to each of {', '.join(allowed)}")
    for name, value in values.items():
        if value not in allowed[name]:
            raise ConflictError(f"{name}: got {value}, expected one of {', '.join(map(str, allowed[name]))}")


def _trial(connection: sa.Connection, person: str, trial: str) -> "sa.Row[tuple[object, ...]]":
    query = sa.select(STUDY_TRIALS).where(STUDY_TRIALS.c.id == trial, STUDY_TRIALS.c.person == person)
    found = connection.execute(query).one_or_none()
    if found is None:
        raise UnknownTrialError("there is no such trial")
    return found


def _answers(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> dict[str, dict[str, int]]:
    """trial -> criterion -> value."""
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(sa.select(STUDY_ANSWERS).where(*conditions)):
        found.setdefault(row.trial, {})[row.criterion] = row.value
    return found


def _participant(connection: sa.Connection, person: str) -> "sa.Row[tuple[object, ...]] | None":
    query = sa.select(STUDY_PARTICIPANTS).where(STUDY_PARTICIPANTS.c.person == person)
    return connection.execute(query).one_or_none()


def _refuse_if_gone(connection: sa.Connection, person: str) -> None:
    """A request that was on its way when its person left: their pages are somebody else's by now."""
    if connection.execute(sa.select(PEOPLE.c.withdrawn_at).where(PEOPLE.c.id == person)).scalar_one() is not None:
        raise ConflictError("you take part no longer: thank you for what you have done")


def _count(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())
