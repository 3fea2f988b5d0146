"""A copy of a database in use with its pictures, whole and of one moment, while people go on answering."""

import shutil
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import Verified, verify
from onereward.people.pictures import Pictures


def back_up(place: str, images: Path, output: Path) -> Verified:
    """Write `output`/votes.sqlite and `output`/images, and check the copy's chain of events.

    Raises ValueError for a place that is no SQLite file (PostgreSQL has pg_dump), for images that are not those of the
    database, and for an output that is there.
    """
    url = sa.make_url(place if "://" in place else f"sqlite:///{place}")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ValueError(f"got {url!r}: back PostgreSQL up with pg_dump, and copy {images} after it")
    if not Path(url.database).exists():
        raise ValueError(f"no vote database at {place}: pass the --database that votes were collected in")
    if output.exists():
        raise ValueError(f"{output} is there already: name another --output")
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with sqlite3.connect(url.database) as source, sqlite3.connect(part / "votes.sqlite") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    # Pictures are never changed, and are there before the database names them: what is copied after it has them all.
    if images.exists():
        shutil.copytree(images, part / "images")
    with Database(str(part / "votes.sqlite"), create=False) as database, database.reading() as connection:
        Pictures(part / "images").require(connection)
        found = verify(connection)
    part.rename(output)
    return found
