"""The annotator's page in Chromium, against the real server: by keyboard, through network cuts, by touch."""

import base64
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from onereward.annotate.work import Work
from onereward.terms import Task, dimensions_of
from tests.annotate.browser.conftest import OpenSite, at_work, kept, type_keys
from tests.annotate.browser.site import Site, photo_items, toy_items
from tests.browser import OpenPage, check_accessible

pytestmark = pytest.mark.browser

ALL = "1 2 1 2 1 2 1 2"  # best and worst in four dimensions


def prompts(site_items: list[tuple]) -> dict[str, str]:  # type: ignore[type-arg]
    return {triplet.prompt: triplet.id for triplet, _ in site_items}


def done(page: Page, count: int) -> None:
    expect(page.locator("#done")).to_have_text(str(count))


def waits(page: Page, count: int) -> None:
    words = f"No connection: {count} answer{'s' if count > 1 else ''} waiting, kept on this device"
    expect(page.locator("#waiting")).to_have_text(words)


def submissions(site: Site) -> Counter[str]:
    """How many requests each item was answered by."""
    return Counter(triplet for triplet, _ in {(vote.triplet_id, vote.submission) for vote in site.votes()})


def pixels(page: Page, place: int) -> np.ndarray:
    """A candidate as it is drawn, one value a picture's pixel: (64, 64, 3)."""
    data = page.locator(".tile canvas").nth(place).evaluate("canvas => canvas.toDataURL('image/png')")
    drawn = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")
    side = min(drawn.size)
    left, top = (drawn.width - side) / 2, (drawn.height - side) / 2
    middles = (np.arange(64) + 0.5) * side / 64
    columns, rows = (left + middles).astype(int), (top + middles).astype(int)
    return np.asarray(drawn).astype(int)[rows[:, None], columns[None, :]]


def test_a_session_by_keyboard_alone(open_site: OpenSite, open_page: OpenPage) -> None:
    items = toy_items(3)
    site = open_site(items, minimum_seconds=0.7)
    page = at_work(open_page(site.link("Ann")))
    said = page.locator("#said")
    submit = page.locator("#submit")
    expect(page.locator("[aria-current] .title")).to_have_text("Text alignment")
    type_keys(page, "Enter")
    expect(said).to_have_text("Still to answer: Text alignment, Consistency, Structure, Aesthetics.")

    type_keys(page, "1 3 s 2")  # best and worst are two keys, a skip and its reason too
    expect(page.locator("[aria-current] .title")).to_have_text("Structure")
    type_keys(page, "ArrowDown 4 1 2 4 Shift+Tab Shift+Tab")  # Tab goes from question to question
    expect(page.locator("[aria-current] .title")).to_have_text("Text alignment")
    expect(page.locator(".answer")).to_have_text(
        ["Best 1 · Worst 3", "Skipped: all bad", "Best 2 · Worst 4", "Best 4 · Worst 1"]
    )
    type_keys(page, "4")  # a third number begins anew
    expect(page.locator(".tile[data-mark=best] .place")).to_have_text("4")
    type_keys(page, "2")
    expect(submit).to_have_attribute("aria-disabled", "false")
    first = page.locator("#prompt").inner_text()
    type_keys(page, "Enter")
    done(page, 1)

    at_work(page)
    expect(submit).to_have_text(re.compile("Submit in 1 s"))
    type_keys(page, ALL + " Enter")
    expect(said).to_have_text("Take your time: 1 s to go.")
    expect(submit).to_have_attribute("aria-disabled", "false")
    type_keys(page, "Enter")
    done(page, 2)
    at_work(page)
    type_keys(page, "s 1 s 3 3 4 Escape 4 3")
    expect(submit).to_have_attribute("aria-disabled", "false")
    type_keys(page, "Enter")
    expect(page.locator("#empty-title")).to_have_text("All done")
    done(page, 3)

    order = site.orders()[prompts(items)[first]]
    votes = [vote for vote in kept(site, page, 12) if vote.triplet_id == prompts(items)[first]]
    assert {(vote.dimension, vote.best, vote.worst, vote.reason) for vote in votes} == {
        ("text_alignment", order[3], order[1], None),
        ("consistency", None, None, "all_bad"),
        ("structure", order[1], order[3], None),
        ("aesthetics", order[3], order[0], None),
    }
    assert set(submissions(site).values()) == {1}


def test_undo_of_a_choice_and_of_a_submitted_answer(open_site: OpenSite, open_page: OpenPage) -> None:
    items = toy_items(3, task=Task.REMOVE)
    site = open_site(items)
    page = at_work(open_page(site.link("Ann")))
    answer = page.locator(".answer")
    type_keys(page, "1 2 u")
    expect(answer).to_have_text("Best 1")
    type_keys(page, "u u")
    expect(answer).to_have_text("No answer yet")
    expect(page.locator("#said")).to_have_text("There is nothing to undo.")
    type_keys(page, "1 2 Enter")
    done(page, 1)

    type_keys(at_work(page), "3")  # half an answer to the next item, which waits while the first one is corrected
    expect(answer).to_have_text("Best 3")
    type_keys(page, "u u")
    expect(page.locator("#correcting")).to_be_visible()
    expect(answer).to_have_text("Best 1 · Worst 2")
    kept(site, page, 1)
    page.reload()  # and the correction waits through a reload
    expect(page.locator("#correcting")).to_be_visible()
    type_keys(at_work(page), "4 3 Enter")
    expect(page.locator("#correcting")).to_be_hidden()
    expect(answer).to_have_text("No answer yet")
    done(page, 1)

    [first, second] = kept(site, page, 2)
    assert site.events("undo") == 1
    order = site.orders()[first.triplet_id]
    assert first.triplet_id == second.triplet_id and len(site.holders()) == 2
    assert [(first.best, first.worst), (second.best, second.worst)] == [(order[0], order[1]), (order[3], order[2])]


@pytest.mark.parametrize("seconds", [1.5, pytest.param(30, marks=pytest.mark.soak)])
def test_nothing_is_lost_or_doubled_by_a_network_cut(open_site: OpenSite, open_page: OpenPage, seconds: float) -> None:
    site = open_site(toy_items(4, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    expect(page.locator("#remaining")).to_have_text("4")
    page.wait_for_load_state("networkidle")  # the next item is here
    page.context.set_offline(True)
    began = time.monotonic()
    type_keys(page, "1 2 Enter")
    waits(page, 1)
    type_keys(at_work(page), "2 1 Enter")  # work goes on with the item that was claimed ahead
    waits(page, 2)
    type_keys(page, "u")  # also without a connection a submitted answer can be corrected
    type_keys(at_work(page), "3 4 Enter")
    waits(page, 3)
    expect(page.locator("#empty-title")).to_have_text("No connection")
    done(page, 2)
    page.wait_for_timeout(max(0, seconds - (time.monotonic() - began)) * 1000)
    assert site.votes() == []
    page.context.set_offline(False)
    expect(page.locator("#waiting")).to_be_empty()
    type_keys(at_work(page), "1 2 Enter")
    type_keys(at_work(page), "1 2 Enter")
    expect(page.locator("#empty-title")).to_have_text("All done")
    done(page, 4)
    votes, orders = kept(site, page, 5), site.orders()
    chosen = [(orders[vote.triplet_id].index(vote.best), orders[vote.triplet_id].index(vote.worst)) for vote in votes]
    assert chosen == [(0, 1), (1, 0), (2, 3), (0, 1), (0, 1)]  # in the order in which they were given
    assert sorted(submissions(site).values()) == [1, 1, 1, 2]


def test_an_answer_whose_reply_was_lost_is_sent_again_and_counted_once(
    open_site: OpenSite, open_page: OpenPage
) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    sent = []

    def lose_reply(route: Route) -> None:
        sent.append(json.loads(route.request.post_data or ""))
        if len(sent) > 2:
            return route.continue_()
        route.fetch()  # the server has it
        return route.abort()

    page.context.route("**/api/answers", lose_reply)
    type_keys(page, "1 2 Enter")
    waits(page, 1)
    page.reload()  # the device has it
    waits(page, 1)
    expect(page.locator("#waiting")).to_be_empty()
    done(page, 1)
    kept(site, page, 1)
    assert len(sent) == 3 and sent[0] == sent[1] == sent[2]
    assert set(submissions(site).values()) == {1}


def test_a_reload_goes_on_with_half_made_choices(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(4))
    page = at_work(open_page(site.link("Ann")))
    prompt = page.locator("#prompt").inner_text()
    type_keys(page, "4 1 s 3 2")
    answers = ["Best 4 · Worst 1", "Skipped: cannot tell", "Best 2", "No answer yet"]
    expect(page.locator(".answer")).to_have_text(answers)
    page.reload()
    at_work(page)
    expect(page.locator("#prompt")).to_have_text(prompt)
    expect(page.locator(".answer")).to_have_text(answers)
    expect(page.locator("[aria-current] .title")).to_have_text("Structure")
    assert len(site.holders()) == 2


def test_a_picture_that_is_gone_is_said_and_nothing_can_be_answered(open_site: OpenSite, open_page: OpenPage) -> None:
    items = toy_items(2, task=Task.REMOVE)
    site = open_site(items)
    file = site.source_file(items[1][0].id)
    aside = file.rename(file.with_suffix(".aside"))
    page = at_work(open_page(site.link("Ann")))
    type_keys(page, "1 2 Enter")
    broken = page.get_by_role("heading", name="A picture could not be loaded")
    expect(broken).to_be_visible()
    expect(page.locator("#item")).to_be_hidden()
    check_accessible(page)
    type_keys(page, "1 2 Enter s 1")
    again = page.get_by_role("button", name="Try again")
    again.click()
    expect(broken).to_be_visible()
    kept(site, page, 1)
    type_keys(page, "u")  # the item before it can be corrected meanwhile
    type_keys(at_work(page), "2 1 Enter")
    expect(broken).to_be_visible()
    kept(site, page, 2)
    aside.rename(file)
    again.click()
    at_work(page)
    expect(page.locator(".answer")).to_have_text("No answer yet")
    type_keys(page, "1 2 Enter")
    expect(page.locator("#empty-title")).to_have_text("All done")
    kept(site, page, 3)


def test_two_people_race_for_the_last_slot_and_a_lost_lease_is_told(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1), lease_seconds=3)
    pages = [open_page(site.link(name)) for name in ("Ann", "Bob")]
    for page in pages:
        expect(page.locator("#grid[aria-busy=false]").or_(page.get_by_text("with others right now"))).to_be_visible()
    [winner] = [page for page in pages if page.locator("#item").is_visible()]
    [other] = [page for page in pages if page is not winner]
    assert len(site.holders()) == 1
    other.wait_for_timeout(3500)
    with other.expect_response("**/api/assignments") as asked:
        other.evaluate("dispatchEvent(new Event('online'))")  # asks at once
    assert asked.value.json() == {"none": "busy"}  # heartbeats keep the lease
    winner.context.set_offline(True)
    other.wait_for_timeout(3100)  # the lease is over
    other.evaluate("dispatchEvent(new Event('online'))")
    at_work(other)
    winner.context.set_offline(False)
    expect(winner.locator("#problem")).to_have_text(re.compile("given to somebody else"))
    expect(winner.locator("#empty")).to_be_visible()
    type_keys(other, ALL + " Enter")
    kept(site, other, 4)
    assert list(submissions(site).values()) == [1]


def test_keys_are_given_to_actions_and_kept_by_the_server(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.get_by_role("button", name="Keys").click()
    said = page.locator("#keys-said")

    def give(action: str, key: str) -> None:
        page.locator("#keys").get_by_role("button", name=re.compile(f"^{action}")).focus()
        type_keys(page, f"Enter {key}")

    give("Candidate 1", "a")
    give("Candidate 2", "Control+b")
    give("Submit", "s")
    expect(said).to_have_text(
        "s it is. Enter is now for: Skip this question, then the number of a reason. Save to keep it."
    )
    give("Show or hide the mask", "Delete")
    give("Undo", "Escape")
    expect(page.locator("#keys").get_by_role("button", name="Undo, also after submitting: u")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#skip kbd")).to_have_text("Enter")
    page.reload()
    at_work(page)
    expect(page.locator("#submit kbd")).to_have_text("s")
    expect(page.locator("#mask kbd")).to_have_text("–")
    type_keys(page, "1 2 m")
    expect(page.locator(".answer")).to_have_text("No answer yet")
    expect(page.locator("#mask")).to_have_attribute("aria-pressed", "true")
    type_keys(page, "a Control+b")
    expect(page.locator(".answer")).to_have_text("Best 1 · Worst 2")
    type_keys(page, "s")
    done(page, 1)


def test_candidates_are_drawn_as_they_are_flipped_and_subtracted(open_site: OpenSite, open_page: OpenPage) -> None:
    items = toy_items(1)
    site = open_site(items)
    page = at_work(open_page(site.link("Ann")))
    [(triplet, candidates)] = items
    order = site.orders()[triplet.id]
    source = np.asarray(Image.open(io.BytesIO(triplet.image))).astype(int)
    edits = [np.asarray(Image.open(io.BytesIO(candidates[index].image))).astype(int) for index in order]

    def drawn(expected: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + 10
        while not all(map(expected, range(4))):
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)

    def is_drawn(wanted: list[np.ndarray]) -> None:
        drawn(lambda place: bool(np.abs(pixels(page, place) - wanted[place]).max() <= 1))

    type_keys(page, "m")  # without the line around the mask
    is_drawn(edits)
    page.keyboard.down("Space")
    is_drawn([source] * 4)
    expect(page.locator("#showing")).to_have_text("Showing the source")
    page.keyboard.up("Space")
    is_drawn(edits)
    type_keys(page, "d")
    is_drawn([np.abs(edit - source) for edit in edits])
    type_keys(page, "d")
    expect(page.locator("#showing")).to_have_text("Difference × 8")
    is_drawn([np.minimum(8 * np.abs(edit - source), 255) for edit in edits])
    type_keys(page, "d m")
    drawn(lambda place: bool(np.abs(pixels(page, place) - edits[place]).max() > 50))  # the line


@pytest.mark.parametrize("width", [1280, 800])
def test_pictures_stay_where_they_are(open_site: OpenSite, open_page: OpenPage, width: int) -> None:
    site = open_site(toy_items(5, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann"), viewport={"width": width, "height": 800}))

    def boxes() -> list[object]:
        page.wait_for_timeout(50)
        return [canvas.bounding_box() for canvas in page.locator("canvas").all()]

    before = boxes()
    page.keyboard.down("Space")
    expect(page.locator("#showing")).to_have_text("Showing the source")
    assert boxes() == before
    page.keyboard.up("Space")
    for key, words in (("d", "Difference"), ("d", "Difference × 8"), ("z", re.compile("2.0×"))):
        type_keys(page, key)
        expect(page.locator("#showing")).to_have_text(words)
        assert boxes() == before, words
    assert page.locator("#showing").evaluate("one => one.scrollWidth <= one.clientWidth")
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    type_keys(page, "1 2 Enter")
    waits(page, 1)
    at_work(page)
    assert boxes() == before
    assert page.locator("#waiting").evaluate("one => one.scrollHeight <= one.clientHeight")
    page.context.set_offline(False)
    done(page, 1)
    expect(page.locator("#waiting")).to_be_empty()
    expect(page.locator("#pace")).not_to_be_empty()
    assert boxes() == before


def test_help_tells_the_questions_and_the_keys_there_are(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = at_work(open_page(site.link("Ann")))
    type_keys(page, "?")
    titles = ["Text alignment", "Consistency", "Structure", "Aesthetics"]
    expect(page.locator("#help-questions dt")).to_have_text(titles)
    expect(page.locator("#help-questions dd").first).to_have_text(re.compile("what the prompt says"))
    expect(page.locator("#help-list kbd").first).to_have_text("1 … 4")
    expect(page.locator("#help-list dd", has_text="andidate")).to_have_count(2)  # with what Space shows in their place


def test_who_is_told_that_their_answer_came_too_late(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.wait_for_load_state("networkidle")
    work, first = Work(site.database), page.locator("#prompt").inner_text()
    page.context.set_offline(True)
    for assignment in work.held(site.holders()[0]):
        work.release(assignment.id)
    other = at_work(open_page(site.link("Bob")))  # who holds the first of them and the second
    assert first
    type_keys(page, "1 2 Enter")
    page.context.set_offline(False)
    words = "This item was taken back before your answer came: it is kept, but not counted."
    expect(page.locator("#problem")).to_have_text(words)
    done(page, 0)
    type_keys(other, "1 2 Enter")
    done(other, 1)


def test_zoom_and_pan_are_shared(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(photo_items()[:1])
    page = at_work(open_page(site.link("Ann")))
    showing = page.locator("#showing")

    def drawn() -> list[int]:
        """A number that says what is on each canvas."""
        page.wait_for_timeout(50)
        return page.evaluate("""() => [...document.querySelectorAll("canvas")].map((canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.reduce((sum, value, index) => (sum * 31 + value + index) % 1000000007, 0);
        })""")  # type: ignore[no-any-return]

    def changed(before: list[int]) -> list[int]:
        after = drawn()
        assert all(one != other for one, other in zip(before, after, strict=True))
        return after

    whole = drawn()
    type_keys(page, "z")
    expect(showing).to_have_text("2.0×")
    seen = changed(whole)
    type_keys(page, "Shift+ArrowLeft")
    seen = changed(seen)
    box = page.locator(".tile canvas").nth(1).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y - 30, steps=4)
    page.mouse.up()
    seen = changed(seen)
    expect(page.locator(".answer").first).to_have_text("No answer yet")  # a drag is no choice
    page.mouse.wheel(0, -300)
    expect(showing).to_have_text("3.6×")
    seen = changed(seen)
    type_keys(page, "c")  # to the mask, which is 3/8 wide
    expect(showing).to_have_text("2.0×")
    type_keys(page, "c")
    expect(showing).to_be_empty()
    assert drawn() == whole


def test_the_next_item_is_there_at_once(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(3, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    site.picture_delay = 0.5
    page.wait_for_load_state("networkidle")
    page.evaluate("""() => {
        const grid = document.getElementById("grid");
        const seen = () => { if (grid.ariaBusy === "false") window.took = performance.now() - window.pressed; };
        new MutationObserver(seen).observe(grid, { attributeFilter: ["aria-busy"] });
        const press = (event) => { if (event.key === "Enter") window.pressed = performance.now(); };
        addEventListener("keydown", press, true);
    }""")
    type_keys(page, "1 2 Enter")
    done(page, 1)
    assert page.evaluate("window.took") < 200
    type_keys(at_work(page), "1 2 Enter")  # and the one after it has been fetched in the meantime, or is waited for
    done(page, 2)
    at_work(page)


def test_by_touch_on_a_tablet(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = open_page(site.link("Ann"), viewport={"width": 800, "height": 1100}, has_touch=True, is_mobile=True)
    at_work(page)
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None and box["height"] >= 44 and box["width"] >= 24
    canvas = page.locator(".tile canvas").nth(0)
    box = canvas.bounding_box()
    assert box is not None
    client = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: float) -> None:
        y = box["y"] + box["height"] / 2
        points = [{"x": box["x"] + box["width"] * place, "y": y, "id": index} for index, place in enumerate(places)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 0.4)
    fingers("touchStart", 0.4, 0.6)
    for spread in (0.12, 0.15, 0.2):
        fingers("touchMove", 0.5 - spread, 0.5 + spread)
    fingers("touchEnd")
    expect(page.locator("#showing")).to_have_text("2.0×")
    expect(page.locator(".answer")).to_have_text("No answer yet")
    page.locator(".tile canvas").nth(2).tap()
    page.locator(".tile canvas").nth(0).tap()
    expect(page.locator(".answer")).to_have_text("Best 3 · Worst 1")
    page.locator(".tile").nth(1).get_by_role("button", name="Worst").tap()
    expect(page.locator(".answer")).to_have_text("Best 3 · Worst 2")
    page.get_by_role("button", name="Skip").tap()
    page.get_by_role("button", name="All alike").tap()
    expect(page.locator(".answer")).to_have_text("Skipped: all alike")
    page.locator("#submit").tap()
    done(page, 1)


@pytest.mark.parametrize("count", [2, 8])
def test_from_two_to_eight_candidates(open_site: OpenSite, open_page: OpenPage, count: int) -> None:
    site = open_site(toy_items(1, count, Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    tiles = page.locator(".tile")
    expect(tiles).to_have_count(count)
    for tile in tiles.all():
        box = tile.bounding_box()
        assert box is not None and box["y"] + box["height"] <= 900 and box["width"] > 200  # all seen, without scrolling
    page.set_viewport_size({"width": 800, "height": 1100})
    page.wait_for_timeout(100)
    for tile in tiles.all():
        box = tile.bounding_box()
        assert box is not None and box["width"] > 200  # of a size to be looked at, though the page may scroll
    type_keys(page, "2" if count == 2 else "8 1")  # of two, one choice says both
    expect(page.locator(".answer")).to_have_text("Best 2 · Worst 1" if count == 2 else "Best 8 · Worst 1")


def test_answers_are_sent_though_the_device_keeps_nothing_any_more(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(4, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    client = page.context.new_cdp_session(page)
    client.send("Storage.clearDataForOrigin", {"origin": site.url, "storageTypes": "indexeddb"})
    for count in (1, 2):
        type_keys(at_work(page), "1 2 Enter")
        kept(site, page, count)
    at_work(page)
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    type_keys(page, "1 2 Enter")
    words = "No connection: 1 answer waiting, kept until this page is closed"
    expect(page.locator("#waiting")).to_have_text(words)
    page.context.set_offline(False)
    kept(site, page, 3)


def test_an_answer_that_stays_on_the_device_is_sent_once(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(3, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.evaluate("""() => {
        IDBObjectStore.prototype.delete = () => { throw new DOMException("lost", "UnknownError"); };
    }""")
    for count in (1, 2):
        type_keys(at_work(page), "1 2 Enter")
        kept(site, page, count)
    page.reload()  # which finds them, and sends them under the same numbers
    type_keys(at_work(page), "1 2 Enter")
    kept(site, page, 3)
    assert set(submissions(site).values()) == {1}


def test_a_database_that_hangs_holds_up_no_answer(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.evaluate("Object.defineProperty(IDBTransaction.prototype, 'oncomplete', { set() {} })")
    type_keys(page, "1 2 Enter")
    kept(site, page, 1)


def test_an_answer_that_the_device_could_not_keep_is_a_draft_after_a_reload(
    open_site: OpenSite, open_page: OpenPage
) -> None:
    full = """() => {
        IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
    }"""
    site = open_site(toy_items(1, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.evaluate(full)
    page.evaluate("() => { globalThis.fetch = async () => { throw new TypeError('Failed to fetch'); }; }")
    type_keys(page, "1 2 Enter")
    expect(page.locator("#waiting")).to_contain_text("kept until this page is closed")
    page.reload()
    at_work(page)
    expect(page.locator(".answer")).to_have_text("Best 1 · Worst 2")
    page.evaluate(full)
    type_keys(page, "Enter")
    kept(site, page, 1)
    page.wait_for_function("!Object.keys(localStorage).some((key) => key.includes('draft'))")


@pytest.mark.parametrize("sent", [False, True])
def test_a_correction_that_was_begun_is_there_after_a_reload(
    open_site: OpenSite, open_page: OpenPage, sent: bool
) -> None:
    """The answer that it corrects is still on its way, or comes to be known when the page is there again."""
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.context.route("**/api/answers", lambda route: route.abort())
    type_keys(page, "1 2 Enter u 4 3")
    expect(page.locator(".answer")).to_have_text("Best 4 · Worst 3")
    if sent:
        page.context.unroute("**/api/answers")
        kept(site, page, 1)
    page.reload()
    at_work(page)
    page.context.unroute("**/api/answers")
    expect(page.locator("#correcting")).to_be_visible()
    expect(page.locator(".answer")).to_have_text("Best 4 · Worst 3")
    type_keys(page, "Enter")
    kept(site, page, 2)
    assert list(submissions(site).values()) == [2] and site.votes()[-1].best != site.votes()[0].best


def test_a_fault_in_the_page_stops_no_answer(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(2, task=Task.REMOVE))
    page = at_work(open_page(site.link("Ann")))
    page.evaluate("""() => {
        globalThis.addEventListener("unhandledrejection", (event) => event.preventDefault());
        Document.prototype.querySelector = new Proxy(Document.prototype.querySelector, { apply(made, self, [what]) {
            if (!what.includes("csrf") || globalThis.failed) return made.call(self, what);
            globalThis.failed = true;
            throw new TypeError("a fault");
        } });
    }""")
    type_keys(page, "1 2 Enter")
    kept(site, page, 1)
    assert page.evaluate("globalThis.failed")


def test_a_picture_that_hangs_is_said(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = open_page("about:blank")
    page.add_init_script("""
        const limit = AbortSignal.timeout.bind(AbortSignal);
        AbortSignal.timeout = (delay) => limit(delay / 20);
    """)
    page.context.route("**/api/images/*", lambda route: None, times=1)
    page.goto(site.link("Ann"))
    expect(page.get_by_role("heading", name="A picture could not be loaded")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    at_work(page)


def test_pictures_of_who_is_signed_out_tell_so(open_site: OpenSite, open_page: OpenPage) -> None:
    site = open_site(toy_items(1))
    page = open_page("about:blank")
    page.context.route("**/api/images/*", lambda route: route.fulfill(status=401))
    page.goto(site.link("Ann"))
    ended = page.get_by_role("dialog", name="You are signed out")
    expect(ended).to_be_visible(timeout=5000)
    check_accessible(page)
    ended.get_by_role("button", name="Close").click()
    page.context.unroute("**/api/images/*")  # the link was opened again in another tab
    page.get_by_role("button", name="Try again").click()
    at_work(page)


def test_what_people_write_is_text(open_site: OpenSite, open_page: OpenPage) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>alert(1)</script>{{7*7}}'
    [(triplet, candidates)] = toy_items(1)
    site = open_site([(type(triplet)(**{**vars(triplet), "prompt": hostile}), candidates)])
    page = at_work(open_page(site.link("Ann")))
    expect(page.locator("#prompt")).to_have_text(hostile)
    assert page.locator("#prompt > *").count() == 0
    assert len(dimensions_of(Task.FILL, hostile)) == page.locator(".question").count()
