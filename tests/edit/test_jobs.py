"""An edit as data: what a row may say, and the recipe that makes an image again."""

import io
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onereward.edit.jobs import EditJob, Recipe, data_url, digest_of, pair_of
from onereward.edit.regions import Fit
from onereward.models.contract import Contract
from onereward.terms import Task
from tests.pictures import hole, noise

FILL: dict[str, Any] = {"image": "photo.png", "mask": "mask.png", "task": "fill", "prompt": "a star"}
EXTEND: dict[str, Any] = {"image": "photo.png", "task": "extend"}


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    noise(20, 12).save(tmp_path / "photo.png")
    hole((20, 12), (3, 4, 9, 10)).save(tmp_path / "mask.png")
    return tmp_path


def test_a_row_of_text_is_a_job() -> None:
    row = {**FILL, "seed": "7", "steps": "", "guidance": "3.5", "feather": "2", "fit": "pad"}
    job = EditJob.of({name: value or None for name, value in row.items()})
    assert job == EditJob(
        image="photo.png",
        mask="mask.png",
        task=Task.FILL,
        prompt="a star",
        seed=7,
        guidance=3.5,
        feather=2,
        fit=Fit.PAD,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "paint"}, "unknown task 'paint'; the tasks are fill"),
        ({"task": None}, "the field task is missing"),
        ({"colour": "red"}, "unknown field colour; the fields are image, task, mask"),
        ({"mask": None}, "task fill got no mask: --mask FILE"),
        ({"left": 3}, "task fill takes a mask and nothing else"),
        ({"prompt": None}, "task fill got an empty prompt"),
        ({"prompt": 5}, "got prompt 5, expected text"),
        ({"seed": -1}, "got seed -1, expected 0 to"),
        ({"seed": 2**63}, "got seed 9223372036854775808, expected 0 to 9223372036854775807"),
        ({"seed": 1.5}, "got seed 1.5, expected a whole number"),
        ({"seed": True}, "got seed True, expected a number"),
        ({"seed": "many"}, "got seed 'many', expected a number"),
        ({"steps": 0}, "got steps 0, expected 1 to 1000"),
        ({"guidance": float("nan")}, "got guidance nan, expected a number"),
        ({"guidance": 10**400}, "expected a number"),
        ({"true_cfg": 0.5}, "got true_cfg 0.5, expected 1 to"),
        ({"feather": -1}, "got feather -1"),
        ({"fit": "stretch"}, "got fit 'stretch', expected one of crop, pad, snap"),
        ({"image": ["a"]}, r"got image \['a'\], expected text"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditJob.of({**FILL, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "task extend takes one of sides"),
        ({"left": 3, "ratio": "16:9"}, "task extend takes one of sides"),
        ({"ratio": "16x9"}, "got '16x9', expected two whole numbers such as 16:9"),
        ({"size": "0x9"}, "got '0x9', expected two whole numbers such as 16x9"),
        ({"left": -3}, "got left -3"),
    ],
)
def test_an_extend_says_how_far_in_one_way(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditJob.of({**EXTEND, **change})


def test_pictures_may_be_held_as_bytes(files: Path) -> None:
    photo, mask = (files / "photo.png").read_bytes(), (files / "mask.png").read_bytes()
    cells = {**FILL, "image": {"bytes": photo, "path": None}, "mask": mask}
    held, named = EditJob.of(cells).request(), EditJob.of(FILL).from_folder(files).request()
    assert held.image.tobytes() == named.image.tobytes() and held.mask.tobytes() == named.mask.tobytes()
    assert EditJob.of({**FILL, "image": {"bytes": None, "path": "a.png"}}).image == "a.png"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data:image/png;base64,???", "the image is no base64"),
        ("data:image/png,abc", "expected data:image/png;base64"),
        ("data:image/png;base64,AAAA", "cannot read the image"),
    ],
)
def test_a_wrong_data_url_is_said(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditJob.of({**FILL, "image": source}).request()


@pytest.mark.parametrize(
    ("how", "size"), [({"left": 3, "bottom": 2}, (23, 14)), ({"ratio": "2:1"}, (24, 12)), ({"size": "30x12"}, (30, 12))]
)
def test_an_extend_s_request_is_the_larger_canvas(files: Path, how: dict[str, Any], size: tuple[int, int]) -> None:
    request = EditJob.of({**EXTEND, **how}).from_folder(files).request()
    assert request.image.size == request.mask.size == size


jobs = st.builds(
    EditJob,
    image=st.text(min_size=1, max_size=9, alphabet="abc./é "),
    mask=st.just("m.png"),
    task=st.sampled_from(Task),
    prompt=st.text(min_size=1, max_size=20),
    seed=st.integers(0, 2**63 - 1),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 1000),
    true_cfg=st.none() | st.floats(1, 1000),
    negative_prompt=st.none() | st.text(max_size=9),
    fit=st.sampled_from(Fit),
    feather=st.integers(0, 100),
)


@given(jobs)
def test_a_job_survives_json(job: EditJob) -> None:
    assert EditJob.of(json.loads(json.dumps(job.to_values()))) == job


def test_a_recipe_holds_every_setting_and_finds_its_pictures(files: Path, tmp_path: Path) -> None:
    contract = Contract(steps=7, guidance=2.0, true_cfg=3.0, negative_prompt="nsfw")
    job = EditJob.of({**FILL, "image": data_url(png(noise(20, 12)))}).with_settings_of(contract)
    assert (job.steps, job.guidance, job.true_cfg, job.negative_prompt) == (7, 2.0, 3.0, "nsfw")
    recipe = Recipe(editor="toy", job=EditJob.of({**FILL, "seed": 3}).from_folder(files), pixels="abc")
    (tmp_path / "out").mkdir()
    file = recipe.write_beside(tmp_path / "out" / "edited.png")
    assert file == tmp_path / "out" / "edited.json"
    assert json.loads(file.read_text())["job"]["image"] == "../photo.png"
    assert numpy.array_equal(
        numpy.asarray(Recipe.read(file).job.request().image), numpy.asarray(Image.open(files / "photo.png"))
    )
    assert Recipe.read(file).pixels == "abc" and Recipe.read(file).job.seed == 3


@pytest.mark.parametrize("text", ["", "[]", '{"job": {}}', '{"job": 3}', '{"editor": "toy"}', '{"job": {"image": 1}}'])
def test_what_is_no_recipe_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json is no recipe of an edit"):
        Recipe.read(tmp_path / "r.json")


def test_a_digest_is_of_the_pixels_alone() -> None:
    image = noise(9, 7)
    assert digest_of(image) == digest_of(Image.open(io.BytesIO(png(image)))) != digest_of(noise(7, 9))
    assert digest_of(image.convert("RGBA")) != digest_of(image)
    assert pair_of("16:9", ":") == (16, 9)
