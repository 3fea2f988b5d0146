"""Any picture in, the edited picture out: untouched outside the mask, upright, in place, the same for the same seed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from diffusers import FluxFillPipeline
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import onereward
from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.jobs import EditRequest
from onereward.edit.regions import Fit
from onereward.models.contract import Contract
from onereward.store.images import image_to_tensor
from onereward.terms import Task
from tests.pictures import hole, noise
from tests.tiny import SEQUENCE_LENGTH, TINY_CONTRACT, tiny_flux_fill_folder

PROMPT = "a red star"
ANY_SIZE = replace(TINY_CONTRACT, native_size=None, max_pixels=48 * 48)
"""Instead of a square around the hole, as much of the picture as 48 x 48 pixels hold."""


class Painter:
    """Stands in for `FluxFill`: returns `paint` of the image that it is shown, and remembers what that was."""

    def __init__(self, contract: Contract, paint: Callable[[Tensor], Tensor]) -> None:
        self.contract, self.paint = contract, paint
        self.images_B3HW, self.masks_B1HW = torch.empty(0), torch.empty(0)

    def repaint(self, image_B3HW: Tensor, mask_B1HW: Tensor, *_: object, **__: object) -> Tensor:
        self.images_B3HW, self.masks_B1HW = image_B3HW, mask_B1HW
        return self.paint(image_B3HW)


def painter(contract: Contract, paint: Callable[[Tensor], Tensor]) -> ImageEditor:
    model: Any = Painter(contract, paint)
    return ImageEditor(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("editor"))


@pytest.fixture(scope="module")
def editor(folder: Path) -> ImageEditor:
    return load_editor(str(folder))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Image.Image, Image.Image]:
    """A picture of any shape and mode with a rectangular hole anywhere in it."""
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    picture = noise(width, height, draw(st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16"])))
    return picture, hole(picture.size, (left, top, right, bottom))


@pytest.mark.parametrize("contract", [TINY_CONTRACT, ANY_SIZE], ids=["square around the hole", "any size"])
@pytest.mark.parametrize("fit", Fit)
@settings(max_examples=40)
@given(given_=pictures())
@example(given_=(noise(50, 30, "LA"), hole((50, 30), (0, 0, 50, 30))))
@example(given_=(noise(70, 33, "RGBA"), hole((70, 33), (69, 0, 70, 33))))
@example(given_=(noise(1, 80, "L"), hole((1, 80), (0, 79, 1, 80))))
def test_outside_the_mask_nothing_changes_and_inside_everything_is_new(
    contract: Contract, fit: Fit, given_: tuple[Image.Image, Image.Image]
) -> None:
    image, mask = given_
    edited = painter(contract, lambda seen: torch.full_like(seen, 0.2)).edit(image, mask, PROMPT, Task.FILL, fit=fit)
    assert (edited.size, edited.mode) == (image.size, image.mode)
    inside = numpy.asarray(mask) > 0
    assert numpy.array_equal(numpy.asarray(edited)[~inside], numpy.asarray(image)[~inside])
    opaque = {"L": 153, "LA": (153, 255), "RGB": (153,) * 3, "RGBA": (153, 153, 153, 255), "I;16": 153 * 257}
    assert (numpy.asarray(edited)[inside] == opaque[image.mode]).all()


@pytest.mark.parametrize("contract", [TINY_CONTRACT, ANY_SIZE], ids=["square around the hole", "any size"])
@pytest.mark.parametrize("size", [(32, 32), (200, 140), (90, 201), (20, 11), (300, 40)])
@pytest.mark.parametrize("where", [(0.0, 0.0), (0.4, 0.5), (0.7, 0.7)])
@pytest.mark.parametrize("fit", Fit)
def test_what_the_editor_leaves_alone_comes_back_in_place_and_to_scale(
    contract: Contract, fit: Fit, size: tuple[int, int], where: tuple[float, float]
) -> None:
    width, height = size
    rows, columns = numpy.mgrid[:height, :width]
    slopes = (255 * columns / width, 255 * rows / height, 128 + 0 * rows)
    image = Image.fromarray(numpy.stack(slopes, axis=2).astype(numpy.uint8))
    left, top = int(where[0] * width), int(where[1] * height)
    mask = hole(size, (left, top, left + ceil_third(width), top + ceil_third(height)))
    same = numpy.asarray(painter(contract, lambda seen: seen).edit(image, mask, PROMPT, "fill", fit=fit), dtype=int)
    # One pixel seen covers at most 300 / 32 pixels of 255 / 40 levels; half of it at a picture's edge.
    step = 255 / min(size) * max(1, max(size) / 32)
    assert abs(same - numpy.asarray(image)).max() <= 1 + step / 2
    assert abs((same - numpy.asarray(image)).mean()) < 1


def ceil_third(length: int) -> int:
    return -(-length // 3)


def test_the_mask_that_the_editor_sees_covers_the_hole_and_no_more() -> None:
    image, mask = noise(200, 160), hole((200, 160), (100, 60, 141, 91))
    shown = painter(TINY_CONTRACT, lambda seen: seen)
    shown.edit(image, mask, PROMPT, Task.FILL)
    model: Any = shown.model
    # A square of 1.75 x 41 = 72 pixels with the hole in its middle, x 84..155 and y 39..110, shown at 32.
    expected = numpy.zeros((32, 32), dtype=bool)
    for y in range(60, 91):
        for x in range(100, 141):
            expected[int((y - 39 + 0.5) * 32 / 72), int((x - 84 + 0.5) * 32 / 72)] = True
    assert numpy.array_equal(model.masks_B1HW[0, 0].numpy() > 0, expected)
    box = image.crop((84, 39, 156, 111)).resize((32, 32), Image.Resampling.BOX)
    assert torch.equal(model.images_B3HW[0], image_to_tensor(box))


@pytest.mark.parametrize("contract", [TINY_CONTRACT, ANY_SIZE], ids=["square around the hole", "any size"])
@pytest.mark.parametrize("fit", Fit)
@settings(max_examples=40)
@given(given_=pictures())
def test_colours_of_the_hole_do_not_reach_what_the_editor_sees_as_known(
    contract: Contract, fit: Fit, given_: tuple[Image.Image, Image.Image]
) -> None:
    image, mask = given_
    pixels = numpy.array(image)
    pixels[numpy.asarray(mask) > 0] = 255
    scribbled = Image.fromarray(pixels)
    known = []
    for picture in (image, scribbled):
        shown = painter(contract, lambda seen: seen)
        shown.edit(picture, mask, PROMPT, Task.FILL, fit=fit)
        model: Any = shown.model
        known.append(model.images_B3HW * (1 - model.masks_B1HW))
    assert torch.equal(*known)


@pytest.mark.parametrize(
    ("contract", "fit", "size", "seen", "white"),
    [
        (ANY_SIZE, Fit.PAD, (41, 30), (48, 32), 4),  # mirrored at its edges up to multiples of 8
        (ANY_SIZE, Fit.SNAP, (41, 30), (40, 32), 4),  # resized to the nearest ones
        (ANY_SIZE, Fit.PAD, (96, 96), (48, 48), 1),  # shrunk by 2 to what the editor can take
        (ANY_SIZE, Fit.SNAP, (96, 96), (48, 48), 1),
        # 41 x 41 with mirrored margins, at 32: columns 10.5 and 11.5 of 41 are both in column 8 of 32
        (TINY_CONTRACT, Fit.PAD, (41, 30), (32, 32), 2),
        (TINY_CONTRACT, Fit.SNAP, (32, 16), (32, 32), 8),  # two rows of the square for one of the picture
    ],
)
def test_the_whole_picture_is_seen_where_it_is_not_cropped(
    contract: Contract, fit: Fit, size: tuple[int, int], seen: tuple[int, int], white: int
) -> None:
    shown = painter(contract, lambda image: image)
    shown.edit(noise(*size), hole(size, (10, 10, 12, 12)), PROMPT, Task.FILL, fit=fit)
    model: Any = shown.model
    assert tuple(model.masks_B1HW.shape) == (1, 1, seen[1], seen[0])
    assert model.masks_B1HW.sum() == white


@pytest.mark.parametrize(
    ("size", "box", "seen", "white"),
    [
        ((48, 48), (10, 10, 12, 12), (48, 48), 4),  # all of it, as it is
        ((41, 30), (10, 10, 12, 12), (48, 32), 4),  # all of it, mirrored at its edges to multiples of 8
        ((96, 96), (50, 50, 54, 54), (48, 48), 16),  # the 48 x 48 around a small hole, not shrunk
        ((96, 96), (0, 0, 96, 96), (48, 48), 48 * 48),  # all of it, shrunk by 2
        # 1.75 x 24 = 42 of 48 rows, a part of 7/8: 168 x 42, up to 168 x 48, shrunk by 1.75 to 96 x 27, down to 96 x 24
        ((192, 48), (90, 8, 94, 32), (96, 24), 2 * 12),
    ],
)
def test_an_editor_of_any_size_sees_as_much_as_it_can_take(
    size: tuple[int, int], box: tuple[int, int, int, int], seen: tuple[int, int], white: int
) -> None:
    shown = painter(ANY_SIZE, lambda image: image)
    shown.edit(noise(*size), hole(size, box), PROMPT, Task.FILL)
    model: Any = shown.model
    assert tuple(model.masks_B1HW.shape) == (1, 1, seen[1], seen[0])
    assert model.masks_B1HW.sum() == white


def test_at_its_own_size_it_is_the_stock_pipeline_pasted(folder: Path, editor: ImageEditor) -> None:
    image, mask = noise(32, 32), hole((32, 32), (4, 6, 20, 30))
    stock = FluxFillPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    output = stock(
        prompt=PROMPT,
        image=image,
        mask_image=mask,
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=TINY_CONTRACT.guidance,
        max_sequence_length=SEQUENCE_LENGTH,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    expected = Image.composite(output, image, mask)
    edited = editor.edit(image, mask, PROMPT, "fill", seed=5, steps=2)
    assert numpy.array_equal(numpy.asarray(edited), numpy.asarray(expected))


def test_the_seed_decides_the_image(editor: ImageEditor) -> None:
    image, mask = noise(40, 36), hole((40, 36), (10, 10, 25, 25))
    first, again, other = (editor.edit(image, mask, PROMPT, "fill", seed=seed).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_a_seeds_image_does_not_depend_on_its_batch_mates(editor: ImageEditor) -> None:
    sizes = [(40, 36), (70, 20), (32, 32)]
    edits = [
        EditRequest(
            image=noise(*size),
            mask=hole(size, (2, 3, 15, 17)),
            prompt=PROMPT,
            task=Task.FILL,
            seed=seed,
            true_cfg=1.5 + seed,
            negative_prompt="nsfw",
            steps=2,
        )
        for seed, size in enumerate(sizes)
    ]
    steps: list[int] = []
    together = editor.edit_batch(edits, on_step=lambda: steps.append(1))
    assert len(steps) == 2  # all three are seen at one size
    for edit, edited in zip(edits, together, strict=True):
        [alone] = editor.edit_batch([edit])
        difference = numpy.asarray(edited, dtype=int) - numpy.asarray(alone)
        assert abs(difference).max() <= 1


def test_settings_default_to_the_contract(editor: ImageEditor) -> None:
    image, mask = noise(32, 32), hole((32, 32), (4, 6, 20, 30))
    plain = editor.edit(image, mask, PROMPT, "fill").tobytes()
    named = editor.edit(image, mask, PROMPT, "fill", steps=3, guidance=3.5, true_cfg=1.0, negative_prompt="").tobytes()
    assert plain == named
    for change in ({"steps": 2}, {"guidance": 30.0}, {"true_cfg": 4.0, "negative_prompt": "nsfw"}):
        assert editor.edit(image, mask, PROMPT, "fill", **change).tobytes() != plain
    assert (
        editor.edit(image, mask, "a blue disc", "remove").tobytes() == editor.edit(image, mask, "", "remove").tobytes()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": hole((20, 16), (1, 1, 5, 5))}, "the mask is 20x16 and the image 40x32"),
        ({"mask": Image.new("L", (40, 32), 127)}, "the mask is empty"),
        ({"task": "paint"}, "unknown task 'paint'; the tasks are fill, extend, remove, text"),
        ({"image": Image.new("I", (40, 32))}, "I pixels of 32 bits"),
        ({"fit": "stretch"}, "'stretch' is not a valid Fit"),
        ({"feather": -1}, "got a feather of -1"),
        ({"prompt": ""}, "task fill got an empty prompt"),
        ({"seed": -1}, "got seed -1"),
        ({"steps": 0}, "got 0 sampling steps"),
    ],
)
def test_wrong_input_is_refused(editor: ImageEditor, change: dict[str, Any], message: str) -> None:
    right = {"image": noise(40, 32), "mask": hole((40, 32), (5, 5, 20, 20)), "prompt": PROMPT, "task": "fill"}
    with pytest.raises(ValueError, match=message) as caught:
        editor.edit(**right | change)
    assert "\n" not in str(caught.value)


def test_a_feather_fades_the_edit_in_from_the_picture_and_leaves_the_outside_alone() -> None:
    image, mask = Image.new("L", (32, 32), 100), hole((32, 32), (8, 0, 24, 32))
    edited = painter(TINY_CONTRACT, torch.ones_like).edit(image, mask, PROMPT, "fill", feather=3)
    pixels = numpy.asarray(edited)
    # Columns 8, 9, 10 are 1, 2, 3 pixels from the nearest one outside: quarters of the way from 100 to 255.
    assert [int(level) for level in pixels[5, 6:12]] == [100, 100, 139, 178, 216, 255]
    assert numpy.array_equal(pixels, pixels[:1].repeat(32, 0))  # the picture's own edge is no edge of the mask
    everything = hole((32, 32), (0, 0, 32, 32))
    whole = painter(TINY_CONTRACT, torch.ones_like).edit(image, everything, PROMPT, "fill", feather=3)
    assert whole.getextrema() == (255, 255)


@settings(max_examples=30)
@given(given_=pictures(), feather=st.integers(1, 20))
def test_a_feather_never_reaches_outside(given_: tuple[Image.Image, Image.Image], feather: int) -> None:
    image, mask = given_
    edited = painter(ANY_SIZE, torch.ones_like).edit(image, mask, PROMPT, "fill", feather=feather)
    outside = numpy.asarray(mask) == 0
    assert numpy.array_equal(numpy.asarray(edited)[outside], numpy.asarray(image)[outside])


def test_load_editor_is_exported_and_knows_toy() -> None:
    image, mask = noise(80, 70), hole((80, 70), (20, 20, 50, 60))
    edited = onereward.load_editor("toy").edit(image, mask, PROMPT, task="fill", seed=1, steps=1)
    outside = numpy.asarray(mask) == 0
    assert numpy.array_equal(numpy.asarray(edited)[outside], numpy.asarray(image)[outside])
    assert not numpy.array_equal(numpy.asarray(edited), numpy.asarray(image))
