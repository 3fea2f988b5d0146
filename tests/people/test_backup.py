"""A copy of a database in use."""

import threading
from pathlib import Path

import pytest

from onereward.people.backup import back_up
from onereward.people.database import Database
from onereward.people.events import verify
from onereward.people.persons import Persons, Role


def test_a_copy_made_while_others_write_is_of_one_moment_and_holds(tmp_path: Path) -> None:
    place, images = str(tmp_path / "votes.sqlite"), tmp_path / "images"
    images.mkdir()
    (images / "picture.png").write_bytes(b"picture")
    stop = threading.Event()
    with Database(place) as database:
        persons = Persons(database)
        persons.make("Ann", Role.ANNOTATOR)

        def write() -> None:
            while not stop.is_set():
                persons.make("Bob", Role.ANNOTATOR)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = back_up(place, images, tmp_path / "copy")
        finally:
            stop.set()
            writer.join()
        with database.reading() as connection:
            whole = verify(connection, expected=found.head)
    assert 1 <= found.events <= whole.events
    with Database(str(tmp_path / "copy" / "votes.sqlite"), create=False) as copy:
        assert len(Persons(copy).all()) == found.events
    assert (tmp_path / "copy" / "images" / "picture.png").read_bytes() == b"picture"
    with pytest.raises(ValueError, match="is there already"):
        back_up(place, images, tmp_path / "copy")
    with pytest.raises(ValueError, match="no vote database"):
        back_up(str(tmp_path / "gone"), images, tmp_path / "other")
    with pytest.raises(ValueError, match="pg_dump"):
        back_up("postgresql://u:secret@h/d", images, tmp_path / "other")
