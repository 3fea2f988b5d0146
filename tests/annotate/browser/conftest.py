"""Chromium for the tests of the pages, and what holds of every page: no error, no request that leaves the host."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from onereward.annotate.project import Gold, ProjectConfig
from tests.annotate.browser.site import Item, Said, Site, site

CHROMIUM: dict[str, Any] = {
    "executable_path": "/usr/bin/chromium",
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

expect.set_options(timeout=20_000)

OpenSite = Callable[..., Site]
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """Starts a server over items; without gold and repeats, and without a minimum time, unless they are asked for."""
    with ExitStack() as stack:

        def start(items: list[Item], *, gold_answers: dict[str, Gold] | None = None, **config: Any) -> Site:
            settings = ProjectConfig(**{"annotators": 1, "gold": 0, "repeats": 0, "minimum_seconds": 0, **config})
            return stack.enter_context(site(tmp_path, items, settings, gold_answers))

        yield start


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address in a fresh profile; at the end nothing has failed and nobody else was asked for anything."""
    asked, errors = set[str](), list[str]()

    def said(message: ConsoleMessage) -> None:
        expected = message.text.startswith(
            ("Failed to load resource", "Canvas2D: Multiple readback")
        )  # cuts; the tests
        if message.type in ("error", "warning") and not expected:
            errors.append(message.text)

    with ExitStack() as stack:

        def start(address: str, **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.on("request", lambda request: asked.add(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", said)
            page.goto(address)
            return page

        yield start
    assert {urlsplit(url).hostname for url in asked if not url.startswith("blob:")} <= {"127.0.0.1"}
    assert errors == []


def at_work(page: Page) -> Page:
    """The page once an item and its pictures are shown."""
    expect(page.locator("#grid[aria-busy=false]")).to_be_visible()
    return page


def type_keys(page: Page, keys: str) -> None:
    """Press keys, which are separated by spaces."""
    for key in keys.split():
        page.keyboard.press(key)


def kept(site: Site, page: Page, count: int) -> list[Said]:
    """The votes, once the server has so many."""
    for _ in range(100):
        if len(votes := site.votes()) >= count:
            break
        page.wait_for_timeout(50)
    assert len(votes) == count
    return votes


def check_accessible(page: Page) -> None:
    """axe finds nothing in light, nor in dark, where only colours differ."""
    for scheme, rules in (("light", WCAG), ("dark", ["color-contrast"])):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
