"""The README's picture of the annotation app, from a real browser: `python -m docs.images.annotate`.

The candidates are the shipped toy editor's, by 1, 2, 4 and 8 steps.
"""

import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright
from skimage import data

from onereward.annotate.project import ProjectConfig
from onereward.edit.editor import load_editor
from onereward.edit.jobs import EditRequest
from onereward.store.images import encode_png
from onereward.terms import Candidate, Task, Triplet
from tests.annotate.browser.conftest import CHROMIUM
from tests.annotate.browser.site import Item, site

HERE = Path(__file__).parent
CROP, HOLE = (60, 0, 460, 300), (250, 40, 350, 140)
STEPS = 1, 2, 4, 8


def main() -> None:
    config = ProjectConfig(annotators=1, gold=0, repeats=0, minimum_seconds=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        site(Path(folder), [item()], config) as running,
        sync_playwright() as playwright,
    ):
        page = playwright.chromium.launch(**CHROMIUM).new_page(viewport={"width": 1280, "height": 800})
        page.goto(running.link("Ann"))
        page.wait_for_url("**/work")
        expect(page.get_by_role("heading", name="a red star")).to_be_visible()
        page.wait_for_timeout(1500)  # the pictures
        page.keyboard.press("3")
        page.keyboard.press("1")
        page.wait_for_timeout(500)
        page.screenshot(path=HERE / "annotate.png")


def item() -> Item:
    """A photograph with a hole in the sky, and what the editor makes of it by so many steps."""
    photo = Image.fromarray(data.astronaut()).crop(CROP)
    mask = Image.new("L", photo.size)
    mask.paste(255, HOLE)
    editor = load_editor("toy")
    triplet = Triplet(id="t", task=Task.FILL, prompt="a red star", image=encode_png(photo), mask=encode_png(mask))
    edits = [
        editor.edit_batch(
            [EditRequest(image=photo, mask=mask, prompt=triplet.prompt, task=Task.FILL, seed=3, steps=steps)]
        )[0]
        for steps in STEPS
    ]
    return triplet, [
        Candidate(triplet_id="t", index=index, image=encode_png(edit), editor="toy", seed=3, settings="{}")
        for index, edit in enumerate(edits)
    ]


if __name__ == "__main__":
    main()
