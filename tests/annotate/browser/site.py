"""A real server of the annotation app over a few items, and what its database kept."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
import uvicorn
from PIL import Image, ImageFilter
from skimage import data
from starlette.types import ASGIApp, Receive, Scope, Send

from onereward.annotate.app import create_app
from onereward.annotate.pairing import Pairing
from onereward.annotate.project import Gold, ProjectConfig, import_items
from onereward.people.database import Database
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Pictures
from onereward.people.tables import CLAIMS, EVENTS, ITEMS, SLOTS, VOTES
from onereward.terms import Candidate, Task, Triplet
from onereward.toy.scenes import make_scene
from onereward.web.server import bound, url_of

Item = tuple[Triplet, list[Candidate]]
_SHIFTS = ((0, 0), (6, 2), (-9, 5), (14, -8), (-4, -16), (20, 10), (-26, 3), (9, 24))


@dataclass(frozen=True, kw_only=True)
class Said:
    """A vote as it was kept, by candidate index."""

    triplet_id: str
    dimension: str
    best: int | None
    worst: int | None
    reason: str | None
    purpose: str
    submission: str


@dataclass(kw_only=True)
class Site:
    """A server that listens."""

    url: str
    database: Database
    pictures: Pictures
    picture_delay: float = 0.0
    """Seconds that every picture takes."""

    def link(self, name: str, role: Role = Role.ANNOTATOR) -> str:
        """The link of a new person."""
        return f"{self.url}/enter#{Persons(self.database).make(name, role)[1]}"

    def votes(self) -> list[Said]:
        """All that were kept, oldest first."""
        columns = [VOTES.c[name] for name in Said.__dataclass_fields__]
        with self.database.reading() as connection:
            return [
                Said(**row) for row in connection.execute(sa.select(*columns).order_by(VOTES.c.sequence)).mappings()
            ]

    def orders(self, name: str = "Ann") -> dict[str, list[int]]:
        """The candidate index at each place by triplet, in the order in which a person was given them."""
        [person] = [entry.id for entry in Persons(self.database).all() if entry.name == name]
        query = sa.select(ITEMS.c.triplet_id, CLAIMS.c.shown).join(ITEMS, ITEMS.c.id == CLAIMS.c.item)
        with self.database.reading() as connection:
            rows = connection.execute(query.where(CLAIMS.c.person == person).order_by(CLAIMS.c.at)).all()
        return {row.triplet_id: json.loads(row.shown) for row in rows}

    def source_file(self, triplet_id: str) -> Path:
        """Where the source of a triplet lies."""
        with self.database.reading() as connection:
            query = sa.select(ITEMS.c.source).where(ITEMS.c.triplet_id == triplet_id)
            return self.pictures.path(connection.execute(query).scalar_one())

    def events(self, kind: str) -> int:
        """How often something was entered in the log."""
        with self.database.reading() as connection:
            query = sa.select(sa.func.count()).where(EVENTS.c.kind == kind)
            return int(connection.execute(query).scalar_one())

    def holders(self) -> list[str]:
        """Who holds an item, one entry an item."""
        query = sa.select(SLOTS.c.person).where(SLOTS.c.person.is_not(None), SLOTS.c.done_at.is_(None))
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())


@contextmanager
def site(
    folder: Path, items: Sequence[Item], config: ProjectConfig, gold: dict[str, Gold] | None = None
) -> Iterator[Site]:
    """A server over these items in its own thread."""
    with Database(str(folder / "votes.db")) as database, bound("127.0.0.1", 0) as listener:
        pictures = Pictures(folder / "pictures")
        import_items(database, pictures, _InMemory(items), config, time.time, gold)
        running = Site(url=url_of(listener), database=database, pictures=pictures)
        app = _Slow(create_app(database, pictures, title="Demo project"), running)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        listener.listen()  # who comes before it has started waits
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield running
        finally:
            server.should_exit = True
            thread.join()


def toy_items(count: int, candidates: int = 4, task: Task = Task.FILL) -> list[Item]:
    """Scenes of the toy world, 64 pixels wide; the first candidate is the truth, the others are it with more noise."""
    items = []
    for index in range(count):
        scene = make_scene("train", index, task)
        triplet = scene.triplet()
        noise = np.random.default_rng(index).normal(size=scene.truth_HW3.shape)
        edits = [scene.truth_HW3 + noise * scene.mask_HW[..., None] * 30 * worse for worse in range(candidates)]
        files = [_png(Image.fromarray(edit.clip(0, 255).astype(np.uint8))) for edit in edits]
        items.append((triplet, _candidates(triplet, files)))
    return items


def photo_items(candidates: int = 4) -> list[Item]:
    """Photographs of different shapes whose candidates have what the mask covers shifted and blurred."""
    wishes = (
        ("astronaut", Task.FILL, "a silver space helmet with a dark visor, soft studio light"),
        ("coffee", Task.REMOVE, "remove"),
        ("chelsea", Task.TEXT, 'a small brass tag that says "CHELSEA"'),
        ("rocket", Task.EXTEND, "high-definition, perfect composition"),
    )
    items = []
    for name, task, prompt in wishes:
        photo = Image.fromarray(getattr(data, name)())
        width, height = photo.size
        box = (width * 3 // 8, height // 4, width * 3 // 4, height * 2 // 3)
        mask = Image.new("L", photo.size)
        mask.paste(255, box)
        triplet = Triplet(id=name, task=task, prompt=prompt, image=_png(photo), mask=_png(mask))
        edits = []
        for place in range(candidates):
            part = photo.crop(box).filter(ImageFilter.GaussianBlur(place))
            edit = photo.copy()
            edit.paste(part, (box[0] + _SHIFTS[place][0], box[1] + _SHIFTS[place][1]))
            edits.append(_png(edit))
        items.append((triplet, _candidates(triplet, edits)))
    return items


class _InMemory(Pairing):
    """Items as one shard."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = list(items)
        self.fingerprints = {"triplets": "0" * 64, "candidates": "1" * 64}

    def __len__(self) -> int:
        return 1

    def shard(self, index: int) -> list[Item]:
        return self._items


class _Slow:
    """ASGI middleware: pictures take their time."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/images/"):
            await asyncio.sleep(self._site.picture_delay)
        await self._app(scope, receive, send)


def _candidates(triplet: Triplet, files: Sequence[bytes]) -> list[Candidate]:
    return [
        Candidate(triplet_id=triplet.id, index=index, image=image, editor="toy", seed=index, settings="{}")
        for index, image in enumerate(files)
    ]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
