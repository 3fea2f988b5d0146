"""What is kept of people's answers: rows that are never changed, the last of which is what somebody says now."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from onereward.people.tables import VOTES
from onereward.terms import Dimension, Task, VoterKind, dimensions_of


class ConflictError(ValueError):
    """The request does not fit what was said before."""


class Reason(StrEnum):
    """Why a dimension was skipped."""

    ALIKE = "alike"
    ALL_BAD = "all_bad"
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A person's answer in one dimension, by candidate index; a skip has neither best nor worst, and a reason."""

    dimension: Dimension
    best: int | None
    worst: int | None
    reason: Reason | None = None

    @property
    def is_skip(self) -> bool:
        return self.best is None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a person sends for an assignment; `seconds` is how long they looked at it, by their own clock."""

    uuid: UUID
    assignment: str
    seconds: float
    choices: tuple[Choice, ...]


def check(submission: Submission, task: Task, prompt: str, shown: Sequence[int]) -> None:
    """Raise ConflictError unless there is one choice or skip in each dimension, of the candidates that were shown."""
    wanted = sorted(dimensions_of(task, prompt))
    if sorted(choice.dimension for choice in submission.choices) != wanted:
        raise ConflictError(f"expected one choice or skip in each of {', '.join(wanted)}")
    for choice in submission.choices:
        pair = choice.best, choice.worst
        chosen = choice.best in shown and choice.worst in shown and choice.best != choice.worst
        if not (chosen and choice.reason is None) and not (pair == (None, None) and choice.reason is not None):
            raise ConflictError(
                f"{choice.dimension}: expected two different candidates as best and worst, or a skip with a reason"
            )


def keep(
    connection: sa.Connection, submission: Submission, claim: "sa.Row[Any]", purpose: str
) -> list[dict[str, object]]:
    """Append an answer and return its rows; `claim` says whose it is and on what, `purpose` what it counts as."""
    same = {
        "candidates": claim.candidates,
        "task": claim.task,
        "triplet_id": claim.triplet_id,
        "voter": claim.person,
        "kind": VoterKind.PERSON.value,
        "weight": 1.0,
        "purpose": purpose,
        "claim": claim.id,
        "submission": str(submission.uuid),
        "seconds": submission.seconds,
    }
    rows = [{**same, **_said(choice, submission.uuid)} for choice in in_order(submission.choices)]
    connection.execute(VOTES.insert(), rows)
    return rows


def kept(connection: sa.Connection, submission: UUID, claim: str) -> tuple[Choice, ...]:
    """What was answered under that uuid, nothing if it is new; ConflictError if it was about another assignment."""
    rows = connection.execute(sa.select(VOTES).where(VOTES.c.submission == str(submission))).all()
    if any(row.claim != claim for row in rows):
        raise ConflictError("an answer of this uuid was given before to another item")
    return in_order(_choice(row) for row in rows)


def last_answers(connection: sa.Connection, claims: Sequence[str]) -> dict[str, tuple[Choice, ...]]:
    """What was answered last to each of these assignments, if anything was."""
    last: dict[str, dict[str, Choice]] = defaultdict(dict)
    for row in connection.execute(sa.select(VOTES).where(VOTES.c.claim.in_(claims)).order_by(VOTES.c.sequence)):
        last[row.claim][row.dimension] = _choice(row)
    return {claim: in_order(choices.values()) for claim, choices in last.items()}


def differ(answers: Iterable[Sequence[Choice]]) -> bool:
    """Whether there is a dimension in which no choice of the best, nor a skip, has more than half of the votes."""
    bests: dict[Dimension, Counter[int | None]] = {}
    for choice in (choice for choices in answers for choice in choices):
        bests.setdefault(choice.dimension, Counter())[choice.best] += 1
    return any(2 * max(counts.values()) <= counts.total() for counts in bests.values())


def in_order(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """By dimension, so that equal answers are equal."""
    return tuple(sorted(choices, key=lambda choice: choice.dimension))


def _said(choice: Choice, submission: UUID) -> dict[str, object]:
    return {
        "uuid": str(uuid5(submission, choice.dimension)),
        "dimension": choice.dimension.value,
        "best": choice.best,
        "worst": choice.worst,
        "reason": choice.reason and choice.reason.value,
    }


def _choice(row: "sa.Row[Any]") -> Choice:
    return Choice(
        dimension=Dimension(row.dimension),
        best=row.best,
        worst=row.worst,
        reason=None if row.reason is None else Reason(row.reason),
    )
