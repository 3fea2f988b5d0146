"""Any picture in, the edited picture out: untouched outside the mask, upright, in place, the same for the same seed."""

import errno
import json
import os
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
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

import onereward
from onereward.cli.main import main
from onereward.edit import Borders, EditRequest, ImageEditor, extend_canvas, load_editor
from onereward.models.contract import Contract
from onereward.store.images import image_to_tensor
from onereward.terms import Task
from tests.tiny import SEQUENCE_LENGTH, TINY_CONTRACT, tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder

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


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if bands == 1 else (height, width, bands)
    return Image.fromarray(numpy.random.default_rng(width).integers(0, 256, shape, dtype=numpy.uint8), mode)


def hole(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Image.Image, Image.Image]:
    """A picture of any shape and mode with a rectangular hole anywhere in it."""
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    picture = noise(width, height, draw(st.sampled_from(["L", "LA", "RGB", "RGBA"])))
    return picture, hole(picture.size, (left, top, right, bottom))


@pytest.mark.parametrize("contract", [TINY_CONTRACT, ANY_SIZE], ids=["square around the hole", "any size"])
@settings(max_examples=60)
@given(given_=pictures())
@example(given_=(noise(50, 30, "LA"), hole((50, 30), (0, 0, 50, 30))))
@example(given_=(noise(70, 33, "RGBA"), hole((70, 33), (69, 0, 70, 33))))
@example(given_=(noise(1, 80, "L"), hole((1, 80), (0, 79, 1, 80))))
def test_outside_the_mask_nothing_changes_and_inside_everything_is_new(
    contract: Contract, given_: tuple[Image.Image, Image.Image]
) -> None:
    image, mask = given_
    edited = painter(contract, lambda seen: torch.full_like(seen, 0.2)).edit(image, mask, PROMPT, Task.FILL)
    assert (edited.size, edited.mode) == (image.size, image.mode)
    inside = numpy.asarray(mask) > 0
    assert numpy.array_equal(numpy.asarray(edited)[~inside], numpy.asarray(image)[~inside])
    opaque = {"L": 153, "LA": (153, 255), "RGB": (153,) * 3, "RGBA": (153, 153, 153, 255)}
    assert (numpy.asarray(edited)[inside] == opaque[image.mode]).all()


@pytest.mark.parametrize("contract", [TINY_CONTRACT, ANY_SIZE], ids=["square around the hole", "any size"])
@pytest.mark.parametrize("size", [(32, 32), (200, 140), (90, 201), (20, 11), (300, 40)])
@pytest.mark.parametrize("where", [(0.0, 0.0), (0.4, 0.5), (0.7, 0.7)])
def test_what_the_editor_leaves_alone_comes_back_in_place_and_to_scale(
    contract: Contract, size: tuple[int, int], where: tuple[float, float]
) -> None:
    width, height = size
    rows, columns = numpy.mgrid[:height, :width]
    slopes = (255 * columns / width, 255 * rows / height, 128 + 0 * rows)
    image = Image.fromarray(numpy.stack(slopes, axis=2).astype(numpy.uint8))
    left, top = int(where[0] * width), int(where[1] * height)
    mask = hole(size, (left, top, left + ceil_third(width), top + ceil_third(height)))
    same = numpy.asarray(painter(contract, lambda seen: seen).edit(image, mask, PROMPT, "fill"), dtype=int)
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
@settings(max_examples=60)
@given(given_=pictures())
def test_colours_of_the_hole_do_not_reach_what_the_editor_sees_as_known(
    contract: Contract, given_: tuple[Image.Image, Image.Image]
) -> None:
    image, mask = given_
    scribbled = Image.composite(Image.new(image.mode, image.size, "white"), image, mask)
    known = []
    for picture in (image, scribbled):
        shown = painter(contract, lambda seen: seen)
        shown.edit(picture, mask, PROMPT, Task.FILL)
        model: Any = shown.model
        known.append(model.images_B3HW * (1 - model.masks_B1HW))
    assert torch.equal(*known)


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
            true_cfg=1.0 + seed,
        )
        for seed, size in enumerate(sizes)
    ]
    steps: list[int] = []
    together = editor.edit_batch(edits, steps=2, negative_prompt="nsfw", on_step=lambda: steps.append(1))
    assert len(steps) == 2  # all three are seen at one size
    for edit, edited in zip(edits, together, strict=True):
        [alone] = editor.edit_batch([edit], steps=2, negative_prompt="nsfw")
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
    ("size", "borders", "wanted"),
    [
        ((400, 300), Borders.to_ratio((400, 300), (16, 9)), (534, 300)),  # 300 * 16 / 9 = 533.3
        ((300, 400), Borders.to_ratio((300, 400), (16, 9)), (712, 400)),  # 711.1
        ((400, 300), Borders.to_ratio((400, 300), (1, 1)), (400, 400)),
        ((400, 300), Borders.to_size((400, 300), (403, 500)), (403, 500)),
        ((30, 20), Borders(left=3, bottom=7), (33, 27)),
    ],
)
def test_an_extend_has_the_wanted_canvas(size: tuple[int, int], borders: Borders, wanted: tuple[int, int]) -> None:
    image = noise(*size)
    canvas, mask = extend_canvas(image, borders)
    assert canvas.size == mask.size == wanted
    assert abs(borders.left - borders.right) <= 1 or borders == Borders(left=3, bottom=7)
    old = (borders.left, borders.top, borders.left + size[0], borders.top + size[1])
    assert canvas.crop(old).tobytes() == image.tobytes()
    assert mask.crop(old).getextrema() == (0, 0)
    assert int((numpy.asarray(mask) == 255).sum()) == wanted[0] * wanted[1] - size[0] * size[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Borders.to_size((40, 30), (39, 50)), "only adds pixels, got 39x50 for an image of 40x30"),
        (lambda: extend_canvas(noise(4, 4), Borders(left=-1, top=3)), "no side may be negative"),
        (lambda: extend_canvas(noise(4, 4), Borders.to_ratio((4, 4), (2, 2))), "one at least must be above 0"),
    ],
)
def test_an_extend_that_adds_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": hole((20, 16), (1, 1, 5, 5))}, "the mask is 20x16 and the image 40x32"),
        ({"mask": Image.new("L", (40, 32), 127)}, "the mask is empty"),
        ({"task": "paint"}, "unknown task 'paint'; the tasks are fill, extend, remove, text"),
        ({"image": Image.new("I;16", (40, 32))}, "8 bits a channel"),
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


@pytest.mark.parametrize(
    ("mode", "becomes"), [("P", "RGB"), ("1", "L"), ("CMYK", "RGB"), ("PA", "RGBA"), ("YCbCr", "RGB")]
)
def test_other_modes_become_the_nearest_of_the_four(editor: ImageEditor, mode: str, becomes: str) -> None:
    image = noise(40, 32, "RGBA" if mode == "PA" else "RGB").convert(mode)
    mask = hole((40, 32), (5, 5, 20, 20))
    edited = editor.edit(image, mask, PROMPT, "fill", steps=1)
    assert edited.mode == becomes
    outside = numpy.asarray(mask) == 0
    assert numpy.array_equal(numpy.asarray(edited)[outside], numpy.asarray(image.convert(becomes))[outside])


def test_load_editor_is_exported_and_knows_toy() -> None:
    image, mask = noise(80, 70), hole((80, 70), (20, 20, 50, 60))
    edited = onereward.load_editor("toy").edit(image, mask, PROMPT, task="fill", seed=1, steps=1)
    outside = numpy.asarray(mask) == 0
    assert numpy.array_equal(numpy.asarray(edited)[outside], numpy.asarray(image)[outside])
    assert not numpy.array_equal(numpy.asarray(edited), numpy.asarray(image))


def test_the_judge_of_two_finished_images(tmp_path: Path) -> None:
    judge = onereward.load_judge(str(tiny_judge_folder(tmp_path)))
    first, second = noise(112, 56), noise(112, 56).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    better = judge.prob_better(first, second, "fill", "structure", PROMPT)
    assert 0 < better < 1 and better != 0.5
    assert judge.prob_better(second, first, "fill", "structure", PROMPT) == pytest.approx(1 - better, abs=1e-6)
    assert judge.prob_better(first, first, "fill", "structure", PROMPT) == pytest.approx(0.5, abs=1e-6)
    assert judge.prob_better(first, second, "remove", "removal_quality", "") != better
    with pytest.raises(ValueError, match="unknown dimension 'beauty'; the dimensions are text_alignment"):
        judge.prob_better(first, second, "fill", "beauty", PROMPT)
    with pytest.raises(ValueError, match="the two images are 112x56 and 56x112"):
        judge.prob_better(first, noise(56, 112), "fill", "structure", PROMPT)


# The command line


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A round hole in a picture of 60 x 40, and the same picture as a camera held sideways stores it."""
    image, mask = noise(60, 40), Image.new("L", (60, 40))
    ImageDraw.Draw(mask).ellipse((20, 10, 40, 30), fill=255)
    image.save(tmp_path / "image.png")
    mask.save(tmp_path / "mask.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.jpg", exif=exif, quality=95)
    return tmp_path


def edit(folder: Path, files: Path, *words: str, image: str = "image.png", output: str = "out.png") -> int:
    paths = ["--editor", str(folder), "--image", str(files / image), "--output", str(files / output)]
    return main(["edit", *paths, "--prompt", PROMPT, "--steps", "1", *words])


def fill(folder: Path, files: Path, *words: str, **names: str) -> int:
    return edit(folder, files, "--task", "fill", "--mask", str(files / "mask.png"), *words, **names)


def test_a_photo_held_sideways_comes_out_upright(folder: Path, files: Path) -> None:
    with Image.open(files / "sideways.jpg") as stored:
        assert stored.size == (40, 60)
        upright = numpy.asarray(ImageOps.exif_transpose(stored))
    assert fill(folder, files, image="sideways.jpg") == 0
    edited, mask = Image.open(files / "out.png"), numpy.asarray(Image.open(files / "mask.png"))
    assert edited.size == (60, 40) and 0x0112 not in edited.getexif()
    assert numpy.array_equal(numpy.asarray(edited)[mask == 0], upright[mask == 0])
    assert not numpy.array_equal(numpy.asarray(edited)[mask > 0], upright[mask > 0])
    assert fill(folder, files, image="sideways.jpg", output="out.jpg") == 0
    with Image.open(files / "out.jpg") as jpeg:
        assert jpeg.size == (60, 40) and 0x0112 not in jpeg.getexif()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_lossless_file_keeps_every_pixel_and_the_colour_profile(
    folder: Path, files: Path, suffix: str, mode: str
) -> None:
    image, profile = noise(60, 40, mode), b"a profile"
    image.save(files / "image.png", icc_profile=profile)
    assert fill(folder, files, output=f"out{suffix}") == 0
    edited, outside = Image.open(files / f"out{suffix}"), numpy.asarray(Image.open(files / "mask.png")) == 0
    assert edited.mode == mode and edited.info["icc_profile"] == profile
    assert numpy.array_equal(numpy.asarray(edited)[outside], numpy.asarray(image)[outside])


def test_jpeg_is_said_to_be_lossy_in_one_line(
    folder: Path, files: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert fill(folder, files) == 0 and caplog.messages == []
    assert fill(folder, files, output="out.jpg") == 0
    assert len(caplog.messages) == 1 and "JPEG encodes every pixel anew" in caplog.text
    noise(60, 40, "RGBA").save(files / "image.png")
    assert fill(folder, files, output="other.jpg") == 2
    assert "JPEG cannot be" in capsys.readouterr().err
    opaque = noise(60, 40).convert("RGBA")
    opaque.save(files / "image.png")
    assert fill(folder, files, output="other.jpg") == 0
    assert Image.open(files / "other.jpg").mode == "RGB"


def test_a_prompt_that_a_removal_does_not_use_is_said(
    folder: Path, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = str(files / "mask.png")
    assert edit(folder, files, "--task", "remove", "--mask", mask) == 0
    assert len(caplog.messages) == 1 and "--prompt is not used" in caplog.text
    caplog.clear()
    for prompt in ("", load_editor(str(folder)).model.contract.remove_prompt):
        assert edit(folder, files, "--task", "remove", "--mask", mask, "--prompt", prompt) == 0
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("--left", "8", "--bottom", "4"), (68, 44)),
        (("--ratio", "2:1"), (80, 40)),
        (("--size", "64x50"), (64, 50)),
    ],
)
def test_an_extend_keeps_the_picture_within_the_larger_one(
    folder: Path, files: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], size: tuple[int, int]
) -> None:
    assert edit(folder, files, "--task", "extend", "--json", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"output": str(files / "out.png"), "width": size[0], "height": size[1], "seed": 0}
    edited = Image.open(files / "out.png")
    left = 8 if "--left" in words else (size[0] - 60) // 2
    top = 0 if "--left" in words else (size[1] - 40) // 2
    assert edited.crop((left, top, left + 60, top + 40)).tobytes() == Image.open(files / "image.png").tobytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "extend"), "task extend takes one of the sides"),
        (("--task", "extend", "--ratio", "2:1", "--left", "3"), "task extend takes one of the sides"),
        (("--task", "fill"), "task fill takes --mask"),
        (("--task", "fill", "--left", "3"), "task fill takes --mask"),
        (("--task", "extend", "--ratio", "2x1"), "got '2x1', expected two whole numbers such as 16:9"),
        (("--task", "extend", "--size", "30x30"), "only adds pixels"),
        (("--task", "extend", "--left", "-3"), "no side may be negative"),
    ],
)
def test_where_must_be_said_once(
    folder: Path, files: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    assert edit(folder, files, *words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (files / "out.png").exists()


@pytest.mark.parametrize("output", ["out.xyz", "out", "out.gif"])
def test_an_unknown_format_is_refused_before_any_work(
    files: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    assert fill(files / "no-editor", files, output=output) == 2
    assert "unknown image format, expected a name ending in .png" in capsys.readouterr().err


def test_pictures_are_checked_before_the_editor_is_loaded(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "image.png").write_bytes(b"no picture")
    assert fill(files / "no-editor", files) == 2
    error = capsys.readouterr().err
    assert "image.png" in error and "no-editor" not in error and error.count("\n") == 1


def test_an_empty_prompt_is_refused_before_the_editor_is_loaded(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fill(files / "no-editor", files, "--prompt", "") == 2
    assert "empty prompt" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_file(
    folder: Path, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fill(folder, files) == 0
    before = {path.name: path.read_bytes() for path in files.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert fill(folder, files, "--seed", "1") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_transformer_on_a_base(folder: Path, files: Path) -> None:
    assert fill(folder, files) == 0
    assert fill(Path(f"{folder}:transformer"), files, "--base", str(folder), output="lone.png") == 0
    assert (files / "out.png").read_bytes() == (files / "lone.png").read_bytes()
