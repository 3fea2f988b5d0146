"""A server for the pages of annotation, and what a person does there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from onereward.annotate.project import Gold, ProjectConfig
from tests.annotate.browser.site import Item, Said, Site, site
from tests.browser import browser, open_page

__all__ = ["browser", "open_page"]

OpenSite = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """Starts a server over items; without gold and repeats, and without a minimum time, unless they are asked for."""
    with ExitStack() as stack:

        def start(items: list[Item], *, gold_answers: dict[str, Gold] | None = None, **config: Any) -> Site:
            settings = ProjectConfig(**{"annotators": 1, "gold": 0, "repeats": 0, "minimum_seconds": 0, **config})
            return stack.enter_context(site(tmp_path, items, settings, gold_answers))

        yield start


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
