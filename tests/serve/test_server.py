"""A real server in its own process against what the world sends: it refuses, stays small, and goes on."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from onereward.cli.main import main
from tests.serve.edits import FILL
from tests.serve.malformed import Malformed, malformed
from tests.serve.running import Running, running

MOST_BYTES = 4 * 2**20
MOST_GROWTH = 256 * 2**20
"""What the process may grow by at most, however many uploads come: a few copies of what is read at a time.

The bytes sent are a multiple of it, and a decoded bomb would have 2.5 GB.
"""
SENDERS = 4


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running(
        str(tiny_folder), log, "--max-upload", "4", "--max-pixels", "1000000", "--queue", "9999", token="secret"
    ) as server:
        yield server


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.soak)])
def test_malformed_uploads_are_refused_and_nothing_of_them_stays(server: Running, count: int) -> None:
    with server.client() as client, ThreadPoolExecutor(SENDERS) as senders:

        def send(upload: Malformed) -> tuple[Malformed, httpx.Response | None, int]:
            return upload, _post(client, upload.request), server.memory()

        _make_one(client)
        before = largest = server.memory()
        accepted, sent, unanswered = [], 0, 0
        for upload, answer, memory in senders.map(send, malformed(count, count, MOST_BYTES)):
            largest = max(largest, memory)
            if answer is None:
                unanswered += 1
                assert upload.kind == "too large"  # closed while it was sent
                continue
            assert answer.status_code in upload.codes, (upload.kind, answer.status_code, answer.text[:500])
            sent += int(answer.request.headers.get("content-length", 0))
            if answer.status_code == 202:
                accepted.append(answer.json()["url"])
            else:
                assert 0 < len(answer.json()["detail"]) <= 500
        states = [_final(client, url) for url in accepted]
        assert all(state in ("done", None) for state in states), states  # None: dropped for newer ones
        _make_one(client)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()
    at_end, at_most = (size - before for size in (server.memory(), largest))
    print(f"{count} uploads, {sent / 1e6:.0f} MB: {len(accepted)} harmless, {unanswered} cut off, the others refused")
    print(f"memory grew by {at_end / 1e6:.1f} MB, {at_most / 1e6:.1f} MB at most")
    assert sent > MOST_GROWTH > max(at_end, at_most)


def _post(client: httpx.Client, request: dict[str, Any]) -> httpx.Response | None:
    try:
        return client.post("/v1/edits", **request)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return None


def _final(client: httpx.Client, url: str) -> str | None:
    deadline = time.monotonic() + 60
    while True:
        answer = client.get(url)
        if answer.status_code == 404:
            return None
        status = answer.json()
        if status["state"] not in ("queued", "running"):
            return str(status["state"])
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _make_one(client: httpx.Client) -> None:
    url = client.post("/v1/edits", json=FILL).json()["url"]
    assert _final(client, url) == "done"
    assert client.get(f"{url}/image").content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00" * 5000,
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/edits HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"A: " * 40_000,
    ],
)
def test_what_is_no_http_does_no_harm(server: Running, raw: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}


def test_an_upload_that_is_broken_off_leaves_no_trace(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        "POST /v1/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    for _ in range(20):  # more than are read at a time
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode() + b"{")
    with server.client() as client:
        _make_one(client)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_the_schema_and_the_server_agree(server: Running, tmp_path: Path, examples: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    options = ["--header", f"Authorization: Bearer {server.token}", "--checks", "all", "--seed", "1"]
    sizes = ["--max-examples", str(examples), "--request-timeout", "60"]
    hooks = {"PYTHONPATH": os.pathsep.join(sys.path), "SCHEMATHESIS_HOOKS": "tests.serve.schemathesis_hooks"}
    done = subprocess.run(
        [*command, *options, *sizes], cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True
    )
    print(done.stdout[done.stdout.find("Test cases:") :])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "9 selected / 9 total" in done.stdout and re.search(r"(\d+) generated, \1 passed", done.stdout)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()


def test_it_ends_in_order_while_a_client_listens(tiny_folder: Path, tmp_path: Path) -> None:
    with running(str(tiny_folder), tmp_path / "log.txt", token="secret") as server, server.client() as client:
        url = client.post("/v1/edits", json={**FILL, "steps": 1000}).json()["url"]
        with client.stream("GET", f"{url}/events") as events:
            assert next(events.iter_lines()) == "event: status"
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(20) == 130
    said = (tmp_path / "log.txt").read_text()
    assert said.splitlines()[-1].startswith("onereward: interrupted") and "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "--host 0.0.0.0 is open to others: give a --token"),
        (["--token", ""], 2, "the token must be ASCII"),
        (["--token", "two words"], 2, "the token must be ASCII"),
        (["--port", "70000"], 2, "got --port 70000, expected 0 (any free one) to 65535"),
        (["--queue", "0"], 2, "got a limit of 0 for waiting"),
        (["--editor", "nowhere/at-all", "--offline"], 2, "nowhere/at-all"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    options: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEREWARD_TOKEN", raising=False)
    assert main(["serve", "--editor", "toy", "--port", "0", *options]) == code
    assert words in capsys.readouterr().err


def test_a_taken_port_is_said_before_the_editor_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--editor", "nowhere", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("onereward.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", "--editor", "toy"]) == 1
    assert "serving needs the library 'fastapi': pip install 'onereward[web]'" in capsys.readouterr().err


def test_the_api_is_imported_without_torch() -> None:
    code = "import sys, onereward.serve.app, onereward.web.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
