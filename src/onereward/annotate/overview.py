"""What an admin sees of a project: how far it is, who does what and how well, and how much people agree."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import sqlalchemy as sa

from onereward.annotate.project import is_paused, project_of
from onereward.annotate.work import GOLD, LATE, REPEAT, WORK
from onereward.metrics.agreement import Agreement, Answered, Level, agreement
from onereward.people.database import Database
from onereward.people.persons import Clock, Entry, Persons, Role
from onereward.people.tables import CLAIMS, ITEMS, PEOPLE, SLOTS, VOTES
from onereward.terms import Dimension

_RECENT_SECONDS = 600.0
_PACE = 20
_SKIP = -1
_RESAMPLES = 400  # enough for a page that is looked at while people vote


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """One person: answers, their median seconds, shares of gold answered rightly and of repeats answered alike."""

    person: Entry
    done: int
    held: int
    seconds_an_item: float | None
    gold: tuple[int, int]  # right, of so many
    repeats: tuple[int, int]  # alike, of so many


@dataclass(frozen=True, kw_only=True)
class HeldRow:
    """An item in somebody's hands, and when its lease ends."""

    assignment: str
    person: str
    triplet_id: str
    since: float
    leased_until: float


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """How much people agree on the best candidate in one dimension, and on how many items."""

    dimension: Dimension
    items: int
    found: Agreement


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A project at one moment."""

    paused: bool
    items: int
    finished: int
    wanted: int  # answers in all
    done: int
    short: int  # items that want an answer of somebody else than those who take part
    answers_a_minute: float
    people: tuple[PersonRow, ...]
    held: tuple[HeldRow, ...]
    agreement: tuple[AgreementRow, ...]

    @property
    def minutes_left(self) -> float | None:
        """At the pace of the last ten minutes; None without one, or if some items wait for people yet to come."""
        return (self.wanted - self.done) / self.answers_a_minute if self.answers_a_minute and not self.short else None


def overview(database: Database, clock: Clock = time.time) -> Overview:
    """The project as it stands; ValueError if nothing was imported."""
    now = clock()
    entries = Persons(database, clock).all()
    with database.reading() as connection:
        project_of(connection)
        work = SLOTS.c.purpose == WORK
        done = SLOTS.c.done_at.is_not(None)
        unfinished = sa.select(SLOTS.c.item).where(work, ~done)
        recent = _count(connection, done, SLOTS.c.done_at > now - _RECENT_SECONDS)
        votes = _votes(connection)
        dropped = {entry.id for entry in entries if entry.dropped}
        return Overview(
            paused=is_paused(connection),
            items=_count(connection, ITEMS.c.gold.is_(None)),
            finished=_count(connection, ITEMS.c.gold.is_(None), ITEMS.c.id.not_in(unfinished)),
            wanted=_count(connection, work),
            done=_count(connection, work, done),
            short=_count(connection, ITEMS.c.open, *_nobody_can_take()),
            answers_a_minute=recent / (_RECENT_SECONDS / 60),
            people=tuple(_people(connection, entries, votes)),
            held=tuple(_held(connection)),
            agreement=tuple(_agreement([vote for vote in votes if vote["voter"] not in dropped])),
        )


def _nobody_can_take() -> Sequence["sa.ColumnElement[bool]"]:
    """That an item has a free slot, and that all annotators who take part have or had the item."""
    is_free = SLOTS.c.item == ITEMS.c.id, SLOTS.c.purpose == WORK, SLOTS.c.person.is_(None)
    own = SLOTS.alias()
    had = sa.exists().where(own.c.item == ITEMS.c.id, own.c.person == PEOPLE.c.id).correlate(ITEMS, PEOPLE)
    can_take = PEOPLE.c.role == Role.ANNOTATOR.value, PEOPLE.c.withdrawn_at.is_(None), ~had
    return sa.exists().where(*is_free).correlate(ITEMS), ~sa.exists().where(*can_take).correlate(ITEMS)


def _people(
    connection: sa.Connection, entries: Sequence[Entry], votes: Sequence[Mapping[str, Any]]
) -> Iterable[PersonRow]:
    done = _of_people(connection, SLOTS.c.done_at.is_not(None), SLOTS.c.purpose != LATE)
    held = _of_people(connection, SLOTS.c.done_at.is_(None))
    gold = {
        row.triplet_id: json.loads(row.gold)
        for row in connection.execute(sa.select(ITEMS.c.triplet_id, ITEMS.c.gold).where(ITEMS.c.gold.is_not(None)))
    }
    of_voter: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for vote in votes:
        of_voter[vote["voter"]].append(vote)
    for entry in entries:
        own = of_voter[entry.id]
        yield PersonRow(
            person=entry,
            done=done.get(entry.id, 0),
            held=held.get(entry.id, 0),
            seconds_an_item=_pace(own),
            gold=_right(own, gold),
            repeats=_alike(own),
        )


def _of_people(connection: sa.Connection, *state: "sa.ColumnElement[bool]") -> dict[str, int]:
    """How many slots in that state each person has."""
    query = sa.select(SLOTS.c.person, sa.func.count().label("slots")).where(*state).group_by(SLOTS.c.person)
    return {row.person: row.slots for row in connection.execute(query)}


def _votes(connection: sa.Connection) -> list[Mapping[str, Any]]:
    """The last answer of each person to each item and purpose, in each dimension."""
    query = sa.select(VOTES).where(VOTES.c.claim.is_not(None)).order_by(VOTES.c.sequence)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return list({(row["claim"], row["dimension"], row["purpose"]): row for row in rows}.values())


def _pace(votes: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = {vote["submission"]: vote["seconds"] for vote in votes}
    return median(list(seconds.values())[-_PACE:]) if seconds else None


def _right(
    votes: Sequence[Mapping[str, Any]], gold: Mapping[str, Mapping[str, Sequence[int | None]]]
) -> tuple[int, int]:
    asked = [
        ([vote["best"], vote["worst"]], gold[vote["triplet_id"]][vote["dimension"]])
        for vote in votes
        if vote["purpose"] == GOLD and vote["dimension"] in gold[vote["triplet_id"]]
    ]
    return sum(said == list(known) for said, known in asked), len(asked)


def _alike(votes: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    first = {(vote["triplet_id"], vote["dimension"]): vote["best"] for vote in votes if vote["purpose"] == WORK}
    again = [
        (first[vote["triplet_id"], vote["dimension"]], vote["best"])
        for vote in votes
        if vote["purpose"] == REPEAT and (vote["triplet_id"], vote["dimension"]) in first
    ]
    return sum(one == two for one, two in again), len(again)


def _held(connection: sa.Connection) -> Iterable[HeldRow]:
    query = (
        sa.select(
            CLAIMS.c.id.label("assignment"),
            CLAIMS.c.person,
            ITEMS.c.triplet_id,
            CLAIMS.c.at.label("since"),
            SLOTS.c.leased_until,
        )
        .join(SLOTS, SLOTS.c.claim == CLAIMS.c.id)
        .join(ITEMS, ITEMS.c.id == CLAIMS.c.item)
        .where(SLOTS.c.done_at.is_(None))
        .order_by(SLOTS.c.leased_until)
    )
    for row in connection.execute(query).mappings():
        yield HeldRow(**row)


def _agreement(votes: Sequence[Mapping[str, Any]]) -> Iterable[AgreementRow]:
    """On the best candidate; a skip is an answer of its own."""
    for dimension in Dimension:
        said = [vote for vote in votes if vote["purpose"] == WORK and vote["dimension"] == dimension]
        answers = [
            Answered(
                item=vote["triplet_id"], person=vote["voter"], value=_SKIP if vote["best"] is None else vote["best"]
            )
            for vote in said
        ]
        found = agreement(answers, level=Level.NOMINAL, resamples=_RESAMPLES)
        if found.items:
            yield AgreementRow(dimension=dimension, items=found.items, found=found)


def _count(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())
