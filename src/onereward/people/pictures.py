"""What people look at: every picture a plain PNG under a random id, so that neither name nor bytes tell its origin."""

import hashlib
import io
import os
from dataclasses import dataclass
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
    width: int
    height: int


class Pictures:
    """A folder of files, one a picture, beside the database that lists them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, connection: sa.Connection, item: int, image: bytes, size: tuple[int, int] | None = None) -> Picture:
        """Keep an encoded picture of an item (of `size`, if one is wanted), listed in the caller's transaction.

        Raises ValueError for bytes that are no picture.
        """
        data, (width, height) = plain_png(image, size)
        picture = Picture(id=new_id(), width=width, height=height)
        path = self.path(picture.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        os.utime(path, (0, 0))  # nor when it was made
        content = hashlib.sha256(data).hexdigest()
        row = {"id": picture.id, "item": item, "content": content, "width": width, "height": height}
        connection.execute(PICTURES.insert(), row)
        return picture

    def path(self, picture: str) -> Path:
        """Where a picture's file lies; the id must be one that the database has, never what a browser sent."""
        return self._folder / picture[:2] / f"{picture}.png"


def plain_png(image: bytes, size: tuple[int, int] | None = None) -> tuple[bytes, tuple[int, int]]:
    """The same pixels as an RGB PNG of one kind, without metadata, with their size (width, height)."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            pixels = opened.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"a picture cannot be read: {error}") from error
    if size is not None and pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    pixels.info.clear()
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue(), pixels.size
