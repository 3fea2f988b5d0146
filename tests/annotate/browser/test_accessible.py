"""axe finds nothing on any page in any state, in light and dark, wide and narrow."""

import pytest
from playwright.sync_api import Page, expect

from onereward.people.persons import Role
from onereward.terms import Task
from tests.annotate.browser.conftest import OpenSite, at_work, type_keys
from tests.annotate.browser.site import toy_items
from tests.browser import OpenPage, check_accessible

pytestmark = pytest.mark.browser

SIZES = pytest.mark.parametrize("width", [1440, pytest.param(800, marks=pytest.mark.soak)])


def focused(page: Page) -> str:
    """The text of what has the focus."""
    return str(page.evaluate("document.activeElement.textContent.trim()"))


@SIZES
def test_the_page_of_work(open_site: OpenSite, open_page: OpenPage, width: int) -> None:
    site = open_site(toy_items(4), minimum_seconds=1)
    page = at_work(open_page(site.link("Ann"), viewport={"width": width, "height": 900}))
    check_accessible(page)
    type_keys(page, "1 2 s 1 3 1 s z d")
    check_accessible(page)  # marks, a skip, reasons
    type_keys(page, "Escape ?")
    expect(page.get_by_role("dialog", name="How it works")).to_be_visible()
    check_accessible(page)
    page.get_by_role("button", name="Change keys").click()
    page.get_by_role("button", name="Undo, also after").click()
    check_accessible(page)
    type_keys(page, "Escape Escape")  # the first is no key for undo, the second closes
    expect(page.locator("dialog[open]")).to_have_count(0)
    type_keys(page, "3 4")
    expect(page.locator("#submit")).to_have_attribute("aria-disabled", "false")
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    type_keys(page, "Enter")
    at_work(page)
    expect(page.locator("#waiting")).to_contain_text("1 answer waiting")
    page.context.route("**/api/answers", lambda route: route.fulfill(status=409, json={"detail": "no such item."}))
    page.context.set_offline(False)
    expect(page.locator("#problem")).to_have_text("An answer was not accepted. No such item.")
    type_keys(page, "u")
    expect(page.locator("#correcting")).to_be_visible()
    check_accessible(page)  # a problem, a correction
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.get_by_role("dialog", name="You are signed out")).to_be_visible()
    check_accessible(page)


def test_empty_pages_of_work(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    busy = open_page(site.link("Bob"))
    expect(busy.get_by_text("with others right now")).to_be_visible()
    check_accessible(busy)
    type_keys(page, "1 2 Enter")
    expect(page.locator("#empty-title")).to_have_text("All done")
    check_accessible(page)


@SIZES
def test_the_page_of_admins(open_site: OpenSite, open_page: OpenPage, width: int) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE), annotators=2, extra=0)
    for name in ("Ann", "Bob"):
        theirs = at_work(open_page(site.link(name)))
        type_keys(theirs, "1 2 Enter")
        expect(theirs.locator("#done")).to_have_text("1")
    page = open_page(site.link("Root", Role.ADMIN), viewport={"width": width, "height": 900})
    expect(page.locator("#leases tr")).to_have_count(2)
    check_accessible(page)
    page.get_by_role("button", name="Add a person").click()
    check_accessible(page)
    page.get_by_label("Name, as").fill("Cleo")
    type_keys(page, "Enter")
    expect(page.get_by_role("dialog", name="Link for Cleo")).to_be_visible()
    check_accessible(page)
    type_keys(page, "Escape")
    for button, words in (("Withdraw Ann", "Withdraw"), ("Erase Ann", "Erase")):
        page.get_by_role("button", name=button).click()
        expect(page.locator("#confirm")).to_be_visible()
        check_accessible(page)
        type_keys(page, "Escape")
        assert focused(page) == words  # back where it was
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_contain_text("Paused")
    check_accessible(page)
    page.context.set_offline(True)
    expect(page.locator("#cut")).to_have_text("No connection: what is shown is old")
    check_accessible(page)
    page.context.set_offline(False)


def test_the_way_in(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    for link in ("", f"#{'x' * 32}"):
        page = open_page(f"{site.url}/enter{link}")
        expect(page.locator("#title")).to_have_text("Open your link" if link == "" else "This link does not work")
        check_accessible(page)


def test_nothing_traps_the_keyboard(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = at_work(open_page(site.link("Ann")))
    seen = []
    for _ in range(40):
        type_keys(page, "Tab")
        seen.append(focused(page))
    assert {"Help ?", "Keys", "Submit Enter", "▼ Worst", "Sign out"} <= set(seen)
