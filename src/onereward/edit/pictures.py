"""Pictures as people have them: any file and mode in, upright; grey, transparency and 16 bits kept on the way out.

The editor sees RGB of 8 bits. What it made goes back into the picture's own mode, inside the mask only.
Shape legend: H W pixels, C channels.
"""

import io
import logging
from pathlib import Path
from typing import IO, Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onereward.store.images import MASK_THRESHOLD, plain_mask

logger = logging.getLogger(__name__)

_KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I;16")
_BECOMES = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "I;16B": "I;16", "I;16L": "I;16"}
"""What a mode becomes that is not kept, if it is not RGB."""

FORMATS: dict[str, tuple[str, dict[str, int | bool]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}
"""Suffix -> Pillow's format and options; all but JPEG keep every pixel, PNG and TIFF every mode."""

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_picture(file: Path | IO[bytes], name: str) -> Image.Image:
    """The picture in a file, whole in memory and upright.

    Raises ValueError, calling it `name`, for no picture or a damaged one; a path to nowhere is a FileNotFoundError.
    """
    try:
        with Image.open(file) as image:
            if image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile):
                logger.warning("%s has 16 bits a colour: 8 of them are kept", name)
            return ImageOps.exif_transpose(image)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except UnidentifiedImageError:  # its own words name a place in memory
        raise ValueError(f"cannot read {name}: it is no picture; give a whole PNG or JPEG file") from None
    except _UNREADABLE as error:
        raise ValueError(f"cannot read {name}: {error}; give a whole PNG or JPEG file") from error


def upright(image: Image.Image, name: str) -> Image.Image:
    """The image loaded and turned as its EXIF says; raises ValueError, calling it `name`, if its file is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except _UNREADABLE as error:
        raise ValueError(f"cannot read {name}: {error}; replace it by a whole PNG or JPEG file") from error


def editable(image: Image.Image) -> Image.Image:
    """An upright image as L, LA, RGB, RGBA or I;16: the nearest of these to its own mode.

    Raises ValueError for whole or real numbers of 32 bits, whose white nobody knows.
    """
    if image.mode in _KEPT_MODES and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F"):
        raise ValueError(
            f"the image has {image.mode} pixels of 32 bits, expected 8 or 16: convert it to RGB, L or I;16"
        )
    mode = image.mode if image.mode in _KEPT_MODES else _BECOMES.get(image.mode, "RGB")
    if "transparency" in image.info:  # one colour stands for nothing
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    converted = _converted(image, mode)
    converted.info.pop("transparency", None)
    if image.mode not in _KEPT_MODES:
        converted.info.pop("icc_profile", None)  # it described the old mode
    return converted


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """`convert`, which fails on the big-endian 16 bits that some TIFF files have."""
    if mode != "I;16":
        return image.convert(mode)
    converted = Image.fromarray(numpy.asarray(image).astype(numpy.uint16))
    converted.info = dict(image.info)
    return converted


def picture_and_mask(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Both as an edit takes them: upright, the image `editable`, the mask 0 and 255.

    Raises ValueError for a damaged file, pixels of 32 bits, a mask of another size and an empty one.
    """
    image, mask = editable(upright(image, "the image")), upright(mask, "the mask")
    if mask.size != image.size:
        sizes = f"{mask.width}x{mask.height} and the image {image.width}x{image.height}"
        raise ValueError(f"the mask is {sizes} (upright): draw the mask on the image or resize it to fit")
    if mask.mode.startswith("I;16"):
        mask = to_rgb(editable(mask))
    binary = plain_mask(mask).point([255 if level >= MASK_THRESHOLD else 0 for level in range(256)])
    if binary.getbbox() is None:
        raise ValueError("the mask is empty: paint white what should be repainted")
    return image, binary


def to_rgb(image: Image.Image) -> Image.Image:
    """What the editor sees of an `editable` image: 8 bits a colour, transparency left out."""
    if image.mode == "I;16":
        levels_HW = (numpy.asarray(image).astype(numpy.uint32) + 128) // 257
        return Image.fromarray(levels_HW.astype(numpy.uint8)).convert("RGB")
    return image.convert("RGB")


def from_rgb(image: Image.Image, mode: str) -> Image.Image:
    """An RGB image in the mode of an `editable` one, opaque."""
    if mode == "I;16":
        return Image.fromarray(numpy.asarray(image.convert("L")).astype(numpy.uint16) * 257)
    return image.convert(mode)


def blend(new: Image.Image, old: Image.Image, share_HW: NDArray[numpy.float64]) -> Image.Image:
    """`new` where the share is 1, `old` where it is 0 (both to the last bit), mixed between; one size and mode."""
    result_HWC = numpy.array(old)
    box = _span(numpy.any(share_HW, 1)), _span(numpy.any(share_HW, 0))  # nothing changes outside it
    new_HWC, old_HWC = numpy.asarray(new)[box], result_HWC[box]
    share = share_HW[box].reshape(*old_HWC.shape[:2], *[1] * (old_HWC.ndim - 2))
    result_HWC[box] = numpy.rint(share * new_HWC + (1 - share) * old_HWC)
    result = Image.fromarray(result_HWC)
    result.info = dict(old.info)
    return result


def mode_in_file(image: Image.Image, suffix: str) -> str:
    """The mode in which an edit of an `editable` image can be written to a file with this suffix, else ValueError.

    What that changes (other pixels, another mode) is logged as a warning.
    """
    if suffix not in FORMATS:
        raise ValueError(f"unknown image format {suffix!r}, expected a name ending in {', '.join(FORMATS)}")
    file_format, mode = FORMATS[suffix][0], image.mode
    if file_format == "JPEG":
        if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("the image is transparent in places and JPEG cannot be: name a .png as output")
        logger.warning("JPEG encodes every pixel anew: name a .png as output to keep those outside the mask exact")
        return {"LA": "L", "RGBA": "RGB", "I;16": "L"}.get(mode, mode)
    if file_format == "WEBP" and mode == "I;16":
        raise ValueError("the image has 16 bits and WebP cannot: name a .png as output")
    if file_format == "WEBP" and mode in ("L", "LA"):
        logger.warning("WebP has no grey: the image becomes colour; name a .png as output to keep its mode")
        return {"L": "RGB", "LA": "RGBA"}[mode]
    return mode


def encode_picture(edited: Image.Image, suffix: str, mode: str) -> bytes:
    """An edited image as a file's bytes, in that mode; of its metadata the colour profile is kept, nothing else."""
    file_format, options = FORMATS[suffix]
    if mode != edited.mode:
        edited, info = (to_rgb(edited) if edited.mode == "I;16" else edited).convert(mode), edited.info
        edited.info = info
    buffer = io.BytesIO()
    edited.save(buffer, file_format, icc_profile=edited.info.get("icc_profile"), **options)
    return buffer.getvalue()


def _span(used: NDArray[Any] | numpy.bool_) -> slice:
    """From the first index that is used to the last."""
    indices = numpy.flatnonzero(used)
    return slice(int(indices[0]), int(indices[-1]) + 1)
