"""Simulated annotators who send what the page sends, in threads, to a server process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.claims import fill
from onereward.annotate.project import ProjectConfig
from onereward.people.database import Database
from onereward.people.persons import Role
from onereward.people.pictures import Pictures
from tests.annotate.desk import FakeClock
from tests.annotate.running import Project, answer_to, enter

_PATIENCE = 60  # seconds after which a server that was killed should have been started again


@contextmanager
def crowded(place: str, folder: Path, people: int, items: int) -> Iterator[tuple[Project, list[str]]]:
    """A project of three answers an item, and the tokens of people's links."""
    images = folder / "images"
    with Database(place) as database:
        config = ProjectConfig(minimum_seconds=0, gold=0, repeats=0, extra=0, lease_seconds=3600)
        fill(database, items, config)
        of = Project(place=place, database=database, pictures=Pictures(images), images=images, clock=FakeClock())
        yield of, [of.link_of(f"person {number}", Role.ANNOTATOR)[1] for number in range(people)]


@dataclass(kw_only=True)
class Address:
    """Where the server is at present."""

    url: str = ""


@dataclass
class Browser:
    """One person's way to take an item and to answer it; a `patient` one sends again what was not answered."""

    address: Address
    token: str
    patient: bool = False
    held: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = httpx.Client(
            base_url=self.address.url, timeout=30, verify=False
        )  # certificates take long to load
        enter(self._client, self.token)

    def claim(self) -> int | None:
        found = self._post("/api/assignments", {"request": str(uuid4())})
        if "none" in found:
            return None
        self.held.append(found)
        return int(found["source"].partition("-")[0])  # the benchmark's pictures are named so

    def answer(self) -> str | None:
        answer = answer_to(self.held.pop(0))
        assert self._post("/api/answers", answer)["state"] in ("accepted", "known")
        return str(answer["uuid"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                answer = self._client.post(path, json=body)
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                return found
            except httpx.TransportError:
                if not self.patient or time.monotonic() > end:
                    raise
                time.sleep(0.05)
                self._client.base_url = httpx.URL(self.address.url)
                self._client.headers["Origin"] = self.address.url
