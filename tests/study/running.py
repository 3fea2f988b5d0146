"""A small study in a database, participants who go through it by the room or over HTTP, and its app as a server."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import sqlalchemy as sa
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from onereward.people.database import Database
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Pictures
from onereward.people.tables import STUDY_OUTPUTS
from onereward.store.shards import fingerprint, run_stage
from onereward.study.analysis import AnalysisPlan
from onereward.study.app import create_app
from onereward.study.collecting import Collecting, Stage, Submission, Trial
from onereward.study.exclusion import ExclusionRules
from onereward.study.project import StudyConfig, new_study
from onereward.terms import Candidate, Task, Triplet
from onereward.web.rates import Rates
from onereward.web.server import bound, url_of

SIZE = (48, 32)
SYSTEMS = ("zebra-net", "quokka-fill")
SECRETS = (*SYSTEMS, "quokka", "zebra", "walnut", "candidate", "editor", "seed")
"""What no participant may read anywhere, in lower case."""

WISHES = (
    (Task.FILL, "a red star"),
    (Task.TEXT, "a sign that says “OPEN”"),
    (Task.EXTEND, "a long table"),
    (Task.EXTEND, ""),
    (Task.REMOVE, "remove"),
)
SCRIPT = "<script>alert('x')</script>"
LENIENT = ExclusionRules(minimum_seconds=0, failed_checks=99, straight_share=1, side_share=1, answered_share=0)

MadeWith = Callable[[str, int], dict[str, int]]
Judge = Callable[[Trial], Mapping[str, int]]


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, kw_only=True)
class _Made:
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A study with nobody in it yet."""

    place: str
    database: Database
    pictures: Pictures
    images: Path
    clock: Clock
    config: StudyConfig

    @property
    def collecting(self) -> Collecting:
        return Collecting(self.database, self.clock)

    def link_of(self, name: str, role: Role = Role.PARTICIPANT) -> tuple[str, str]:
        """A new person's id and their link's token."""
        return Persons(self.database, self.clock).make(name, role)

    def systems(self) -> dict[str, str | None]:
        """Whose each picture of an output is; None for the hole of an attention check."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(STUDY_OUTPUTS.c.picture, STUDY_OUTPUTS.c.system)).all()
        return {row.picture: row.system for row in rows}


def write_inputs(
    folder: Path,
    items: int,
    size: tuple[int, int] = SIZE,
    wishes: Sequence[tuple[Task, str]] = WISHES,
    made_with: MadeWith = lambda name, at: {},
) -> dict[str, Path]:
    """Triplets with the `wishes` in turns and two systems' candidates, whose files differ in every way they can.

    `made_with` has the settings of a system's output for a triplet. The first system writes smooth JPEG of twice the
    size with its name in EXIF, the second noisy PNG with its name in a text chunk.
    """
    triplets = [
        Triplet(id=f"walnut-{at}", task=task, prompt=prompt, image=_png(_picture(at, size)), mask=_png(_mask(size)))
        for at, (task, prompt) in enumerate(wishes[at % len(wishes)] for at in range(items))
    ]
    run_stage(folder / "triplets", kind=Triplet, stage="select", config=_Made(), inputs={}, shard_count=1,
              make_shard=lambda _: triplets)  # fmt: skip
    for name, encode in zip(SYSTEMS, (_smooth_jpeg, _noisy_png), strict=True):
        images = [encode(_picture(at, size), name) for at in range(items)]
        outputs = [
            Candidate(
                triplet_id=row.id, index=0, image=image, editor=name, seed=at, settings=json.dumps(made_with(name, at))
            )
            for at, (row, image) in enumerate(zip(triplets, images, strict=True))
        ]
        run_stage(folder / name, kind=Candidate, stage="generate", config=_Made(by=name),
                  inputs={"triplets": fingerprint(folder / "triplets")}, shard_count=1,
                  make_shard=lambda _, outputs=outputs: outputs)  # fmt: skip
    return {name: folder / name for name in ("triplets", *SYSTEMS)}


@contextmanager
def study(
    folder: Path,
    *,
    items: int = 6,
    size: tuple[int, int] = SIZE,
    place: str | None = None,
    wishes: Sequence[tuple[Task, str]] = WISHES,
    rules: ExclusionRules = LENIENT,
    made_with: MadeWith = lambda name, at: {"seed": at},
    **config: Any,
) -> Iterator[Made]:
    """Set up in an SQLite file, or at `place`: two answers an output, blocks of all items, no practice or checks."""
    usual = {"systems": SYSTEMS, "answers": 2, "items_a_block": items, "practice": 0, "check_every": 0}
    settings = StudyConfig(**(usual | config))
    inputs = write_inputs(folder / "inputs", items + settings.practice, size, wishes, made_with)
    systems = {name: inputs[name] for name in SYSTEMS}
    pictures, clock, plan = Pictures(folder / "images"), Clock(), AnalysisPlan(main=SYSTEMS[0], rules=rules)
    with Database(place or str(folder / "study.sqlite")) as database:
        new_study(database, pictures, inputs["triplets"], systems, settings, plan, clock)
        yield Made(
            place=database.place,
            database=database,
            pictures=pictures,
            images=folder / "images",
            clock=clock,
            config=settings,
        )


def begin(made: Made, name: str = "Ann") -> str:
    """A new participant who has a block."""
    person, _ = made.link_of(name)
    collecting = made.collecting
    collecting.consent(person)
    collecting.begin_practice(person)
    while collecting.place(person).stage is Stage.PRACTICE:
        answer_next(collecting, person)
    collecting.begin_block(person)
    return person


def answer_next(collecting: Collecting, person: str, judge: Judge | None = None) -> Trial:
    """Answers the next trial; with the least of each scale if nobody judges."""
    trial = collecting.place(person).trials[0]
    values = {name: values[0] for name, values in trial.allowed.items()} if judge is None else judge(trial)
    collecting.answer(person, Submission(uuid=uuid4(), trial=trial.id, seconds=8.0, values=values))
    return trial


def answer_all(collecting: Collecting, person: str, judge: Judge | None = None) -> list[Trial]:
    """Answers what is left of the block."""
    trials = []
    while collecting.place(person).stage is Stage.WORK:
        trials.append(answer_next(collecting, person, judge))
    return trials


def client_of(made: Made, *, per_second: float = 1e9) -> TestClient:
    """A browser that may ask as often as it likes, and has not signed in."""
    loose = Rates(per_second=per_second, burst=10**9)
    app = create_app(made.database, made.pictures, clock=made.clock, visitors=loose, strangers=loose)
    return TestClient(app, base_url="http://study.example", raise_server_exceptions=False)


def to_block(client: TestClient | httpx.Client) -> dict[str, Any]:
    """Go through consent and instructions (there is no practice) to the block; the place."""
    for step in ("consent", "practice", "block"):
        answer = client.post(f"/api/{step}")
        assert answer.status_code == 204, answer.text
    place: dict[str, Any] = client.get("/api/place").json()
    assert place["stage"] == "work"
    return place


def answer_to(trial: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The first option of every question."""
    values = {question["name"]: question["options"][0]["value"] for question in trial["questions"]}
    return {"uuid": str(uuid4()), "trial": trial["id"], "seconds": 5, "values": values} | more


@contextmanager
def serving(made: Made) -> Iterator[str]:
    """The app on a socket, in a thread of its own and by the real clock; its URL."""
    loose = Rates(per_second=1e9, burst=10**9)
    with bound("127.0.0.1", 0) as listener:
        app = create_app(made.database, made.pictures, clock=time.time, visitors=loose, strangers=loose)
        listener.listen()  # whoever comes before the thread has begun is kept waiting, not refused
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def _picture(at: int, size: tuple[int, int]) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 150, size[1]))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 20 * at % 250)], axis=-1).astype(np.uint8))


def _mask(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    return mask


def _png(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def _smooth_jpeg(picture: Image.Image, name: str) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = name  # description
    picture.resize((2 * picture.width, 2 * picture.height)).save(file, "JPEG", exif=exif, comment=name.encode())
    return file.getvalue()


def _noisy_png(picture: Image.Image, name: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 60, (picture.height, picture.width, 3))
    info = PngInfo()
    info.add_text("Software", name)
    return _png(Image.fromarray((np.asarray(picture).astype(int) * 3 // 4 + noise).astype(np.uint8)), pnginfo=info)
