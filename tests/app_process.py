"""An app for people as a process of its own, which can be killed and replaced, and the browsers of those at it."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import httpx
from fastapi.testclient import TestClient

from onereward.web.sessions import csrf_of

NO_LIMIT = 1_000_000
"""A rate that nobody reaches."""
_Result = TypeVar("_Result")
_PATIENCE = 60  # seconds after which a server that was killed should have been replaced


class Served(Protocol):
    """What an app is over."""

    @property
    def place(self) -> str:
        """Of the database."""
        ...

    @property
    def images(self) -> Path:
        """The folder of pictures."""
        ...


@dataclass(frozen=True, kw_only=True)
class Running:
    """The process, and what it said on stderr."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @contextmanager
    def client(self, token: str) -> Iterator[httpx.Client]:
        """A browser that has signed in by that token."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            enter(client, token)
            yield client


@contextmanager
def running(app: str, of: Served, log: Path, *, rate: int | None = None) -> Iterator[Running]:
    """`onereward annotate serve` or `onereward study serve`, or the same where all may ask `rate` times a second."""
    command = [sys.executable, "-m", "onereward", app, "serve", "--database", of.place]
    command += ["--images", str(of.images), "--port", "0", "--json"]
    if rate is not None:
        command = [sys.executable, "-m", "tests.loose_server", app, of.place, str(of.images), str(rate)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said, log.read_text()
            yield Running(url=json.loads(said)["url"], process=process, log=log)
        finally:
            process.terminate()
            process.wait(20)


@dataclass(kw_only=True)
class Address:
    """Where the server is at present."""

    url: str = ""


@dataclass(kw_only=True)
class Mortal:
    """A server without limits that is killed while people are at work, at an address that leads to the next one."""

    app: str
    of: Served
    folder: Path
    address: Address = field(default_factory=Address)
    _servers: ExitStack = field(default_factory=ExitStack)
    _count: int = 0

    def __enter__(self) -> "Mortal":
        self._present = self._next()
        self.address.url = self._present.url
        return self

    def __exit__(self, *error: object) -> None:
        self._servers.close()

    def kill(self) -> None:
        """SIGKILL at some moment; the next one has been started by then, so that it is missed for a moment only."""
        killed, self._present = self._present, self._next()
        time.sleep(random.uniform(0.1, 0.4))
        killed.process.kill()
        self.address.url = self._present.url

    def _next(self) -> Running:
        self._count += 1
        log = self.folder / f"log{self._count}"
        return self._servers.enter_context(running(self.app, self.of, log, rate=NO_LIMIT))


class Browser:
    """Somebody who has signed in; a `patient` one sends again what was not answered, and counts how often."""

    def __init__(self, address: Address, token: str, *, by: str = "/api/session", patient: bool = False) -> None:
        self._address, self._patient, self.retries = address, patient, 0
        self._client = httpx.Client(timeout=30, verify=False)  # certificates take long to load
        self._patiently(lambda: enter(self._client, token, by))

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """The server's answer."""
        return self._patiently(lambda: self._client.request(method, path, json=body))

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def _patiently(self, act: Callable[[], _Result]) -> _Result:
        end = time.monotonic() + _PATIENCE
        while True:
            self._client.base_url = httpx.URL(self._address.url)
            self._client.headers["Origin"] = self._address.url
            try:
                return act()
            except httpx.TransportError:
                if not self._patient or time.monotonic() > end:
                    raise
                self.retries += 1
                time.sleep(0.05)


def enter(client: TestClient | httpx.Client, token: str, by: str = "/api/session") -> None:
    """Sign a client in by a link's token, as our page does."""
    client.headers["Origin"] = str(client.base_url).rstrip("/")
    answer = client.post(by, json={"token": token})
    assert answer.status_code == 200, answer.text
    client.headers["X-CSRF-Token"] = csrf_of(answer.cookies["onereward"])
