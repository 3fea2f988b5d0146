"""The README's picture of the playground, from a real browser: `python -m docs.images.playground [FOLDER]`.

With a folder, also narrow screens and all that can be opened, to look at.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.serve.running import running
from tests.serve.test_playground import CHROMIUM, PHOTO, edit, open_with, save, stroke

HERE = Path(__file__).parent


def main(to_look_at: Path | None) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running("toy", Path(folder, "log.txt"), "--playground", "--judge", "toy") as server,
        sync_playwright() as playwright,
    ):
        page = playwright.chromium.launch(**CHROMIUM).new_page(viewport={"width": 1280, "height": 900})
        open_with(page, server.url, save(PHOTO, Path(folder, "photo.png")))
        stroke(page)
        page.get_by_label("What should be there").fill("a red star")
        edit(page)
        page.get_by_role("button", name="Next seed").click()
        expect(page.get_by_label("Seed")).to_have_value("1")
        edit(page)
        expect(page.locator("#odds tr")).to_have_count(4)
        page.mouse.move(0, 0)
        shoot(page, HERE / "playground.png")
        if to_look_at is not None:
            look(page, to_look_at)


def look(page: Page, folder: Path) -> None:
    page.get_by_text("Advanced").click()
    page.get_by_text("What is in the recipe").click()
    for width in (1280, 800, 400):
        page.set_viewport_size({"width": width, "height": 900})
        shoot(page, folder / f"{width}.png")


def shoot(page: Page, file: Path) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1500)  # animations, and pictures that are drawn a moment later
    page.screenshot(path=file, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
