"""A study: triplets with one output of each system, blocks of pages, and what is frozen before the first answer."""

import json
import logging
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa
from PIL import Image

from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock, hashed
from onereward.people.pictures import Picture, Pictures
from onereward.people.settings import keep_setting, setting
from onereward.people.tables import (
    EVENTS,
    PICTURES,
    STUDY_ANSWERS,
    STUDY_BLOCKS,
    STUDY_ITEMS,
    STUDY_OUTPUTS,
    refuse_long,
)
from onereward.seeds import python_generator
from onereward.store.files import write_atomically
from onereward.store.images import decode_image, decode_mask, encode_png
from onereward.store.shards import Folder, fingerprint, read_manifest, read_shard
from onereward.study.analysis import AnalysisPlan
from onereward.study.criteria import Criterion, criteria_of, subtask_of
from onereward.study.design import Block, design_comparisons, design_ratings
from onereward.study.exclusion import ExclusionRules, digest
from onereward.terms import Candidate, Task, Triplet

logger = logging.getLogger(__name__)

CLOSED_AT, OPEN_LINK, _STUDY = "study_closed_at", "study_open_link", "study"
_GREY = (128, 128, 128)

CONSENT = """\
In this study you look at pictures that were changed by computer programs and say how good they are. It is about the \
programs, not about you.

Taking part is voluntary. You can stop at any time without saying why, and ask that what you have answered until then \
is not used.

We keep your answers and how long they took, under a random number. They are analysed together with those of others, \
and may be published in that form. Nothing is kept that tells who you are, but for the name that you were invited \
under, if there is one; it is erased when you ask for it.

There are no known risks. Some pictures may show people, animals or places in odd or broken shapes.\
"""


class ClosedError(ValueError):
    """The study takes no more answers."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What participants are given; `comparisons` are the pairs of systems that are put side by side.

    answers: of different people to each output and pair. items_a_block: of one participant, each with the outputs of
    all systems (or all pairs). practice: items that are shown first and not counted. check_every: pages with one
    attention check among them, 0 for none. break_every: pages between breaks, 0 for none. lapse_hours: after which a
    participant who has not come back has left, if somebody else wants the place; 0 for never.
    """

    systems: tuple[str, ...]
    comparisons: tuple[tuple[str, str], ...] = ()
    rates: bool = True
    answers: int = 3
    items_a_block: int = 10
    practice: int = 2
    check_every: int = 15
    break_every: int = 20
    lapse_hours: int = 24
    title: str = "Picture study"
    consent: str = CONSENT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.answers < 1 or self.items_a_block < 2:
            raise ValueError(
                f"got {self.answers} answers an output and {self.items_a_block} items a block, expected 1 and 2 or more"
            )
        for name in ("practice", "check_every", "break_every", "lapse_hours"):
            if getattr(self, name) < 0:
                raise ValueError(f"got {name} {getattr(self, name)}, expected 0 or more")
        unknown = sorted({name for pair in self.comparisons for name in pair} - set(self.systems))
        if unknown:
            raise ValueError(f"got a comparison with {unknown[0]!r}; the systems are {', '.join(self.systems)}")
        if not self.systems or not (self.rates or self.comparisons):
            raise ValueError("expected systems whose outputs are rated, or pairs of systems to compare")
        if not self.consent.strip() or not self.title.strip():
            raise ValueError("expected a title, and a text that participants agree to")


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that is frozen before the first answer; `inputs` and `content` are hashes of what was read and made of it.

    `last_block` is the id of the last block of the design; later ones are what people leave.
    """

    config: StudyConfig
    plan: AnalysisPlan
    inputs: Mapping[str, str]
    content: str
    last_block: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What participants are told beforehand: the most pages a block has, how many of them are checks; what is asked."""

    pages: int
    checks: int
    criteria: tuple[Criterion, ...]


def new_study(
    database: Database,
    pictures: Pictures,
    triplets: Folder,
    systems: Mapping[str, Folder],
    config: StudyConfig,
    plan: AnalysisPlan,
    clock: Clock,
    *,
    index: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Set a study up, whole or not at all, and return how many blocks there are; `progress` is told of shards.

    `systems` are folders of candidates by name, of which the one of `index` is shown. Raises ValueError for a database
    that holds something, for candidates of other triplets, and for too few triplets.
    """
    if plan.main not in config.systems:
        raise ValueError(f"got the main system {plan.main!r}; the systems are {', '.join(config.systems)}")
    for name in config.systems:
        refuse_long(STUDY_OUTPUTS.c.system, name)
    made = {name: fingerprint(systems[name]) for name in config.systems}
    if len(set(made.values())) < len(made):
        raise ValueError("two systems have the same candidates: name each one's own folder")
    inputs = {"triplets": fingerprint(triplets)} | made
    with database.writing() as connection, pictures.whole_or_none():
        _require_empty(connection)
        practice, made_with = _practice_of(triplets, config), defaultdict[str, set[str]](set)
        for shard in _shards(triplets, {name: systems[name] for name in config.systems}, index):
            for triplet, outputs in shard:
                for name, output in outputs.items():
                    made_with[name].add(_settings_of(output))
                images = {name: output.image for name, output in outputs.items()}
                _add(connection, pictures, triplet, images, triplet.id in practice)
            progress(1)
        blocks = _design(connection, config)
        rows = [{"pages": json.dumps([[int(p.item), *p.systems] for p in block.pages])} for block in blocks]
        connection.execute(STUDY_BLOCKS.insert(), rows)
        last = int(connection.execute(sa.select(sa.func.max(STUDY_BLOCKS.c.id))).scalar_one())
        content = _content(connection, last)
        study = Study(config=config, plan=plan, inputs=inputs, content=content, last_block=last)
        _freeze(connection, "study", study, clock())
    for name in (name for name, ways in made_with.items() if len(ways) > 1):
        logger.warning(
            "the outputs of %s were made with settings drawn for each, not with those that it is used with: "
            "`generate --own-settings --candidates 1` makes outputs to compare",
            name,
        )
    return len(blocks)


def study_of(connection: sa.Connection) -> Study:
    """The study; ValueError if there is none."""
    kept = setting(connection, _STUDY)
    if kept is None:
        raise ValueError("there is no study in this database: `onereward study new` makes one, in a new file")
    return _read(kept)


def outline_of(connection: sa.Connection) -> Outline:
    """What the study asks of a participant."""
    config = study_of(connection).config
    pages = max(len(json.loads(block)) for block in connection.execute(sa.select(STUDY_BLOCKS.c.pages)).scalars())
    items = connection.execute(sa.select(STUDY_ITEMS.c.task, STUDY_ITEMS.c.prompt))
    asked = {criterion for item in items for criterion in criteria_of(subtask_of(Task(item.task), item.prompt))}
    checks = pages // config.check_every if config.check_every else 0
    return Outline(
        pages=pages + checks,
        checks=checks,
        criteria=tuple(criterion for criterion in Criterion if criterion in asked),
    )


def frozen_study(connection: sa.Connection) -> Study:
    """The study, if it is what the chain of events says was frozen before the first answer; else ValueError."""
    study = study_of(connection)
    frozen = sa.select(EVENTS).where(EVENTS.c.kind.in_(("study", "rules"))).order_by(EVENTS.c.sequence.desc()).limit(1)
    event = connection.execute(frozen).one()
    answer = sa.select(sa.func.min(EVENTS.c.sequence)).where(EVENTS.c.kind == "answer")
    first = connection.execute(answer).scalar_one()
    if json.loads(event.body)["sha256"] != digest(study) or (first is not None and event.sequence > first):
        raise ValueError("the study's settings are not those that were frozen before the first answer")
    if study.content != _content(connection, study.last_block):
        raise ValueError(
            "the study's items, blocks, or whose output is which picture, are not what was frozen: altered since"
        )
    return study


def change_rules(database: Database, rules: ExclusionRules, clock: Clock) -> None:
    """Freeze other exclusion rules in place of the present ones; ValueError once there is an answer."""
    with database.writing() as connection:
        study = study_of(connection)
        if connection.execute(sa.select(STUDY_ANSWERS.c.sequence).limit(1)).first() is not None:
            raise ValueError("exclusion rules cannot be changed after the first answer")
        _freeze(connection, "rules", replace(study, plan=replace(study.plan, rules=rules)), clock())


def refuse_if_closed(connection: sa.Connection) -> None:
    """Raise ClosedError once the study is closed."""
    if setting(connection, CLOSED_AT) is not None:
        raise ClosedError("this study is closed and takes no more answers")


def open_to_all(database: Database, token: str, clock: Clock) -> None:
    """Let whoever has a link with this token take part; an earlier open link ends. ClosedError for a closed study."""
    with database.writing() as connection:
        study_of(connection)
        refuse_if_closed(connection)
        keep_setting(connection, OPEN_LINK, hashed(token))
        append(connection, "open link", None, clock())


def _freeze(connection: sa.Connection, kind: str, study: Study, at: float) -> None:
    keep_setting(connection, _STUDY, asdict(study))
    append(connection, kind, None, at, sha256=digest(study), study=asdict(study))


def _content(connection: sa.Connection, last_block: int) -> str:
    """SHA-256 of all items, whose each output is, every picture (its own SHA-256), and the design's blocks of pages."""
    digested = sha256()
    blocks = sa.select(STUDY_BLOCKS.c.id, STUDY_BLOCKS.c.pages).where(STUDY_BLOCKS.c.id <= last_block)
    for query in (sa.select(STUDY_ITEMS), sa.select(STUDY_OUTPUTS), sa.select(PICTURES), blocks):
        rows = connection.execute(query).all()
        for line in sorted(json.dumps(list(row)) for row in rows):  # databases sort text in different ways
            digested.update(line.encode() + b"\n")
    return digested.hexdigest()


def _read(kept: Mapping[str, Any]) -> Study:
    config, plan = kept["config"], kept["plan"]
    pairs = tuple((first, second) for first, second in config["comparisons"])
    return Study(
        config=StudyConfig(**(config | {"systems": tuple(config["systems"]), "comparisons": pairs})),
        plan=AnalysisPlan(**(plan | {"rules": ExclusionRules(**plan["rules"])})),
        inputs=kept["inputs"],
        content=kept["content"],
        last_block=kept["last_block"],
    )


def _require_empty(connection: sa.Connection) -> None:
    held = connection.execute(sa.select(PICTURES.c.id).limit(1)).first()
    if held is not None or setting(connection, _STUDY) is not None:
        raise ValueError("the database holds a study or an annotation project already: name another --database")


def _practice_of(triplets: Folder, config: StudyConfig) -> set[str]:
    """Ids of the triplets that are for practice: drawn, of as many tasks as can be."""
    manifest = read_manifest(triplets)
    tasks: dict[str, Task] = {}
    for index in range(len(manifest.shards)):
        tasks |= {triplet.id: triplet.task for triplet in read_shard(triplets, Triplet, manifest, index)}
    if len(tasks) - config.practice < config.items_a_block:
        raise ValueError(
            f"got {len(tasks)} triplets, expected at least {config.practice + config.items_a_block}: "
            f"{config.practice} for practice and {config.items_a_block} a block; more triplets, or smaller --block and "
            "--practice"
        )
    order = sorted(tasks)
    python_generator(config.seed, "practice").shuffle(order)
    chosen: list[str] = []
    for _ in range(config.practice):
        had = [tasks[other] for other in chosen]
        left = [name for name in order if name not in chosen]
        chosen.append(min(left, key=lambda name: had.count(tasks[name])))
    return set(chosen)


def _shards(
    triplets: Folder, systems: Mapping[str, Folder], index: int
) -> Iterator[list[tuple[Triplet, Mapping[str, Candidate]]]]:
    """Each triplet with every system's output, shard by shard."""
    manifest, of = read_manifest(triplets), {name: read_manifest(folder) for name, folder in systems.items()}
    for name, candidates in of.items():
        if candidates.plan.inputs.get("triplets") != fingerprint(triplets):
            raise ValueError(f"the candidates of {name} in {systems[name]} were not made from the triplets {triplets}")
    for number in range(len(manifest.shards)):
        outputs = {
            name: {
                candidate.triplet_id: candidate
                for candidate in read_shard(folder, Candidate, of[name], number)
                if candidate.index == index
            }
            for name, folder in systems.items()
        }
        yield [
            (triplet, {name: _output(name, candidates, triplet, index) for name, candidates in outputs.items()})
            for triplet in read_shard(triplets, Triplet, manifest, number)
        ]


def _output(system: str, candidates: Mapping[str, Candidate], triplet: Triplet, index: int) -> Candidate:
    if triplet.id not in candidates:
        raise ValueError(f"{system} has no candidate of index {index} for {triplet.id}: choose an --index it has")
    return candidates[triplet.id]


def _settings_of(candidate: Candidate) -> str:
    """But for the seed, which differs by design."""
    settings = json.loads(candidate.settings)
    return json.dumps({name: value for name, value in settings.items() if name != "seed"}, sort_keys=True)


def _add(
    connection: sa.Connection, pictures: Pictures, triplet: Triplet, outputs: Mapping[str, bytes], practice: bool
) -> None:
    """An item with its outputs and the attention check's, all of one size in pixels and in bytes."""
    refuse_long(STUDY_ITEMS.c.triplet_id, triplet.id)
    item = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(STUDY_ITEMS.c.id), 0))).scalar_one()) + 1
    source = pictures.write(triplet.image)
    size = source.width, source.height
    mask = pictures.write(triplet.mask, size)
    images = [*outputs.items(), (None, _hole_of(triplet))]
    python_generator(item, "outputs").shuffle(images)  # rows lie in no system's order
    shown = _level(pictures, [pictures.write(image, size) for _, image in images])
    pictures.enter(connection, item, [source, mask, *shown])
    row = {"id": item, "triplet_id": triplet.id, "task": triplet.task.value, "prompt": triplet.prompt}
    connection.execute(STUDY_ITEMS.insert(), row | {"source": source.id, "mask": mask.id, "practice": practice})
    systems = [system for system, _ in images]
    rows = [{"picture": one.id, "item": item, "system": name} for one, name in zip(shown, systems, strict=True)]
    connection.execute(STUDY_OUTPUTS.insert(), rows)


def _hole_of(triplet: Triplet) -> bytes:
    """The source with what was to change left grey."""
    source = decode_image(triplet.image, triplet.id)
    mask = decode_mask(triplet.mask, triplet.id).resize(source.size)
    return encode_png(Image.composite(Image.new("RGB", source.size, _GREY), source, mask))


def _level(pictures: Pictures, written: Sequence[Picture]) -> list[Picture]:
    """Give pictures' files one length, since it can be told before they are seen, and decides how soon they are."""
    files = {picture: pictures.path(picture.id).read_bytes() for picture in written}
    longest = max(map(len, files.values()))
    levelled = []
    for picture, data in files.items():
        path, padded = pictures.path(picture.id), padded_png(data, longest - len(data))
        write_atomically(path, padded)
        os.utime(path, (0, 0))
        levelled.append(replace(picture, content=sha256(padded).hexdigest()))
    return levelled


def padded_png(data: bytes, more: int) -> bytes:
    """A PNG file with `more` zeros in a chunk of its own, which decoders leave alone, before its last chunk."""
    body = b"paDd" + bytes(more)
    chunk = struct.pack(">I", more) + body + struct.pack(">I", zlib.crc32(body))
    return data[:-12] + chunk + data[-12:]


def _design(connection: sa.Connection, config: StudyConfig) -> list[Block]:
    """Blocks of ratings and of comparisons, in turns."""
    ids = connection.execute(sa.select(STUDY_ITEMS.c.id).where(~STUDY_ITEMS.c.practice).order_by(STUDY_ITEMS.c.id))
    items = [str(item) for item in ids.scalars()]
    size = {"answers": config.answers, "items_a_block": config.items_a_block, "seed": config.seed}
    rated = design_ratings(items, config.systems, **size) if config.rates else ()
    compared = design_comparisons(items, config.comparisons, **size) if config.comparisons else ()
    return [block for pair in zip_longest(rated, compared) for block in pair if block is not None]
