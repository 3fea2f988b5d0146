"""Simulated annotators who send what the page sends, in threads, to a server process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.claims import fill
from onereward.annotate.project import ProjectConfig
from onereward.people.database import Database
from onereward.people.persons import Role
from onereward.people.pictures import Pictures
from tests.annotate.desk import FakeClock
from tests.annotate.running import Project, answer_to
from tests.app_process import Address, Browser


@contextmanager
def crowded(place: str, folder: Path, people: int, items: int) -> Iterator[tuple[Project, list[str]]]:
    """A project of three answers an item, and the tokens of people's links."""
    images = folder / "images"
    with Database(place) as database:
        config = ProjectConfig(minimum_seconds=0, gold=0, repeats=0, extra=0, lease_seconds=3600)
        fill(database, items, config)
        of = Project(place=place, database=database, pictures=Pictures(images), images=images, clock=FakeClock())
        yield of, [of.link_of(f"person {number}", Role.ANNOTATOR)[1] for number in range(people)]


class Annotator(Browser):
    """One person's way to take an item and to answer it."""

    def __init__(self, address: Address, token: str, *, patient: bool = False) -> None:
        super().__init__(address, token, patient=patient)
        self._held: list[dict[str, Any]] = []

    def claim(self) -> int | None:
        found = self._post("/api/assignments", {"request": str(uuid4())})
        if "none" in found:
            return None
        self._held.append(found)
        return int(found["source"].partition("-")[0])  # the benchmark's pictures are named so

    def answer(self) -> str | None:
        answer = answer_to(self._held.pop(0))
        assert self._post("/api/answers", answer)["state"] in ("accepted", "known")
        return str(answer["uuid"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.ask("POST", path, body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found
