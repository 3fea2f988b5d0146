"""`onereward edit`: files in, a file out; every refusal before an editor is loaded."""

import errno
import json
import os
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageDraw, ImageOps

from onereward.cli.main import main
from onereward.edit.editor import load_editor
from tests.pictures import noise
from tests.tiny import tiny_flux_fill_folder

PROMPT = "a red star"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("editor"))


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
        (("--task", "extend"), "task extend takes one of sides"),
        (("--task", "extend", "--ratio", "2:1", "--left", "3"), "task extend takes one of sides"),
        (("--task", "fill"), "task fill got no mask: --mask FILE"),
        (("--task", "fill", "--left", "3"), "task fill takes a mask"),
        (("--task", "extend", "--ratio", "2x1"), "got '2x1', expected two whole numbers such as 16:9"),
        (("--task", "extend", "--size", "30x30"), "only adds pixels"),
        (("--task", "extend", "--left", "-3"), "got left -3, expected 0"),
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


def test_a_recipe_makes_the_image_again(
    folder: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert fill(folder, files, "--seed", "5", "--feather", "2", "--fit", "pad", "--save-recipe", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recipe"] == str(files / "out.json")
    again, varied = tmp_path / "again.png", tmp_path / "varied.tif"
    assert main(["edit", "--recipe", said["recipe"], "--output", str(again)]) == 0
    assert again.read_bytes() == (files / "out.png").read_bytes() and caplog.messages == []
    assert main(["edit", "--recipe", said["recipe"], "--output", str(varied), "--seed", "6"]) == 0
    assert Image.open(varied).tobytes() != Image.open(again).tobytes() and caplog.messages == []
    values = json.loads((files / "out.json").read_text())
    assert values["job"]["steps"] == 1 and values["job"]["guidance"] == load_editor(str(folder)).model.contract.guidance
    (files / "out.json").write_text(json.dumps({**values, "pixels": "0" * 64}))
    assert main(["edit", "--recipe", said["recipe"], "--output", str(again)]) == 0
    assert "the image differs from the one that the recipe was written for" in caplog.text


def test_what_must_be_given_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "--editor", "toy"]) == 2
    assert "--image, --task, --output must be given" in capsys.readouterr().err
    assert main(["edit", "--recipe", "nowhere.json", "--output", "out.png"]) == 2
    assert "nowhere.json: no such file" in capsys.readouterr().err


def test_a_recipe_repeats_how_the_editor_ran(
    folder: Path, files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fill(folder, files, "--save-recipe") == 0
    plain = Image.open(files / "out.png").tobytes()
    assert fill(folder, files, "--steps", "6", "--quantize", "fp8", "--cache", "0.9", "--save-recipe") == 0
    values = json.loads((files / "out.json").read_text())
    assert (values["quantize"], values["cache"], values["dtype"]) == ("fp8", 0.9, "fp32")
    again = tmp_path / "again.png"
    assert main(["edit", "--recipe", str(files / "out.json"), "--output", str(again)]) == 0
    assert again.read_bytes() == (files / "out.png").read_bytes() and caplog.messages == []
    assert Image.open(again).tobytes() != plain
