"""The votes of a database: answers are appended, each with the client's uuid so that a retry is no second vote."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.tables import PEOPLE, VOTES
from onereward.terms import Dimension, Task, Vote, VoterKind


@dataclass(frozen=True, kw_only=True)
class CastVote:
    """A vote as it was given: by which client request (`uuid`), on which candidates (their folder's fingerprint)."""

    uuid: str
    candidates: str
    task: Task
    vote: Vote


class VoteDatabase(Database):
    """Appends and reads votes."""

    def add(self, answers: Sequence[CastVote]) -> int:
        """Append what is new, all in one transaction, and return how many were; an answer known by its uuid is no news.

        Raises ValueError, and appends nothing, if a known uuid comes with another content.
        """
        query = sa.select(VOTES).where(VOTES.c.uuid.in_([answer.uuid for answer in answers]))
        with self.writing() as connection:
            kept = {row.uuid: _answer_of(row) for row in connection.execute(query)}
            for answer in answers:
                if kept.get(answer.uuid, answer) != answer:
                    raise ValueError(
                        f"answer {answer.uuid} was given before as {kept[answer.uuid].vote}, now as {answer.vote}: "
                        "a correction needs a uuid of its own"
                    )
            new = [answer for answer in answers if answer.uuid not in kept]
            if new:
                connection.execute(VOTES.insert(), [_row_of(answer) for answer in new])
        return len(new)

    def answers(self, candidates: str) -> list[CastVote]:
        """The answers that count on the candidates of that fingerprint, in the order in which they were given."""
        dropped = sa.select(PEOPLE.c.id).where(PEOPLE.c.dropped)
        query = (
            sa.select(VOTES)
            .where(VOTES.c.candidates == candidates, VOTES.c.purpose == "work", VOTES.c.voter.not_in(dropped))
            .order_by(VOTES.c.sequence)
        )
        with self.reading() as connection:
            return [_answer_of(row) for row in connection.execute(query)]


def _row_of(answer: CastVote) -> dict[str, object]:
    vote = answer.vote
    return {
        "uuid": answer.uuid,
        "candidates": answer.candidates,
        "task": answer.task.value,
        "triplet_id": vote.triplet_id,
        "dimension": vote.dimension.value,
        "best": vote.best,
        "worst": vote.worst,
        "voter": vote.voter,
        "kind": vote.kind.value,
        "weight": vote.weight,
    }


def _answer_of(row: "sa.Row[tuple[object, ...]]") -> CastVote:
    return CastVote(
        uuid=row.uuid,
        candidates=row.candidates,
        task=Task(row.task),
        vote=Vote(
            triplet_id=row.triplet_id,
            dimension=Dimension(row.dimension),
            best=row.best,
            worst=row.worst,
            voter=row.voter,
            kind=VoterKind(row.kind),
            weight=row.weight,
        ),
    )
