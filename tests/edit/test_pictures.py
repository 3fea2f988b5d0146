"""Any picture that Pillow opens, in and out: size and mode kept, pixels outside the mask equal, upright."""

import io
import struct
import zlib

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from onereward.edit.pictures import (
    FORMATS,
    editable,
    encode_picture,
    mode_in_file,
    picture_and_mask,
    read_picture,
    to_rgb,
)
from tests.edit.test_editor import ANY_SIZE, painter
from tests.pictures import hole, noise
from tests.tiny import TINY_CONTRACT

ODD_SIZES = [
    (1, 1),
    (1, 97),
    (97, 1),
    (2, 3),
    (7, 5),
    (15, 17),
    (31, 33),
    (33, 31),
    (47, 49),
    (48, 48),
    (63, 65),
    (64, 64),
]
ODD_SIZES += [(65, 63), (71, 13), (13, 71), (99, 101), (101, 99), (127, 129), (200, 30), (30, 200)]

BECOMES = {
    "L": "L",
    "LA": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "I;16": "I;16",
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
    "RGBX": "RGB",
    "La": "LA",
    "RGBa": "RGBA",
    "I;16B": "I;16",
}
"""Every mode of Pillow that has a known white, and what an edit of it is."""


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    """Noise in any mode."""
    if mode in ("I;16B",):
        return noise(*size, "I;16").convert("I").convert("I;16B")
    if mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        return noise(*size, mode)
    if mode == "La":
        return noise(*size, "LA").convert("La")
    return noise(*size, "RGBA" if mode in ("PA", "RGBa") else "RGB").convert(mode)


def as_mode(image: Image.Image, mode: str) -> numpy.ndarray:
    if image.mode == "I;16B":
        return numpy.asarray(image).astype(numpy.uint16)
    return numpy.asarray(image if image.mode == mode else image.convert(mode))


@pytest.mark.parametrize("mode", BECOMES)
@pytest.mark.parametrize("size", ODD_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pixels_outside_the_mask_are_the_input_s_for_every_mode_and_odd_size(mode: str, size: tuple[int, int]) -> None:
    image, becomes = picture(mode, size), BECOMES[mode]
    mask = hole(
        size, (size[0] // 3, size[1] // 3, size[0] // 3 + max(1, size[0] // 2), size[1] // 3 + max(1, size[1] // 2))
    )
    outside, expected = numpy.asarray(mask) == 0, as_mode(image, becomes)
    for contract in (TINY_CONTRACT, ANY_SIZE):
        edited = painter(contract, lambda seen: torch.zeros_like(seen)).edit(image, mask, "a star", "fill")
        assert (edited.size, edited.mode) == (size, becomes)
        assert numpy.array_equal(numpy.asarray(edited)[outside], expected[outside])
        again = read_picture(io.BytesIO(encode_picture(edited, ".png", becomes)), "again")
        assert again.mode == becomes and numpy.array_equal(numpy.asarray(again), numpy.asarray(edited))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".webp"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_lossless_file_keeps_size_mode_and_pixels(mode: str, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    image = noise(31, 17, mode)
    if suffix == ".webp" and mode == "I;16":
        with pytest.raises(ValueError, match=r"16 bits and WebP cannot: name a \.png"):
            mode_in_file(image, suffix)
        return
    written = mode_in_file(image, suffix)
    again = read_picture(io.BytesIO(encode_picture(image, suffix, written)), "again")
    kept = not (suffix == ".webp" and mode in ("L", "LA"))
    assert (written == mode) == kept and (caplog.text == "") == kept
    assert numpy.array_equal(numpy.asarray(again), numpy.asarray(image.convert(written) if written != mode else image))


def test_jpeg_drops_sixteen_bits_and_whole_opacity_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert mode_in_file(noise(8, 8, "I;16"), ".jpg") == "L" and "JPEG encodes every pixel anew" in caplog.text
    assert mode_in_file(noise(8, 8).convert("RGBA"), ".jpg") == "RGB"
    with pytest.raises(ValueError, match="transparent in places and JPEG cannot be"):
        mode_in_file(noise(8, 8, "LA"), ".jpg")
    deep = Image.fromarray(numpy.full((8, 8), 25700, numpy.uint16))
    assert Image.open(io.BytesIO(encode_picture(deep, ".jpg", "L"))).getpixel((0, 0)) == 100


def test_sixteen_bits_are_seen_as_eight_and_come_back_in_proportion() -> None:
    levels = numpy.array([[0, 128, 129, 257, 65535]], dtype=numpy.uint16)
    assert [pixel[0] for pixel in numpy.asarray(to_rgb(Image.fromarray(levels)))[0]] == [0, 0, 1, 1, 255]


def file_of(image: Image.Image, file_format: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_file_is_read_upright_and_its_edit_has_no_orientation(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = noise(19, 12)
    file = file_of(stored, file_format, exif=exif)
    read = read_picture(file, "photo")
    assert numpy.array_equal(numpy.asarray(read), numpy.asarray(ImageOps.exif_transpose(Image.open(file))))
    assert read.size == ((12, 19) if orientation >= 5 else (19, 12))
    for suffix in FORMATS:
        assert 0x0112 not in Image.open(io.BytesIO(encode_picture(editable(read), suffix, "RGB"))).getexif()


def test_one_transparent_colour_becomes_an_alpha_channel() -> None:
    grey = Image.fromarray(numpy.array([[10, 20, 10]], dtype=numpy.uint8))
    read = editable(read_picture(file_of(grey, "PNG", transparency=10), "grey"))
    assert read.mode == "LA" and numpy.asarray(read).tolist() == [[[10, 0], [20, 255], [10, 0]]]
    palette = noise(9, 5).quantize(8)
    read = editable(read_picture(file_of(palette, "PNG", transparency=0), "palette"))
    assert read.mode == "RGBA" and set(numpy.unique(numpy.asarray(read)[..., 3])) <= {0, 255}
    assert editable(noise(9, 5).quantize(8)).mode == "RGB"


def test_sixteen_bits_of_grey_are_read_from_either_byte_order() -> None:
    levels = noise(9, 7, "I;16")
    for order in ("II", "MM"):
        data = bytearray(file_of(levels, "TIFF").getvalue())
        if order == "MM":
            swapped = Image.frombytes("I;16B", levels.size, numpy.asarray(levels).astype(">u2").tobytes())
            data = bytearray(file_of(swapped, "TIFF").getvalue())
        read = editable(read_picture(io.BytesIO(bytes(data)), "scan"))
        assert read.mode == "I;16" and numpy.array_equal(numpy.asarray(read), numpy.asarray(levels))


def test_sixteen_bits_a_colour_are_said_to_be_cut(caplog: pytest.LogCaptureFixture) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    read = read_picture(io.BytesIO(png), "deep.png")
    assert read.getpixel((0, 0)) == (0x12, 0x56, 0x9A) and "deep.png has 16 bits a colour: 8 of them" in caplog.text


def test_a_mask_of_any_mode_is_white_where_it_is_white() -> None:
    image = noise(6, 4)
    white = Image.new("L", (6, 4))
    white.paste(255, (2, 1, 4, 3))
    deep = Image.fromarray(numpy.asarray(white).astype(numpy.uint16) * 257)
    see_through = Image.new("RGBA", (6, 4), (255, 255, 255, 0))
    see_through.paste((255, 255, 255, 255), (2, 1, 4, 3))
    for mask in (white, white.convert("1"), white.convert("RGB"), white.convert("P"), deep, see_through):
        assert picture_and_mask(image, mask)[1].tobytes() == white.tobytes()


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cannot read photo\.png: .*; give a whole PNG or JPEG file"):
        read_picture(io.BytesIO(data), "photo.png")


def test_a_truncated_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"cannot read photo\.png"):
        read_picture(io.BytesIO(file_of(noise(60, 60), "PNG").getvalue()[:2000]), "photo.png")
