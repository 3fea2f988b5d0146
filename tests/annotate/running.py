"""A small project in a database, and what annotators' browsers send to its app."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from fastapi.testclient import TestClient
from PIL import Image

from onereward.annotate.pairing import Pairing
from onereward.annotate.project import ProjectConfig, import_items
from onereward.people.database import Database
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Pictures
from onereward.store.shards import fingerprint, run_stage
from onereward.terms import Candidate, Task, Triplet
from tests.annotate.desk import FakeClock

SIZE = (24, 16)
SCRIPT = "<script>alert('x')</script>"
TASKS = (Task.FILL, Task.REMOVE)
CANDIDATES = 3


@dataclass(frozen=True, kw_only=True)
class _NoConfig:
    pass


def colour_of(triplet: int, candidate: int) -> tuple[int, int, int]:
    """The one colour of a candidate, by which a test knows it again."""
    return 10 * triplet + 5, 50 * candidate + 5, 77


def pairing_of(folder: Path, items: int, name: str = "t") -> Pairing:
    """Triplets, fill and remove by turns, with three candidates of one colour each; the prompts are scripts."""
    triplets, candidates = folder / "triplets", folder / "candidates"
    rows = [
        Triplet(
            id=f"{name}{index}",
            task=TASKS[index % 2],
            prompt="remove" if index % 2 else f"{SCRIPT} {index}",
            image=_png((0, 0, index)),
            mask=_png((255, 255, 255)),
        )
        for index in range(items)
    ]
    made = [
        Candidate(
            triplet_id=row.id,
            index=index,
            image=_png(colour_of(at, index)),
            editor="secret-editor",
            seed=1,
            settings="{}",
        )
        for at, row in enumerate(rows)
        for index in range(CANDIDATES)
    ]
    run_stage(triplets, kind=Triplet, stage="select", config=_NoConfig(), inputs={}, shard_count=1,
              make_shard=lambda _: rows)  # fmt: skip
    run_stage(candidates, kind=Candidate, stage="generate", config=_NoConfig(),
              inputs={"triplets": fingerprint(triplets)}, shard_count=1, make_shard=lambda _: made)  # fmt: skip
    return Pairing(triplets, candidates)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project with nobody in it yet."""

    place: str
    database: Database
    pictures: Pictures
    images: Path
    clock: FakeClock

    def link_of(self, name: str, role: Role = Role.ANNOTATOR) -> tuple[str, str]:
        """A new person's id and their link's token."""
        return Persons(self.database, self.clock).make(name, role)


@contextmanager
def project(folder: Path, *, items: int = 6, place: str | None = None, **config: Any) -> Iterator[Project]:
    """Imported into an SQLite file, or at `place`; every item comes once and may be answered at once."""
    place, images, clock = place or str(folder / "votes.sqlite"), folder / "images", FakeClock()
    settings = {"annotators": 1, "extra": 0, "gold": 0.0, "repeats": 0.0, "minimum_seconds": 0.0} | config
    pictures = Pictures(images)
    with Database(place) as database:
        import_items(database, pictures, pairing_of(folder, items), ProjectConfig(**settings), clock)
        yield Project(place=place, database=database, pictures=pictures, images=images, clock=clock)


def claimed(client: TestClient | httpx.Client) -> dict[str, Any]:
    """The next item, which there must be."""
    answer = client.post("/api/assignments", json={"request": str(uuid4())})
    assert answer.status_code == 200 and "id" in answer.json(), answer.text
    item: dict[str, Any] = answer.json()
    return item


def answer_to(item: dict[str, Any], best: int = 0, worst: int = 1, **more: Any) -> dict[str, Any]:
    """An answer with the same places in all dimensions."""
    votes = [{"dimension": one["name"], "best": best, "worst": worst, "reason": None} for one in item["dimensions"]]
    return {"uuid": str(uuid4()), "assignment": item["id"], "seconds": 5, "votes": votes} | more


def _png(colour: Sequence[int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", SIZE, tuple(colour)).save(file, "PNG")
    return file.getvalue()
