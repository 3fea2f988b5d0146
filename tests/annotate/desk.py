"""A project in a database with people at work on it and a clock that is put forward by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import sqlalchemy as sa

from benchmarks.claims import DIMENSIONS, fill
from onereward.annotate.audit import audit
from onereward.annotate.database import VoteDatabase
from onereward.annotate.export import latest_answers
from onereward.annotate.project import ProjectConfig
from onereward.annotate.work import Assignment, Choice, Nothing, Reason, State, Submission, Work
from onereward.people.persons import Persons, Role
from onereward.people.tables import EVENTS, ITEMS, SLOTS, VOTES


@dataclass
class FakeClock:
    """Seconds that pass when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Desk:
    """What a test holds of a project: items have the ids 1, 2, ..., people are known by their names."""

    database: VoteDatabase
    clock: FakeClock = field(default_factory=FakeClock)
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work = Work(self.database, self.clock)
        self.persons = Persons(self.database, self.clock)

    def set_up(
        self, *names: str, items: int = 1, candidates: int = 4, gold_items: Sequence[int] = (), **settings: float
    ) -> None:
        """A project without gold, repeats, minimum time and extra slots unless `settings` say so."""
        plain = {"gold": 0.0, "repeats": 0.0, "minimum_seconds": 0.0, "extra": 0, "annotators": 2}
        config = ProjectConfig(**(plain | settings))  # type: ignore[arg-type]
        fill(self.database, items, config, candidates=candidates, gold=gold_items)
        self.ids |= {name: self.persons.make(name, Role.ANNOTATOR)[0] for name in names}

    def claim(self, name: str, request: UUID | None = None) -> Assignment | Nothing:
        return self.work.claim(self.ids[name], request or uuid4())

    def take(self, name: str) -> Assignment:
        """The next item, which there has to be."""
        found = self.claim(name)
        assert isinstance(found, Assignment), found
        return found

    def answer(
        self, name: str, assignment: Assignment, best: int | None = 0, uuid: UUID | None = None, seconds: float = 9.0
    ) -> State:
        submission = Submission(
            uuid=uuid or uuid4(), assignment=assignment.id, seconds=seconds, choices=said(assignment, best)
        )
        return self.work.answer(self.ids[name], submission)

    def do(self, name: str, best: int | None = 0) -> Assignment:
        """Take the next item and answer it."""
        assignment = self.take(name)
        assert self.answer(name, assignment, best) is State.ACCEPTED
        return assignment

    def slots(self, item: int, purpose: str = "work") -> int:
        return self.count(SLOTS, SLOTS.c.item == item, SLOTS.c.purpose == purpose)

    def is_open(self, item: int) -> bool:
        with self.database.reading() as connection:
            return bool(connection.execute(sa.select(ITEMS.c.open).where(ITEMS.c.id == item)).scalar_one())

    def count(self, table: sa.Table, *where: "sa.ColumnElement[bool]") -> int:
        with self.database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())

    def purposes(self) -> list[str]:
        """Of all votes in one dimension, in the order in which they came."""
        query = sa.select(VOTES.c.purpose).where(VOTES.c.dimension == DIMENSIONS[0]).order_by(VOTES.c.sequence)
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())

    def events(self) -> list[str]:
        with self.database.reading() as connection:
            return list(connection.execute(sa.select(EVENTS.c.kind).order_by(EVENTS.c.sequence)).scalars())

    def counted(self) -> Mapping[tuple[str, int], int | None]:
        """Who has which item as best, in the votes that are exported (in one dimension)."""
        names = {id: name for name, id in self.ids.items()}
        votes = [answer.vote for answer in latest_answers(self.database.answers("c"))]
        return {
            (names[vote.voter], int(vote.triplet_id[1:])): vote.best
            for vote in votes
            if vote.dimension == DIMENSIONS[0]
        }


def check_whole(database: VoteDatabase) -> None:
    """Raise if the log does not fit the votes, or an item's slots what was given out and answered."""
    with database.reading() as connection:
        audit(connection)


def said(assignment: Assignment, best: int | None) -> tuple[Choice, ...]:
    """The same in every dimension: that one best and the next index worst, or that all are alike."""
    worst = None if best is None else (best + 1) % len(assignment.order)
    reason = Reason.ALIKE if best is None else None
    return tuple(
        Choice(dimension=dimension, best=best, worst=worst, reason=reason)
        for dimension in sorted(assignment.dimensions)
    )
