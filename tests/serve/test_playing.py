"""What the playground's buttons do, without a browser: any picture in, strokes to masks, forms to jobs, odds."""

import json
import os
import threading
import time
from functools import partial
from pathlib import Path

import numpy
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw

from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.jobs import EditJob, Recipe, digest_of
from onereward.edit.judge import ImageJudge, load_judge
from onereward.edit.pictures import encode_picture
from onereward.serve.app import create_app
from onereward.serve.playground import mount_playground
from onereward.serve.playing import Picture, Shown, drop_older, in_short, job_of, judged, odds_table
from onereward.serve.queue import EditQueue, Result
from onereward.terms import Dimension, Task
from tests.pictures import noise

MOST = 2**25
BLANK = {"prompt": "", "ratio": "", "left": 0, "right": 0, "top": 0, "bottom": 0, "steps": "", "negative_prompt": None}


@pytest.fixture(scope="module")
def editor() -> ImageEditor:
    return load_editor("toy")


@pytest.fixture(scope="module")
def judge() -> ImageJudge:
    return load_judge("toy")


def picture_of(image: Image.Image, folder: Path, name: str = "picture.png") -> Picture:
    image.save(folder / name)
    return Picture.read(folder / name, MOST)


def layer(size: tuple[int, int], box: tuple[int, int, int, int], alpha: int = 153) -> Image.Image:
    strokes = Image.new("RGBA", size)
    ImageDraw.Draw(strokes).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(230, 40, 60, alpha))
    return strokes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_the_job_has_the_picture_bit_for_bit_in_its_own_mode(mode: str, tmp_path: Path) -> None:
    image = noise(70, 50, mode)
    picture = picture_of(image, tmp_path)
    job = job_of(picture, [layer((70, 50), (10, 5, 30, 25))], {**BLANK, "task": "remove"})
    request = job.request()
    assert digest_of(request.image) == digest_of(image)
    assert request.mask.getbbox() == (10, 5, 30, 25)
    assert (picture.shown.mode, picture.shown.size) == ("RGB", (70, 50))


def test_a_picture_on_its_side_is_painted_on_upright(tmp_path: Path) -> None:
    image = noise(70, 50)
    exif = image.getexif()
    exif[274] = 8
    image.save(tmp_path / "picture.png", exif=exif)
    picture = Picture.read(tmp_path / "picture.png", MOST)
    assert picture.size == picture.shown.size == (50, 70)
    assert picture.shown.tobytes() == image.transpose(Image.Transpose.ROTATE_90).tobytes()


def test_strokes_on_a_small_copy_of_a_large_picture_become_large(tmp_path: Path) -> None:
    picture = picture_of(Image.new("RGB", (4096, 100)), tmp_path)
    assert picture.shown.size == (2048, 50)
    job = job_of(picture, [layer((2048, 50), (100, 10, 150, 20))], {**BLANK, "task": "remove"})
    assert job.request().mask.getbbox() == (200, 20, 300, 40)


def test_what_an_eraser_leaves_at_its_soft_edge_is_no_stroke(tmp_path: Path) -> None:
    picture = picture_of(noise(70, 50), tmp_path)
    with pytest.raises(ValueError, match="no mask is painted: brush over what should be repainted"):
        picture.mask([layer((70, 50), (10, 5, 30, 25), alpha=40)])


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"task": "fill"}, "task fill got an empty prompt"),
        ({"task": "fill", "prompt": "a star", "steps": "many"}, "got steps 'many', expected a number"),
        ({"task": "extend"}, "task extend takes one of sides"),
        ({"task": "sharpen"}, "unknown task 'sharpen'"),
    ],
)
def test_a_form_that_asks_for_nothing_is_refused(form: dict[str, str], message: str, tmp_path: Path) -> None:
    picture = picture_of(noise(70, 50), tmp_path)
    with pytest.raises(ValueError, match=message):
        job_of(picture, [layer((70, 50), (10, 5, 30, 25))], {**BLANK, **form})


def test_a_form_keeps_what_its_task_uses(tmp_path: Path) -> None:
    picture, strokes = picture_of(noise(70, 50), tmp_path), [layer((70, 50), (10, 5, 30, 25))]
    full = {**BLANK, "prompt": "a star", "ratio": "2:1", "left": 8, "seed": 3}
    assert job_of(picture, strokes, {**full, "task": "fill"}) == EditJob(
        image=picture.url, mask=picture.mask(strokes), task=Task.FILL, prompt="a star", seed=3
    )
    assert job_of(picture, strokes, {**full, "task": "remove"}).prompt == ""
    assert job_of(picture, strokes, {**full, "task": "extend"}) == EditJob(
        image=picture.url, task=Task.EXTEND, prompt="a star", ratio="2:1", seed=3
    )
    assert job_of(picture, strokes, {**full, "task": "extend", "ratio": ""}).left == 8


def test_an_upload_that_cannot_be_edited_is_refused(tmp_path: Path) -> None:
    noise(70, 50).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="70x50 pixels, at most 3,000"):
        Picture.read(tmp_path / "large.png", 3000)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match="cannot read the image: it is no PNG, JPEG or WebP file"):
        Picture.read(tmp_path / "text.png", MOST)


def test_the_view_of_an_extend_has_the_picture_where_it_will_be(tmp_path: Path) -> None:
    picture = picture_of(Image.new("RGB", (60, 40), "blue"), tmp_path)
    view = picture.extended(EditJob(image=picture.url, task=Task.EXTEND, left=30, bottom=20))
    assert view.size == (480, 320)
    blue = numpy.asarray(view)[:, :, 2] == 255
    assert blue[:213, 160:].all() and not blue[:, :160].any() and not blue[214:].any()


def test_an_earlier_result_can_be_painted_again(editor: ImageEditor, tmp_path: Path) -> None:
    picture = picture_of(noise(70, 50), tmp_path)
    shown = made(editor, picture, seed=0)
    painted = shown.painted()
    assert picture.mask(painted["layers"]) == shown.job.mask
    assert painted["background"].tobytes() == picture.shown.tobytes()


def test_the_judge_compares_with_the_base_or_with_the_last_answer_to_the_same_question(
    editor: ImageEditor, judge: ImageJudge, tmp_path: Path
) -> None:
    picture, lock = picture_of(noise(70, 50), tmp_path), threading.Lock()
    first, second = made(editor, picture, seed=0), made(editor, picture, seed=1)
    other = made(editor, picture, seed=1, prompt="a blue disc")
    assert judged(first, [], judge, lock) == judged(first, [other], judge, lock) == first
    assert judged(second, [first], None, lock) == second

    after = judged(second, [other, first], judge, lock)
    assert after.compared == "the previous one"
    assert list(after.odds) == ["text_alignment", "consistency", "structure", "aesthetics"]
    images = [editor.edit_batch([one.job.request()])[0] for one in (second, first)]
    assert after.odds[Dimension.STRUCTURE] == judge.prob_better(*images, "fill", "structure", "a star")
    against_base = judged(
        Shown(picture=picture, job=second.job, result=second.result, base=first.result), [], judge, lock
    )
    assert (against_base.odds, against_base.compared) == (after.odds, "the base editor's")
    assert against_base.before() == first.result.png
    assert f"{after.odds[Dimension.STRUCTURE]:.1%}" in odds_table(after)


def test_files_of_yesterday_are_dropped(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.png", tmp_path / "b" / "new.png"
    for file, age in ((old, 100), (new, 0)):
        file.parent.mkdir()
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    drop_older(tmp_path, 50)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_recipe_in_short_names_its_pictures_only(editor: ImageEditor, tmp_path: Path) -> None:
    recipe = made(editor, picture_of(noise(70, 50), tmp_path), seed=0).result.recipe
    short, full = json.loads(in_short(recipe)), json.loads(recipe.to_json())
    assert short["job"].pop("image") == f"data:application/octet-stream;… ({len(recipe.job.image):,} characters)"
    assert len(short["job"].pop("mask")) < 60
    for picture in ("image", "mask"):
        del full["job"][picture]
    assert short == full


def made(editor: ImageEditor, picture: Picture, *, seed: int, prompt: str = "a star") -> Shown:
    form = {**BLANK, "task": "fill", "prompt": prompt, "seed": seed}
    job = job_of(picture, [layer(picture.size, (10, 5, 50, 45))], form)
    [edited] = editor.edit_batch([job.request()])
    recipe = Recipe(editor="toy", job=job.with_settings_of(editor.model.contract), pixels=digest_of(edited))
    return Shown(
        picture=picture, job=job, result=Result(png=encode_picture(edited, ".png", edited.mode), recipe=recipe)
    )


def test_with_a_token_the_page_and_all_behind_it_wait_for_it(editor: ImageEditor) -> None:
    with EditQueue(editor, recipe=partial(Recipe, editor="toy")) as queue:
        app = create_app(queue, token="secret")
        mount_playground(app, queue, token="secret")
        client = TestClient(app)
        closed = ["/config", "/gradio_api/info", "/gradio_api/file=x"]
        assert [client.get(path).status_code for path in closed] == [401] * 3
        assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": []}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "guess"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "secret"}).status_code == 200
        config = client.get("/config").json()
        assert config["title"] == "OneReward"
        assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}
        assert client.get("/v1/contract").status_code == 401  # the API has its own way
