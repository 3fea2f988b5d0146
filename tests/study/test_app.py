"""The study over HTTP: pages by stage, who may ask for what, and what is refused."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from onereward.people.persons import Persons, Role
from onereward.study.closing import close
from onereward.study.project import open_to_all
from onereward.web.pages import HEADERS
from onereward.web.sessions import csrf_of
from tests.app_process import enter
from tests.study.running import SCRIPT, SYSTEMS, Made, answer_to, client_of, study, to_block

TOKEN = "t" * 32
TITLE = f"Study {SCRIPT}"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    with study(tmp_path, items=3, title=TITLE, consent=f"First {SCRIPT}.\n\nSecond.") as made:
        yield made


def signed_in(made: Made, name: str = "Ann", role: Role = Role.PARTICIPANT) -> TestClient:
    client = client_of(made)
    enter(client, made.link_of(name, role)[1])
    return client


def test_pages_come_by_stage_and_escape(made: Made) -> None:
    client = signed_in(made)
    steps = (("consent", "I agree to take part"), ("practice", "What you will do"), ("block", "data-part"))
    for step, words in steps:
        page = client.get("/study")
        assert page.status_code == 200 and words in page.text and SCRIPT not in page.text
        assert "Study &lt;script&gt;" in page.text
        assert page.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert not re.search(r"<script(?! type=\"module\" src=)|\son\w+=|style=", page.text)
        assert client.post(f"/api/{step}").status_code == 204
    while trials := client.get("/api/place").json()["trials"]:
        accepted = client.post("/api/answers", json=answer_to(trials[0]))
        assert accepted.status_code == 200 and accepted.json()["state"] == "accepted"
    assert accepted.json()["place"]["stage"] == "finished"
    assert "That was the last picture" in client.get("/study").text


def test_a_retry_is_known_and_a_second_answer_refused(made: Made) -> None:
    client = signed_in(made)
    first, second = to_block(client)["trials"][:2]
    answer = answer_to(first)
    assert client.post("/api/answers", json=answer).json()["state"] == "accepted"
    again = client.post("/api/answers", json=answer).json()
    assert again["state"] == "known" and again["place"]["done"] == 1
    for body in (answer | {"uuid": str(uuid4())}, answer | {"trial": second["id"]}):
        assert client.post("/api/answers", json=body).status_code == 409


def test_another_device_goes_on_at_the_same_place(made: Made) -> None:
    _, token = made.link_of("Ann")
    here, there = client_of(made), client_of(made)
    enter(here, token)
    trials = to_block(here)["trials"]
    here.post("/api/answers", json=answer_to(trials[0]))
    enter(there, token)
    place = there.get("/api/place").json()
    assert place["done"] == 1 and [trial["id"] for trial in place["trials"][:2]] == [t["id"] for t in trials[1:]]
    there.post("/api/answers", json=answer_to(trials[1]))
    assert here.post("/api/answers", json=answer_to(trials[1])).status_code == 409
    assert here.get("/api/place").json()["done"] == 2


def test_each_sees_their_own_only(made: Made) -> None:
    ann, bob, stranger = signed_in(made), signed_in(made, "Bob"), client_of(made)
    trial = to_block(ann)["trials"][0]
    assert bob.post("/api/answers", json=answer_to(trial)).status_code == 404
    pictures = [trial["source"], trial["mask"], *trial["pictures"]]
    for picture in pictures:
        assert ann.get(f"/api/images/{picture}").status_code == 200
        assert bob.get(f"/api/images/{picture}").status_code == 404
        assert stranger.get(f"/api/images/{picture}").status_code == 401
    for path in ("..%2f..%2fstudy.sqlite", "%2e%2e", "a" * 300, f"{pictures[0]}.png", f"../images/{pictures[0]}/x"):
        assert ann.get(f"/api/images/{path}").status_code == 404
    for path in ("/api/place", "/study", "/api/results", "/status"):
        assert stranger.get(path).status_code == 401


def test_requests_that_our_page_did_not_send_are_refused(made: Made) -> None:
    client = signed_in(made)
    trial = to_block(client)["trials"][0]
    other = signed_in(made, "Bob").headers["X-CSRF-Token"]
    origin, csrf = client.headers["Origin"], client.headers["X-CSRF-Token"]
    for headers in (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": other},
        {"X-CSRF-Token": csrf_of("x" * 32)},
        {"Origin": "http://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for path, body in (("answers", answer_to(trial)), ("withdrawal", {"drop": True}), ("block", {})):
            refused = client.post(f"/api/{path}", json=body, headers={"Origin": origin, "X-CSRF-Token": csrf} | headers)
            assert refused.status_code == 403, (headers, path)
    assert client.get("/api/place").json()["done"] == 0
    forged = client_of(made)
    for session in ("x" * 32, secrets.token_urlsafe(24), ""):
        forged.cookies.set("onereward", session)
        assert forged.get("/api/place").status_code == 401
    for token in ("x" * 32, "short", 5, None, ["t" * 32]):
        answer = forged.post("/api/session", json={"token": token}, headers={"Origin": origin})
        assert answer.status_code in (401, 422)


def test_a_body_is_checked(made: Made) -> None:
    client = signed_in(made)
    trial = to_block(client)["trials"][0]
    good = answer_to(trial)
    name = trial["questions"][0]["name"]
    for change in (
        {"seconds": -1},
        {"seconds": "NaN"},
        {"seconds": "5"},
        {"uuid": "x"},
        {"trial": "../x"},
        {"values": {}},
        {"values": {name: True}},
        {"values": {name: 1.5}},
        {"values": {name: "1"}},
        {"values": {SCRIPT: 1}},
        {"values": {"x" * 99: 1}},
        {"more": 1},
    ):
        assert client.post("/api/answers", json=good | change).status_code == 422, change
    for values in ({name: 5}, {"no_such_thing": 1}, good["values"] | {"better": 0}):
        assert client.post("/api/answers", json=good | {"values": values}).status_code == 409, values
    assert client.post("/api/answers", content=b"x" * 50_000_000).status_code == 413
    assert client.post("/api/answers", json=good).status_code == 200


def test_results_are_refused_until_the_study_is_closed(made: Made) -> None:
    client, admin = signed_in(made), signed_in(made, "Root", Role.ADMIN)
    for trial in to_block(client)["trials"]:
        client.post("/api/answers", json=answer_to(trial))
    assert client.get("/api/results").status_code == client.get("/status").status_code == 403
    refused = admin.get("/api/results")
    assert refused.status_code == 409 and "no results until the study is closed" in refused.json()["detail"]
    page = admin.get("/status").text
    assert "3 of 12 pages answered" in page and "Places taken" in page and "Places finished" in page
    assert admin.get("/api/place").status_code == 403
    close(made.database, made.clock, anyway=True)
    assert admin.get("/api/results").json()["results"]["participants"] == 1
    assert client.get("/api/results").status_code == 403
    assert client.post("/api/answers", json=answer_to(trial)).status_code == 410
    assert "This study is closed" in client.get("/study").text


def test_a_closed_study_without_answers_says_that_it_has_no_results(made: Made) -> None:
    admin = signed_in(made, "Root", Role.ADMIN)
    close(made.database, made.clock, anyway=True)
    refused = admin.get("/api/results")
    assert refused.status_code == 409 and "there are no answers to analyse" in refused.json()["detail"]


def test_everybody_is_shown_to_their_page(made: Made) -> None:
    people = client_of(made), signed_in(made), signed_in(made, "Root", Role.ADMIN)
    homes = [client.get("/", follow_redirects=False).headers["location"] for client in people]
    assert homes == ["/enter", "/study", "/status"]


def test_a_picture_whose_file_is_gone_is_told(made: Made) -> None:
    client = signed_in(made)
    trial = to_block(client)["trials"][0]
    made.pictures.path(trial["source"]).unlink()
    gone = client.get(f"/api/images/{trial['source']}")
    assert (gone.status_code, gone.json()) == (404, {"detail": "this picture is missing here: tell whoever runs this"})


def test_who_comes_too_late_is_told_before_they_agree(made: Made) -> None:
    stranger = client_of(made)
    assert "I agree to take part" in stranger.get("/join").text
    for name in ("Ann", "Bob"):  # both blocks
        to_block(signed_in(made, name))
    page = stranger.get("/join").text
    assert "All places are taken" in page and "I agree" not in page and "Go on with your pictures" in page
    close(made.database, made.clock, anyway=True)
    page = stranger.get("/join").text
    assert "This study is closed" in page and "I agree" not in page


def test_by_the_open_link_one_becomes_a_participant(made: Made) -> None:
    client = client_of(made)
    client.headers["Origin"] = "http://study.example"
    assert "Take part" in client.get("/join").text
    for path in ("/api/join", "/api/join/check"):
        assert client.post(path, json={"token": TOKEN}).status_code == 401
    open_to_all(made.database, TOKEN, made.clock)
    assert client.post("/api/join/check", json={"token": TOKEN}).status_code == 200
    assert client.post("/api/join/check", json={"token": TOKEN}, headers={"Origin": "http://x"}).status_code == 403
    assert client.get("/api/place").status_code == 401  # nobody has taken part by that
    joined = client.post("/api/join", json={"token": TOKEN})
    assert joined.status_code == 200
    assert client.get("/api/place").json()["stage"] == "instructions"
    link = joined.json()["link"]
    assert link.startswith("http://study.example/enter#")
    elsewhere = client_of(made)
    enter(elsewhere, link.partition("#")[2])
    assert elsewhere.get("/api/place").json()["stage"] == "instructions"


def test_who_is_at_the_study_in_this_browser_already_is_told_by_the_open_link(made: Made) -> None:
    """They go on, unless they are somebody else; nobody is asked when the one before has finished."""
    check = "/api/join/check"
    client = client_of(made)
    client.headers["Origin"] = "http://study.example"
    open_to_all(made.database, TOKEN, made.clock)
    assert client.post(check, json={"token": TOKEN}).json() == {"at_it": False}
    client.post("/api/join", json={"token": TOKEN})
    assert client.post(check, json={"token": TOKEN}).json() == {"at_it": True}
    client.headers["X-CSRF-Token"] = csrf_of(client.cookies["onereward"])
    for step in ("practice", "block"):
        client.post(f"/api/{step}")
    while trials := client.get("/api/place").json()["trials"]:
        client.post("/api/answers", json=answer_to(trials[0]))
    assert client.post(check, json={"token": TOKEN}).json() == {"at_it": False}
    assert client.post("/api/join", json={"token": TOKEN}).status_code == 200
    assert {entry.name for entry in Persons(made.database).all()} == {"participant 1", "participant 2"}


def test_somebody_leaves(made: Made) -> None:
    client = signed_in(made)
    to_block(client)
    assert client.post("/api/withdrawal", json={"drop": True}).status_code == 204
    assert client.get("/api/place").status_code == 401
    assert "You have left the study" in client.get("/left").text


@pytest.mark.parametrize(
    ("config", "said", "unsaid"),
    [
        ({}, ["You judge the result", "up to 12 pages", "What is asked</h2>"], ["Some people", "A break"]),
        ({"rates": False, "comparisons": (SYSTEMS,)}, ["You see two results", "up to 6 pages"], ["What is asked"]),
        ({"comparisons": (SYSTEMS,), "practice": 2}, ["which of two is better; practice shows both"], ["You see two"]),
        ({"check_every": 3}, ["paying attention"], []),
        ({"check_every": 13}, [], ["paying attention"]),  # one page more than a block has
        ({"break_every": 7}, ["A break is offered every 7 pages"], []),
        ({"break_every": 8}, [], ["A break"]),  # four pages before the end
    ],
)
def test_everybody_is_told_what_is_known_of_their_block(
    tmp_path: Path, config: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    with study(tmp_path, items=6, **config) as made:
        client = signed_in(made)
        client.post("/api/consent")
        page = client.get("/study").text
        assert all(words in page for words in said) and not any(words in page for words in unsaid)
        client.post("/api/practice")
        about = "up to" if "comparisons" in config and "rates" not in config else "about"  # pairs take less
        assert f"it should take {about} 5 minutes" in client.get("/study").text
