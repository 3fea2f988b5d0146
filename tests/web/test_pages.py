"""Templates, static files, headers, refusals and what the log says of them."""

import logging
import re
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi import FastAPI

from onereward.web.pages import Pages
from tests.web.apps import SESSIONS, client_of, folder_of, small_app


def test_a_page_escapes_and_names_its_files(app: FastAPI) -> None:
    client = client_of(app, "ann")
    page = client.get("/hello")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<title>&lt;ann&gt;</title><script src=/static/")
    assert page.headers["cache-control"] == "no-store"


def test_a_variable_that_nobody_gave_is_an_error_and_a_plain_page(app: FastAPI) -> None:
    answer = client_of(app).get("/broken")
    assert answer.status_code == 500
    assert "<h1>Internal Server Error</h1>" in answer.text and "nowhere" not in answer.text
    assert "<title>Internal Server Error – Small &lt;app&gt;</title>" in answer.text


def test_static_files_never_change_under_their_address(folder: Path) -> None:
    before = Pages(folder, title="Small")
    client = client_of(small_app(folder))
    for name, kind in (("app.js", "text/javascript"), ("parts/a.js", "text/javascript"), ("look.css", "text/css")):
        answer = client.get(before.static(name))
        assert answer.content == (folder / "static" / name).read_bytes()
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    # A module that is changed has another address, and so has each that imports it.
    old = before.static("app.js")
    (folder / "static/parts/a.js").write_text("2;")
    assert Pages(folder, title="Small").static("app.js") != old
    gone = client_of(small_app(folder)).get(old)
    assert gone.status_code == 404 and "immutable" not in gone.headers["cache-control"]


def test_what_all_apps_share_is_served_beside_an_app_s_own(folder: Path) -> None:
    pages, client = Pages(folder, title="Small"), client_of(small_app(folder))
    for name in ("api.js", "theme.css", "icon.svg"):
        answer = client.get(pages.static(name))
        assert answer.status_code == 200 and answer.content == (files("onereward.web") / "static" / name).read_bytes()
        # In the browser they lie in one folder, so that `import "./api.js"` finds it.
        assert pages.static(name).rpartition("/")[0] == pages.static("app.js").rpartition("/")[0]


@pytest.mark.parametrize("name", ["static/api.js", "templates/base.html"])
def test_a_file_that_all_apps_have_is_not_an_app_s_own(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, **{name: ""})
    with pytest.raises(ValueError, match=f"got {name}, which all apps have from onereward/web: give it another name"):
        Pages(folder, title="Small")


def test_only_the_folder_s_files_are_served(app: FastAPI, folder: Path) -> None:
    client, version = client_of(app), Pages(folder, title="Small").static("app.js").split("/")[2]
    for path in (
        "templates/hello.html",
        "../templates/hello.html",
        "..%2ftemplates%2fhello.html",
        "%2e%2e/templates/hello.html",
        "/etc/passwd",
        "//etc/passwd",
        "parts",
        "parts/",
        "",
        "app.js%00",
        "APP.JS",
    ):
        assert client.get(f"/static/{version}/{path}").status_code == 404, path


def test_nobody_is_sent_to_an_address_that_the_request_makes_up(app: FastAPI) -> None:
    for path in ("/hello/", "/static/x", "/api/me/"):
        answer = client_of(app, "ann", Host="evil.example").get(path, follow_redirects=False)
        assert answer.status_code == 404 and "location" not in answer.headers


def test_a_file_of_an_unknown_kind_is_told_at_the_start(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, **{"static/notes.txt": ""})
    with pytest.raises(ValueError, match=r"got the static file notes\.txt, expected one of \.css, \.js, \.svg"):
        Pages(folder, title="Small")


def test_a_static_file_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no static file 'ap\.js', there are api\.js, app\.js, dom\.js"):
        Pages(folder, title="Small").static("ap.js")


def test_every_answer_has_the_strict_headers(app: FastAPI) -> None:
    client = client_of(app, "ann")
    paths = ["/hello", "/nowhere", "/api/me", "/api/nowhere", "/admin", "/broken", "/healthz", "/static/x/y"]
    answers = [client.get(path) for path in paths]
    answers += [client_of(app).get("/hello"), client.post("/api/session", content=b"x" * 2000)]
    assert {answer.status_code for answer in answers} == {200, 401, 403, 404, 413, 500}
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' blob:",
            "connect-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_refusals_are_pages_for_people_and_json_for_scripts(app: FastAPI) -> None:
    client = client_of(app)
    for path, code in (("/hello", 401), ("/nowhere", 404), ("/<script>alert(1)</script>", 404)):
        page = client.get(path)
        assert page.status_code == code and page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.text.count("There is no such page.") == (code == 404)
        assert "<script" not in page.text and re.search("<h1>(You are not signed in|Not Found)</h1>", page.text)
    for path, code in (("/api/me", 401), ("/api/nowhere", 404)):
        assert client.get(path).status_code == code and list(client.get(path).json()) == ["detail"]
    wrong = client.post("/api/session", json={"token": "<script>"})
    assert (wrong.status_code, wrong.json()) == (
        422,
        {"detail": "token: String should match pattern '^[A-Za-z0-9_-]{22,64}$'"},
    )


def test_a_refusal_is_one_line_in_the_log_without_what_was_sent(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(app, "ann")
    with caplog.at_level(logging.WARNING, logger="onereward"):
        client.post("/api/me", headers={"X-CSRF-Token": "secret"})
        client_of(app, Cookie="onereward=" + "s" * 32).get("/api/me?name=secret")
        client.get("/secret%0Aforged: line")
        client.post("/api/session", json={"token": "secret"})
        client.post("/api/session", content=b"secret" * 1000)
        client.get("/hello")
    assert [record.getMessage() for record in caplog.records] == [
        "refused with 403: POST /api/me",
        "refused with 401: GET /api/me",
        "refused with 404: GET a path that is none",
        "refused with 422: POST /api/session",
        "refused with 413: POST a path that is none",
    ]
    assert not {"secret", *SESSIONS.values()} & set(caplog.text.split())
