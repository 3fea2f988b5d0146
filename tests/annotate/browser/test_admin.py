"""The admin's page and the way in, in Chromium, against the real server."""

import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from onereward.people.persons import Role
from onereward.people.tables import PERSONAL
from onereward.terms import Dimension, Task
from tests.annotate.browser.conftest import OpenSite, at_work, kept, type_keys
from tests.annotate.browser.site import toy_items
from tests.browser import OpenPage, check_accessible

pytestmark = pytest.mark.browser


def row(page: Page, table: str, text: str) -> list[str]:
    """The cells of the row of a table that has a text."""
    found = page.locator(f"#{table} tr", has_text=text)
    expect(found).to_have_count(1)
    return [cell.strip() for cell in found.locator("th, td").all_inner_texts()]


def test_a_person_from_their_link_to_their_erasure(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = open_page(site.link("Root", Role.ADMIN))
    expect(page).to_have_url(f"{site.url}/admin")
    expect(page.locator("#state")).to_have_text("Running")
    expect(page.locator("#no-people")).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    hostile = "<b>Ann</b> & 'co'"
    page.get_by_role("button", name="Add a person").click()
    page.get_by_label("Name, as only this page shows it").fill(hostile)
    type_keys(page, "Enter")
    expect(page.locator("#link-text")).to_be_visible()
    link = page.locator("#link-text").input_value()
    assert re.fullmatch(rf"{site.url}/enter#[A-Za-z0-9_-]{{22,}}", link)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == link
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#link-text")).to_have_value("")
    assert row(page, "people", hostile)[1:3] == ["0", "0"]

    theirs = at_work(open_page(link))
    assert "#" not in theirs.url and theirs.url.endswith("/work")
    theirs.go_back()  # the token is not in the history
    assert "#" not in theirs.url
    theirs.goto(f"{site.url}/work")
    type_keys(at_work(theirs), "1 2 Enter")
    expect(theirs.locator("#done")).to_have_text("1")
    expect(page.locator("#leases tr")).to_have_count(1)  # it shows how things are by itself
    assert row(page, "people", hostile)[1:3] == ["1", "1"]
    assert page.locator("#items-done").inner_text() == "1"

    page.get_by_role("button", name=f"New link for {hostile}").click()
    page.get_by_role("button", name="Make a new link").click()
    renewed = page.locator("#link-text")
    expect(renewed).to_have_value(re.compile("enter#"))
    assert renewed.input_value() != link
    fresh = renewed.input_value()
    page.get_by_role("button", name="Done").click()
    type_keys(theirs, "2 1 Enter")
    expect(theirs.get_by_role("dialog", name="You are signed out")).to_be_visible()
    expect(theirs.locator("#ended-waiting")).to_contain_text("1 answer not sent yet: kept on this device")
    expect(open_page(link).locator("#title")).to_have_text("This link does not work")
    theirs.goto(fresh)  # what was kept on the device is sent by the new session
    expect(theirs.locator("#done")).to_have_text("2")
    kept(site, theirs, 2)

    page.get_by_role("button", name=f"Erase {hostile}").click()
    erase = page.locator("#confirm-yes")
    expect(erase).to_be_disabled()
    page.get_by_label(f"Type {hostile} to confirm").fill(hostile)
    erase.click()
    expect(page.locator("#people tr", has_text="Erased")).to_contain_text("withdrawn")
    expect(page.locator("#people", has_text=hostile)).to_have_count(0)


def test_an_erasure_that_a_reader_holds_up_can_be_tried_again(
    open_site: OpenSite, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onereward.people.database._FORGET_MS", 50)
    site = open_site(toy_items(1))
    link = site.link("Ann")
    page = open_page(site.link("Root", Role.ADMIN))
    again, problem = page.get_by_role("button", name="Try again"), page.locator("#problem")
    with site.database.reading() as connection:
        connection.execute(sa.select(PERSONAL)).all()
        page.get_by_role("button", name="Erase Ann").click()
        page.get_by_label("Type Ann to confirm").fill("Ann")
        page.locator("#confirm-yes").click()
        expect(problem).to_contain_text("This person is erased, but another program reads the database")
        expect(page.locator("#people tr", has_text="Erased")).to_have_count(1)
        check_accessible(page)
        with page.expect_response("**/erase") as told:
            again.click()
        assert told.value.status == 503
    again.click()
    expect(problem).to_be_hidden()
    expect(open_page(link).locator("#title")).to_have_text("This link does not work")


def test_pausing_releasing_and_withdrawing(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(3, task=Task.REMOVE))
    page = open_page(site.link("Root", Role.ADMIN))
    theirs = at_work(open_page(site.link("Ann")))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("Paused: no items are given out")
    for _ in range(2):
        type_keys(at_work(theirs), "1 2 Enter")  # what they hold
    expect(theirs.locator("#empty-title")).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_have_text("Running")
    theirs.evaluate("dispatchEvent(new Event('online'))")  # asks at once
    at_work(theirs)
    assert len(site.holders()) == 1
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("button", name=re.compile("^Release")).click()
    expect(page.locator("#no-leases")).to_be_visible()
    assert site.holders() == []
    theirs.evaluate("dispatchEvent(new Event('online'))")
    expect(theirs.locator("#problem")).to_have_text(re.compile("given to somebody else"))

    page.get_by_role("button", name="Withdraw Ann").click()
    page.get_by_label("Do not count their answers").check()
    page.locator("#confirm-yes").click()
    expect(page.locator("#people tr", has_text="Ann")).to_contain_text("withdrawn, not counted")
    expect(page.get_by_role("button", name="Withdraw Root")).to_be_hidden()  # nobody locks themselves out
    expect(page.locator("#answers")).to_have_text("0")


def test_agreement_and_gold_are_shown(open_site: OpenSite, open_page: OpenPage) -> None:
    items = toy_items(4, task=Task.REMOVE)
    gold = {items[0][0].id: {Dimension.REMOVAL_QUALITY: (0, 3)}}
    site = open_site(items, gold_answers=gold, gold=0.9, annotators=2)
    for name in ("Ann", "Bob"):
        theirs = open_page(site.link(name))
        for count in range(4):
            at_work(theirs)
            triplet, order = list(site.orders(name).items())[count]
            best = [item.id for item, _ in items].index(triplet)  # another one for each item
            type_keys(theirs, f"{order.index(best) + 1} {order.index(3 - best) + 1} Enter")
            expect(theirs.locator("#done")).to_have_text(str(count + 1))
    page = open_page(site.link("Root", Role.ADMIN))
    expect(page.locator("#agreement svg")).to_have_count(2)
    cells = row(page, "agreement", "Removal quality")
    assert cells[1] == "3" and cells[2].startswith("1.00") and cells[4].startswith("100 %")
    assert row(page, "people", "Ann")[4] == "100 % of 1"
    assert page.locator("main [style]").count() == 0


def test_a_name_that_does_not_do_is_told_in_the_dialog(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = open_page(site.link("Root", Role.ADMIN))
    page.get_by_role("button", name="Add a person").click()
    field, problem = page.get_by_label("Name, as only this page shows it"), page.locator("#name-problem")
    for name in ("", "  ", "Ann\tB", "Ann\u2028B"):
        field.fill(name)
        page.get_by_role("button", name="Make link").click()
        expect(problem).to_have_text("Write a name: letters, digits or signs, on one line.")
        expect(field).to_be_focused()
        check_accessible(page)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Add a person").click()
    expect(problem).to_be_empty()
    field.fill("Ann")
    page.get_by_role("button", name="Make link").click()
    expect(page.get_by_role("dialog", name="Link for Ann")).to_be_visible()


def test_items_that_wait_for_somebody_else_are_told(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1, task=Task.REMOVE), annotators=2)
    theirs = at_work(open_page(site.link("Ann")))
    type_keys(theirs, "1 2 Enter")
    expect(theirs.locator("#empty-title")).to_have_text("All done")
    expect(theirs.locator("#pace-part")).to_be_visible()
    expect(theirs.locator("#left-part")).to_be_hidden()
    page = open_page(site.link("Root", Role.ADMIN))
    expect(page.locator("#short")).to_have_text("1 item waits for more people than there are: add somebody.")
    expect(page.locator("#time-left")).to_have_text("–")
    check_accessible(page)
    site.link("Bob")
    expect(page.locator("#short")).to_be_empty(timeout=10_000)


def test_pages_that_are_not_for_somebody_lead_back(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = open_page(f"{site.url}/work")
    expect(page.get_by_role("heading")).to_have_text("You are not signed in")
    check_accessible(page)
    page = at_work(open_page(site.link("Ann")))
    page.goto(f"{site.url}/admin")
    expect(page.get_by_role("heading")).to_have_text("This page is not for you")
    check_accessible(page)
    page.get_by_role("link", name="To your own page").click()
    expect(page).to_have_url(f"{site.url}/work")


def test_the_way_in(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = open_page(f"{site.url}/")
    title, again = page.locator("#title"), page.get_by_role("button", name="Try again")
    expect(title).to_have_text("Open your link")
    page.goto(f"{site.url}/enter#{'x' * 32}")  # as another link in the same tab
    expect(title).to_have_text("This link does not work")
    assert page.url == f"{site.url}/enter"
    page.context.route("**/api/session", lambda route: route.abort())
    page.goto(site.link("Ann"))
    expect(title).to_have_text("That did not work")
    page.context.unroute("**/api/session")
    again.click()
    at_work(page)
    page.get_by_role("button", name="Sign out").click()
    expect(title).to_have_text("You are signed out")
    expect(page.locator("#text")).to_have_text("Open your link to go on.")
    assert page.goto(f"{site.url}/work").status == 401  # type: ignore[union-attr]
