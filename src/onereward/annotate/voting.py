"""Votes of a program (an oracle, a model) into the database."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import NAMESPACE_URL, uuid5

from onereward.annotate.database import CastVote, VoteDatabase
from onereward.annotate.pairing import Pairing
from onereward.terms import DIMENSIONS, Candidate, Dimension, Task, Triplet, Vote, VoterKind, dimensions_of


class Voter(Protocol):
    """A program that answers at once: one vote a dimension on a triplet's candidates, a skip where all are alike.

    `revision` changes whenever the same candidates would get other votes: then they are asked about again.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def kind(self) -> VoterKind: ...

    def vote(self, triplet: Triplet, candidates: Sequence[Candidate]) -> list[Vote]: ...


@dataclass(frozen=True, kw_only=True)
class SkipShare:
    """How many of a cell's votes are skips."""

    task: Task
    dimension: Dimension
    votes: int
    skips: int

    @property
    def share(self) -> float:
        return self.skips / self.votes


def collect_votes(
    database: VoteDatabase, pairing: Pairing, voter: Voter, progress: Callable[[int], None] | None = None
) -> int:
    """Ask `voter` about every triplet it has not voted on yet, and return how many votes were added.

    A vote's uuid follows from candidates, voter, its revision, triplet and dimension: asking again adds nothing.
    `progress` is told how many more shards are done. Raises ValueError for a vote that does not fit its triplet.
    """
    candidates_id = pairing.fingerprints["candidates"]
    known = {answer.uuid for answer in database.answers(candidates_id)}
    added = 0
    for index in range(len(pairing)):
        answers: list[CastVote] = []
        for triplet, candidates in pairing.shard(index):
            dimensions = dimensions_of(triplet.task, triplet.prompt)
            uuids = {dimension: _uuid_of(candidates_id, voter, triplet, dimension) for dimension in dimensions}
            if known.issuperset(uuids.values()):
                continue
            votes = voter.vote(triplet, candidates)
            _check_votes(votes, triplet, candidates, dimensions)
            answers += [
                CastVote(uuid=uuids[vote.dimension], candidates=candidates_id, task=triplet.task, vote=vote)
                for vote in votes
            ]
        added += database.add(answers)
        if progress is not None:
            progress(1)
    return added


def skip_shares(answers: Iterable[CastVote]) -> list[SkipShare]:
    """The share of skips for each task x dimension that has votes, in the order of `DIMENSIONS`."""
    votes: Counter[tuple[Task, Dimension]] = Counter()
    skips: Counter[tuple[Task, Dimension]] = Counter()
    for answer in answers:
        cell = answer.task, answer.vote.dimension
        votes[cell] += 1
        skips[cell] += answer.vote.is_skip
    return [
        SkipShare(task=task, dimension=dimension, votes=votes[task, dimension], skips=skips[task, dimension])
        for task, dimensions in DIMENSIONS.items()
        for dimension in dimensions
        if votes[task, dimension]
    ]


def _uuid_of(candidates_id: str, voter: Voter, triplet: Triplet, dimension: Dimension) -> str:
    parts = ("onereward vote", candidates_id, voter.name, voter.revision, triplet.id, dimension)
    return str(uuid5(NAMESPACE_URL, "\x1f".join(parts)))


def _check_votes(
    votes: Sequence[Vote], triplet: Triplet, candidates: Sequence[Candidate], dimensions: Sequence[Dimension]
) -> None:
    if sorted(vote.dimension for vote in votes) != sorted(dimensions):
        got = ", ".join(vote.dimension for vote in votes)
        raise ValueError(
            f"{triplet.id}: got votes on {got or 'nothing'}, expected one on each of {', '.join(dimensions)}"
        )
    indices = {candidate.index for candidate in candidates}
    for vote in votes:
        pair = {vote.best, vote.worst}
        if vote.triplet_id != triplet.id or not (pair == {None} or (len(pair) == 2 and pair <= indices)):
            raise ValueError(
                f"{triplet.id}: got {vote}, "
                f"expected two different candidates of {sorted(indices)}, or None twice for a skip"
            )
