import io
from dataclasses import replace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from onereward.store.images import (
    decode_image,
    decode_mask,
    encode_png,
    image_size,
    image_to_tensor,
    mask_to_tensor,
    tensor_to_image,
    triplet_tensors,
)
from onereward.terms import Task, Triplet

sides = st.integers(1, 9)
pixels_HW3 = st.tuples(sides, sides).flatmap(lambda size: arrays(numpy.uint8, (*size, 3)))
levels_HW = st.tuples(sides, sides).flatmap(lambda size: arrays(numpy.uint8, size))


@given(pixels_HW3)
@settings(max_examples=50, deadline=None)
def test_an_image_survives_the_file_and_the_tensor(pixels: numpy.ndarray) -> None:
    image = Image.fromarray(pixels)
    assert numpy.array_equal(decode_image(encode_png(image)), pixels)
    tensor = image_to_tensor(image)
    assert tensor.shape == (3, *pixels.shape[:2]) and tensor.min() >= -1 and tensor.max() <= 1
    assert numpy.array_equal(tensor_to_image(tensor), pixels)


@given(levels_HW)
@settings(max_examples=50, deadline=None)
def test_a_mask_is_one_where_it_is_white(levels: numpy.ndarray) -> None:
    mask = decode_mask(encode_png(Image.fromarray(levels)))
    assert numpy.array_equal(mask, levels)
    assert torch.equal(mask_to_tensor(mask), torch.from_numpy((levels >= 128).astype(numpy.float32))[None])


def test_black_is_minus_one_and_white_is_one() -> None:
    tensor = image_to_tensor(Image.fromarray(numpy.array([[[0, 255, 51]]], dtype=numpy.uint8)))
    assert torch.allclose(tensor.flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_a_tensor_beyond_the_range_is_clamped() -> None:
    image = tensor_to_image(torch.tensor([-3.0, 0.0, 7.0]).view(3, 1, 1))
    assert image.getpixel((0, 0)) == (0, 128, 255)


def test_the_file_depends_on_the_pixels_alone() -> None:
    plain = Image.new("RGB", (4, 3), (10, 20, 30))
    tagged = plain.copy()
    tagged.info["icc_profile"] = b"profile"
    assert encode_png(plain) == encode_png(tagged)


def test_a_rotated_photograph_comes_out_upright() -> None:
    photo = Image.new("RGB", (40, 20))
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter clockwise to view
    buffer = io.BytesIO()
    photo.save(buffer, format="JPEG", exif=exif)
    assert decode_image(buffer.getvalue()).size == (20, 40)


def test_transparency_is_refused_and_corruption_is_named() -> None:
    with pytest.raises(ValueError, match=r"RGBA.*convert"):
        encode_png(Image.new("RGBA", (2, 2)))
    whole = encode_png(Image.effect_noise((32, 32), 50))
    for broken in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match=r"mask of triplet 7 .*replace or remove"):
            decode_mask(broken, "mask of triplet 7")


def test_a_mask_of_another_size_than_its_image_is_refused() -> None:
    image, mask = encode_png(Image.new("RGB", (6, 4))), encode_png(Image.new("L", (6, 4), 255))
    triplet = Triplet(id="t0", task=Task.FILL, prompt="a", image=image, mask=mask)
    image_3HW, mask_1HW = triplet_tensors(triplet)
    assert image_3HW.shape == (3, 4, 6)
    assert mask_1HW.shape == (1, 4, 6)
    small = replace(triplet, mask=encode_png(Image.new("L", (4, 4))))
    with pytest.raises(ValueError, match="t0: the mask is 4x4, expected the image's 6x4"):
        triplet_tensors(small)


def test_what_is_transparent_in_a_mask_was_not_painted() -> None:
    strokes = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    strokes.putpixel((1, 0), (255, 255, 255, 255))
    file = io.BytesIO()
    strokes.save(file, "PNG")
    mask = mask_to_tensor(decode_mask(file.getvalue()))
    assert mask.sum() == 1 and mask[0, 0, 1] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_the_upright_pictures(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (6, 4)).save(file, "JPEG", exif=exif)
    assert image_size(file.getvalue()) == decode_image(file.getvalue()).size
    with pytest.raises(ValueError, match="cannot decode the winner"):
        image_size(b"nothing", "the winner")
