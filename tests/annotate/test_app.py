"""The HTTP API of annotation, route by route: what it answers, to whom, and in which words it refuses."""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from onereward.annotate.app import create_app
from onereward.annotate.audit import audit
from onereward.annotate.shown import QUESTIONS, TITLES
from onereward.people.persons import Role
from onereward.people.tables import PERSONAL, VOTES
from onereward.terms import Dimension
from onereward.web.rates import Rates
from onereward.web.sessions import csrf_of
from tests.annotate.running import CANDIDATES, SCRIPT, SIZE, Project, answer_to, claimed, colour_of, project
from tests.app_process import enter

HOME = "http://votes.example"


class Site:
    """The app over a project, and browsers at it."""

    def __init__(self, of: Project) -> None:
        self.project = of
        many = Rates(per_second=1e6, burst=1_000_000)
        self.app: FastAPI = create_app(of.database, of.pictures, clock=of.clock, visitors=many, strangers=many)

    def browser(self, name: str | None = None, role: Role = Role.ANNOTATOR) -> TestClient:
        """A browser, signed in as a new person if a name is given."""
        client = TestClient(self.app, base_url=HOME, raise_server_exceptions=False, follow_redirects=False)
        if name is not None:
            enter(client, self.project.link_of(name, role)[1])
        return client

    def votes(self) -> list[Any]:
        """The rows of votes, in the order in which they came."""
        with self.project.database.reading() as connection:
            return list(connection.execute(sa.select(VOTES).order_by(VOTES.c.sequence)))

    def events(self) -> int:
        """How many events there are, in a chain that holds and tells of every vote."""
        with self.project.database.reading() as connection:
            return audit(connection).events


@pytest.fixture
def site(tmp_path: Path, place: str) -> Iterator[Site]:
    with project(tmp_path, place=place) as of:
        yield Site(of)


def test_a_link_begins_a_session_and_may_be_opened_again(site: Site) -> None:
    person, token = site.project.link_of("Ann")
    for _ in range(2):
        client = site.browser()
        client.headers["Origin"] = HOME
        answer = client.post("/api/session", json={"token": token})
        assert answer.json() == {"role": "annotator"}
        assert client.get("/api/assignments").status_code == 200
    assert person not in answer.text
    wrong = site.browser().post("/api/session", json={"token": "x" * 32}, headers={"Origin": HOME})
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers


def test_a_session_ends_when_asked_and_after_its_time(site: Site) -> None:
    ann, again = site.browser("Ann"), site.browser("Bob")
    cookie = ann.cookies["onereward"]
    assert ann.delete("/api/session").status_code == 204
    assert ann.cookies.get("onereward") is None
    ann.cookies["onereward"] = cookie  # replayed
    assert ann.get("/api/assignments").status_code == 401
    site.project.clock.now += 15 * 24 * 3600
    assert again.get("/api/assignments").status_code == 401


def test_pages_are_for_their_role_and_hold_the_session_s_token(site: Site) -> None:
    ann, root, nobody = site.browser("Ann"), site.browser("Root", Role.ADMIN), site.browser()
    homes = [client.get("/").headers["location"] for client in (nobody, ann, root)]
    assert homes == ["/enter", "/work", "/admin"]
    assert nobody.get("/enter").status_code == 200
    page = ann.get("/work")
    assert page.status_code == 200
    assert f'<meta name="csrf" content="{csrf_of(ann.cookies["onereward"])}">' in page.text
    assert ann.cookies["onereward"] not in page.text
    assert csrf_of(root.cookies["onereward"]) in root.get("/admin").text
    codes = [ann.get("/admin"), root.get("/work"), nobody.get("/work"), nobody.get("/admin")]
    assert [answer.status_code for answer in codes] == [403, 403, 401, 401]
    assert all(answer.headers["content-type"].startswith("text/html") for answer in codes)


def test_an_item_is_claimed_seen_and_answered(site: Site) -> None:
    client = site.browser("Ann")
    request = {"request": str(uuid4()), "ahead": True}
    item = client.post("/api/assignments", json=request).json()
    assert client.post("/api/assignments", json=request).json() == item  # a retry
    assert (item["width"], item["height"]) == SIZE and item["votes"] is None and item["practice"] is False
    assert item["prompt"] == f"{SCRIPT} 0" and item["task"] == "fill" and len(item["candidates"]) == CANDIDATES
    assert [one["name"] for one in item["dimensions"]] == ["text_alignment", "consistency", "structure", "aesthetics"]
    assert all(one["title"] == TITLES[one["name"]] and one["question"].endswith("?") for one in item["dimensions"])
    for image in (item["source"], item["mask"], *item["candidates"]):
        answer = client.get(f"/api/images/{image}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
        assert Image.open(io.BytesIO(answer.content)).size == SIZE
    accepted = client.post("/api/answers", json=answer_to(item)).json()
    assert accepted == {"state": "accepted", "progress": {"done": 1, "remaining": 5, "seconds_an_item": 5.0}}


def test_places_are_the_candidates_that_were_shown_there(site: Site) -> None:
    orders = set()
    for name in "abcdef":
        client = site.browser(name)
        item = claimed(client)
        colours = [_colour(client, image) for image in item["candidates"]]
        triplet = next(index for index in range(6) if colour_of(index, 0) in colours)
        order = [[colour_of(triplet, index) for index in range(CANDIDATES)].index(colour) for colour in colours]
        assert client.post("/api/answers", json=answer_to(item, best=2, worst=0)).status_code == 200
        assert {(row.best, row.worst) for row in site.votes() if row.claim == item["id"]} == {(order[2], order[0])}
        orders.add(tuple(order))
    assert len(orders) > 1


def _colour(client: TestClient, image: str) -> Any:
    return Image.open(io.BytesIO(client.get(f"/api/images/{image}").content)).getpixel((0, 0))


def test_an_answer_sent_again_is_no_second_one(site: Site) -> None:
    client = site.browser("Ann")
    answer = answer_to(claimed(client))
    states = [client.post("/api/answers", json=answer).json()["state"] for _ in range(3)]
    assert states == ["accepted", "known", "known"] and len(site.votes()) == 4
    other = client.post("/api/answers", json=answer | {"votes": answer["votes"][:-1]})
    assert other.status_code == 409
    changed = json.loads(json.dumps(answer))
    changed["votes"][0]["best"] = 2
    assert client.post("/api/answers", json=changed).status_code == 409
    assert len(site.votes()) == 4


def test_a_person_holds_two_items_and_finds_them_again(site: Site) -> None:
    client = site.browser("Ann")
    first, second = claimed(client), claimed(client)
    refused = client.post("/api/assignments", json={"request": str(uuid4())})
    assert refused.status_code == 409 and "answer one of the 2 items" in refused.json()["detail"]
    held = client.get("/api/assignments").json()
    assert held == {
        "open": [first, second],
        "progress": {"done": 0, "remaining": 6, "seconds_an_item": None},
        "settings": {"keys": {}},
    }


def test_an_answer_is_taken_back_and_corrected(site: Site) -> None:
    client = site.browser("Ann")
    item = claimed(client)
    assert client.post(f"/api/assignments/{item['id']}/reopen").status_code == 409  # not answered yet
    client.post("/api/answers", json=answer_to(item, best=2, worst=1))
    again = client.post(f"/api/assignments/{item['id']}/reopen").json()
    votes = answer_to(item, best=2, worst=1)["votes"]
    assert sorted(again["votes"], key=str) == sorted(votes, key=str)
    assert {**again, "votes": None} == item
    skip = [{**vote, "best": None, "worst": None, "reason": "alike"} for vote in votes]
    assert client.post("/api/answers", json=answer_to(item, votes=skip)).json()["state"] == "accepted"
    assert [vote.best for vote in site.votes()][4:] == [None] * 4
    assert client.post(f"/api/assignments/{item['id']}/reopen").json()["votes"][0]["reason"] == "alike"


def test_an_answer_below_the_least_time_is_told_how_long(tmp_path: Path) -> None:
    with project(tmp_path, minimum_seconds=3.0) as of:
        site = Site(of)
        client = site.browser("Ann")
        answer = answer_to(claimed(client))
        of.clock.now += 0.5
        early = client.post("/api/answers", json=answer)
        assert early.status_code == 425 and early.headers["retry-after"] == "3"
        assert not site.votes()
        of.clock.now += 2.6
        assert client.post("/api/answers", json=answer).json()["state"] == "accepted"


def test_a_lost_item_is_told_and_its_answer_kept_apart(tmp_path: Path) -> None:
    with project(tmp_path, items=1) as of:
        site = Site(of)
        ann, bob = site.browser("Ann"), site.browser("Bob")
        request = {"request": str(uuid4())}
        item = ann.post("/api/assignments", json=request).json()
        assert ann.post(f"/api/assignments/{item['id']}/heartbeat").json() == {"lease_seconds": 600.0}
        assert bob.post("/api/assignments", json={"request": str(uuid4())}).json() == {"none": "busy"}
        of.clock.now += 601
        other = claimed(bob)
        assert ann.post(f"/api/assignments/{item['id']}/heartbeat").status_code == 410
        assert ann.post("/api/assignments", json=request).status_code == 410
        assert ann.post("/api/answers", json=answer_to(item)).json()["state"] == "late"
        assert bob.post("/api/answers", json=answer_to(other)).json()["state"] == "accepted"
        assert ann.post("/api/assignments", json={"request": str(uuid4())}).json() == {"none": "finished"}
        assert [vote.purpose for vote in site.votes()] == ["late"] * 4 + ["work"] * 4


def test_what_is_another_s_is_answered_as_what_is_not_there(site: Site) -> None:
    ann, bob = site.browser("Ann"), site.browser("Bob")
    mine, theirs = claimed(ann), claimed(bob)
    before = site.events()
    for way in ("heartbeat", "reopen"):
        answers = [ann.post(f"/api/assignments/{one}/{way}") for one in (theirs["id"], "x" * 22)]
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (404, '{"detail":"there is no such assignment"}')
        }
    answers = [
        ann.post("/api/answers", json=answer_to(theirs, **change))
        for change in ({}, {"best": 60}, {"assignment": "x" * 22})  # nor how many candidates it has
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (404, '{"detail":"there is no such assignment"}')
    }
    images = [theirs["source"], theirs["mask"], *theirs["candidates"], "x" * 22]
    answers = [ann.get(f"/api/images/{image}") for image in images]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, '{"detail":"there is no such picture"}')}
    assert ann.get(f"/api/images/{mine['source']}").status_code == 200
    taken = ann.post("/api/assignments", json={"request": _request_of(bob)})
    assert taken.status_code == 409 and theirs["id"] not in taken.text
    assert not site.votes() and site.events() == before + 1


def test_ids_that_cannot_be_are_answered_as_what_is_not_there(site: Site) -> None:
    ann, root = site.browser("Ann"), site.browser("Root", Role.ADMIN)
    for odd in ("%00", "x%00y", "%ff", "%F0%9F%99%82", "x" * 65, "a%20b", "%0a"):
        assert ann.get(f"/api/images/{odd}").status_code == 404
        for client, path in ((ann, "assignments/{}/heartbeat"), (ann, "assignments/{}/reopen"),
                             (root, "admin/people/{}/link"), (root, "admin/people/{}/erase"),
                             (root, "admin/assignments/{}/release")):  # fmt: skip
            assert client.post(f"/api/{path.format(odd)}").status_code == 404, (odd, path)


def _request_of(client: TestClient) -> str:
    """The request uuid of an item that the client claims now."""
    request = str(uuid4())
    assert client.post("/api/assignments", json={"request": request}).status_code == 200
    return request


def test_keys_are_kept_with_the_person(site: Site) -> None:
    _, token = site.project.link_of("Ann")
    first, second = site.browser(), site.browser()
    enter(first, token)
    enter(second, token)
    keys = {"submit": "Ctrl+Enter", "skip": "", "undo": "é"}
    assert first.put("/api/settings", json={"keys": keys}).status_code == 204
    assert second.get("/api/assignments").json()["settings"] == {"keys": keys}


def test_an_admin_lets_people_in_and_out(site: Site) -> None:
    root = site.browser("Root", Role.ADMIN)
    made = root.post("/api/admin/people", json={"name": SCRIPT, "role": "annotator"}).json()
    link, token = made["link"].split("#")
    assert link == f"{HOME}/enter"
    ann = site.browser()
    enter(ann, token)
    item = claimed(ann)
    renewed = root.post(f"/api/admin/people/{made['id']}/link").json()
    assert ann.get("/api/assignments").status_code == 401  # with the old link its sessions end
    old = site.browser().post("/api/session", json={"token": token}, headers={"Origin": HOME})
    assert old.status_code == 401
    enter(ann, renewed["link"].split("#")[1])
    assert [one["id"] for one in ann.get("/api/assignments").json()["open"]] == [item["id"]]
    assert root.post(f"/api/admin/people/{made['id']}/withdraw", json={"drop": True}).status_code == 204
    assert ann.get("/api/assignments").status_code == 401
    assert root.post(f"/api/admin/people/{made['id']}/link").status_code == 409
    assert root.post(f"/api/admin/people/{made['id']}/erase").status_code == 204
    row = next(one for one in root.get("/api/admin/summary").json()["people"] if one["id"] == made["id"])
    assert row["name"] is None and row["withdrawn"] and row["dropped"] and row["open"] == 0
    with site.project.database.reading() as connection:
        assert SCRIPT not in {name for (name,) in connection.execute(sa.select(PERSONAL.c.name))}
    site.events()


def test_who_is_erased_is_withdrawn_too(site: Site) -> None:
    root, ann = site.browser("Root", Role.ADMIN), site.browser("Ann")
    claimed(ann)
    person = next(one["id"] for one in root.get("/api/admin/summary").json()["people"] if one["name"] == "Ann")
    assert root.post(f"/api/admin/people/{person}/erase").status_code == 204
    assert ann.get("/api/assignments").status_code == 401
    row = next(one for one in root.get("/api/admin/summary").json()["people"] if one["id"] == person)
    assert row["withdrawn"] and not row["dropped"] and row["open"] == 0


def test_a_name_that_a_reader_keeps_in_the_files_is_told_and_goes_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onereward.people.database._FORGET_MS", 50)
    with project(tmp_path) as of:
        site = Site(of)
        root = site.browser("Root", Role.ADMIN)
        people = [of.link_of(f"Unforgotten {name}")[0] for name in ("Ann", "Bob")]
        files = [tmp_path / "votes.sqlite", tmp_path / "votes.sqlite-wal"]
        for again in (True, False):
            erase = f"/api/admin/people/{people.pop()}/erase"
            with of.database.reading() as connection:
                connection.execute(sa.select(PERSONAL)).all()
                told = root.post(erase)
            assert told.status_code == 503 and told.json()["detail"].startswith("this person is erased, but another")
            assert any(b"Unforgotten" in file.read_bytes() for file in files)
            if again:
                assert root.post(erase).status_code == 204
            else:
                with TestClient(site.app):  # or by itself, when it is started next
                    pass
            assert (b"Unforgotten" in b"".join(file.read_bytes() for file in files)) == bool(people)


def test_a_picture_whose_file_is_gone_is_told(site: Site) -> None:
    client = site.browser("Ann")
    item = claimed(client)
    site.project.pictures.path(item["source"]).unlink()
    gone = client.get(f"/api/images/{item['source']}")
    assert (gone.status_code, gone.json()) == (404, {"detail": "this picture is missing here: tell whoever runs this"})
    assert client.get(f"/api/images/{item['mask']}").status_code == 200


def test_an_admin_cannot_lock_themselves_out_and_nobody_else_is_unknown(site: Site) -> None:
    root = site.browser("Root", Role.ADMIN)
    [me] = root.get("/api/admin/summary").json()["people"]
    for way in ("withdraw", "erase"):
        assert root.post(f"/api/admin/people/{me['id']}/{way}").status_code == 409
        assert root.post(f"/api/admin/people/{'x' * 22}/{way}").status_code == 404
    assert root.post(f"/api/admin/people/{'x' * 22}/link").status_code == 404
    assert root.post(f"/api/admin/assignments/{'x' * 22}/release").status_code == 404


@pytest.mark.parametrize("name", ["", " ", "\u00a0", "Ann\nBob", "Ann\tBob", "Ann\x1b[2J", "Ann\u2028Bob", "\x85"])
def test_a_name_is_one_line_of_what_can_be_printed(site: Site, name: str) -> None:
    people = {"name": name, "role": "annotator"}
    assert site.browser("Root", Role.ADMIN).post("/api/admin/people", json=people).status_code == 422
    with pytest.raises(ValueError, match=r"^got an empty name|^got a name with '.*', expected one line"):
        site.project.link_of(name)


def test_an_admin_pauses_releases_and_sees_how_it_goes(site: Site) -> None:
    root, ann = site.browser("Root", Role.ADMIN), site.browser("Ann")
    item = claimed(ann)
    client_answer = ann.post("/api/answers", json=answer_to(item))
    held = claimed(ann)
    assert client_answer.status_code == 200
    summary = root.get("/api/admin/summary").json()
    assert summary["paused"] is False and summary["now"] == site.project.clock.now
    assert summary["progress"] | {"minutes_left": None} == {
        "items": 6, "items_done": 1, "items_short": 0, "answers": 1, "answers_wanted": 6,
        "seconds_an_item": 5.0, "minutes_left": None,
    }  # fmt: skip
    [lease] = summary["leases"]
    assert (lease["assignment"], lease["name"], lease["item"]) == (held["id"], "Ann", "t1")
    assert (lease["since"], lease["until"]) == (summary["now"], summary["now"] + 600)
    rows = {one["name"]: one for one in summary["people"]}
    assert rows["Ann"]["gold"] == rows["Ann"]["repeats"] == {"asked": 0, "right": 0}
    assert (rows["Ann"]["done"], rows["Ann"]["open"], rows["Root"]["role"]) == (1, 1, "admin")
    assert root.post("/api/admin/pause", json={"paused": True}).status_code == 204
    assert ann.post("/api/assignments", json={"request": str(uuid4())}).json() == {"none": "paused"}
    assert root.get("/api/admin/summary").json()["paused"] is True
    assert root.post(f"/api/admin/assignments/{held['id']}/release").status_code == 204
    assert ann.post(f"/api/assignments/{held['id']}/heartbeat").status_code == 410
    assert root.post("/api/admin/pause", json={"paused": False}).status_code == 204
    claimed(ann)


def test_every_route_asks_who_it_is_and_which_page_sent_it(site: Site) -> None:
    paths = site.app.openapi()["paths"]
    people = {"annotator": site.browser("Ann"), "admin": site.browser("Root", Role.ADMIN)}
    seen = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            if path == "/healthz" or (path, method) == ("/api/session", "post"):
                continue
            seen += 1
            url = path.replace("{assignment}", "x" * 22).replace("{image}", "x" * 22).replace("{person}", "x" * 22)
            assert operation["security"] == [{"APIKeyCookie": []}]
            assert site.browser().request(method, url).status_code == 401, (method, path)
            wrong = people["annotator" if path.startswith("/api/admin") else "admin"]
            right = people["admin" if path.startswith("/api/admin") else "annotator"]
            if path != "/api/session":
                assert wrong.request(method, url).status_code == 403, (method, path)
            if method != "get":
                for headers in ({"X-CSRF-Token": "x"}, {"Origin": "https://evil.example"}):
                    assert right.request(method, url, headers=headers).status_code == 403, (method, path)
    assert seen == 15


UUID = "00000000-0000-4000-8000-000000000000"
VOTE = {"dimension": "structure", "best": 0, "worst": 1, "reason": None}
ANSWER = {"uuid": UUID, "assignment": "x" * 22, "seconds": 5, "votes": [VOTE]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *[
            ("/api/session", body)
            for body in ({}, {"token": "short"}, {"token": "x" * 65}, {"token": "é" * 32}, {"token": 5},
                         {"token": "x" * 32, "more": 1}, {"token": "x" * 32 + "\n"}, {"token": None}, [], "x", None)
        ],
        *[
            ("/api/assignments", body)
            for body in ({}, {"request": "x"}, {"request": UUID.replace("-", "")}, {"request": f"{{{UUID}}}"},
                         {"request": f"urn:uuid:{UUID}"}, {"request": UUID, "ahead": "yes"},
                         {"request": UUID, "ahead": 1}, {"request": UUID, "person": "x"})
        ],
        *[
            ("/api/answers", ANSWER | change)
            for change in ({"uuid": "x"}, {"assignment": "../x"}, {"assignment": "x" * 65}, {"seconds": -1},
                           {"seconds": "5"}, {"seconds": True}, {"seconds": 1e10}, {"votes": []}, {"votes": [VOTE] * 6},
                           {"votes": {}}, {"votes": [VOTE | {"best": -1}]}, {"votes": [VOTE | {"best": 64}]},
                           {"votes": [VOTE | {"best": 0.5}]}, {"votes": [VOTE | {"best": "0"}]},
                           {"votes": [VOTE | {"best": False}]}, {"votes": [VOTE | {"reason": "because"}]},
                           {"votes": [VOTE | {"dimension": "beauty"}]}, {"votes": [VOTE | {"weight": 100}]},
                           {"voter": "bob"})
        ],
        *[
            ("/api/settings", {"keys": keys})
            for keys in ({"x" * 33: "a"}, {"a b": "a"}, {"a": "x" * 33}, {"a": "\0"}, {"a": 1}, [],
                         {f"a{n}": "a" for n in range(65)})
        ],
    ],
)  # fmt: skip
def test_what_an_annotator_cannot_have_meant_is_refused(shared: TestClient, path: str, body: Any) -> None:
    refused = shared.request("PUT" if path == "/api/settings" else "POST", path, json=body)
    assert refused.status_code == 422, refused.text
    assert list(refused.json()) == ["detail"] and 0 < len(refused.json()["detail"]) < 300


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For what changes nothing."""
    with project(tmp_path_factory.mktemp("shared")) as of:
        yield Site(of)


@pytest.fixture(scope="module")
def shared(shared_site: Site) -> TestClient:
    """An annotator's browser."""
    return shared_site.browser("Ann")


@pytest.fixture(scope="module")
def shared_admin(shared_site: Site) -> TestClient:
    """An admin's browser."""
    return shared_site.browser("Root", Role.ADMIN)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-Infinity", "5,", '"5"'])
def test_numbers_that_json_has_not_are_refused(shared: TestClient, number: str) -> None:
    text = json.dumps(ANSWER).replace('"seconds": 5', f'"seconds": {number}')
    refused = shared.post("/api/answers", content=text, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422, refused.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_read(shared: TestClient, kind: str) -> None:
    refused = shared.post("/api/assignments", content=json.dumps({"request": UUID}), headers={"Content-Type": kind})
    assert refused.status_code == 422


@pytest.mark.parametrize(
    "name", ["", "x" * 201, "a\nb", "a\0b", "a\x1b[31m", "\x85", "\u2028", None, 5, ["x"], "\ud800"]
)
def test_a_name_is_some_words_on_a_line(shared_admin: TestClient, name: Any) -> None:
    root = shared_admin
    body = json.dumps({"name": name, "role": "annotator"})
    refused = root.post("/api/admin/people", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422, refused.text
    for role in ("participant", "root", "", None):
        assert root.post("/api/admin/people", json={"name": "Ann", "role": role}).status_code == 422


def test_a_place_that_is_none_and_a_vote_that_does_not_fit_are_told(site: Site) -> None:
    client = site.browser("Ann")
    item = claimed(client)
    for answer, code, words in (
        (answer_to(item, best=3), 422, "got the place 3, expected 0 to 2"),
        (answer_to(item, best=1, worst=1), 409, "expected two different candidates"),
        (answer_to(item, votes=answer_to(item)["votes"][:1]), 409, "expected one choice or skip in each of"),
        (answer_to(item, votes=[answer_to(item)["votes"][0]] * 4), 409, "expected one choice or skip in each of"),
    ):
        refused = client.post("/api/answers", json=answer)
        assert refused.status_code == code and words in refused.json()["detail"]
    assert not site.votes()


def test_every_dimension_has_words() -> None:
    assert set(TITLES) == set(QUESTIONS) == set(Dimension)


def test_a_database_without_a_project_is_told(tmp_path: Path) -> None:
    from onereward.people.database import Database
    from onereward.people.pictures import Pictures

    with ExitStack() as stack:
        database = stack.enter_context(Database(str(tmp_path / "votes.sqlite")))
        with pytest.raises(ValueError, match="onereward annotate import"):
            create_app(database, Pictures(tmp_path))
