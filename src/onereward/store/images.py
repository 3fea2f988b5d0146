"""Encoded files <-> PIL <-> tensors: the only place that says what a pixel is.

Shape legend: C channels (3 RGB, 1 mask), H W pixels. On disk sRGB uint8; as tensors float32 in [-1, 1], masks 0 or 1.
Torch is imported inside the functions that need it, so that annotation reads images without it.
"""

import io
from typing import TYPE_CHECKING

import numpy
from PIL import ExifTags, Image, ImageOps

from onereward.terms import Triplet

if TYPE_CHECKING:
    from torch import Tensor

MASK_THRESHOLD = 128
"""Grey level from which a mask pixel is repainted: a drawn mask's soft edge goes to the nearer side."""

_PNG_LEVEL = 1  # 4 times faster than Pillow's 6 for files a tenth larger; candidates are written in millions


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes of an RGB or L image, the same bytes for the same pixels (no metadata)."""
    if image.mode not in ("RGB", "L"):
        raise ValueError(f"cannot encode a {image.mode} image: expected RGB (pictures) or L (masks); convert it first")
    plain = Image.frombytes(image.mode, image.size, image.tobytes())  # drops EXIF, ICC and text chunks
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def decode_image(data: bytes, name: str = "image") -> Image.Image:
    """The picture in an encoded file, upright (EXIF applied) and RGB; `name` is what an error calls it."""
    return _decode(data, name).convert("RGB")


def decode_mask(data: bytes, name: str = "mask") -> Image.Image:
    """The mask in an encoded file, upright and L (white = repaint); `name` is what an error calls it."""
    return plain_mask(_decode(data, name))


def plain_mask(mask: Image.Image) -> Image.Image:
    """A mask as L; where it is transparent nothing was painted, whatever colour lies there."""
    if not mask.has_transparency_data:
        return mask.convert("L")
    painted = mask.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", mask.size, (0, 0, 0, 255)), painted).convert("L")


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """Width and height of the picture in an encoded file, upright, from its header alone."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except _UNREADABLE as error:
        raise _corrupt(data, name, error) from error


def triplet_tensors(triplet: Triplet) -> "tuple[Tensor, Tensor]":
    """image_3HW and mask_1HW of a triplet; raises ValueError for a corrupt file and for a mask of another size."""
    image = decode_image(triplet.image, f"the image of {triplet.id}")
    mask = decode_mask(triplet.mask, f"the mask of {triplet.id}")
    if image.size != mask.size:
        raise ValueError(
            f"{triplet.id}: the mask is {mask.width}x{mask.height}, expected the image's {image.width}x{image.height}: "
            "draw the mask on the image itself"
        )
    return image_to_tensor(image), mask_to_tensor(mask)


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image)
    except _UNREADABLE as error:
        raise _corrupt(data, name, error) from error


_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def _corrupt(data: bytes, name: str, error: BaseException) -> ValueError:
    return ValueError(
        f"cannot decode {name} ({len(data)} bytes): {error}; expected a whole PNG or JPEG file, replace or remove it"
    )


def image_to_tensor(image: Image.Image) -> "Tensor":
    """image_3HW float32 in [-1, 1] of an RGB image."""
    import torch

    pixels_HWC = numpy.array(image.convert("RGB"), dtype=numpy.float32)
    return torch.from_numpy(pixels_HWC / 127.5 - 1).permute(2, 0, 1).contiguous()


def mask_to_tensor(mask: Image.Image) -> "Tensor":
    """mask_1HW float32, 1 where the mask is white (repaint) and 0 elsewhere."""
    import torch

    white_HW = numpy.array(mask.convert("L")) >= MASK_THRESHOLD
    return torch.from_numpy(white_HW.astype(numpy.float32))[None]


def tensor_to_image(image_3HW: "Tensor") -> Image.Image:
    """The RGB image of a tensor in [-1, 1]: clamped and rounded to the nearest of 256 levels."""
    levels_3HW = ((image_3HW.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(levels_3HW.permute(1, 2, 0).cpu().numpy())
