"""A study's real server against what the world sends: refused with the right code, a line in the log, nothing lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from onereward.people.persons import Persons, Role
from onereward.people.tables import STUDY_ANSWERS, STUDY_BLOCKS, STUDY_TRIALS
from onereward.study.audit import audit
from onereward.study.project import open_to_all
from onereward.terms import Task
from tests.app_process import NO_LIMIT, Running, enter, running
from tests.hostile import (
    check_broken_bodies,
    check_ended,
    check_large_bodies,
    check_log,
    check_pictures_are_no_paths,
    check_schema,
    check_tokens,
    lines_of,
)
from tests.study.running import SCRIPT, Made, answer_to, study, to_block

NAME = "Zebedee Quux"
TOKEN = "t" * 32
ROUTES = (("GET", "/api/place"), ("POST", "/api/answers"), ("GET", "/study"))
WISHES = ((Task.FILL, f"{SCRIPT} a cat"), (Task.EXTEND, SCRIPT))


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.soak])]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    place = None if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    title, consent = f"Study {SCRIPT}", f"First {SCRIPT}.\n\nSecond."
    folder = tmp_path_factory.mktemp("hostile")
    with study(folder, items=3, answers=40, place=place, wishes=WISHES, title=title, consent=consent) as made:
        open_to_all(made.database, TOKEN, made.clock)
        yield made


@pytest.fixture(scope="module")
def server(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running("study", made, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server
        assert server.process.poll() is None
        assert "Traceback" not in server.log.read_text()


@contextmanager
def nothing_lost(made: Made) -> Iterator[None]:
    """No answer is more or less or other afterwards, what people had is theirs, and the chain of events tells of it."""

    def kept() -> tuple[int, list[Any], set[Any]]:
        with made.database.reading() as connection:
            answers = connection.execute(sa.select(STUDY_ANSWERS).order_by(STUDY_ANSWERS.c.sequence)).all()
            had = sa.select(STUDY_BLOCKS.c.id, STUDY_BLOCKS.c.person).where(STUDY_BLOCKS.c.person.is_not(None))
            trials = sa.select(STUDY_TRIALS)
            rows = [*connection.execute(had), *connection.execute(trials)]
            return audit(connection).events, list(answers), set(rows)

    events, answers, rows = kept()
    yield
    after, answers_after, rows_after = kept()
    assert answers_after == answers and rows_after >= rows and after >= events


@contextmanager
def person(made: Made, server: Running, name: str = NAME, role: Role = Role.PARTICIPANT) -> Iterator[httpx.Client]:
    """A browser of a new person who has signed in."""
    with server.client(made.link_of(name, role)[1]) as client:
        yield client


def test_tokens_that_were_forged_or_replaced_are_refused(made: Made, server: Running) -> None:
    with nothing_lost(made):
        check_tokens(server, *made.link_of(NAME), ROUTES)
        with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as client:
            for token in (TOKEN[1:] + "u", TOKEN.upper(), made.link_of(NAME)[1]):
                assert client.post("/api/join", json={"token": token}).status_code == 401
            assert client.post("/api/session", json={"token": TOKEN}).status_code == 401
            assert not client.cookies


def test_whoever_has_left_or_has_a_new_link_is_out_at_once(made: Made, server: Running) -> None:
    for end in ("leave", "link"):
        id_, token = made.link_of(NAME)
        with server.client(token) as client:
            session = client.cookies["onereward"]
            trial = to_block(client)["trials"][0]
            if end == "leave":
                assert client.post("/api/withdrawal", json={"drop": False}).status_code == 204
            else:
                Persons(made.database, made.clock).new_link(id_)
            with nothing_lost(made):
                check_ended(server, session, ROUTES)
                client.cookies.set("onereward", session)
                assert client.post("/api/answers", json=answer_to(trial)).status_code == 401
                assert client.post("/api/session", json={"token": token}).status_code == 401


def test_an_answer_in_another_s_name_is_refused(made: Made, server: Running) -> None:
    with person(made, server) as mine, person(made, server, "other") as theirs, person(made, server) as stranger:
        trial, own = to_block(theirs)["trials"][0], to_block(mine)["trials"][0]
        sent = answer_to(trial)
        assert theirs.post("/api/answers", json=sent).json()["state"] == "accepted"
        with nothing_lost(made):
            before = len(server.log.read_text())
            for client in (mine, stranger):
                assert client.post("/api/answers", json=sent).status_code == 404  # replayed, by its uuid
                assert client.post("/api/answers", json=answer_to(trial)).status_code == 404
                assert client.get(f"/api/images/{trial['source']}x").status_code == 404
            assert mine.post("/api/answers", json=answer_to(own, uuid=sent["uuid"])).status_code == 409
            assert stranger.get(f"/api/images/{trial['pictures'][0]}").status_code == 404
            assert lines_of(server, before) == [
                *["refused with 404: POST /api/answers"] * 2,
                "refused with 404: GET /api/images/{image}",
                *["refused with 404: POST /api/answers"] * 2,
                "refused with 404: GET /api/images/{image}",
                "refused with 409: POST /api/answers",
                "refused with 404: GET /api/images/{image}",
            ]
            assert theirs.post("/api/answers", json=sent).json()["state"] == "known"
        assert theirs.get(f"/api/images/{trial['source']}").content.startswith(b"\x89PNG")
        assert mine.post("/api/answers", json=answer_to(own)).json()["state"] == "accepted"


def test_steps_are_taken_in_their_order_and_what_is_others_is_not_told(made: Made, server: Running) -> None:
    with person(made, server) as ann, person(made, server, role=Role.ADMIN) as root, nothing_lost(made):
        for step in ("practice", "block"):
            assert ann.post(f"/api/{step}").status_code == 409
        answer = {"uuid": str(uuid4()), "trial": "x" * 22, "seconds": 1, "values": {"usability": 1}}
        assert ann.post("/api/answers", json=answer).status_code == 404
        for path in ("/status", "/api/results"):
            assert ann.get(path).status_code == 403
        for step in ("consent", "practice", "block", "withdrawal"):
            assert root.post(f"/api/{step}", json={}).status_code == 403
        assert root.get("/api/results").status_code == 409


def test_a_picture_is_no_path(made: Made, server: Running) -> None:
    with person(made, server) as client, nothing_lost(made):
        check_pictures_are_no_paths(server, client, to_block(client)["trials"][0]["source"])


def test_bodies_of_fifty_megabytes_are_refused_unread(made: Made, server: Running) -> None:
    with person(made, server) as client, nothing_lost(made):
        check_large_bodies(server, client, page="/study")
        assert client.get("/api/place").status_code == 200


def test_broken_bodies_are_refused(made: Made, server: Running) -> None:
    with person(made, server) as client, nothing_lost(made):
        before = to_block(client)
        check_broken_bodies(client, "/api/session", "/api/join", "/api/join/check", "/api/answers", "/api/withdrawal")
        assert client.get("/api/place").json() == before


def test_script_in_prompts_titles_and_names_stays_text(made: Made, server: Running) -> None:
    with person(made, server, role=Role.ADMIN) as root, person(made, server, SCRIPT) as ann:
        pages = [root.get("/status"), root.get(f"/{SCRIPT}"), ann.get(f"/study?name={SCRIPT}")]
        for step in ("consent", "practice", "block"):
            assert ann.post(f"/api/{step}").status_code == 204
            pages.append(ann.get("/study"))
        place = ann.get("/api/place")
        assert place.headers["content-type"] == "application/json"
        assert place.headers["x-content-type-options"] == "nosniff"
        assert any(SCRIPT in (trial["prompt"] or "") for trial in place.json()["trials"])
        pages += [httpx.get(f"{server.url}/{path}") for path in ("enter", "join", "left")]
        for page in pages:
            assert "<script>alert" not in page.text, page.url
            assert "script-src 'self';" in page.headers["content-security-policy"]
        assert "Study &lt;script&gt;" in pages[0].text


def test_too_many_requests_are_told_when_to_come_again(made: Made, tmp_path: Path) -> None:
    with running("study", made, tmp_path / "log.txt", rate=2) as server, nothing_lost(made):
        with person(made, server) as hasty, person(made, server) as calm:
            answers = [hasty.get("/api/place") for _ in range(12)]
            assert [answer.status_code for answer in answers[:2]] == [200, 200]
            slow = [answer for answer in answers if answer.status_code == 429]
            assert slow and {answer.headers["retry-after"] for answer in slow} == {"1"}
            assert calm.get("/api/place").status_code == 200
        with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as client:
            answers = [client.post("/api/join", json={"token": f"{n:032}"}) for n in range(12)]
            slow = [answer for answer in answers if answer.status_code == 429]
            assert slow and {answer.status_code for answer in answers} <= {401, 429}
            time.sleep(int(slow[-1].headers["retry-after"]))
            enter(client, TOKEN, "/api/join")  # from the same address


def test_the_log_tells_nothing_of_people(made: Made, server: Running) -> None:
    with person(made, server) as client:
        client.get(f"/{NAME}?token={NAME}")
        client.post("/api/session", json={"token": NAME})
        client.post("/api/join", json={"token": NAME})
        client.post("/api/answers", json=answer_to(to_block(client)["trials"][0]) | {"name": NAME})
        secrets = {client.cookies["onereward"], client.headers["X-CSRF-Token"]}
    check_log(server, *NAME.split(), SCRIPT, TOKEN, *secrets)


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("role", "options", "operations"),
    [
        (Role.PARTICIPANT, ["--exclude-path", "/api/withdrawal"], 11),
        # A right request would be the person's last.
        (Role.PARTICIPANT, ["--include-path", "/api/withdrawal", "--mode", "negative"], 1),
        (Role.ADMIN, ["--include-path", "/api/results"], 1),
    ],
    ids=["participant", "leaver", "admin"],
)
def test_the_schema_and_the_server_agree(
    made: Made, tmp_path: Path, role: Role, options: list[str], operations: int, examples: int
) -> None:
    with (
        running("study", made, tmp_path / "log.txt", rate=NO_LIMIT) as server,
        person(made, server, role=role) as client,
        nothing_lost(made),
    ):
        few = ["--max-examples", str(examples)]
        check_schema(server, client, tmp_path, *options, *few, operations=(operations, 13))
        assert client.get("/study" if role is Role.PARTICIPANT else "/status").status_code == 200
