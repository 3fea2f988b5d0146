"""The end of a study: it is closed, and only then tells anybody what was answered."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from onereward.people.audit import events_of
from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.persons import Clock, Role
from onereward.people.settings import keep_setting, setting
from onereward.people.tables import (
    PEOPLE,
    STUDY_ANSWERS,
    STUDY_BLOCKS,
    STUDY_ITEMS,
    STUDY_OUTPUTS,
    STUDY_PARTICIPANTS,
    STUDY_TRIALS,
)
from onereward.study.analysis import BETTER, Analysis, analyse
from onereward.study.audit import audit
from onereward.study.criteria import Criterion, Kind, subtask_of
from onereward.study.plan import Components, components_of
from onereward.study.project import CLOSED_AT, study_of
from onereward.study.ratings import AttentionCheck, Collected, Comparison, Rating
from onereward.study.trials import CHECK, WORK
from onereward.terms import Task

_YES_FROM = 3  # an attention check that asks for more than this on a scale asks for yes


class OpenStudyError(ValueError):
    """There are no results yet."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """A study in counts, which say nothing of any system."""

    closed: bool
    items: int
    blocks: int
    claimed: int
    finished: int
    participants: int
    consented: int
    withdrawn: int
    answers: int  # pages answered, of those that count
    wanted: int


@dataclass(frozen=True, kw_only=True)
class _Page:
    """An answered page of a block; a system is None for a hole that was left grey."""

    person: str
    item: int
    task: Task
    prompt: str
    systems: tuple[str | None, ...]
    values: Mapping[str, int]
    seconds: float
    block: int
    position: int
    asked: int | None


def status_of(database: Database) -> Status:
    """How far the study is; ValueError if there is none."""
    with database.reading() as connection:
        return _status(connection)


def _status(connection: sa.Connection) -> Status:
    study_of(connection)
    people = sa.select(PEOPLE.c.id).where(PEOPLE.c.role == Role.PARTICIPANT.value)
    dropped = sa.select(PEOPLE.c.id).where(PEOPLE.c.dropped)
    work = [STUDY_TRIALS.c.purpose == WORK, STUDY_TRIALS.c.person.not_in(dropped)]
    free = connection.execute(sa.select(STUDY_BLOCKS.c.pages).where(STUDY_BLOCKS.c.person.is_(None))).scalars()
    answered = _count(connection, *work, STUDY_TRIALS.c.answered_at.is_not(None))
    at_work = sa.select(PEOPLE.c.id).where(PEOPLE.c.withdrawn_at.is_(None))
    held = [*work, STUDY_TRIALS.c.answered_at.is_(None), STUDY_TRIALS.c.person.in_(at_work)]
    return Status(
        closed=setting(connection, CLOSED_AT) is not None,
        items=_count(connection, ~STUDY_ITEMS.c.practice),
        blocks=_count(connection, STUDY_BLOCKS.c.id.is_not(None)),
        claimed=_count(connection, STUDY_BLOCKS.c.person.is_not(None)),
        finished=_count(connection, STUDY_BLOCKS.c.finished_at.is_not(None)),
        participants=_count(connection, PEOPLE.c.id.in_(people)),
        consented=_count(connection, STUDY_PARTICIPANTS.c.person.is_not(None)),
        withdrawn=_count(connection, PEOPLE.c.id.in_(people), PEOPLE.c.withdrawn_at.is_not(None)),
        answers=answered,
        wanted=answered + _count(connection, *held) + sum(len(json.loads(pages)) for pages in free),
    )


def close(database: Database, clock: Clock, *, anyway: bool = False) -> None:
    """Take no more answers, for good; from then on there are results.

    Raises ValueError while pages are not answered, unless it is to be closed `anyway`.
    """
    with database.writing() as connection:
        status = _status(connection)
        if status.closed:
            return
        if status.answers < status.wanted and not anyway:
            raise ValueError(
                f"{status.answers} of {status.wanted} pages are answered: wait, or close it --anyway; a closed study "
                "cannot be opened again"
            )
        at = clock()
        keep_setting(connection, CLOSED_AT, at)
        append(connection, "close", None, at, answers=status.answers, wanted=status.wanted)


def results_of(database: Database) -> Analysis:
    """The analysis that was planned, of a closed study whose log of events holds.

    Raises OpenStudyError before it is closed; ValueError where anything was altered, and without answers.
    """
    with database.reading() as connection:
        _require_closed(connection)
        audit(connection)
        plan, collected = study_of(connection).plan, collected_of(connection)
    return analyse(collected, plan)


def pilot_of(database: Database) -> list[tuple[str, Components]]:
    """What made the answers of a closed study differ, by cell: the main system's ratings, or its comparisons.

    A cell with answers of one participant, or about one item, is left out: nothing can be said of it.
    """
    with database.reading() as connection:
        _require_closed(connection)
        audit(connection)
        main, collected = study_of(connection).plan.main, collected_of(connection)
    cells: dict[str, list[tuple[float, str, str]]] = {}
    for rating in collected.ratings:
        if rating.system == main:
            name = f"{rating.subtask.group}, {rating.criterion.question.title.lower()}"
            cells.setdefault(name, []).append((rating.value, rating.participant, rating.item))
    for pair in collected.comparisons:
        sign = {pair.left: 1, pair.right: -1}.get(main)
        if sign is not None:
            name = f"{pair.subtask.group}, {BETTER}"
            cells.setdefault(name, []).append((sign * pair.value, pair.participant, pair.item))
    columns = {name: list(map(list, zip(*rows, strict=True))) for name, rows in cells.items()}
    return [
        (name, components_of(*found)) for name, found in columns.items() if all(len(set(ids)) > 1 for ids in found[1:])
    ]


def _require_closed(connection: sa.Connection) -> None:
    study_of(connection)
    if setting(connection, CLOSED_AT) is None:
        raise OpenStudyError("there are no results until the study is closed: `onereward study close` does that")


def collected_of(connection: sa.Connection) -> Collected:
    """All answers that count."""
    pages = _pages(connection)
    ratings, comparisons, checks = [], [], []
    for page in pages:
        if None in page.systems or page.asked is not None:
            checks.append(AttentionCheck(participant=page.person, passed=_passed(page)))
        elif len(page.systems) == 1:
            ratings += [_rating(page, Criterion(name), value) for name, value in page.values.items()]
        else:
            comparisons.append(_comparison(page))
    return Collected(
        ratings=tuple(ratings),
        comparisons=tuple(comparisons),
        checks=tuple(checks),
        assigned=_assigned(connection),
        dropped=_dropped(connection),
    )


def _pages(connection: sa.Connection) -> list[_Page]:
    """The answered pages of blocks, and attention checks, of everybody who is not dropped."""
    systems = dict(connection.execute(sa.select(STUDY_OUTPUTS.c.picture, STUDY_OUTPUTS.c.system)).all())
    answers = _answers(connection)
    query = (
        sa.select(STUDY_TRIALS, STUDY_ITEMS.c.task, STUDY_ITEMS.c.prompt, STUDY_BLOCKS.c.id.label("block"))
        .join(STUDY_ITEMS, STUDY_ITEMS.c.id == STUDY_TRIALS.c.item)
        .join(STUDY_BLOCKS, STUDY_BLOCKS.c.person == STUDY_TRIALS.c.person)
        .join(PEOPLE, PEOPLE.c.id == STUDY_TRIALS.c.person)
        .where(STUDY_TRIALS.c.purpose.in_((WORK, CHECK)), STUDY_TRIALS.c.answered_at.is_not(None), ~PEOPLE.c.dropped)
        .order_by(STUDY_BLOCKS.c.id, STUDY_TRIALS.c.position)
    )
    pages = []
    for row in connection.execute(query):
        values, seconds = answers[row.id]
        pages.append(
            _Page(
                person=row.person,
                item=row.item,
                task=Task(row.task),
                prompt=row.prompt,
                systems=tuple(systems[picture] for picture in json.loads(row.shown)),
                values=values,
                seconds=seconds,
                block=row.block,
                position=row.position,
                asked=row.asked,
            )
        )
    return pages


def _answers(connection: sa.Connection) -> dict[str, tuple[dict[str, int], float]]:
    """trial -> (criterion -> value, seconds)."""
    found: dict[str, tuple[dict[str, int], float]] = {}
    for row in connection.execute(sa.select(STUDY_ANSWERS).order_by(STUDY_ANSWERS.c.sequence)):
        found.setdefault(row.trial, ({}, row.seconds))[0][row.criterion] = row.value
    return found


def _assigned(connection: sa.Connection) -> dict[str, int]:
    """How many pages each participant who is not dropped has, by the order of blocks.

    What somebody who left before the end did not answer is not theirs any more: it was given to another.
    """
    query = (
        sa.select(STUDY_TRIALS.c.person, sa.func.count())
        .join(STUDY_BLOCKS, STUDY_BLOCKS.c.person == STUDY_TRIALS.c.person)
        .join(PEOPLE, PEOPLE.c.id == STUDY_TRIALS.c.person)
        .where(STUDY_TRIALS.c.purpose == WORK, ~PEOPLE.c.dropped)
        .where(sa.or_(STUDY_TRIALS.c.answered_at.is_not(None), STUDY_TRIALS.c.person.not_in(_left_in_time(connection))))
        .group_by(STUDY_TRIALS.c.person, STUDY_BLOCKS.c.id)
        .order_by(STUDY_BLOCKS.c.id)
    )
    return dict(connection.execute(query).all())


def _left_in_time(connection: sa.Connection) -> set[str]:
    """Who left while there was still somebody to give their pages to: what comes after the end changes no result."""
    end = _end(connection)
    return {str(event.person) for event in events_of(connection, "withdrawal") if event.sequence < end}


def _end(connection: sa.Connection) -> float:
    """Which event closed the study, by its place in the log; infinity before that. Clocks can be set, and differ."""
    return next((event.sequence for event in events_of(connection, "close")), math.inf)


def _dropped(connection: sa.Connection) -> dict[str, str]:
    """Why answers of somebody who began a block are not counted."""
    end = _end(connection)
    query = sa.select(PEOPLE.c.id).join(STUDY_BLOCKS, STUDY_BLOCKS.c.person == PEOPLE.c.id).where(PEOPLE.c.dropped)
    held = set(connection.execute(query).scalars())
    why: dict[str, str] = {}
    for event in events_of(connection, "withdrawal"):
        if event.body["drop"] and event.person in held:
            late = ", after the study was closed" if event.sequence > end else ""
            why.setdefault(str(event.person), f"left, and asked that no answer is used{late}")
    return why


def _rating(page: _Page, criterion: Criterion, value: int) -> Rating:
    [system] = page.systems
    return Rating(
        participant=page.person,
        item=str(page.item),
        system=str(system),
        subtask=subtask_of(page.task, page.prompt),
        criterion=criterion,
        value=value,
        seconds=page.seconds,
        block=page.block,
        position=page.position,
    )


def _comparison(page: _Page) -> Comparison:
    left, right = page.systems
    return Comparison(
        participant=page.person,
        item=str(page.item),
        left=str(left),
        right=str(right),
        subtask=subtask_of(page.task, page.prompt),
        value=page.values[BETTER],
        seconds=page.seconds,
        block=page.block,
        position=page.position,
    )


def _passed(page: _Page) -> bool:
    """Whether what was asked for in words was chosen, or the hole found unacceptable or worse."""
    if len(page.systems) == 2:
        return page.values[BETTER] == (-1 if page.systems[0] is None else 1)
    if page.asked is None:
        return page.values[Criterion.USABILITY] == 0
    wanted = {Kind.GRADED: page.asked, Kind.BINARY: int(page.asked > _YES_FROM)}
    return all(value == wanted[Criterion(name).question.kind] for name, value in page.values.items())


def _count(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())
