"""A copy of a database in use with its pictures, whole and of one moment, while people go on answering."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import Verified
from onereward.people.pictures import Pictures


def back_up(place: str, images: Path, output: Path, audit: Callable[[sa.Connection], Verified]) -> Verified:
    """Write a file of the same name with its pictures into `output`; `audit` the copy, and check each of its pictures.

    Raises ValueError for a place that is no SQLite file (PostgreSQL has pg_dump), for images that are not those of the
    database, and for an output that is there.
    """
    url = sa.make_url(place if "://" in place else f"sqlite:///{place}")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ValueError(f"got {url!r}: back PostgreSQL up with pg_dump, and copy {images} after it")
    if not Path(url.database).exists():
        raise ValueError(f"there is no database at {place}: pass the --database that answers were collected in")
    if output.exists():
        raise ValueError(f"{output} is there already: name another --output")
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    file = part / Path(url.database).name
    with sqlite3.connect(url.database) as source, sqlite3.connect(file) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    # Pictures are never changed, and are there before the database names them: what is copied after it has them all.
    pictures = Path(f"{file}.images")  # where every command looks for them
    if images.exists():
        shutil.copytree(images, pictures)
    with Database(str(file), create=False) as database, database.reading() as connection:
        found = audit(connection)
        Pictures(pictures).check(connection)
    part.rename(output)
    return found
