"""A copy of a database in use."""

import threading
from pathlib import Path

import pytest

from onereward.people.backup import back_up
from onereward.people.database import Database
from onereward.people.events import verify
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Pictures
from onereward.store.images import encode_png
from tests.pictures import noise


def test_a_copy_made_while_others_write_is_of_one_moment_and_holds(tmp_path: Path) -> None:
    place, images = str(tmp_path / "votes.sqlite"), tmp_path / "images"
    stop = threading.Event()
    with Database(place) as database:
        with database.writing() as connection:
            picture = Pictures(images).add(connection, 1, encode_png(noise(8, 8))).id
        persons = Persons(database)
        persons.make("Ann", Role.ANNOTATOR)

        def write() -> None:
            while not stop.is_set():
                persons.make("Bob", Role.ANNOTATOR)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = back_up(place, images, tmp_path / "copy", verify)
        finally:
            stop.set()
            writer.join()
        with database.reading() as connection:
            whole = verify(connection, expected=found.head)
    assert 1 <= found.events <= whole.events
    with Database(str(tmp_path / "copy" / "votes.sqlite"), create=False) as copy:
        assert len(Persons(copy).all()) == found.events
    assert Pictures(tmp_path / "copy" / "votes.sqlite.images").path(picture).exists()
    with pytest.raises(ValueError, match="is there already"):
        back_up(place, images, tmp_path / "copy", verify)
    with pytest.raises(ValueError, match="there is no database at"):
        back_up(str(tmp_path / "gone"), images, tmp_path / "other", verify)
    with pytest.raises(ValueError, match="pg_dump"):
        back_up("postgresql://u:secret@h/d", images, tmp_path / "other", verify)
    Pictures(images).path(picture).write_bytes(b"another")
    with pytest.raises(ValueError, match="is not the picture that was kept there"):
        back_up(place, images, tmp_path / "other", verify)
    Pictures(images).path(picture).unlink()
    with pytest.raises(ValueError, match=r"1 of 1 pictures is missing, the first .*: restore from a backup, or pass"):
        back_up(place, images, tmp_path / "other", verify)
    assert not (tmp_path / "other").exists()
