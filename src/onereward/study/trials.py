"""What a participant is shown: pages of practice or of a block as trials, each with its pictures in the order drawn."""

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from onereward.people.persons import new_id
from onereward.people.tables import STUDY_ITEMS, STUDY_OUTPUTS, STUDY_TRIALS
from onereward.seeds import python_generator
from onereward.study.project import StudyConfig

PRACTICE, WORK, CHECK = "practice", "work", "check"

_Pictures = Mapping[tuple[int, str | None], str]


def practice_of(connection: sa.Connection, config: StudyConfig, person: str) -> "list[dict[str, object]]":
    """A trial for each item that is for practice, of any system."""
    items = connection.execute(sa.select(STUDY_ITEMS.c.id).where(STUDY_ITEMS.c.practice).order_by(STUDY_ITEMS.c.id))
    pictures, trials = _pictures(connection), []
    for number, item in enumerate(items.scalars().all()):
        draw = python_generator(config.seed, person, item, "practice")
        compares = config.comparisons and (not config.rates or number % 2)
        systems = list(draw.choice(config.comparisons)) if compares else [draw.choice(config.systems)]
        draw.shuffle(systems)
        shown = [pictures[item, system] for system in systems]
        trials.append(_new_trial(PRACTICE, item, shown))
    return trials


def trials_of(
    connection: sa.Connection, config: StudyConfig, person: str, pages: Sequence[Sequence[int | str]]
) -> "list[dict[str, object]]":
    """The pages of a block in its order, with attention checks somewhere among them."""
    pictures = _pictures(connection)
    trials = [
        _new_trial(WORK, int(item), [pictures[int(item), str(system)] for system in systems])
        for item, *systems in pages
    ]
    if not config.check_every:
        return trials
    draw = python_generator(config.seed, person, "checks")
    ends = range(len(trials) // config.check_every * config.check_every, 0, -config.check_every)
    checks = _checks(connection, pictures, config, person, len(ends), {int(page[0]) for page in pages})
    for end, check in zip(ends, checks, strict=True):
        trials.insert(end - draw.randrange(config.check_every), check)
    return trials


def _checks(
    connection: sa.Connection, pictures: _Pictures, config: StudyConfig, person: str, count: int, own: set[int]
) -> "list[dict[str, object]]":
    """Attention checks: a hole that was left grey, and, where outputs are rated, an answer asked for in words.

    They are about items that the person has nothing else of, as far as there are.
    """
    draw = python_generator(config.seed, person, "checks")
    items = list(connection.execute(sa.select(STUDY_ITEMS.c.id).where(~STUDY_ITEMS.c.practice)).scalars())
    draw.shuffle(items)
    items.sort(key=lambda item: item in own)
    checks = []
    for number in range(count):
        item = items[number % len(items)]
        output = pictures[item, draw.choice(config.systems)]
        if config.rates and number % 2:
            checks.append(_new_trial(CHECK, item, [output], asked=draw.choice((2, 4))))
            continue
        shown = [pictures[item, None]] + ([] if config.rates else [output])
        draw.shuffle(shown)
        checks.append(_new_trial(CHECK, item, shown))
    return checks


def _new_trial(purpose: str, item: int, shown: Sequence[str], asked: int | None = None) -> "dict[str, object]":
    return {"id": new_id(), "purpose": purpose, "item": item, "shown": json.dumps(list(shown)), "asked": asked}


def keep_trials(connection: sa.Connection, person: str, trials: "Sequence[dict[str, object]]") -> "list[list[object]]":
    """Store what somebody is shown next, and return it for the log: id, purpose, item, pictures, what is asked."""
    start = connection.execute(sa.select(sa.func.count()).where(STUDY_TRIALS.c.person == person)).scalar_one()
    rows = [{**trial, "person": person, "position": start + number} for number, trial in enumerate(trials)]
    if rows:
        connection.execute(STUDY_TRIALS.insert(), rows)
    return [list(trial.values()) for trial in trials]


def _pictures(connection: sa.Connection) -> _Pictures:
    """By item and system; by None for the hole."""
    return {(row.item, row.system): row.picture for row in connection.execute(sa.select(STUDY_OUTPUTS))}
