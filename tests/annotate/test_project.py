"""Putting triplets before people: what an import makes, refuses, and does while people are at work."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from onereward.annotate.audit import audit
from onereward.annotate.pairing import Pairing
from onereward.annotate.project import Gold, Project, ProjectConfig, gold_of, import_items, is_paused, pause, project_of
from onereward.annotate.work import Assignment, Work
from onereward.people.database import Database
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Picture, Pictures
from onereward.people.tables import EVENTS, ITEMS, PICTURES, SLOTS
from onereward.terms import Dimension, Vote, VoterKind
from tests.annotate.running import CANDIDATES, SIZE, pairing_of

CONFIG = ProjectConfig(annotators=2, gold=0, repeats=0, minimum_seconds=0)


def clock() -> float:
    return 5.0


@pytest.fixture(scope="module")
def pairing(tmp_path_factory: pytest.TempPathFactory) -> Pairing:
    """Four triplets, t0 to t3, fill and remove by turns."""
    return pairing_of(tmp_path_factory.mktemp("folders"), 4)


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    with Database(place) as database:
        yield database


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "images")


def gold(best: int | None, worst: int | None, dimension: Dimension = Dimension.REMOVAL_QUALITY) -> dict[str, Gold]:
    return {"t1": {dimension: (best, worst)}}


def test_every_triplet_becomes_an_item_with_pictures_and_slots(
    database: Database, pictures: Pictures, pairing: Pairing
) -> None:
    seen: list[int] = []
    assert import_items(database, pictures, pairing, CONFIG, clock, gold(2, 0), seen.append) == 4
    assert seen == [1]
    with database.reading() as connection:
        items = connection.execute(sa.select(ITEMS).order_by(ITEMS.c.id)).all()
        slots = connection.execute(sa.select(SLOTS.c.item, SLOTS.c.replicate, SLOTS.c.purpose)).all()
        listed = {row.id: row for row in connection.execute(sa.select(PICTURES))}
        events = connection.execute(sa.select(EVENTS.c.kind, EVENTS.c.body).order_by(EVENTS.c.sequence)).all()
        assert project_of(connection) == Project(config=CONFIG, fingerprints=pairing.fingerprints)
    assert [(item.id, item.triplet_id, item.task, item.open) for item in items] == [
        (1, "t0", "fill", True), (2, "t1", "remove", False), (3, "t2", "fill", True), (4, "t3", "remove", True),
    ]  # fmt: skip
    assert [item.gold for item in items] == [None, '{"removal_quality": [2, 0]}', None, None]
    assert sorted(slots) == [(item, replicate, "work") for item in (1, 3, 4) for replicate in (0, 1)]
    for item in items:
        options = json.loads(item.options)
        assert [index for index, _ in options] == list(range(CANDIDATES))
        for picture in (item.source, item.mask, *(picture for _, picture in options)):
            assert (listed[picture].item, listed[picture].width, listed[picture].height) == (item.id, *SIZE)
            assert pictures.path(picture).exists()
    assert len(listed) == 4 * (CANDIDATES + 2)
    assert [kind for kind, _ in events] == ["project", "items"]
    assert list(json.loads(events[1].body)["items"]) == ["1", "2", "3", "4"]


def test_an_import_that_was_stopped_goes_on(
    database: Database, pictures: Pictures, pairing: Pairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "enter", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_items(database, pictures, pairing, CONFIG, clock)
    assert [import_items(database, pictures, pairing, CONFIG, clock) for _ in range(2)] == [4, 0]
    with database.reading() as connection:
        assert connection.execute(sa.select(EVENTS.c.kind).order_by(EVENTS.c.sequence)).scalars().all() == [
            "project",
            "items",
        ]


def test_another_project_is_refused_by_what_differs(
    database: Database, pictures: Pictures, pairing: Pairing, tmp_path: Path
) -> None:
    import_items(database, pictures, pairing, CONFIG, clock)
    with pytest.raises(
        ValueError, match="was made with --annotators 2, not 3; --seed 0, not 1: name another --database"
    ):
        import_items(database, pictures, pairing, replace(CONFIG, annotators=3, seed=1), clock)
    with pytest.raises(ValueError, match="was made with other triplets; other candidates"):
        import_items(database, pictures, pairing_of(tmp_path, 2), CONFIG, clock)


def test_a_database_that_holds_a_study_is_refused(database: Database, pictures: Pictures, pairing: Pairing) -> None:
    with database.writing() as connection:
        row = {"id": "p", "item": 1, "content": "0" * 64, "width": 1, "height": 1}
        connection.execute(PICTURES.insert(), row)
    with pytest.raises(ValueError, match="holds a user study: name another"):
        import_items(database, pictures, pairing, CONFIG, clock)


@pytest.mark.parametrize(
    "known",
    [gold(0, 0), gold(0, 3), gold(0, None), gold(None, 0), gold(0, 1, Dimension.STRUCTURE)],
)
def test_gold_has_to_fit_its_triplet(
    database: Database, pictures: Pictures, pairing: Pairing, known: dict[str, Gold]
) -> None:
    with pytest.raises(ValueError, match=r"t1: got gold .* expected two different candidates of"):
        import_items(database, pictures, pairing, CONFIG, clock, known)


def test_gold_of_a_triplet_that_is_not_there_is_said(database: Database, pictures: Pictures, pairing: Pairing) -> None:
    with pytest.raises(ValueError, match="gold answers for t9, but there is no such triplet"):
        import_items(database, pictures, pairing, CONFIG, clock, {"t9": {}})


def test_gold_stays_what_it_was_at_the_first_import(database: Database, pictures: Pictures, pairing: Pairing) -> None:
    """It is refused, whole, where it would change an item; the same import again goes on."""
    import_items(database, pictures, pairing, CONFIG, clock, gold(2, 0))
    assert import_items(database, pictures, pairing, CONFIG, clock, gold(2, 0)) == 0
    assert import_items(database, pictures, pairing, CONFIG, clock) == 0
    later: dict[str, Gold] = {"t3": {Dimension.REMOVAL_QUALITY: (2, 0)}}
    for other in (gold(0, 2), gold(2, 0) | later, later):
        with pytest.raises(ValueError, match=r"other gold answers for t[13] than at the first import"):
            import_items(database, pictures, pairing, CONFIG, clock, other)
    with database.reading() as connection:
        kept = connection.execute(sa.select(ITEMS.c.gold).order_by(ITEMS.c.id)).scalars().all()
        events = connection.execute(sa.select(EVENTS.c.kind)).scalars().all()
    assert kept == [None, '{"removal_quality": [2, 0]}', None, None] and len(events) == 2


def test_people_go_on_while_pictures_are_written(
    database: Database, pictures: Pictures, pairing: Pairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's import writes pictures; somebody here makes a person meanwhile."""
    writing, done, write = threading.Event(), threading.Event(), Pictures.write

    def slow(self: Pictures, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        writing.set()
        assert done.wait(30)
        return write(self, image, size)

    monkeypatch.setattr(Pictures, "write", slow)
    importing = threading.Thread(target=lambda: import_items(database, pictures, pairing, CONFIG, clock))
    importing.start()
    assert writing.wait(30)
    person, _ = Persons(database).make("Ann", Role.ANNOTATOR)
    done.set()
    importing.join()
    assert isinstance(Work(database).claim(person, uuid4()), Assignment)


def test_of_two_imports_at_once_each_item_is_there_once(
    database: Database, pictures: Pictures, pairing: Pairing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other one ends while this one has its pictures written already; those are not left behind."""
    write, others = Pictures.write, []

    def late(self: Pictures, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        picture = write(self, image, size)
        if not others:
            others.append(1)
            assert import_items(database, pictures, pairing, CONFIG, clock) == 4
        return picture

    monkeypatch.setattr(Pictures, "write", late)
    assert import_items(database, Pictures(tmp_path / "images"), pairing, CONFIG, clock) == 0
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(ITEMS)).scalar_one() == 4
        listed = {pictures.path(picture) for picture in connection.execute(sa.select(PICTURES.c.id)).scalars()}
        audit(connection)
    assert set((tmp_path / "images").rglob("*.png")) == listed


def test_gold_that_another_import_has_left_out_is_said(
    database: Database, pictures: Pictures, pairing: Pairing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write, others = Pictures.write, []

    def late(self: Pictures, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        if not others:
            others.append(1)
            import_items(database, pictures, pairing, CONFIG, clock)
        return write(self, image, size)

    monkeypatch.setattr(Pictures, "write", late)
    with pytest.raises(ValueError, match="other gold answers for t1 than at the first import"):
        import_items(database, Pictures(tmp_path / "images"), pairing, CONFIG, clock, gold(2, 0))


def test_an_import_that_was_stopped_leaves_no_pictures(
    database: Database, pairing: Pairing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write, written = Pictures.write, []

    def stops(self: Pictures, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        written.append(write(self, image, size))
        if len(written) == 8:
            raise KeyboardInterrupt
        return written[-1]

    monkeypatch.setattr(Pictures, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        import_items(database, Pictures(tmp_path / "images"), pairing, CONFIG, clock)
    assert not (tmp_path / "images").exists()
    assert import_items(database, Pictures(tmp_path / "images"), pairing, CONFIG, clock) == 4


def test_an_id_that_is_too_long_is_said(database: Database, pictures: Pictures, tmp_path: Path) -> None:
    pairing = pairing_of(tmp_path, 1, name="t" * 255)
    with pytest.raises(ValueError, match=r"got a triplet_id of 256 characters, expected 255 at most: ttt"):
        import_items(database, pictures, pairing, CONFIG, clock)


def test_a_project_is_paused_and_goes_on(database: Database) -> None:
    for paused in (True, True, False):
        pause(database, paused, clock)
        with database.reading() as connection:
            assert is_paused(connection) is paused


def test_nothing_imported_is_said(database: Database) -> None:
    with database.reading() as connection, pytest.raises(ValueError, match="nothing to annotate in this database"):
        project_of(connection)


def test_gold_comes_from_votes_that_are_trusted() -> None:
    def vote(triplet: str, dimension: Dimension, best: int | None, worst: int | None) -> Vote:
        kind = VoterKind.PERSON
        return Vote(triplet_id=triplet, dimension=dimension, best=best, worst=worst, voter="expert", kind=kind)

    votes = [
        vote("t0", Dimension.STRUCTURE, 1, 2),
        vote("t0", Dimension.AESTHETICS, None, None),
        vote("t1", Dimension.REMOVAL_QUALITY, 0, 2),
    ]
    assert gold_of(votes) == {
        "t0": {Dimension.STRUCTURE: (1, 2), Dimension.AESTHETICS: (None, None)},
        "t1": {Dimension.REMOVAL_QUALITY: (0, 2)},
    }


@pytest.mark.parametrize(
    "wrong",
    [{"annotators": 0}, {"extra": -1}, {"gold": 0.6, "repeats": 0.5}, {"repeats": -0.1}, {"lease_seconds": 0},
     {"minimum_seconds": -1}, {"repeat_after": 0}, {"gold": float("nan")}, {"lease_seconds": float("nan")},
     {"minimum_seconds": float("nan")}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"got .* expected"):
        ProjectConfig(**wrong)  # type: ignore[arg-type]
