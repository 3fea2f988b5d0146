"""Claims of items by many people at once: ours beside the version that most would write.

    python -m benchmarks.claims [--people 40 --seconds 20 --items 2000] [--database postgresql://...]

Forty threads take an item and answer it, again and again, without a pause. The naive version does the same to the same
tables in two transactions as databases begin them by themselves (SQLite: BEGIN; PostgreSQL: READ COMMITTED, no locks):
it reads which slot is free and then writes whose it is. Counted are claims that failed, and answers wanted by nobody:
of more people than an item has slots, since two got the same one.
"""

import argparse
import json
import math
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

import sqlalchemy as sa

from onereward.annotate.project import ProjectConfig, contents_of
from onereward.annotate.work import Assignment, Choice, Nothing, Submission, Work
from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Persons, Role, new_id
from onereward.people.settings import keep_setting
from onereward.people.tables import CLAIMS, ITEMS, PICTURES, SLOTS, VOTES
from onereward.terms import Task, dimensions_of

PROMPT = "a cat"
DIMENSIONS = dimensions_of(Task.FILL, PROMPT)

_Result = TypeVar("_Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=40, metavar="N")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="a contestant")
    parser.add_argument("--items", type=int, default=2000, metavar="N")
    parser.add_argument("--database", metavar="URL", help="an empty one of PostgreSQL; default: a new SQLite file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = args.database or str(Path(folder) / "votes.sqlite")
        print(json.dumps(measure(place, args.people, args.seconds, args.items), indent=1))


def measure(place: str, people: int, seconds: float, items: int) -> dict[str, dict[str, float]]:
    """What each version did in that time, on an empty database at `place`; the naive one has items of its own."""
    with Database(place) as database:
        config = ProjectConfig(minimum_seconds=0, gold=0, repeats=0, extra=0)
        fill(database, 2 * items, config)
        persons = [Persons(database).make(f"person {number}", Role.ANNOTATOR)[0] for number in range(people)]
        with database.writing() as connection:
            connection.execute(ITEMS.update().where(ITEMS.c.id > items).values(open=False))
        ours = blast(lambda person: Ours(database, person), persons, seconds)
        with _ordinary(database) as engine:
            naive = blast(lambda person: Naive(engine, person, items), persons, seconds)
        with database.reading() as connection:
            return {"ours": ours.figures(connection), "naive": naive.figures(connection)}


class Contestant(Protocol):
    """One person's way to take an item and to answer it."""

    def claim(self) -> int | None:
        """The item taken, None if there was none; raises whatever goes wrong."""
        ...

    def answer(self) -> str | None:
        """Answer what was taken and return the submission's uuid."""
        ...


class Ours:
    """By `Work`."""

    def __init__(self, database: Database, person: str) -> None:
        self._work, self._person, self._held = Work(database), person, list[Assignment]()

    def claim(self) -> int | None:
        found = self._work.claim(self._person, uuid4())
        if isinstance(found, Nothing):
            return None
        self._held.append(found)
        return found.item

    def answer(self) -> str | None:
        assignment = self._held.pop(0)
        submission = Submission(uuid=uuid4(), assignment=assignment.id, seconds=9.0, choices=drawn(assignment))
        self._work.answer(self._person, submission)
        return str(submission.uuid)


class Naive:
    """Reads, then writes, as transactions are by themselves."""

    def __init__(self, engine: sa.Engine, person: str, after: int) -> None:
        self._engine, self._person, self._after = engine, person, after
        self._held: list[tuple[int, int, str]] = []

    def claim(self) -> int | None:
        own = SLOTS.alias()
        had = sa.exists().where(own.c.item == SLOTS.c.item, own.c.person == self._person)
        free = SLOTS.c.item > self._after, SLOTS.c.person.is_(None), SLOTS.c.done_at.is_(None), ~had
        first = sa.select(SLOTS.c.id, SLOTS.c.item).where(*free).order_by(SLOTS.c.item, SLOTS.c.replicate).limit(1)
        claim = {"id": new_id(), "request": str(uuid4()), "person": self._person, "purpose": "work", "shown": "[0,1,2]"}
        with self._engine.begin() as connection:
            slot = connection.execute(first).one_or_none()
            if slot is None:
                return None
            held = {"person": self._person, "claim": claim["id"], "leased_until": time.time() + 600}
            connection.execute(SLOTS.update().where(SLOTS.c.id == slot.id).values(held))
            connection.execute(CLAIMS.insert(), {**claim, "item": slot.item, "at": time.time()})
        self._held.append((slot.id, slot.item, claim["id"]))
        return int(slot.item)

    def answer(self) -> str | None:
        slot, item, claim = self._held.pop(0)
        submission = str(uuid4())
        row = {"candidates": "c", "task": "fill", "triplet_id": f"t{item}", "voter": self._person, "kind": "person",
               "weight": 1.0, "best": 0, "worst": 1, "claim": claim, "submission": submission}  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(
                VOTES.insert(), [{**row, "uuid": str(uuid4()), "dimension": each} for each in DIMENSIONS]
            )
            connection.execute(SLOTS.update().where(SLOTS.c.id == slot).values(done_at=time.time()))
        return submission


@dataclass(kw_only=True)
class Found:
    """What threads saw: items they were given, answers that were acknowledged, how long each took, what failed."""

    seconds: float = 0.0
    given: list[int] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @staticmethod
    def of(several: "Sequence[Found]") -> "Found":
        """What was seen one after another, together."""
        names = "given", "acknowledged", "claims", "answers", "failed"
        lists = {name: [each for found in several for each in getattr(found, name)] for name in names}
        return Found(seconds=sum(found.seconds for found in several), **lists)

    def lost(self, connection: sa.Connection) -> int:
        """Acknowledged answers that the database does not have in every dimension."""
        query = sa.select(VOTES.c.submission, sa.func.count()).group_by(VOTES.c.submission)
        kept = dict(connection.execute(query).all())
        return sum(kept.get(submission) != len(DIMENSIONS) for submission in self.acknowledged)

    def double(self, connection: sa.Connection) -> int:
        """Times that an item was given beyond its slots; right where no lease ended meanwhile."""
        query = sa.select(SLOTS.c.item, sa.func.count()).group_by(SLOTS.c.item)
        slots = dict(connection.execute(query).all())
        return sum(max(0, given - slots[item]) for item, given in Counter(self.given).items())

    def figures(self, connection: sa.Connection) -> dict[str, float]:
        return {
            "tasks a second": round(len(self.acknowledged) / self.seconds, 1),
            "failed": len(self.failed),
            "lost": self.lost(connection),
            "double-assigned": self.double(connection),
            "claim p95, ms": round(1000 * p95(self.claims), 1),
            "answer p95, ms": round(1000 * p95(self.answers), 1),
        }


def blast(
    contestant: Callable[[str], Contestant],
    people: Sequence[str],
    seconds: float = math.inf,
    *,
    pause: float = 0.0,
    stop: threading.Event | None = None,
) -> Found:
    """Let each person take and answer items in a thread of their own for that long, or until `stop`.

    `pause` are the seconds that a task takes them on average.
    """
    found, end, stop = Found(), time.monotonic() + seconds, stop or threading.Event()

    def work(person: str) -> None:
        me, draw, looking = contestant(person), random.Random(person), min(pause, 1.0)
        while True:
            stop.wait(min(draw.uniform(0, 2 * (pause - looking)), max(0, end - time.monotonic())))
            if stop.is_set() or time.monotonic() >= end:
                return
            try:
                item = _timed(found.claims, me.claim)
                if item is None:
                    return
                found.given.append(item)
                stop.wait(looking)
                submission = _timed(found.answers, me.answer)
                if submission is not None:
                    found.acknowledged.append(submission)
            except Exception as error:
                found.failed.append(repr(error))

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.seconds = time.monotonic() - start
    return found


def drawn(assignment: Assignment) -> tuple[Choice, ...]:
    """An answer by chance."""
    pairs = [random.sample(assignment.order, 2) for _ in assignment.dimensions]
    return tuple(
        Choice(dimension=dimension, best=best, worst=worst)
        for dimension, (best, worst) in zip(assignment.dimensions, pairs, strict=True)
    )


def fill(
    database: Database, items: int, config: ProjectConfig, *, candidates: int = 4, gold: Sequence[int] = ()
) -> None:
    """A project with items 1 to `items`, whose pictures are in no folder; best of the `gold` ones is 0, worst 1."""
    names = [*(f"c{index}" for index in range(candidates)), "source", "mask"]
    known = json.dumps({dimension: [0, 1] for dimension in DIMENSIONS})
    with database.writing() as connection:
        fingerprints = {"triplets": "t", "candidates": "c"}
        project = {"config": asdict(config), "fingerprints": fingerprints}
        keep_setting(connection, "annotate", project)
        append(connection, "project", None, time.time(), **project)
        numbers = range(1, items + 1)
        same_picture = {"content": "0" * 64, "width": 64, "height": 48}
        pictures = [{"id": f"{item}-{name}", "item": item, **same_picture} for item in numbers for name in names]
        connection.execute(PICTURES.insert(), pictures)
        same = {"candidates": "c", "task": "fill", "prompt": PROMPT}
        rows = [
            {
                **same,
                "id": item,
                "triplet_id": f"t{item}",
                "source": f"{item}-source",
                "mask": f"{item}-mask",
                "options": json.dumps([[index, f"{item}-c{index}"] for index in range(candidates)]),
                "gold": known if item in gold else None,
                "open": item not in gold,
            }
            for item in numbers
        ]
        connection.execute(ITEMS.insert(), rows)
        slots = [
            {"item": item, "replicate": replicate, "purpose": "work"}
            for item in numbers
            if item not in gold
            for replicate in range(config.annotators)
        ]
        connection.execute(SLOTS.insert(), slots)
        append(connection, "items", None, time.time(), items=contents_of(connection))


def p95(seconds: Sequence[float]) -> float:
    """The time within which 95 of 100 were done."""
    return sorted(seconds)[max(0, -(-95 * len(seconds) // 100) - 1)]


def _timed(into: list[float], act: Callable[[], _Result]) -> _Result:
    start = time.perf_counter()
    result = act()
    into.append(time.perf_counter() - start)
    return result


@contextmanager
def _ordinary(database: Database) -> Iterator[sa.Engine]:
    """The same database as an application opens it that does nothing about transactions."""
    url = sa.make_url(database.place if "://" in database.place else f"sqlite:///{database.place}")
    url = url.set(drivername="postgresql+pg8000") if url.get_backend_name() == "postgresql" else url
    engine = sa.create_engine(url, pool_size=64)
    if engine.dialect.name == "sqlite":

        def manual(connection: sa.engine.interfaces.DBAPIConnection, record: object) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA busy_timeout=30000")  # type: ignore[attr-defined]

        sa.event.listen(engine, "connect", manual)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        yield engine
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
