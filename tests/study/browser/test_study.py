"""Participants in Chromium, against the real server: a study to its tables, other devices, network cuts, leaving."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import Page, Route, expect

from onereward.cli.main import main
from onereward.people.persons import Persons, Role
from onereward.people.tables import STUDY_ITEMS
from onereward.study.closing import status_of
from onereward.study.project import open_to_all
from onereward.terms import Task
from tests.browser import OpenPage, check_accessible
from tests.study.browser.walk import Shown, agree, answer, at_trial, shown, walk
from tests.study.running import SECRETS, SYSTEMS, Made, serving, study

pytestmark = pytest.mark.browser

GOOD, BAD = SYSTEMS


def fair(trial: Shown) -> list[int]:
    """The first system is usable and 4, the other is neither and 2; checks are passed."""
    if trial.note:
        wanted = int(re.search(r"choose (\d)", trial.note)[1])  # type: ignore[index]
        return [wanted if count == 5 else 1 if "Yes" in trial.note else 2 for count in trial.options]
    if len(trial.systems) == 2:
        return [1 if trial.systems[0] == GOOD else 3]
    good = trial.systems == [GOOD]
    return [(4 if good else 2) if count == 5 else (1 if good else 2) for count in trial.options]


def link(made: Made, url: str, name: str, role: Role = Role.PARTICIPANT) -> str:
    return f"{url}/enter#{made.link_of(name, role)[1]}"


def test_three_participants_make_the_tables(tmp_path: Path, open_page: OpenPage) -> None:
    """Practice, ratings, checks and breaks by keyboard; two by their own links, one by the open one; axe on all."""
    config = {"items": 2, "answers": 3, "practice": 1, "check_every": 2, "break_every": 1}
    with study(tmp_path, **config) as made, serving(made) as url:
        open_to_all(made.database, "o" * 32, made.clock)
        checked, pauses, frames = set[str](), list[str](), dict[str | None, set[str]]()
        for number, address in enumerate((link(made, url, "Ann"), link(made, url, "Bob"), f"{url}/join#{'o' * 32}")):
            page = open_page(address, viewport={"width": (1280, 800, 390)[number], "height": 800})

            def look(screen: str, page: Page = page) -> None:
                assert not any(word in page.content().lower() for word in SECRETS)
                if screen == "pause":
                    pauses.append(page.locator("#pause-done").inner_text())
                if screen not in checked:
                    checked.add(screen)
                    check_accessible(page)
                if screen == "trial" and page.viewport_size == {"width": 800, "height": 800}:
                    [system] = shown(page, made).systems
                    drawn = page.locator("#pictures").evaluate("(row) => row.outerHTML")
                    frames.setdefault(system, set()).add(re.sub(r"blob:[^\"]+", "", drawn))

            expect(page.get_by_role("checkbox")).to_be_visible()
            look("consent")
            if "join" in address:
                page.get_by_role("checkbox").check()
                page.get_by_role("button", name="Take part").click()
                expect(page.get_by_label("Your link")).to_have_value(re.compile(f"^{url}/enter#"))
                look("link")
                page.get_by_role("link", name="Continue").click()
                look("instructions")
                page.get_by_role("button", name="Start with practice").click()
            else:
                agree(page)
            seen = walk(page, made, fair, look)
            assert [trial.count for trial in seen] == ["1 of 1", *(f"{n} of 6" for n in range(1, 7))]
        assert checked == {"consent", "link", "instructions", "trial", "ready", "pause", "end"}
        assert pauses == ["1 of 6"] * 3  # later ones are too near the end
        assert frames[GOOD] == frames[BAD]  # no attribute tells whose a picture is
        status = status_of(made.database)
        assert (status.answers, status.wanted, status.finished) == (12, 12, 3)
        place, output = made.place, tmp_path / "tables"
    assert main(["study", "analyse", "--database", place, "--output", str(output)]) == 2  # not before it is closed
    assert main(["study", "close", "--database", place]) == 0
    assert main(["study", "analyse", "--database", place, "--output", str(output)]) == 0
    with (output / "table3.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["criterion"] in ("usability", "structure")]
    found = {(row["system"], row["criterion"]): float(row["value"]) for row in rows}
    assert found == {(GOOD, "usability"): 1, (GOOD, "structure"): 4, (BAD, "usability"): 0, (BAD, "structure"): 2}
    figures = json.loads((output / "study.json").read_text())
    assert figures["results"]["participants"] == 3 and figures["left_out"] == []
    assert (output / "table3.md").exists() and "Table 3" in (output / "study.html").read_text()


def test_pairs_by_touch_and_on_another_device(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=3, answers=2, rates=False, comparisons=(SYSTEMS,)) as made, serving(made) as url:
        address = link(made, url, "Ann")
        phone = open_page(address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        agree(phone)
        phone.get_by_role("button", name="Begin").tap()
        first = shown(at_trial(phone), made)
        check_accessible(phone)
        phone.locator(".box").nth(1).tap()
        viewer = phone.get_by_role("dialog", name="Enlarged picture")
        expect(viewer.get_by_role("button", name="Left")).to_have_attribute("aria-pressed", "true")
        viewer.get_by_role("button", name="Zoom in").tap()
        expect(phone.locator("#zoom")).to_have_text("150 %")
        check_accessible(phone)
        viewer.get_by_role("button", name="Close").tap()
        phone.get_by_role("radio", name="Left is better").tap()
        phone.get_by_role("button", name="Next").tap()
        expect(phone.locator("#count")).to_have_text("2 of 3")

        desk = open_page(address)
        assert shown(at_trial(desk), made).count == "2 of 3"
        answer(desk, [3])
        phone.reload()
        assert shown(at_trial(phone), made).count == "3 of 3"
        phone.get_by_role("radio", name="About the same").tap()
        phone.get_by_role("button", name="Next").tap()
        expect(phone.locator(".tick")).to_be_visible()
        desk.reload()
        expect(desk.locator(".tick")).to_be_visible()
        assert len(first.systems) == 2 and status_of(made.database).answers == 3


def test_a_network_cut_loses_and_doubles_nothing(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2, answers=2) as made, serving(made) as url:
        page = open_page(link(made, url, "Ann"))
        agree(page)
        page.get_by_role("button", name="Begin").click()
        choices = fair(shown(page, made))
        page.wait_for_load_state("networkidle")  # what comes next is here

        def lose_reply(route: Route) -> None:
            route.fetch()
            route.abort()

        page.context.route("**/api/answers", lose_reply, times=1)
        page.context.set_offline(False)
        answer(page, choices)
        page.context.set_offline(True)
        for _ in range(2):
            at_trial(page)
            answer(page, [1] * page.locator(".question").count())
        expect(page.locator("#network")).to_contain_text("3 answers are kept on this device")
        expect(page.locator("#loading-title")).to_have_text("Waiting for the connection")
        check_accessible(page)
        page.context.set_offline(False)
        expect(page.locator("#count")).to_have_text("4 of 4")
        expect(page.locator("#network")).to_be_empty()
        at_trial(page)
        answer(page, [1] * page.locator(".question").count())
        expect(page.locator(".tick")).to_be_visible()
        status = status_of(made.database)
        assert (status.answers, status.finished) == (4, 1)


def test_a_picture_that_is_gone_is_said_and_nothing_can_be_answered(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        with made.database.reading() as connection:
            file = made.pictures.path(connection.execute(sa.select(STUDY_ITEMS.c.source).limit(1)).scalar_one())
        aside = file.rename(file.with_suffix(".aside"))
        page = open_page(link(made, url, "Ann"))
        agree(page)
        page.get_by_role("button", name="Begin").click()
        broken = page.get_by_role("heading", name="A picture could not be loaded")
        done = 0
        while True:  # both outputs of the other item may come before
            expect(broken.or_(page.locator("#pictures[aria-busy=false]"))).to_be_visible()
            if broken.is_visible():
                break
            answer(page, [1] * page.locator(".question").count())
            done += 1
        expect(page.locator("#trial")).to_be_hidden()
        check_accessible(page)
        for key in ("1", "Enter"):
            page.keyboard.press(key)
        again = page.get_by_role("button", name="Try again")
        again.click()
        expect(broken).to_be_visible()
        expect(page.locator("#count")).to_have_text(f"{done + 1} of 4")
        aside.rename(file)
        again.click()
        answer(at_trial(page), [1] * page.locator(".question").count())
        expect(page.locator("#count")).to_have_text(f"{done + 2} of 4")
        page.wait_for_function("() => localStorage.length === 0")
        assert status_of(made.database).answers == done + 1


def test_pages_side_by_side_keep_each_others_answers(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        first = open_page(link(made, url, "Ann"))
        agree(first)
        first.get_by_role("button", name="Begin").click()
        second = first.context.new_page()
        second.goto(f"{url}/study")
        for page in (first, second):
            at_trial(page)
            page.wait_for_load_state("networkidle")
        first.context.route("**/api/answers", lambda route: route.abort())
        for page in (first, first, second):  # the second page begins where the first one did
            answer(at_trial(page), [1] * page.locator(".question").count())
        first.close()
        second.context.unroute("**/api/answers")
        second.reload()
        expect(second.locator("#count")).to_have_text("3 of 4")
        second.wait_for_function("() => localStorage.length === 0")
        assert status_of(made.database).answers == 2


def test_pictures_that_hang_or_are_refused_are_said(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        page = open_page(link(made, url, "Ann"))
        agree(page)
        page.add_init_script("""
            const limit = AbortSignal.timeout.bind(AbortSignal);
            AbortSignal.timeout = (delay) => limit(delay / 20);
        """)
        page.context.route("**/api/images/*", lambda route: None)
        expect(page.get_by_role("button", name="Begin")).to_be_visible()
        page.reload()
        page.get_by_role("button", name="Begin").click()
        expect(page.get_by_role("heading", name="A picture could not be loaded")).to_be_visible()
        page.context.unroute("**/api/images/*")
        page.context.route("**/api/images/*", lambda route: route.fulfill(status=401))
        page.get_by_role("button", name="Try again").click()
        ended = page.get_by_role("dialog", name="Open your link again")
        expect(ended).to_be_visible(timeout=5000)
        page.context.unroute("**/api/images/*")
        ended.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Try again").click()
        at_trial(page)


def test_what_helps_to_look(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        page = open_page(link(made, url, "Ann"))
        agree(page)
        page.get_by_role("button", name="Begin").click()
        at_trial(page)
        result = page.locator(".frame:not(.source) img")
        address, original = result.get_attribute("src"), page.locator(".source img").get_attribute("src")
        page.keyboard.down("o")
        expect(result).to_have_attribute("src", str(original))
        page.keyboard.up("o")
        expect(result).to_have_attribute("src", str(address))
        assert painted(page) > 0
        page.keyboard.press("m")
        assert painted(page) == 0
        page.keyboard.press("z")
        page.keyboard.press("+")
        expect(page.locator("#zoom")).to_have_text("150 %")
        page.keyboard.press("1")
        expect(page.locator("#tabs button").first).to_have_attribute("aria-pressed", "true")
        check_accessible(page)
        page.keyboard.press("Escape")
        for way in ("key", "button"):
            page.locator("#trial-title").focus()
            page.locator("#said").evaluate("(said) => (said.textContent = '')")
            if way == "key":
                page.keyboard.press("Enter")
            else:
                page.get_by_role("button", name="Next").click(force=True)
            expect(page.locator("#said")).to_have_text("“Usability” has no answer yet.")
        expect(page.locator("#trial")).to_be_visible()  # nothing is sent that is not answered
        page.keyboard.press("?")
        check_accessible(page)
        page.get_by_role("checkbox", name="Single letters").uncheck()
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        assert page.locator(".question :checked").count() == 0  # keys are off; the radio buttons' own still work
        page.keyboard.press("ArrowDown")
        assert page.locator(".question :checked").count() == 1


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1280, 720), (1440, 900)])
def test_nothing_moves_under_the_mouse(tmp_path: Path, open_page: OpenPage, width: int, height: int) -> None:
    """A click counts where the button goes down and up over the same thing: no row may grow by hover or focus."""
    with study(tmp_path, items=2, wishes=[(Task.TEXT, "a sign that says “OPEN”")]) as made, serving(made) as url:
        page = open_page(link(made, url, "Ann"), viewport={"width": width, "height": height})
        agree(page)
        page.get_by_role("button", name="Begin").click()
        at_trial(page)
        rows = page.locator(".question")
        assert rows.count() == 7 and fits(page) == (height >= 800)
        for at in (3, 0, 6, 1, 5, 2, 4):
            option = rows.nth(at).locator(".option").last
            option.scroll_into_view_if_needed()
            before = [row.bounding_box() for row in rows.all()]
            box = option.bounding_box()
            assert box is not None
            page.mouse.move(box["x"] + 8, box["y"] + 5)
            page.mouse.down()
            assert [row.bounding_box() for row in rows.all()] == before
            page.mouse.up()
            assert [row.bounding_box() for row in rows.all()] == before
            assert rows.nth(at).locator("input").last.is_checked()
        expect(page.get_by_role("button", name="Next")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("size", [(48, 32), (40, 40), (32, 48)])
def test_a_comparison_fits(tmp_path: Path, open_page: OpenPage, size: tuple[int, int]) -> None:
    with (
        study(tmp_path, items=2, size=size, rates=False, comparisons=(SYSTEMS,)) as made,
        serving(made) as url,
    ):
        page = open_page(link(made, url, "Ann"), viewport={"width": 1280, "height": 800})
        agree(page)
        page.get_by_role("button", name="Begin").click()
        at_trial(page)
        expect(page.get_by_role("button", name="Next")).to_be_in_viewport(ratio=1)
        assert fits(page)


def fits(page: Page) -> bool:
    return bool(page.evaluate("() => document.documentElement.scrollHeight <= innerHeight"))


def painted(page: Page) -> int:
    """How many pixels of the outline are painted over the result."""
    address = page.locator(".frame:not(.source) canvas").evaluate("(canvas) => canvas.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as drawn:
        return int((np.asarray(drawn)[..., 3] > 0).sum())


def test_leaving_and_lost_sessions(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        page = open_page(link(made, url, "Ann"))
        agree(page)
        page.get_by_role("button", name="Begin").click()
        answer(at_trial(page), [1] * page.locator(".question").count())
        page.get_by_role("button", name="Stop").click()
        check_accessible(page)
        page.get_by_role("checkbox", name="shall not be used").check()
        page.get_by_role("button", name="Leave for good").click()
        expect(page.get_by_role("heading", name="You have left the study")).to_be_visible()
        expect(page.get_by_text("None of your answers will be used.")).to_be_visible()
        check_accessible(page)
        assert status_of(made.database).answers == 0 and status_of(made.database).blocks == 3

        page = open_page(link(made, url, "Bob"))
        agree(page)
        page.get_by_role("button", name="Begin").click()
        at_trial(page)
        page.context.clear_cookies()
        page.evaluate("dispatchEvent(new Event('online'))")
        answer(page, [1] * page.locator(".question").count())
        expect(page.get_by_role("dialog", name="Open your link again")).to_be_visible()
        check_accessible(page)


def test_an_open_link_that_does_not_work_is_told_at_once(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2) as made, serving(made) as url:
        open_to_all(made.database, "o" * 32, made.clock)
        for end in ("", "#short", f"#{'x' * 32}"):
            page = open_page(f"{url}/join{end}")
            expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()
            expect(page.get_by_text("Open the link that you were given once more, or ask")).to_be_visible()
            expect(page.get_by_role("checkbox")).to_be_hidden()
            check_accessible(page)
        page.goto(f"{url}/join#{'o' * 32}")  # in the same tab
        expect(page.get_by_role("checkbox")).to_be_visible()


def test_by_the_open_link_once_more_one_goes_on_or_is_somebody_else(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2, answers=3) as made, serving(made) as url:
        open_to_all(made.database, "o" * 32, made.clock)
        page = open_page(f"{url}/join#{'o' * 32}")
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Take part").click()
        expect(page.get_by_role("heading", name="Keep your link")).to_be_visible()
        tab = page.context.new_page()
        tab.goto(f"{url}/join#{'o' * 32}")
        expect(tab.get_by_role("heading", name="Is it you?")).to_be_focused()
        check_accessible(tab)
        tab.get_by_role("button", name="I am somebody else").click()
        expect(tab.get_by_role("checkbox")).to_be_visible()
        tab.goto(f"{url}/nothing")
        tab.goto(f"{url}/join#{'o' * 32}")
        tab.get_by_role("link", name="That is me: go on").click()
        expect(tab.get_by_role("heading", name="What you will do")).to_be_visible()
        assert len(Persons(made.database).all()) == 1


def test_other_pages(tmp_path: Path, open_page: OpenPage) -> None:
    with study(tmp_path, items=2, answers=1) as made, serving(made) as url:
        for address, heading in (
            (f"{url}/enter", "Open your link"),
            (f"{url}/enter#{'x' * 32}", "This link does not work"),
            (f"{url}/nothing", "Not Found"),
            (link(made, url, "Root", Role.ADMIN), "Picture study"),
        ):
            page = open_page(address)
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
            check_accessible(page)
        for number, heading in enumerate(("You are ready", "All places are taken")):
            page = open_page(link(made, url, f"P{number}"))
            if number == 0:
                agree(page)
                page.get_by_role("button", name="Begin").click()
                at_trial(page)
            else:
                expect(page.get_by_role("heading", name=heading)).to_be_visible()
                check_accessible(page)
