"""What an admin sees, counted by hand on four items, two people and a clock that the test turns."""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from onereward.annotate.audit import audit
from onereward.annotate.overview import overview
from onereward.annotate.project import ProjectConfig, import_items, pause
from onereward.annotate.shown import IntervalShown
from onereward.annotate.work import Assignment, Choice, Reason, Submission, Work
from onereward.metrics.intervals import Interval
from onereward.people.database import Database
from onereward.people.persons import Persons, Role
from onereward.people.tables import EVENTS, VOTES
from onereward.terms import Dimension
from tests.annotate.running import Project, pairing_of, project


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path, items=4, annotators=2) as made:
        yield made


def vote(made: Project, work: Work, person: str, best: int, worst: int, seconds: float = 5) -> Assignment:
    """Claims the next item and answers it; candidate indices, the same in every dimension."""
    item = work.claim(person, uuid4())
    assert isinstance(item, Assignment)
    made.clock.now += seconds
    choices = tuple(Choice(dimension=dimension, best=best, worst=worst) for dimension in item.dimensions)
    work.answer(person, Submission(uuid=uuid4(), assignment=item.id, seconds=seconds, choices=choices))
    return item


def test_it_counts_answers_people_and_what_is_held(shared: Project) -> None:
    work = Work(shared.database, shared.clock)
    (ann, _), (bob, _) = shared.link_of("Ann"), shared.link_of("Bob")
    for seconds in (4, 6, 20):
        vote(shared, work, ann, 0, 1, seconds)
    vote(shared, work, bob, 0, 2)
    held = work.claim(bob, uuid4())
    assert isinstance(held, Assignment)
    seen = overview(shared.database, shared.clock)
    assert (seen.items, seen.finished, seen.wanted, seen.done, seen.paused) == (4, 1, 8, 4, False)
    assert seen.answers_a_minute == pytest.approx(4 / 10) and seen.minutes_left == pytest.approx(10)
    rows = {row.person.name: row for row in seen.people}
    assert (rows["Ann"].done, rows["Ann"].held, rows["Ann"].seconds_an_item) == (3, 0, 6)
    assert (rows["Bob"].done, rows["Bob"].held, rows["Bob"].seconds_an_item) == (1, 1, 5)
    [row] = seen.held
    assert (row.assignment, row.person, row.leased_until) == (held.id, bob, shared.clock.now + 600)
    pause(shared.database, True, shared.clock)
    assert overview(shared.database, shared.clock).paused


def test_items_that_nobody_there_can_take_are_counted_and_no_time_is_left_told(tmp_path: Path) -> None:
    with project(tmp_path, items=4, annotators=2, extra=1) as made:
        work, ids = Work(made.database, made.clock), [made.link_of(name)[0] for name in ("Ann", "Bob", "Cleo")]
        made.link_of("Root", Role.ADMIN)  # who answers nothing
        for best, person in enumerate(ids[:2]):
            for _ in range(4):
                vote(made, work, person, best, 2)
        seen = overview(made.database, made.clock)
        assert seen.short == 0 and seen.minutes_left is not None  # Cleo can
        held = work.claim(ids[2], uuid4())
        assert isinstance(held, Assignment)
        work.withdraw(ids[2], drop=False)
        seen = overview(made.database, made.clock)
        assert (seen.finished, seen.short, seen.minutes_left) == (0, 4, None)
        dan, _ = made.link_of("Dan")
        assert overview(made.database, made.clock).short == 0
        for _ in range(4):
            vote(made, work, dan, 0, 2)
        assert overview(made.database, made.clock).short == 0


def test_an_interval_is_told_where_there_are_items_for_it() -> None:
    found, points = Interval(value=0.5, low=0.2, high=0.8), Interval(value=1.0, low=1.0, high=1.0)
    told = IntervalShown.of(found, 5)
    assert told is not None and (told.value, told.low, told.high) == (0.5, 0.2, 0.8)
    for interval, items in ((found, 4), (points, 50), (replace(found, low=nan, high=nan), 50)):
        told = IntervalShown.of(interval, items)
        assert told is not None and (told.value, told.low, told.high) == (interval.value, None, None)
    assert IntervalShown.of(replace(found, value=nan), 50) is None and IntervalShown.of(None, 50) is None


def test_agreement_is_on_the_best_candidate_of_items_with_two_answers(shared: Project) -> None:
    work = Work(shared.database, shared.clock)
    (ann, _), (bob, _) = shared.link_of("Ann"), shared.link_of("Bob")
    for best in (0, 1, 2, 0):
        vote(shared, work, ann, best, (best + 1) % 3)
    for best in (0, 1, 2, 1):
        vote(shared, work, bob, best, (best + 1) % 3)
    # Items by turns are fills (four dimensions) and removals (one): fills 0 and 2 agree, removal 1 does and 3 does not.
    rows = {row.dimension: row for row in overview(shared.database, shared.clock).agreement}
    assert rows[Dimension.STRUCTURE].items == rows[Dimension.REMOVAL_QUALITY].items == 2
    assert rows[Dimension.STRUCTURE].found.pairwise.value == 1.0
    assert rows[Dimension.REMOVAL_QUALITY].found.pairwise.value == 0.5


def test_gold_and_repeats_tell_how_well_somebody_answers(tmp_path: Path) -> None:
    with project(tmp_path, items=1) as made:
        pairing = pairing_of(tmp_path / "more", 24)
        known = {"t1": {Dimension.REMOVAL_QUALITY: (0, 1)}, "t3": {Dimension.REMOVAL_QUALITY: (2, 1)}}
        config = ProjectConfig(annotators=1, gold=0.3, repeats=0.3, repeat_after=3, minimum_seconds=0)
        with Database(str(tmp_path / "gold.sqlite")) as database:
            import_items(database, made.pictures, pairing, config, made.clock, known)
            other = replace(made, database=database)
            work, (ann, _) = Work(database, made.clock), other.link_of("Ann")
            purposes = [vote(other, work, ann, 0, 1) for _ in range(22)]
            assert len(purposes) == 22
            [row] = overview(database, made.clock).people
            assert row.gold == (1, 2)
            assert row.repeats[0] == row.repeats[1] > 0  # who always says the same says it again
            with database.reading() as connection:
                counts = dict(
                    connection.execute(sa.select(VOTES.c.purpose, sa.func.count()).group_by(VOTES.c.purpose)).all()
                )
            assert counts["gold"] == 2 and counts["repeat"] == row.repeats[1]


def test_the_audit_finds_whatever_was_changed_added_or_taken_away(shared: Project) -> None:
    work, (ann, _) = Work(shared.database, shared.clock), shared.link_of("Ann")
    vote(shared, work, ann, 0, 1)
    item = work.claim(ann, uuid4())
    assert isinstance(item, Assignment)
    shared.clock.now += 5
    skips = tuple(Choice(dimension=each, best=None, worst=None, reason=Reason.ALIKE) for each in item.dimensions)
    work.answer(ann, Submission(uuid=uuid4(), assignment=item.id, seconds=5, choices=skips))
    with shared.database.reading() as connection:
        good = audit(connection)
        again = audit(connection, expected=good.head)
        assert (again.head, again.events, again.expected) == (good.head, good.events, good.events)
        with pytest.raises(ValueError, match="no event has the hash"):
            audit(connection, expected="0" * 63 + "1")
        events = connection.execute(sa.select(EVENTS.c.body).where(EVENTS.c.kind == "answer")).scalars().all()
    assert [vote["reason"] for vote in json.loads(events[1])["votes"]] == ["alike"] * len(item.dimensions)
    added = (
        "INSERT INTO votes (uuid, candidates, task, triplet_id, dimension, best, worst, voter, kind, weight, purpose) "
        "SELECT 'x', candidates, task, triplet_id, dimension, best, worst, voter, kind, weight, purpose FROM votes "
        "LIMIT 1"
    )
    changed = ("best = 2", "voter = 'bob'", "purpose = 'late'", "weight = 100", "triplet_id = 't3'", "seconds = 9")
    changes = [f"UPDATE votes SET {change} WHERE sequence = 1" for change in changed]
    changes += ["DELETE FROM votes WHERE sequence = 1", added, "UPDATE people SET dropped = 1"]
    changes += [added.replace("voter, kind, weight, purpose FROM", "'nobody', kind, weight, purpose FROM")]
    changes += ["UPDATE settings SET value = replace(value, '\"seed\": 0', '\"seed\": 1') WHERE name = 'annotate'"]
    changes += ["UPDATE items SET options = '[[1, \"x\"]]' WHERE id = 1", "UPDATE items SET gold = '{}' WHERE id = 2"]
    changes += ["UPDATE pictures SET content = 'x' WHERE item = 1", "UPDATE claims SET shown = '[2, 1, 0]'"]
    changes += ["UPDATE items SET open = 0 WHERE id = 1", "DELETE FROM slots WHERE item = 4"]
    freed = "UPDATE slots SET person = NULL, claim = NULL, leased_until = NULL, done_at = NULL WHERE item = 1"
    changes += [
        freed,
        f"UPDATE slots SET person = '{ann}' WHERE item = 4 AND replicate = 0",
        "UPDATE slots SET purpose = 'late' WHERE item = 1",
    ]
    changes += ["INSERT INTO slots (item, replicate, purpose) SELECT item, 9, purpose FROM slots WHERE item = 4"]
    changes += [
        "UPDATE slots SET done_at = 1 WHERE item = 4",
        "UPDATE slots SET claim = 'x' WHERE item = 1 AND done_at > 0",
    ]
    for change in changes:
        with shared.database.writing() as connection:
            for trigger in ("votes_refuse_update", "votes_refuse_delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.exec_driver_sql(change)
            with pytest.raises(ValueError, match=r"the log of events has|does not follow from"):
                audit(connection)
            connection.rollback()


def test_who_is_not_counted_stays_so_when_they_are_erased(shared: Project) -> None:
    work, (ann, _) = Work(shared.database, shared.clock), shared.link_of("Ann")
    vote(shared, work, ann, 0, 1)
    work.withdraw(ann, drop=True)
    work.withdraw(ann, drop=False)
    Persons(shared.database, shared.clock).erase(ann)
    [row] = overview(shared.database, shared.clock).people
    assert row.person.dropped and row.person.name is None
    with shared.database.reading() as connection:
        audit(connection)


def test_what_is_left_falls_by_one_whatever_comes_next(tmp_path: Path) -> None:
    """Else a count that stands still would tell that the item is gold or comes a second time."""
    known = {"t1": {Dimension.REMOVAL_QUALITY: (0, 1)}}
    config = ProjectConfig(annotators=1, gold=0.3, repeats=0.3, repeat_after=2, minimum_seconds=0)
    with project(tmp_path, items=1) as made, Database(str(tmp_path / "gold.sqlite")) as database:
        import_items(database, made.pictures, pairing_of(tmp_path / "more", 10), config, made.clock, known)
        other = replace(made, database=database)
        work, (ann, _) = Work(database, made.clock), other.link_of("Ann")
        for _ in range(9):
            before = work.progress(ann).remaining
            item = work.claim(ann, uuid4())
            if not isinstance(item, Assignment):
                break
            assert work.progress(ann).remaining == before  # held is not done
            made.clock.now += 3
            choices = tuple(Choice(dimension=each, best=0, worst=1) for each in item.dimensions)
            work.answer(ann, Submission(uuid=uuid4(), assignment=item.id, seconds=3, choices=choices))
