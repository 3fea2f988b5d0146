"""A real server against what the world sends: refused with the right code, a line in the log, and nothing lost."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa

from onereward.annotate.audit import audit
from onereward.people.persons import Role
from onereward.people.tables import VOTES
from onereward.web.sessions import csrf_of
from tests.annotate.running import SCRIPT, Project, Running, answer_to, claimed, project, running

NAME = "Zebedee Quux"
MOST_GROWTH = 32 * 2**20
"""Bytes that the server may grow by, however much is sent: less than one of the bodies."""


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.soak])]
)
def of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    place = None if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    with project(tmp_path_factory.mktemp("hostile"), items=40, place=place) as of:
        yield of


@pytest.fixture(scope="module")
def server(of: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(of, tmp_path_factory.mktemp("server") / "log.txt") as server:
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


def lines_of(server: Running, before: int = 0) -> list[str]:
    """The log from a length on."""
    return server.log.read_text()[before:].splitlines()


def test_tokens_that_were_forged_or_replaced_are_refused(of: Project, server: Running) -> None:
    id_, token = of.link_of(NAME)
    with server.client(token) as client, nothing_lost(of):
        session = client.cookies["onereward"]
        before = len(server.log.read_text())
        flipped = ("A" if session[0] != "A" else "B") + session[1:]
        forged = [flipped, session[:-1], token, id_, csrf_of(session), "0" * 32, session.swapcase()]
        for cookie in forged:
            headers = {"Cookie": f"onereward={cookie}", "X-CSRF-Token": csrf_of(cookie), "Origin": server.url}
            for method, path in (("GET", "/api/assignments"), ("POST", "/api/assignments"), ("GET", "/work")):
                assert httpx.request(method, server.url + path, headers=headers).status_code == 401
        for link in (flipped, session, id_ + "x" * 10, token[:-1], token.swapcase()):
            answer = httpx.post(f"{server.url}/api/session", json={"token": link}, headers={"Origin": server.url})
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
        lines = lines_of(server, before)
        assert len(lines) == 3 * len(forged) + 5
        assert set(lines) == {
            "refused with 401: GET /api/assignments",
            "refused with 401: POST /api/assignments",
            "refused with 401: GET /work",
            "refused with 401: POST /api/session",
        }
        client.delete("/api/session")
        replayed = {"Cookie": f"onereward={session}", "X-CSRF-Token": csrf_of(session), "Origin": server.url}
        assert httpx.get(f"{server.url}/api/assignments", headers=replayed).status_code == 401


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


NO_IDS = (
    "../votes.sqlite",
    "..%2fvotes.sqlite",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fvotes.sqlite",
    "....//votes.sqlite",
    "..%5cvotes.sqlite",
    "%00",
    "x%00.png",
    "%ff%fe",
    "%252e%252e%252fvotes.sqlite",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "a" * 5000,
    "*",
    "'%20OR%201=1%20--",
    "%25s%25n",
    "",
)


def test_an_image_is_no_path(of: Project, server: Running) -> None:
    with person(of, server) as client, nothing_lost(of):
        item = claimed(client)
        for image in NO_IDS:
            for path in (f"/api/images/{image}", f"/api/images/{item['source']}/{image}", f"/static/{image}"):
                status, body = _raw(server, path, client)
                assert status == 404 and b"SQLite" not in body and b"root:" not in body, (path, status, body[:300])
        status, body = _raw(server, f"/api/images/{item['source']}", client)
        assert status == 200 and b"\x89PNG" in body


def _raw(server: Running, path: str, client: httpx.Client) -> tuple[int, bytes]:
    """The answer to a path that no library has tidied."""
    host, port = server.url.removeprefix("http://").split(":")
    cookie = f"onereward={client.cookies['onereward']}"
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


def test_bodies_of_fifty_megabytes_are_refused_unread(of: Project, server: Running) -> None:
    large = b"[" * (50 * 2**20)
    with person(of, server) as client, nothing_lost(of):
        size_before = psutil.Process(server.process.pid).memory_info().rss
        before = len(server.log.read_text())
        json_ = {"Content-Type": "application/json"}
        for path in ("/api/session", "/api/answers", "/api/nowhere", "/work"):
            said = _posted(client, path, content=large, headers=json_)
            assert said in (413, None), path  # None: it hung up while we were sending
        chunks = (large[: 2**16] for _ in range(800))  # without a Content-Length
        assert _posted(client, "/api/answers", content=chunks, headers=json_) in (413, None)
        packed = client.post("/api/answers", content=b"x", headers=json_ | {"Content-Encoding": "gzip"})
        assert packed.status_code == 415
        growth = psutil.Process(server.process.pid).memory_info().rss - size_before
        codes = re.findall(r"refused with (\d+)", server.log.read_text()[before:])
        print(f"250 MB sent, the server grew by {growth / 1e6:.1f} MB")
        assert codes == ["413"] * 5 + ["415"] and growth < MOST_GROWTH
        assert client.get("/api/assignments").status_code == 200


def _posted(client: httpx.Client, path: str, **request: Any) -> int | None:
    try:
        return client.post(path, **request).status_code
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return None


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
    with running(of, tmp_path / "log.txt", rate=2) as server:
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
    log = server.log.read_text()
    assert not [word for word in (*NAME.split(), SCRIPT, "127.0.0.1", *secrets) if word in log]
    assert all(
        re.fullmatch(r"refused with 4\d\d: [A-Z]+ (/\S*|a path that is none)", line) for line in log.splitlines()
    )


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("role", "paths", "operations"),
    [(Role.ANNOTATOR, ["--exclude-path-regex", "/admin/"], 9), (Role.ADMIN, ["--include-path-regex", "/admin/"], 7)],
)
def test_the_schema_and_the_server_agree(
    of: Project, tmp_path: Path, role: Role, paths: list[str], operations: int, examples: int
) -> None:
    with running(of, tmp_path / "log.txt", rate=1_000_000) as server, person(of, server, role=role) as client:
        with nothing_lost(of):
            done = _schemathesis(server, client, tmp_path, *paths, "--max-examples", str(examples))
            print(done.stdout[done.stdout.find("Test cases:") :])
            assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert f"{operations} selected / 17 total" in done.stdout and re.search(
            r"(\d+) generated, \1 passed", done.stdout
        )
        assert server.process.poll() is None
        assert "Traceback" not in server.log.read_text()


def _schemathesis(
    server: Running, client: httpx.Client, folder: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    session = client.cookies["onereward"]
    (folder / "schemathesis.toml").write_text(f'[auth.openapi.APIKeyCookie]\napi_key = "{session}"\n')
    for name in ("X-CSRF-Token", "Origin"):
        command += ["--header", f"{name}: {client.headers[name]}"]
    command += ["--exclude-name", "DELETE /api/session"]  # it would lock itself out
    command += ["--checks", "all", "--seed", "1", "--request-timeout", "60"]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True)
