"""A real server against what the world sends: refused with the right code, a line in the log, and nothing lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from onereward.annotate.audit import audit
from onereward.people.persons import Role
from onereward.people.tables import VOTES
from tests.annotate.running import SCRIPT, Project, answer_to, claimed, project
from tests.app_process import NO_LIMIT, Running, running
from tests.hostile import (
    check_broken_bodies,
    check_large_bodies,
    check_log,
    check_pictures_are_no_paths,
    check_schema,
    check_tokens,
    lines_of,
)

NAME = "Zebedee Quux"
ROUTES = (("GET", "/api/assignments"), ("POST", "/api/assignments"), ("GET", "/work"))


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.soak])]
)
def of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    place = None if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    with project(tmp_path_factory.mktemp("hostile"), items=40, place=place) as of:
        yield of


@pytest.fixture(scope="module")
def server(of: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running("annotate", of, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server
        assert server.process.poll() is None
        assert "Traceback" not in server.log.read_text()


@contextmanager
def nothing_lost(of: Project) -> Iterator[None]:
    """The votes are the same afterwards, and the chain of events holds and tells of each."""

    def kept() -> tuple[int, list[Any]]:
        with of.database.reading() as connection:
            return audit(connection).events, list(connection.execute(sa.select(VOTES).order_by(VOTES.c.sequence)))

    events, votes = kept()
    yield
    after, votes_after = kept()
    assert votes_after == votes and after >= events


@contextmanager
def person(of: Project, server: Running, name: str = NAME, role: Role = Role.ANNOTATOR) -> Iterator[httpx.Client]:
    """A browser of a new person who has signed in."""
    with server.client(of.link_of(name, role)[1]) as client:
        yield client


def test_tokens_that_were_forged_or_replaced_are_refused(of: Project, server: Running) -> None:
    with nothing_lost(of):
        check_tokens(server, *of.link_of(NAME), ROUTES)


def test_another_page_cannot_act_for_a_person(of: Project, server: Running) -> None:
    with person(of, server) as client, person(of, server, "other") as other, nothing_lost(of):
        answer = answer_to(claimed(client))
        for headers in (
            {"X-CSRF-Token": ""},
            {"X-CSRF-Token": other.headers["X-CSRF-Token"]},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": server.url.replace("http", "https") + ".evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert client.post("/api/answers", json=answer, headers=headers).status_code == 403, headers
            assert client.put("/api/settings", json={}, headers=headers).status_code == 403, headers
        form = client.post("/api/answers", data={"uuid": "x"})
        assert form.status_code == 422  # a form of another page, were the cookie to come along
        assert lines_of(server)[-1] == "refused with 422: POST /api/answers"


def test_an_answer_in_another_s_name_is_refused(of: Project, server: Running) -> None:
    with person(of, server) as mine, person(of, server, "other") as theirs, nothing_lost(of):
        item, before = claimed(theirs), len(server.log.read_text())
        assert mine.post("/api/answers", json=answer_to(item)).status_code == 404
        assert mine.get(f"/api/images/{item['candidates'][0]}").status_code == 404
        assert lines_of(server, before) == [
            "refused with 404: POST /api/answers",
            "refused with 404: GET /api/images/{image}",
        ]
        assert theirs.get(f"/api/images/{item['candidates'][0]}").content.startswith(b"\x89PNG")


def test_an_image_is_no_path(of: Project, server: Running) -> None:
    with person(of, server) as client, nothing_lost(of):
        check_pictures_are_no_paths(server, client, claimed(client)["source"])


def test_bodies_of_fifty_megabytes_are_refused_unread(of: Project, server: Running) -> None:
    with person(of, server) as client, nothing_lost(of):
        check_large_bodies(server, client, page="/work")
        assert client.get("/api/assignments").status_code == 200


def test_broken_bodies_are_refused(of: Project, server: Running) -> None:
    with person(of, server) as client, nothing_lost(of):
        check_broken_bodies(client, "/api/session", "/api/assignments", "/api/answers")


def test_script_in_prompts_and_names_stays_text(of: Project, server: Running) -> None:
    with person(of, server, role=Role.ADMIN) as root, person(of, server, SCRIPT) as ann:
        made = root.post("/api/admin/people", json={"name": SCRIPT, "role": "annotator"}).json()
        people = root.get("/api/admin/summary")
        assert people.headers["content-type"] == "application/json"
        assert people.headers["x-content-type-options"] == "nosniff"
        assert {row["name"] for row in people.json()["people"] if row["id"] == made["id"]} == {SCRIPT}
        items = [claimed(ann), claimed(ann)]
        assert any(SCRIPT in item["prompt"] for item in items)
        for page in (root.get("/admin"), ann.get("/work"), ann.get(f"/{SCRIPT}"), ann.get(f"/admin?name={SCRIPT}")):
            assert "<script>alert" not in page.text
            assert "script-src 'self';" in page.headers["content-security-policy"]


def test_too_many_requests_are_told_when_to_come_again(of: Project, tmp_path: Path) -> None:
    tokens = [of.link_of(NAME)[1] for _ in range(3)]
    with running("annotate", of, tmp_path / "log.txt", rate=2) as server:
        with server.client(tokens[0]) as hasty, server.client(tokens[1]) as calm, nothing_lost(of):
            answers = [hasty.get("/api/assignments") for _ in range(12)]
            assert [answer.status_code for answer in answers[:2]] == [200, 200]
            slow = [answer for answer in answers if answer.status_code == 429]
            assert slow and {answer.headers["retry-after"] for answer in slow} == {"1"}
            assert calm.get("/api/assignments").status_code == 200
        with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as client:
            answers = [client.post("/api/session", json={"token": f"{n:032}"}) for n in range(12)]
        slow = [answer for answer in answers if answer.status_code == 429]
        assert slow and {answer.status_code for answer in answers} <= {401, 429}
        time.sleep(int(slow[-1].headers["retry-after"]))
        with server.client(tokens[2]) as client:  # from the same address
            assert client.get("/api/assignments").status_code == 200


def test_the_log_tells_nothing_of_people(of: Project, server: Running) -> None:
    with person(of, server) as client:
        client.get(f"/{NAME}?token={NAME}")
        client.post("/api/session", json={"token": NAME})
        client.put("/api/settings", json={NAME: NAME})
        client.post("/api/answers", json=answer_to(claimed(client)) | {"name": NAME})
        secrets = {client.cookies["onereward"], client.headers["X-CSRF-Token"]}
    check_log(server, *NAME.split(), SCRIPT, *secrets)


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("role", "paths", "operations"),
    [(Role.ANNOTATOR, ["--exclude-path-regex", "/admin/"], 9), (Role.ADMIN, ["--include-path-regex", "/admin/"], 7)],
)
def test_the_schema_and_the_server_agree(
    of: Project, tmp_path: Path, role: Role, paths: list[str], operations: int, examples: int
) -> None:
    with (
        running("annotate", of, tmp_path / "log.txt", rate=NO_LIMIT) as server,
        person(of, server, role=role) as client,
        nothing_lost(of),
    ):
        options = [*paths, "--max-examples", str(examples)]
        check_schema(server, client, tmp_path, *options, operations=(operations, 17))
