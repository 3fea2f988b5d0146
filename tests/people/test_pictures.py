"""Pictures as people get them: the same pixels in a file of one kind, under a name that says nothing."""

import io
import struct
from pathlib import Path

import numpy
import pytest
import sqlalchemy as sa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from onereward.people.database import Database
from onereward.people.pictures import Pictures, plain_png
from onereward.people.tables import PICTURES
from tests.pictures import noise


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def chunks(png: bytes) -> list[bytes]:
    """The kinds of a PNG's parts, in order."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += 12 + length
    return found


def test_equal_pixels_give_equal_bytes_whatever_they_came_in() -> None:
    picture = noise(21, 13)
    text = PngInfo()
    text.add_text("Software", "the best editor")
    forms = [
        encoded(picture, "PNG"),
        encoded(picture, "PNG", pnginfo=text, dpi=(300, 300), compress_level=1, icc_profile=b"profile"),
        encoded(picture.convert("RGBA"), "PNG"),
        encoded(picture, "BMP"),
        encoded(picture, "WEBP", lossless=True),
    ]
    plain = {plain_png(form) for form in forms}
    assert len(plain) == 1
    [(data, size)] = plain
    assert size == (21, 13) and set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"}
    assert numpy.array_equal(numpy.asarray(Image.open(io.BytesIO(data))), numpy.asarray(picture))


def test_what_a_camera_wrote_is_left_out() -> None:
    exif = Image.Exif()
    exif[0x010E] = "made by the best editor"
    data, _ = plain_png(encoded(noise(16, 16), "JPEG", exif=exif, comment=b"the best editor"))
    assert set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"} and b"editor" not in data


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_one_of_three_channels_and_of_the_wanted_size(mode: str) -> None:
    picture = noise(20, 10).convert(mode) if mode != "I;16" else noise(20, 10, mode)
    data, size = plain_png(encoded(picture, "TIFF" if mode == "CMYK" else "PNG"), (30, 15))
    opened = Image.open(io.BytesIO(data))
    assert (opened.mode, opened.size, size) == ("RGB", (30, 15), (30, 15))


def test_what_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(noise(64, 64), "PNG")
    for data in (b"", b"no picture", whole[:200], whole[:-30]):
        with pytest.raises(ValueError, match="a picture cannot be read"):
            plain_png(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="a picture cannot be read"):
        plain_png(whole)


def test_names_and_times_of_files_say_nothing(place: str, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "images")
    with Database(place) as database:
        with database.writing() as connection:
            kept = [pictures.add(connection, 7, encoded(noise(8, 8), "PNG"), (4, 4)) for _ in range(2)]
        with database.reading() as connection:
            rows = connection.execute(sa.select(PICTURES)).all()
    assert {(row.id, row.item, row.width, row.height) for row in rows} == {(each.id, 7, 4, 4) for each in kept}
    one, two = (pictures.path(each.id) for each in kept)
    assert one.read_bytes() == two.read_bytes() and one.name != two.name
    assert one.stat().st_mtime == two.stat().st_mtime == 0
    assert len({row.content for row in rows}) == 1
    assert len(list((tmp_path / "images").rglob("*.*"))) == 2


def test_a_folder_without_the_pictures_of_the_database_is_refused(tmp_path: Path) -> None:
    with Database(str(tmp_path / "votes.sqlite")) as database:
        with database.writing() as connection:
            Pictures(tmp_path / "nowhere").require(connection)  # nothing is named yet
            Pictures(tmp_path / "images").add(connection, 1, encoded(Image.new("RGB", (4, 3)), "PNG"))
        with database.reading() as connection:
            Pictures(tmp_path / "images").require(connection)
            with pytest.raises(ValueError, match="has not the pictures of this database: pass their --images"):
                Pictures(tmp_path / "nowhere").require(connection)
