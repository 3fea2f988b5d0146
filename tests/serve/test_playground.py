"""The playground in a real browser: pictures up, strokes by mouse, results down, each made again by the CLI."""

import io
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from skimage import data

from onereward.edit.editor import load_editor
from onereward.edit.jobs import Recipe
from tests.browser import browser
from tests.serve.running import Running, running
from tests.tiny import tiny_flux_fill_folder

ROOT = Path(__file__).parents[2]
PHOTO = Image.fromarray(data.astronaut()).crop((60, 0, 460, 300))

pytestmark = pytest.mark.browser
__all__ = ["browser"]


@pytest.fixture(scope="module")
def base_editor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("base") / "editor")


@pytest.fixture(scope="module")
def server(base_editor: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    left = log.parent / "left"
    left.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(left))
        with running("toy", log, "--playground", "--compare", str(base_editor), "--judge", "toy") as server:
            yield server
    assert not any(file.is_file() for file in left.rglob("*"))  # what was sent and made is gone with the server
    assert "onereward/serve/play" not in log.read_text()  # no error went through the playground


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a fresh profile that may not ask any host but the server's."""
    context = browser.new_context(viewport={"width": 800, "height": 800}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    asked, errors = set[str](), list[str]()
    page.on("request", lambda request: asked.add(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert errors == []
    context.close()


def test_a_painted_edit_compared_and_made_again_from_its_recipe(
    server: Running, base_editor: Path, page: Page, tmp_path: Path
) -> None:
    open_with(page, server.url, save(PHOTO, tmp_path / "photo.png"))
    stroke(page)
    page.get_by_label("What should be there").fill("a red star")
    edit(page)
    edited, recipe = saved(page, tmp_path)
    mask = mask_of(recipe, PHOTO.size)
    assert 0 < (mask > 0).mean() < 0.1
    assert changed(PHOTO, edited)[mask > 0].mean() > 0.9
    assert not changed(PHOTO, edited)[mask == 0].any()

    left, right = (fetch(shown.get_attribute("src")) for shown in page.get_by_test_id("imageslider-image").all())
    assert same(right, edited)
    job = Recipe.read(recipe).job
    request = job.request()
    assert same(left, load_editor(str(base_editor)).edit(request.image, request.mask, "a red star", "fill"))
    expect(page.locator("#odds tr")).to_have_count(4)
    chances = [float(cell) for cell in re.findall(r"([\d.]+)%", page.locator("#odds").inner_text())]
    assert len(chances) == 4 and all(0 <= chance <= 100 for chance in chances) and chances != [50.0] * 4

    page.get_by_role("button", name="Copy recipe").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == recipe.read_text()
    assert same(made_again(recipe, tmp_path), edited)


def test_on_a_narrow_screen_a_grey_transparent_picture_stays_one_and_its_results_come_back(
    server: Running, page: Page, tmp_path: Path
) -> None:
    picture = PHOTO.convert("L").resize((480, 360)).convert("LA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    page.set_viewport_size({"width": 400, "height": 800})
    open_with(page, server.url, save(picture, tmp_path / "grey.png"))
    stroke(page)
    page.get_by_label("What should be there").fill("a red star")
    edit(page)
    first, recipe = saved(page, tmp_path)
    mask = mask_of(recipe, picture.size)
    assert first.mode == "LA"
    assert not changed(picture, first)[mask == 0].any()
    assert changed(picture, first)[mask > 0].any()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400

    page.get_by_label("Remove").check()
    expect(page.get_by_label("What should be there")).to_be_hidden()
    page.get_by_role("button", name="Next seed").click()
    expect(page.get_by_label("Seed")).to_have_value("1")
    edit(page)
    second, recipe = saved(page, tmp_path)
    assert (Recipe.read(recipe).job.task, Recipe.read(recipe).job.seed) == ("remove", 1)
    assert not same(first, second)
    expect(page.locator("#odds tr")).to_have_text(re.compile(r"removal quality\s*[\d.]+%"))

    page.locator("#session .thumbnail-item").nth(1).click()
    expect(page.get_by_label("What should be there")).to_have_value("a red star")
    expect(page.get_by_label("Seed")).to_have_value("0")
    expect(page.get_by_text("right: toy, seed 0")).to_be_visible()
    page.get_by_role("button", name="Next seed").click()
    expect(page.get_by_label("Seed")).to_have_value("1")
    page.get_by_label("Seed").fill("0")
    edit(page, another=False)
    expect(page.locator("#session .thumbnail-item")).to_have_count(3)
    assert same(saved(page, tmp_path)[0], first)


def test_an_extend_by_sides_then_by_a_ratio(server: Running, page: Page, tmp_path: Path) -> None:
    sideways = PHOTO.crop((0, 0, 300, 200))
    exif = sideways.getexif()
    exif[274] = 6  # shown turned by 90 degrees
    file = tmp_path / "sideways.webp"
    sideways.save(file, lossless=True, exif=exif)
    upright = sideways.transpose(Image.Transpose.ROTATE_270)

    page.goto(server.url)
    page.get_by_label("Extend").check()
    page.set_input_files("input[type=file]", file)
    page.get_by_label("number input for Left, pixels").fill("40")
    page.get_by_label("number input for Bottom, pixels").fill("16")
    page.keyboard.press("Tab")
    edit(page)
    edited, recipe = saved(page, tmp_path)
    assert edited.size == (240, 316)
    assert same(edited.crop((40, 0, 240, 300)), upright)
    assert same(Recipe.read(recipe).job.request().image.crop((40, 0, 240, 300)), upright)

    page.get_by_label("Extend by").click()
    page.get_by_role("option", name="1:1", exact=True).click()
    expect(page.get_by_label("number input for Left, pixels")).to_be_disabled()
    edit(page)
    edited, _ = saved(page, tmp_path)
    assert edited.size == (300, 300)
    assert same(edited.crop((50, 0, 250, 300)), upright)


def test_wrong_wishes_are_told_in_a_sentence_a_slow_one_is_stopped_and_nothing_is_lost(
    server: Running, page: Page, tmp_path: Path
) -> None:
    page.goto(server.url)
    told(page, "there is no picture yet: drop one on the page first")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    page.set_input_files("input[type=file]", text)
    expect(page.get_by_text("it is no PNG, JPEG or WebP file")).to_be_visible()
    page.set_input_files("input[type=file]", save(PHOTO, tmp_path / "photo.png"))
    wait_for_canvas(page)
    told(page, "no mask is painted: brush over what should be repainted")
    stroke(page)
    told(page, "task fill got an empty prompt: say what the masked region should show")
    page.get_by_label("What should be there").fill("a red star")
    page.get_by_text("Advanced").click()
    page.get_by_label("True CFG", exact=True).fill("many")
    told(page, "got true_cfg 'many', expected a number")
    page.get_by_label("True CFG", exact=True).fill("")
    page.get_by_label("Steps").fill("1000")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text(re.compile("painting"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    page.get_by_label("Steps").fill("2")
    edit(page)
    job = Recipe.read(saved(page, tmp_path)[1]).job
    assert (job.steps, job.guidance, job.true_cfg) == (2, 1.0, 1.0)


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_a_person_at_the_keyboard_reaches_everything(server: Running, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(server.url)
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_visible()
    seen = set[str]()
    for _ in range(25):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.innerText || document.activeElement.type"))
    assert {"Edit", "Stop", "Next seed", "Random seed", "radio", "textarea", "number"} <= seen
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_space_starts_and_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path),
        "ONEREWARD_JUDGE": "toy",
    }
    command = [sys.executable, "docs/space/app.py"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http" in line)
            assert f":{port}" in line
            with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
                assert b'"title":"OneReward"' in answer.read()
        finally:
            process.terminate()
            process.wait(20)


def save(picture: Image.Image, file: Path) -> Path:
    picture.save(file)
    return file


def open_with(page: Page, url: str, file: Path) -> None:
    page.goto(url)
    page.set_input_files("input[type=file]", file)
    wait_for_canvas(page)


def wait_for_canvas(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"^\d+%$"))).to_be_visible()
    page.wait_for_timeout(600)  # the picture comes into the canvas a moment later, and nothing on the page tells


def stroke(page: Page) -> None:
    """A bent stroke with the brush, beginning in the middle of the canvas; each move is drawn without a GPU, slowly."""
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y)
    page.mouse.move(x + 40, y + 25)
    page.mouse.up()


def edit(page: Page, *, another: bool = True) -> None:
    """Press Edit and wait for its image; `another` one than is there now."""
    picture = page.get_by_test_id("imageslider-image").last
    before = picture.get_attribute("src") if picture.count() else ""
    page.get_by_role("button", name="Edit", exact=True).click()
    if another:
        expect(picture).not_to_have_attribute("src", before or "")


def told(page: Page, sentence: str) -> None:
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text(sentence)).to_be_visible()


def saved(page: Page, folder: Path) -> tuple[Image.Image, Path]:
    """The edited image as it is downloaded, and the recipe's file."""
    files = []
    for button in ("#edited-file", "#recipe-file"):
        with page.expect_download() as download:
            page.locator(button).click()
        files.append(folder / download.value.suggested_filename)
        download.value.save_as(files[-1])
    return Image.open(files[0]), files[1]


def made_again(recipe: Path, folder: Path) -> Image.Image:
    output = folder / "again.png"
    command = [sys.executable, "-m", "onereward", "edit", "--recipe", str(recipe), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "differs" in done.stderr) == (0, False), done.stderr
    return Image.open(output)


def fetch(url: str | None) -> Image.Image:
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        return Image.open(io.BytesIO(answer.read()))


def mask_of(recipe: Path, size: tuple[int, int]) -> "numpy.ndarray[tuple[int, int], numpy.dtype[numpy.uint8]]":
    mask = Recipe.read(recipe).job.request().mask
    assert mask.size == size
    return numpy.asarray(mask)


def changed(before: Image.Image, after: Image.Image) -> "numpy.ndarray[tuple[int, int], numpy.dtype[numpy.bool_]]":
    """Which pixels differ in any channel."""
    assert (before.mode, before.size) == (after.mode, after.size)
    return (numpy.asarray(before) != numpy.asarray(after)).any(-1)


def same(first: Image.Image, second: Image.Image) -> bool:
    return (first.mode, first.size, first.tobytes()) == (second.mode, second.size, second.tobytes())
