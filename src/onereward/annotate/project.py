"""A project: triplets with their candidates as items that people vote on, and how often each is wanted."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf

import sqlalchemy as sa

from onereward.annotate.pairing import Pairing
from onereward.people.audit import events_of
from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock
from onereward.people.pictures import Picture, Pictures
from onereward.people.settings import keep_setting, setting
from onereward.people.tables import ITEMS, PICTURES, SLOTS, refuse_long
from onereward.terms import Candidate, Dimension, Triplet, Vote, dimensions_of

_PROJECT, _PAUSED = "annotate", "paused"

_MOST_ANNOTATORS = 1000  # of an item

Gold = Mapping[Dimension, tuple[int | None, int | None]]
"""Known best and worst of an item by dimension, None twice where all are alike."""


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """What an item and a person get; times in seconds."""

    annotators: int = 3  # different people an item
    extra: int = 1  # further ones where those do not agree
    gold: float = 0.05  # share of a person's items whose answers are known
    repeats: float = 0.05  # share that a person sees a second time
    repeat_after: int = 10  # other items in between, at least
    minimum_seconds: float = 2.0
    lease_seconds: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("annotators", "lease_seconds", "repeat_after"):
            if not getattr(self, name) >= 1:  # nor no number
                raise ValueError(f"got {_flag(name)} {getattr(self, name)}, expected 1 or more")
        if not (self.extra >= 0 and self.minimum_seconds >= 0):
            raise ValueError(f"got --extra {self.extra}, --minimum-seconds {self.minimum_seconds}, expected 0 or more")
        if not (self.gold >= 0 and self.repeats >= 0 and self.gold + self.repeats < 1):
            raise ValueError(
                f"got --gold {self.gold}, --repeats {self.repeats}, expected shares of 0 or more with a sum below 1"
            )
        if self.annotators + self.extra > _MOST_ANNOTATORS:
            raise ValueError(
                f"got --annotators {self.annotators} --extra {self.extra}, expected {_MOST_ANNOTATORS} at most"
            )
        if not self.minimum_seconds < self.lease_seconds < inf:
            raise ValueError(
                f"got --minimum-seconds {self.minimum_seconds}, --lease-seconds {self.lease_seconds}, expected a lease "
                "that lasts longer than it takes until an item can be answered"
            )


@dataclass(frozen=True, kw_only=True)
class Project:
    """What a database was set up for."""

    config: ProjectConfig
    fingerprints: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A triplet with its candidates, whose pictures are written already; `options` by candidate index."""

    triplet: Triplet
    source: Picture
    mask: Picture
    options: Mapping[int, Picture]
    gold: Gold | None

    @property
    def pictures(self) -> list[Picture]:
        return [self.source, self.mask, *self.options.values()]


def import_items(
    database: Database,
    pictures: Pictures,
    pairing: Pairing,
    config: ProjectConfig,
    clock: Clock,
    gold: Mapping[str, Gold] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Set the project up and return how many items were new; run again it goes on where it was stopped.

    `gold` has known answers by triplet id; such an item is no work, everybody may be asked about it. Raises ValueError
    for another project or a study in the database, for gold of an item that was imported without it or with another
    (it may have been answered since), and for gold of a triplet that there is not.
    """
    gold = gold or {}
    with database.writing() as connection:
        _begin(connection, Project(config=config, fingerprints=pairing.fingerprints), clock())
        _refuse_new_gold(connection, pairing.fingerprints["candidates"], gold)
    added, seen = 0, set()
    for index in range(len(pairing)):
        shard = pairing.shard(index)
        seen |= {triplet.id for triplet, _ in shard}
        with database.reading() as connection:
            new = _without(connection, pairing.fingerprints["candidates"], shard)
        # Pictures take long: they are written before the transaction, while people go on answering.
        with pictures.whole_or_none():
            items = [_written(pictures, triplet, candidates, gold.get(triplet.id)) for triplet, candidates in new]
        with database.writing() as connection:
            left = {triplet.id for triplet, _ in _without(connection, pairing.fingerprints["candidates"], new)}
            if len(left) < len(new):  # another import has had the same idea
                _refuse_new_gold(connection, pairing.fingerprints["candidates"], gold)
            mine = [item for item in items if item.triplet.id in left]
            numbers = [_add(connection, pictures, pairing.fingerprints["candidates"], config, item) for item in mine]
            if numbers:
                append(connection, "items", None, clock(), items=contents_of(connection, since=numbers[0]))
        pictures.remove(picture.id for item in items if item.triplet.id not in left for picture in item.pictures)
        added += len(mine)
        progress(1)
    if missing := sorted(set(gold) - seen):
        raise ValueError(f"gold answers for {', '.join(missing[:5])}, but there is no such triplet")
    return added


def project_of(connection: sa.Connection) -> Project:
    """The project; ValueError if nothing was imported, and for a study."""
    kept = setting(connection, _PROJECT)
    if kept is None:
        refuse_study(connection)
        raise ValueError("nothing to annotate in this database: run `onereward annotate import` first")
    return Project(config=ProjectConfig(**kept["config"]), fingerprints=kept["fingerprints"])


def contents_of(connection: sa.Connection, since: int = 0) -> dict[str, str]:
    """SHA-256 of each item from that id on, as it was imported, with its pictures (their own SHA-256); by id."""
    pictures: dict[int, list[list[object]]] = {}
    for picture in connection.execute(sa.select(PICTURES).where(PICTURES.c.item >= since)):
        pictures.setdefault(picture.item, []).append(list(picture))
    columns = [column for column in ITEMS.c if column is not ITEMS.c.open]
    rows = connection.execute(sa.select(*columns).where(ITEMS.c.id >= since))
    lines = {row.id: json.dumps([list(row), sorted(pictures.get(row.id, []))]) for row in rows}
    return {str(item): hashlib.sha256(line.encode()).hexdigest() for item, line in lines.items()}


def refuse_study(connection: sa.Connection) -> None:
    """Raise ValueError if the database is a user study's."""
    if setting(connection, _PROJECT) is None and connection.execute(sa.select(PICTURES.c.id).limit(1)).first():
        raise ValueError("the database holds a user study: name another --database, or use `onereward study`")


def audit_settings(connection: sa.Connection) -> None:
    """Raise ValueError unless the project is the one that the chain of events tells of."""
    told = [event.body for event in events_of(connection, "project")]
    if setting(connection, _PROJECT) != (told[-1] if told else None):
        raise ValueError("the project's settings are not what the log of events has")


def is_paused(connection: sa.Connection) -> bool:
    """Whether nothing is given out at present; what was given out may still be answered."""
    return bool(setting(connection, _PAUSED, False))


def pause(database: Database, paused: bool, clock: Clock) -> None:
    """Stop giving items out, or go on."""
    with database.writing() as connection:
        keep_setting(connection, _PAUSED, paused)
        append(connection, "pause", None, clock(), paused=paused)


def gold_of(votes: Iterable[Vote]) -> dict[str, Gold]:
    """Known answers by triplet, from votes that are trusted."""
    found: dict[str, dict[Dimension, tuple[int | None, int | None]]] = {}
    for vote in votes:
        found.setdefault(vote.triplet_id, {})[vote.dimension] = vote.best, vote.worst
    return dict(found)


def _flag(name: str) -> str:
    """A setting as the command line has it."""
    return "--" + name.replace("_", "-")


def _begin(connection: sa.Connection, project: Project, at: float) -> None:
    kept = setting(connection, _PROJECT)
    wanted = {"config": asdict(project.config), "fingerprints": dict(project.fingerprints)}
    if kept is None:
        refuse_study(connection)
        keep_setting(connection, _PROJECT, wanted)
        append(connection, "project", None, at, **wanted)
    elif kept != wanted:
        was = ProjectConfig(**kept["config"])
        pairs = [(each.name, getattr(was, each.name), getattr(project.config, each.name)) for each in fields(was)]
        changed = [f"{_flag(name)} {old}, not {new}" for name, old, new in pairs if old != new]
        prints = wanted["fingerprints"].items()
        changed += [f"other {role}" for role, value in prints if kept["fingerprints"].get(role) != value]
        raise ValueError(
            f"the project in the database was made with {'; '.join(changed)}: name another --database, or repeat the "
            "settings and folders that it was made with"
        )


def _refuse_new_gold(connection: sa.Connection, candidates: str, gold: Mapping[str, Gold]) -> None:
    query = sa.select(ITEMS.c.triplet_id, ITEMS.c.gold).where(ITEMS.c.candidates == candidates)
    known = {row.triplet_id: json.loads(row.gold or "null") for row in connection.execute(query)}
    wanted = json.loads(json.dumps(gold))  # as it is kept
    if new := sorted(triplet for triplet in wanted.keys() & known.keys() if known[triplet] != wanted[triplet]):
        raise ValueError(
            f"other gold answers for {', '.join(new[:5])} than at the first import, since which people may have voted: "
            "import into another --database"
        )


def _without(
    connection: sa.Connection, candidates: str, shard: Sequence[tuple[Triplet, list[Candidate]]]
) -> list[tuple[Triplet, list[Candidate]]]:
    """What is not in the database yet."""
    ids = [triplet.id for triplet, _ in shard]
    query = sa.select(ITEMS.c.triplet_id).where(ITEMS.c.candidates == candidates, ITEMS.c.triplet_id.in_(ids))
    known = set(connection.execute(query).scalars())
    return [pair for pair in shard if pair[0].id not in known]


def _written(pictures: Pictures, triplet: Triplet, candidates: Sequence[Candidate], gold: Gold | None) -> _Item:
    refuse_long(ITEMS.c.triplet_id, triplet.id)
    if gold is not None:
        _check_gold(triplet, candidates, gold)
    source = pictures.write(triplet.image)
    size = source.width, source.height
    return _Item(
        triplet=triplet,
        source=source,
        mask=pictures.write(triplet.mask, size),
        options={each.index: pictures.write(each.image, size) for each in candidates},
        gold=gold,
    )


def _add(connection: sa.Connection, pictures: Pictures, candidates: str, config: ProjectConfig, item: _Item) -> int:
    number = (connection.execute(sa.select(sa.func.max(ITEMS.c.id))).scalar() or 0) + 1
    pictures.enter(connection, number, item.pictures)
    row = {
        "id": number,
        "candidates": candidates,
        "triplet_id": item.triplet.id,
        "task": item.triplet.task.value,
        "prompt": item.triplet.prompt,
        "source": item.source.id,
        "mask": item.mask.id,
        "options": json.dumps([(index, picture.id) for index, picture in item.options.items()]),
        "gold": None if item.gold is None else json.dumps(item.gold),
        "open": item.gold is None,
    }
    connection.execute(ITEMS.insert(), row)
    if item.gold is None:
        slots = [{"item": number, "replicate": each, "purpose": "work"} for each in range(config.annotators)]
        connection.execute(SLOTS.insert(), slots)
    return number


def _check_gold(triplet: Triplet, candidates: Sequence[Candidate], gold: Gold) -> None:
    indices = {candidate.index for candidate in candidates}
    dimensions = dimensions_of(triplet.task, triplet.prompt)
    for dimension, (best, worst) in gold.items():
        fits = (best is None and worst is None) or (best in indices and worst in indices and best != worst)
        if dimension not in dimensions or not fits:
            raise ValueError(
                f"{triplet.id}: got gold {dimension} best {best}, worst {worst}; expected two different candidates of "
                f"{sorted(indices)} in one of {', '.join(dimensions)}"
            )
