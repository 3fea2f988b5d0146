"""What the world sends to a server; a check raises unless it was refused, with the right code and a line in the log."""

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from onereward.web.sessions import csrf_of
from tests.app_process import Running

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
NO_BODIES = (
    b"",
    b"[" * 30_000,
    b'{"a":' * 5_000,
    b"9" * 5_000,
    b'{"uuid": 1e999}',
    b'{"token": "\\ud800"}',
    b'{"token": "\\u0000"}',
    b"\xff\xfe",
    b"null",
    b"NaN",
)
"""What is no request of any route, and would trouble a parser or a database."""

_MOST_GROWTH = 32 * 2**20
"""Bytes that the server may grow by, however much is sent: less than one of the bodies."""
_JSON = {"Content-Type": "application/json"}


def lines_of(server: Running, before: int = 0) -> list[str]:
    """The log from a length on."""
    return server.log.read_text()[before:].splitlines()


def check_tokens(server: Running, id_: str, token: str, routes: Sequence[tuple[str, str]]) -> None:
    """Forged, taken for another kind and replayed tokens of a person open none of the `routes` (method, path)."""
    with server.client(token) as client:
        session = client.cookies["onereward"]
        before = len(server.log.read_text())
        flipped = ("A" if session[0] != "A" else "B") + session[1:]
        forged = [flipped, session[:-1], token, id_, csrf_of(session), "0" * 32, session.swapcase()]
        for cookie in forged:
            for method, path in routes:
                assert _with_cookie(server, cookie, method, path) == 401
        for link in (flipped, session, id_ + "x" * 10, token[:-1], token.swapcase()):
            answer = httpx.post(f"{server.url}/api/session", json={"token": link}, headers={"Origin": server.url})
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
        lines = lines_of(server, before)
        assert len(lines) == len(routes) * len(forged) + 5
        told = [*routes, ("POST", "/api/session")]
        assert set(lines) == {f"refused with 401: {method} {path}" for method, path in told}
        assert client.delete("/api/session").status_code == 204
        check_ended(server, session, routes)


def check_ended(server: Running, session: str, routes: Sequence[tuple[str, str]]) -> None:
    """What was a session opens nothing."""
    for method, path in routes:
        assert _with_cookie(server, session, method, path) == 401


def _with_cookie(server: Running, cookie: str, method: str, path: str) -> int:
    headers = {"Cookie": f"onereward={cookie}", "X-CSRF-Token": csrf_of(cookie), "Origin": server.url}
    return httpx.request(method, server.url + path, headers=headers).status_code


def check_pictures_are_no_paths(server: Running, client: httpx.Client, picture: str) -> None:
    """Nothing that is no id of a picture leads to a file; `picture` is one that the person may see."""
    for no_id in NO_IDS:
        for path in (f"/api/images/{no_id}", f"/api/images/{picture}/{no_id}", f"/static/{no_id}"):
            status, body = _raw(server, path, client)
            assert status == 404 and b"SQLite" not in body and b"root:" not in body, (path, status, body[:300])
    status, body = _raw(server, f"/api/images/{picture}", client)
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


def check_large_bodies(server: Running, client: httpx.Client, page: str) -> None:
    """50 MB are refused unread, with a Content-Length and without one, by routes of scripts, a `page`, and none."""
    large = b"[" * (50 * 2**20)
    size_before = psutil.Process(server.process.pid).memory_info().rss
    before = len(server.log.read_text())
    for path in ("/api/session", "/api/answers", "/api/nowhere", page):
        assert _posted(client, path, content=large) in (413, None), path  # None: it hung up while we were sending
    chunks = (large[: 2**16] for _ in range(800))
    assert _posted(client, "/api/answers", content=chunks) in (413, None)
    packed = client.post("/api/answers", content=b"x", headers=_JSON | {"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    growth = psutil.Process(server.process.pid).memory_info().rss - size_before
    codes = re.findall(r"refused with (\d+)", server.log.read_text()[before:])
    print(f"250 MB sent, the server grew by {growth / 1e6:.1f} MB")
    assert codes == ["413"] * 5 + ["415"] and growth < _MOST_GROWTH


def _posted(client: httpx.Client, path: str, **request: Any) -> int | None:
    try:
        return client.post(path, headers=_JSON, **request).status_code
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return None


def check_broken_bodies(client: httpx.Client, *paths: str) -> None:
    """What is no JSON, or none that could be meant, is refused as such."""
    for path in paths:
        for body in NO_BODIES:
            assert client.post(path, content=body, headers=_JSON).status_code in (400, 422), (path, body[:40])


def check_log(server: Running, *secrets: str) -> None:
    """Refusals alone are in the log, and nothing of whom they were told."""
    log = server.log.read_text()
    assert log and not [word for word in (*secrets, "127.0.0.1") if word in log]
    assert all(
        re.fullmatch(r"refused with 4\d\d: [A-Z]+ (/\S*|a path that is none)", line) for line in log.splitlines()
    )


def check_schema(
    server: Running, client: httpx.Client, folder: Path, *options: str, operations: tuple[int, int]
) -> None:
    """Schemathesis finds nothing, as that person, in so many `operations` of all; files go to `folder`."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    session = client.cookies["onereward"]
    (folder / "schemathesis.toml").write_text(f'[auth.openapi.APIKeyCookie]\napi_key = "{session}"\n')
    for name in ("X-CSRF-Token", "Origin"):
        command += ["--header", f"{name}: {client.headers[name]}"]
    command += ["--exclude-name", "DELETE /api/session"]  # it would lock itself out
    command += ["--checks", "all", "--seed", "1", "--request-timeout", "60", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(done.stdout[done.stdout.find("Test cases:") :])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "{} selected / {} total".format(*operations) in done.stdout
    assert re.search(r"(\d+) generated, \1 passed", done.stdout)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()
