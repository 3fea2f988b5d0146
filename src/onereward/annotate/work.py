"""What an annotator does: take the next item, keep it while at work, answer, correct.

An item wants as many answers as its slots. A slot is claimed inside one write transaction, for a lease that heartbeats
extend; when the lease is over somebody else may claim it. Everything is committed before the reply, and every request
that changes something carries the client's uuid, so that a retry after a lost reply changes nothing more.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median
from uuid import UUID, uuid5

import sqlalchemy as sa

from onereward.annotate.project import Project, ProjectConfig, is_paused, project_of
from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock, Persons, new_id
from onereward.people.tables import CLAIMS, ITEMS, PEOPLE, PICTURES, SLOTS, VOTES
from onereward.seeds import python_generator
from onereward.terms import Dimension, Task, dimensions_of

HELD = 2
"""Items that a person may hold: the one at work and the next."""
_PACE = 20  # answers that the pace is taken from

WORK, GOLD, REPEAT, LATE = "work", "gold", "repeat", "late"


class Reason(StrEnum):
    """Why a dimension was skipped."""

    ALIKE = "alike"
    ALL_BAD = "all_bad"
    UNCLEAR = "unclear"


class Nothing(StrEnum):
    """Why there is no next item: all is done, the project is paused, or what is left is with others."""

    FINISHED = "finished"
    PAUSED = "paused"
    BUSY = "busy"


class State(StrEnum):
    """What became of an answer; a late one is kept and not counted, since somebody else had got the slot."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    LATE = "late"


class UnknownAssignmentError(ValueError):
    """The person has no such assignment."""


class LostAssignmentError(ValueError):
    """The lease was over and somebody else has it."""


class ConflictError(ValueError):
    """The request does not fit what was said before."""


class TooSoonError(ValueError):
    """The answer came before the item can have been looked at; `left` are the seconds to wait."""

    def __init__(self, left: float) -> None:
        super().__init__(f"take your time: this item can be answered in {left:.0f} seconds")
        self.left = left


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A person's answer in one dimension, by candidate index; a skip has neither best nor worst, and a reason."""

    dimension: Dimension
    best: int | None
    worst: int | None
    reason: Reason | None = None

    @property
    def is_skip(self) -> bool:
        return self.best is None


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
class Submission:
    """What a person sends for an assignment; `seconds` is how long they looked at it, by their own clock."""

    uuid: UUID
    assignment: str
    seconds: float
    choices: tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A person's: answered, still to be had, and the median seconds of the last answers."""

    done: int
    remaining: int
    seconds_an_item: float | None


class Work:
    """The items of a database, handed out to people (by their ids)."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock
        self._persons = Persons(database, clock)

    def held(self, person: str) -> list[Assignment]:
        """What the person holds and nobody else has taken since, oldest first; their leases begin anew."""
        with self._database.writing() as connection:
            project = project_of(connection)
            query = (
                sa.select(CLAIMS)
                .join(SLOTS, SLOTS.c.claim == CLAIMS.c.id)
                .where(CLAIMS.c.person == person, SLOTS.c.done_at.is_(None))
                .order_by(CLAIMS.c.at)
            )
            claims = connection.execute(query).all()
            self._extend(connection, [claim.slot for claim in claims], project.config)
            return [_assignment(connection, claim, project.config) for claim in claims]

    def claim(self, person: str, request: UUID) -> Assignment | Nothing:
        """The next item; the same one for the same request. ConflictError for somebody who holds enough."""
        with self._database.writing() as connection:
            # One claim of a person at a time, so that two requests cannot both find room.
            connection.execute(sa.select(PEOPLE.c.id).where(PEOPLE.c.id == person).with_for_update())
            project, at = project_of(connection), self._clock()
            known = connection.execute(sa.select(CLAIMS).where(CLAIMS.c.request == str(request))).one_or_none()
            if known is not None:
                return self._again(connection, person, known, project.config)
            if is_paused(connection):
                return Nothing.PAUSED
            if _count(connection, SLOTS.c.person == person, SLOTS.c.done_at.is_(None)) >= HELD:
                raise ConflictError(f"answer one of the {HELD} items that you hold first")
            found = self._next(connection, person, project, at)
            if found is None:
                return Nothing.BUSY if _open_to(connection, person) else Nothing.FINISHED
            slot, item, purpose = found
            claim = {
                "id": new_id(),
                "request": str(request),
                "slot": slot,
                "item": item,
                "person": person,
                "purpose": purpose,
                "shown": json.dumps(_order(connection, project, person, item, purpose)),
                "at": at,
            }
            connection.execute(CLAIMS.insert(), claim)
            values = {"person": person, "claim": claim["id"], "leased_until": at + project.config.lease_seconds}
            connection.execute(SLOTS.update().where(SLOTS.c.id == slot).values(values))
            append(connection, "claim", person, at, **{key: claim[key] for key in ("id", "item", "purpose", "shown")})
            return _assignment(connection, _claim(connection, person, str(claim["id"])), project.config)

    def heartbeat(self, person: str, assignment: str) -> float:
        """Begin the lease anew and return its seconds; LostAssignmentError if somebody else has the slot by now."""
        with self._database.writing() as connection:
            project, claim = project_of(connection), _claim(connection, person, assignment)
            if not _is_present(connection, claim):
                raise LostAssignmentError("this item has been given to somebody else")
            self._extend(connection, [claim.slot], project.config)
            return project.config.lease_seconds

    def reopen(self, person: str, assignment: str) -> Assignment:
        """An answered item with what was answered; that counts until another answer comes."""
        with self._database.writing() as connection:
            project, claim = project_of(connection), _claim(connection, person, assignment)
            choices = _last_choices(connection, claim)
            if not choices or not _is_present(connection, claim):
                raise ConflictError("there is no answer to this item that could be changed")
            append(connection, "undo", person, self._clock(), claim=claim.id)
            return _assignment(connection, claim, project.config, choices)

    def answer(self, person: str, submission: Submission) -> State:
        """Keep an answer; one that comes again is known and changes nothing.

        Raises ConflictError if its uuid came with another content or the choices do not fit the item, TooSoonError.
        """
        with self._database.writing() as connection:
            project, at = project_of(connection), self._clock()
            claim = _claim(connection, person, submission.assignment)
            item = connection.execute(sa.select(ITEMS).where(ITEMS.c.id == claim.item).with_for_update()).one()
            known = _choices(connection, str(submission.uuid), claim)
            if known:
                if known != _sorted(submission.choices):
                    raise ConflictError("an answer of this uuid was given before with other choices")
                return State.KNOWN
            _check(submission, item, json.loads(claim.shown))
            least = project.config.minimum_seconds
            if (left := least - min(at - claim.at, submission.seconds)) > 0 and not _last_choices(connection, claim):
                raise TooSoonError(left)
            state = State.ACCEPTED if _is_present(connection, claim) else State.LATE
            purpose = claim.purpose if state is State.ACCEPTED else LATE
            connection.execute(VOTES.insert(), _rows(submission, person, item, claim.id, purpose))
            if state is State.ACCEPTED:
                connection.execute(SLOTS.update().where(SLOTS.c.id == claim.slot).values(done_at=at))
                self._ask_one_more(connection, project.config, item.id)
            choices = [asdict(choice) for choice in _sorted(submission.choices)]
            body = {"claim": claim.id, "submission": str(submission.uuid), "state": state, "choices": choices}
            append(connection, "answer", person, at, **body)
            return state

    def progress(self, person: str) -> Progress:
        """How far the person has come."""
        with self._database.reading() as connection:
            done = _count(connection, SLOTS.c.person == person, SLOTS.c.done_at.is_not(None))
            held = _count(connection, SLOTS.c.person == person, SLOTS.c.done_at.is_(None))
            query = (
                sa.select(sa.func.min(VOTES.c.seconds))
                .where(VOTES.c.voter == person, VOTES.c.submission.is_not(None))
                .group_by(VOTES.c.submission)
                .order_by(sa.func.max(VOTES.c.sequence).desc())
                .limit(_PACE)
            )
            seconds = list(connection.execute(query).scalars())
            remaining = held + _open_to(connection, person)
        return Progress(done=done, remaining=remaining, seconds_an_item=median(seconds) if seconds else None)

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
            free = {"person": None, "claim": None, "leased_until": None}
            slots = SLOTS.update().where(SLOTS.c.claim == assignment, SLOTS.c.done_at.is_(None))
            if not connection.execute(slots.values(free)).rowcount:
                raise UnknownAssignmentError("nobody holds this assignment")
            append(connection, "release", None, self._clock(), claim=assignment)

    def withdraw(self, person: str, *, drop: bool) -> None:
        """End somebody's link and sessions and give what they hold to others.

        With `drop` what they answered is not counted, and is asked again.
        """
        mine = [SLOTS.c.person == person, SLOTS.c.purpose == WORK]
        if not drop:
            mine.append(SLOTS.c.done_at.is_(None))
        free = {"person": None, "claim": None, "leased_until": None, "done_at": None}
        with self._database.writing() as connection:
            connection.execute(SLOTS.update().where(*mine).values(free))
            self._persons.withdraw(connection, person, drop=drop)

    def _again(
        self, connection: sa.Connection, person: str, claim: "sa.Row[tuple[object, ...]]", config: ProjectConfig
    ) -> Assignment:
        if claim.person != person:
            raise ConflictError("this request was made by somebody else")
        if not _is_present(connection, claim):
            raise LostAssignmentError("this item has been given to somebody else")
        return _assignment(connection, claim, config)

    def _extend(self, connection: sa.Connection, slots: Sequence[int], config: ProjectConfig) -> None:
        until = self._clock() + config.lease_seconds
        connection.execute(SLOTS.update().where(SLOTS.c.id.in_(slots)).values(leased_until=until))

    def _next(self, connection: sa.Connection, person: str, project: Project, at: float) -> tuple[int, int, str] | None:
        """(slot, item, purpose) of what comes next; which purpose is drawn from the person and how much they had."""
        config, had = project.config, _count(connection, CLAIMS.c.person == person)
        drawn = python_generator(config.seed, person, had, "purpose").random()
        if drawn < config.gold:
            item = _gold_item(connection, person)
            if item is not None:
                return _own_slot(connection, person, item, GOLD), item, GOLD
        elif drawn < config.gold + config.repeats:
            item = _item_to_repeat(connection, person, config.repeat_after)
            if item is not None:
                return _own_slot(connection, person, item, REPEAT), item, REPEAT
        free = _free_slot(person, at)
        found = connection.execute(free).first()
        return None if found is None else (found.id, found.item, WORK)

    def _ask_one_more(self, connection: sa.Connection, config: ProjectConfig, item: int) -> None:
        """Another slot, where all are answered and there is a dimension in which no choice has most of the votes."""
        slots = connection.execute(
            sa.select(SLOTS.c.claim, SLOTS.c.done_at).where(SLOTS.c.item == item, SLOTS.c.purpose == WORK)
        ).all()
        enough = len(slots) >= config.annotators + config.extra
        if enough or any(slot.done_at is None for slot in slots):
            return
        if _disagree(connection, [slot.claim for slot in slots]):
            connection.execute(SLOTS.insert(), {"item": item, "replicate": len(slots), "purpose": WORK})


def _free_slot(person: str, at: float) -> "sa.Select[tuple[int, int]]":
    own = SLOTS.alias()
    had = sa.exists().where(own.c.item == SLOTS.c.item, own.c.person == person)
    return (
        sa.select(SLOTS.c.id, SLOTS.c.item)
        .where(
            SLOTS.c.done_at.is_(None),
            SLOTS.c.purpose == WORK,
            sa.or_(SLOTS.c.person.is_(None), SLOTS.c.leased_until < at),
            ~had,
        )
        .order_by(SLOTS.c.item, SLOTS.c.replicate)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _open_to(connection: sa.Connection, person: str) -> int:
    """Items that the person has not had and that still want an answer, whoever holds them."""
    own = SLOTS.alias()
    had = sa.exists().where(own.c.item == SLOTS.c.item, own.c.person == person)
    query = sa.select(sa.func.count(sa.distinct(SLOTS.c.item))).where(
        SLOTS.c.done_at.is_(None), SLOTS.c.purpose == WORK, ~had
    )
    return int(connection.execute(query).scalar_one())


def _gold_item(connection: sa.Connection, person: str) -> int | None:
    had = sa.exists().where(SLOTS.c.item == ITEMS.c.id, SLOTS.c.person == person)
    query = sa.select(ITEMS.c.id).where(ITEMS.c.gold.is_not(None), ~had).order_by(ITEMS.c.id).limit(1)
    return connection.execute(query).scalar_one_or_none()


def _item_to_repeat(connection: sa.Connection, person: str, after: int) -> int | None:
    """The person's oldest answered item with so many after it that has not been repeated."""
    again = SLOTS.alias()
    repeated = sa.exists().where(again.c.item == SLOTS.c.item, again.c.person == person, again.c.purpose == REPEAT)
    done = [SLOTS.c.person == person, SLOTS.c.purpose == WORK, SLOTS.c.done_at.is_not(None)]
    if _count(connection, *done) <= after:
        return None
    early = sa.select(SLOTS.c.id).where(*done).order_by(SLOTS.c.done_at.desc(), SLOTS.c.id).offset(after)
    query = sa.select(SLOTS.c.item).where(SLOTS.c.id.in_(early), ~repeated).order_by(SLOTS.c.done_at).limit(1)
    return connection.execute(query).scalar_one_or_none()


def _own_slot(connection: sa.Connection, person: str, item: int, purpose: str) -> int:
    """A slot that is nobody else's."""
    row = {"item": item, "replicate": 0, "purpose": purpose, "person": person}
    result = connection.execute(SLOTS.insert().values(row))
    [slot] = result.inserted_primary_key or (None,)
    assert isinstance(slot, int)
    return slot


def _order(connection: sa.Connection, project: Project, person: str, item: int, purpose: str) -> list[int]:
    """The candidate indices as this person will see them."""
    options = connection.execute(sa.select(ITEMS.c.options).where(ITEMS.c.id == item)).scalar_one()
    indices = [index for index, _ in json.loads(options)]
    python_generator(project.config.seed, person, item, purpose, "order").shuffle(indices)
    return indices


def _claim(connection: sa.Connection, person: str, assignment: str) -> "sa.Row[tuple[object, ...]]":
    query = sa.select(CLAIMS).where(CLAIMS.c.id == assignment, CLAIMS.c.person == person)
    claim = connection.execute(query).one_or_none()
    if claim is None:
        raise UnknownAssignmentError("there is no such assignment")
    return claim


def _is_present(connection: sa.Connection, claim: "sa.Row[tuple[object, ...]]") -> bool:
    """Whether the slot is still that claim's."""
    query = sa.select(SLOTS.c.claim).where(SLOTS.c.id == claim.slot).with_for_update()
    return bool(connection.execute(query).scalar_one() == claim.id)


def _assignment(
    connection: sa.Connection,
    claim: "sa.Row[tuple[object, ...]]",
    config: ProjectConfig,
    choices: tuple[Choice, ...] | None = None,
) -> Assignment:
    item = connection.execute(sa.select(ITEMS).where(ITEMS.c.id == claim.item)).one()
    size = connection.execute(sa.select(PICTURES.c.width, PICTURES.c.height).where(PICTURES.c.id == item.source)).one()
    pictures: Mapping[int, str] = dict(json.loads(item.options))
    order = tuple(json.loads(claim.shown))
    return Assignment(
        id=claim.id,
        item=item.id,
        task=Task(item.task),
        prompt=item.prompt,
        source=item.source,
        mask=item.mask,
        size=(size.width, size.height),
        order=order,
        candidates=tuple(pictures[index] for index in order),
        dimensions=dimensions_of(Task(item.task), item.prompt),
        lease_seconds=config.lease_seconds,
        minimum_seconds=config.minimum_seconds,
        choices=choices,
    )


def _check(submission: Submission, item: "sa.Row[tuple[object, ...]]", shown: Sequence[int]) -> None:
    wanted = sorted(dimensions_of(Task(item.task), item.prompt))
    if sorted(choice.dimension for choice in submission.choices) != wanted:
        raise ConflictError(f"expected one choice or skip in each of {', '.join(wanted)}")
    for choice in submission.choices:
        pair = choice.best, choice.worst
        chosen = choice.best in shown and choice.worst in shown and choice.best != choice.worst
        if not (chosen and choice.reason is None) and not (pair == (None, None) and choice.reason is not None):
            raise ConflictError(
                f"{choice.dimension}: expected two different candidates as best and worst, or a skip with a reason"
            )


def _rows(
    submission: Submission, person: str, item: "sa.Row[tuple[object, ...]]", claim: str, purpose: str
) -> list[dict[str, object]]:
    return [
        {
            "uuid": str(uuid5(submission.uuid, choice.dimension)),
            "candidates": item.candidates,
            "task": item.task,
            "triplet_id": item.triplet_id,
            "dimension": choice.dimension.value,
            "best": choice.best,
            "worst": choice.worst,
            "voter": person,
            "kind": "person",
            "weight": 1.0,
            "purpose": purpose,
            "reason": choice.reason and choice.reason.value,
            "claim": claim,
            "submission": str(submission.uuid),
            "seconds": submission.seconds,
        }
        for choice in _sorted(submission.choices)
    ]


def _choices(connection: sa.Connection, submission: str, claim: "sa.Row[tuple[object, ...]]") -> tuple[Choice, ...]:
    """What was answered by that request; ConflictError if it was about another assignment."""
    rows = connection.execute(sa.select(VOTES).where(VOTES.c.submission == submission)).all()
    if any(row.claim != claim.id for row in rows):
        raise ConflictError("an answer of this uuid was given before to another item")
    return _sorted(
        Choice(
            dimension=Dimension(row.dimension),
            best=row.best,
            worst=row.worst,
            reason=None if row.reason is None else Reason(row.reason),
        )
        for row in rows
    )


def _last_choices(connection: sa.Connection, claim: "sa.Row[tuple[object, ...]]") -> tuple[Choice, ...]:
    query = sa.select(VOTES.c.submission).where(VOTES.c.claim == claim.id).order_by(VOTES.c.sequence.desc()).limit(1)
    submission = connection.execute(query).scalar_one_or_none()
    return () if submission is None else _choices(connection, submission, claim)


def _disagree(connection: sa.Connection, claims: Sequence[str]) -> bool:
    bests: dict[Dimension, Counter[int | None]] = {}
    for claim in connection.execute(sa.select(CLAIMS).where(CLAIMS.c.id.in_(claims))):
        for choice in _last_choices(connection, claim):
            bests.setdefault(choice.dimension, Counter())[choice.best] += 1
    return any(2 * max(counts.values()) <= counts.total() for counts in bests.values())


def _sorted(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    return tuple(sorted(choices, key=lambda choice: choice.dimension))


def _count(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())
