"""Pictures that strangers send: looked at by their headers first, so that none is decoded that is too large."""

import base64
import binascii
import io

from PIL import Image, UnidentifiedImageError

from onereward.edit.jobs import EditJob
from onereward.edit.pictures import read_picture
from onereward.store.images import image_size

_FORMATS = ("PNG", "JPEG", "WEBP")
"""Whose readers in Pillow allocate by the size in the header, and start no other program."""


def check_pictures(job: EditJob, most_pixels: int) -> None:
    """Raise ValueError unless the job's pictures are held in it, whole, and with its canvas of at most `most_pixels`.

    Decodes them once; what is made of them is thrown away.
    """
    image = _file_in(job.image, "the image")
    _check_header(image, "the image", most_pixels)
    if job.mask is not None:
        _check_header(_file_in(job.mask, "the mask"), "the mask", most_pixels)
    else:
        width, height = image_size(image, "the image")
        borders = job.borders((width, height))
        canvas = (width + borders.left + borders.right, height + borders.top + borders.bottom)
        _check_size(canvas, "the extended image", most_pixels)
    job.request()


def picture_in(source: str, name: str, most_pixels: int) -> Image.Image:
    """The picture in a data: URL, upright; ValueError, calling it `name`, unless it is whole and no larger."""
    file = _file_in(source, name)
    _check_header(file, name, most_pixels)
    return read_picture(io.BytesIO(file), name)


def _check_header(file: bytes, name: str, most_pixels: int) -> None:
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            _check_size(image.size, name, most_pixels)
    except UnidentifiedImageError:
        raise ValueError(f"cannot read {name}: it is no PNG, JPEG or WebP file") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large: {error}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read {name}: {error}; give a whole PNG, JPEG or WebP file") from error


def _file_in(source: str, name: str) -> bytes:
    head, _, body = source.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise ValueError(f"{name} must be sent itself, as data:image/png;base64,... or as a file of a multipart form")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is no base64: {error}") from error


def _check_size(size: tuple[int, int], name: str, most_pixels: int) -> None:
    if size[0] * size[1] > most_pixels:
        raise ValueError(
            f"{name} has {size[0]}x{size[1]} pixels, at most {most_pixels:,} are taken: send a smaller one"
        )
