"""Cookies, CSRF tokens, origins, roles and rates at the door."""

import hashlib
import hmac
from pathlib import Path

import pytest
from fastapi import FastAPI

from onereward.web.sessions import csrf_of
from tests.web.apps import HOME, LINKS, SESSIONS, client_of, small_app

UNSAFE = ("POST", "PUT", "DELETE")


@pytest.mark.parametrize(
    ("home", "url", "secure"),
    [
        (HOME, None, False),
        (HOME, "http://study.example", False),
        ("https://study.example", None, True),
        ("https://study.example", "http://study.example", True),
        (HOME, "HTTPS://study.example/", True),  # a proxy ends TLS, and its word for that is not trusted
    ],
)
def test_the_cookie_is_for_this_server_and_no_script(folder: Path, home: str, url: str | None, secure: bool) -> None:
    client = client_of(small_app(folder, url=url), Origin=home)
    client.base_url = home  # type: ignore[assignment]
    answer = client.post("/api/session", json={"token": LINKS["ann"]})
    assert answer.json() == {"role": "annotator"}
    words = answer.headers["set-cookie"].split("; ")
    assert words[0] == f"onereward={SESSIONS['ann']}"
    extra = ["secure"] if secure else []
    assert sorted(word.lower() for word in words[1:]) == ["httponly", "max-age=60", "path=/", "samesite=strict", *extra]


def test_a_session_begins_by_a_link_and_ends(app: FastAPI) -> None:
    client = client_of(app)
    assert client.get("/", follow_redirects=False).headers["location"] == "/enter"
    assert client.get("/enter").status_code == 200
    assert client.post("/api/session", json={"token": "x" * 32}).status_code == 401
    assert client.post("/api/session", json={"token": LINKS["ann"]}).status_code == 200
    assert client.get("/api/me").json() == ["ann", SESSIONS["ann"]]
    client.headers["X-CSRF-Token"] = csrf_of(SESSIONS["ann"])
    assert client.delete("/api/session").status_code == 204
    assert client.get("/api/me").status_code == 401 and app.state.gate.sessions.ended == [SESSIONS["ann"]]


def test_who_has_lost_the_way_is_shown_to_their_page(app: FastAPI) -> None:
    homes = {"ann": "/hello", "root": "/admin", "eve": "/enter", None: "/enter"}
    for name, home in homes.items():
        answer = client_of(app, name).get("/", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, home)


def test_the_csrf_token_is_the_session_s_hmac() -> None:
    assert csrf_of("s" * 32) == hmac.new(b"s" * 32, b"csrf", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "cookie",
    ["", "x" * 32, "a" * 31, "a" * 33, "a" * 65, "../../etc/passwd", "a" * 21, '"' + "a" * 32 + '"x', "é" * 32],
)
def test_a_cookie_that_is_no_session_is_nobody(app: FastAPI, cookie: str) -> None:
    client = client_of(app, Cookie=f"onereward={cookie}".encode())  # type: ignore[arg-type]
    answer = client.get("/api/me")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "open the link that you were given: nobody is signed in here, or no longer"}


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-CSRF-Token": ""}, "X-CSRF-Token"),
        ({"X-CSRF-Token": "é"}, "X-CSRF-Token"),
        ({"X-CSRF-Token": csrf_of(SESSIONS["bob"])}, "X-CSRF-Token"),
        ({"X-CSRF-Token": SESSIONS["ann"]}, "X-CSRF-Token"),
        ({"Origin": "https://evil.example"}, "origin"),
        ({"Origin": "null"}, "origin"),
        ({"Origin": ""}, "origin"),
        ({"Origin": HOME + ".evil.example"}, "origin"),
        ({"Origin": "http://study.example:8001"}, "origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin"),
        ({"Sec-Fetch-Site": "same-site"}, "origin"),
        ({"Sec-Fetch-Site": "none"}, "origin"),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, "origin"),
    ],
)
def test_a_change_needs_its_token_and_its_page(app: FastAPI, method: str, headers: dict[str, str], words: str) -> None:
    client = client_of(app, "ann")
    assert client.request(method, "/api/me").status_code == 200
    encoded = {name: value.encode() for name, value in headers.items()}
    refused = client.request(method, "/api/me", headers=encoded)  # type: ignore[arg-type]
    assert refused.status_code == 403 and words in refused.json()["detail"]


def test_a_change_that_tells_no_page_is_refused(app: FastAPI) -> None:
    client = client_of(app, "ann")
    del client.headers["Origin"]
    assert client.post("/api/me").status_code == 403
    assert client.post("/api/session", json={"token": LINKS["ann"]}).status_code == 403
    assert client.get("/api/me").status_code == 200  # reading tells others nothing
    assert client.post("/api/me", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_roles_are_kept_apart(app: FastAPI) -> None:
    assert client_of(app, "root").get("/admin").json() == "root"
    refused = client_of(app, "ann").get("/admin")
    assert refused.status_code == 403 and "<h1>This page is not for you</h1>" in refused.text
    assert '<a class="button" href="/">' in refused.text
    assert client_of(app).get("/admin").status_code == 401


def test_each_person_has_a_rate_of_their_own(folder: Path) -> None:
    app = small_app(folder, per_second=0.001, burst=2)
    ann, bob = client_of(app, "ann"), client_of(app, "bob")
    assert [ann.get("/api/me").status_code for _ in range(3)] == [200, 200, 429]
    slow = ann.get("/hello")
    assert (
        slow.status_code == 429 and slow.headers["retry-after"] == "1000" and "<h1>Too Many Requests</h1>" in slow.text
    )
    assert bob.get("/api/me").status_code == 200


def test_forged_cookies_and_sign_ins_share_the_rate_of_their_address(folder: Path) -> None:
    app = small_app(folder, per_second=0.001, burst=3)
    codes = [client_of(app, Cookie=f"onereward={index:032}").get("/api/me").status_code for index in range(5)]
    assert codes == [401, 401, 401, 429, 429]
    refused = client_of(app).post("/api/session", json={"token": LINKS["ann"]})
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1000"
    assert client_of(app, "ann").get("/api/me").status_code == 200  # who has signed in is not kept out by strangers
    assert client_of(app).get("/api/me").status_code == 401  # no cookie, nothing to look up
    assert app.state.gate.sessions.looks == 6
