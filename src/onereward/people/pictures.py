"""What people look at: every picture a plain PNG under a random id, so that neither name nor bytes tell its origin."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from onereward.people.persons import new_id
from onereward.people.tables import PICTURES
from onereward.store.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that was kept."""

    id: str
    content: str  # SHA-256 of the file
    width: int
    height: int


class Pictures:
    """A folder of files, one a picture, beside the database that lists them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[str] = []

    def write(self, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        """Keep an encoded picture (of `size`, if one is wanted) that `enter` will list; it is nobody's until then.

        Raises ValueError for bytes that are no picture.
        """
        data, (width, height) = plain_png(image, size)
        content = hashlib.sha256(data).hexdigest()
        picture = Picture(id=new_id(), content=content, width=width, height=height)
        path = self.path(picture.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.append(picture.id)
        write_atomically(path, data)
        os.utime(path, (0, 0))  # nor when it was made
        return picture

    def enter(self, connection: sa.Connection, item: int, pictures: Iterable[Picture]) -> None:
        """List pictures as those of an item, in the caller's transaction."""
        connection.execute(PICTURES.insert(), [{"item": item, **asdict(picture)} for picture in pictures])

    @contextmanager
    def whole_or_none(self) -> Iterator[None]:
        """Remove what is written in the block if it fails."""
        before = len(self._written)
        try:
            yield
        except BaseException:
            self.remove(self._written[before:])
            raise

    def remove(self, pictures: Iterable[str]) -> None:
        """Remove files, by the ids of pictures that no database lists, and the folders that they leave empty."""
        for path in map(self.path, pictures):
            path.unlink(missing_ok=True)
            for folder in (path.parent, self._folder):
                with suppress(OSError):  # it holds others
                    folder.rmdir()

    def add(self, connection: sa.Connection, item: int, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        """Both, in a transaction during which nobody need write anything else."""
        picture = self.write(image, size)
        self.enter(connection, item, [picture])
        return picture

    def require(self, connection: sa.Connection) -> None:
        """Raise ValueError if the pictures that the database names are not in this folder."""
        known = connection.execute(sa.select(PICTURES.c.id).limit(1)).scalar_one_or_none()
        if known is not None and not self.path(known).exists():
            raise ValueError(f"{self._folder} has not the pictures of this database: pass their --images folder")

    def check(self, connection: sa.Connection) -> None:
        """Raise ValueError unless each picture that the database names is, to the byte, the file that was kept."""
        rows = connection.execute(sa.select(PICTURES.c.id, PICTURES.c.content).order_by(PICTURES.c.id)).all()
        if missing := [path for path in (self.path(row.id) for row in rows) if not path.exists()]:
            raise ValueError(
                f"{len(missing)} of {len(rows)} pictures {'is' if len(missing) == 1 else 'are'} missing, the first "
                f"{missing[0]}: restore from a backup, or pass the --images folder of this database"
            )
        for row in rows:
            path = self.path(row.id)
            if hashlib.sha256(path.read_bytes()).hexdigest() != row.content:
                raise ValueError(f"{path} is not the picture that was kept there: it was altered")

    def path(self, picture: str) -> Path:
        """Where a picture's file lies; the id must be one that the database has, never what a browser sent."""
        return self._folder / picture[:2] / f"{picture}.png"


def plain_png(image: bytes, size: tuple[int, int] | None = None) -> tuple[bytes, tuple[int, int]]:
    """The same pixels as an RGB PNG of one kind, without metadata, with their size (width, height)."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            pixels = opened.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture cannot be read: {error}") from error
    if size is not None and pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    pixels.info.clear()
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue(), pixels.size
