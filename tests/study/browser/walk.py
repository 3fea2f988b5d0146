"""What a participant does in a browser."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from tests.study.running import Made

Judge = Callable[["Shown"], list[int]]
"""The number of the option, from 1, for each question of a trial."""

SCREENS = re.compile("ready-title|pause-title|trial-title")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A trial as it stands on the page: whose the pictures are, how many options each question has, a check's words."""

    systems: list[str | None]
    options: list[int]
    note: str
    count: str


def agree(page: Page) -> None:
    """Consent and instructions, to the first trial."""
    page.get_by_role("checkbox", name="I have read this").check()
    page.get_by_role("button", name="Take part").click()
    page.get_by_role("button", name=re.compile("^Start")).click()


def at_trial(page: Page) -> Page:
    """The page once a trial and its pictures are shown."""
    expect(page.locator("#trial #pictures[aria-busy=false]")).to_be_visible()
    return page


def shown(page: Page, made: Made) -> Shown:
    """The trial on the page, once all answers have been sent; the database tells whose the pictures are."""
    at_trial(page)
    page.wait_for_function("() => localStorage.length === 0")
    options = [group.locator("input").count() for group in page.locator(".question").all()]
    note = page.locator("#note")
    trials = page.evaluate("() => fetch('/api/place').then((answer) => answer.json()).then(({trials}) => trials[0])")
    systems = made.systems()
    return Shown(
        systems=[systems[picture] for picture in trials["pictures"]],
        options=options,
        note=note.inner_text() if note.is_visible() else "",
        count=page.locator("#count").inner_text(),
    )


def answer(page: Page, choices: list[int]) -> None:
    """By keys alone: a number for each question, then Enter; returns when another screen or trial is there."""
    number = page.locator("#trial-number").inner_text()
    for choice in choices:
        page.keyboard.press(str(choice))
    expect(page.locator("#next")).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(number) => document.querySelector('.tick') || document.querySelector('#trial')?.hidden === true"
        " || document.querySelector('#trial-number')?.textContent !== number",
        arg=number,
    )


def walk(page: Page, made: Made, judge: Judge, each: Callable[[str], None] = lambda screen: None) -> list[Shown]:
    """Go on to the end and return what was shown; `each` is told of every screen before anything is done there."""
    seen = []
    while True:
        expect(page.locator(".tick, #ready:visible, #pause:visible, #pictures[aria-busy=false]").first).to_be_visible()
        if page.locator(".tick").count():
            each("end")
            return seen
        if page.locator("#ready").is_visible():
            each("ready")
            page.get_by_role("button", name="Begin").click()
            at_trial(page)
        elif page.locator("#pause").is_visible():
            each("pause")
            page.get_by_role("button", name="Go on").click()
        else:
            seen.append(shown(page, made))
            each("trial")
            answer(page, judge(seen[-1]))
