"""Votes -> preferences: one pair from each vote that is no skip (Sec. 4.2, Fig. 2), and more if wanted."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from onereward.annotate.consensus import Weighting, weighed
from onereward.annotate.database import CastVote, VoteDatabase
from onereward.annotate.pairing import Pairing
from onereward.people.tables import ITEMS, PEOPLE, VOTES
from onereward.seeds import python_generator
from onereward.store.shards import Folder, Manifest, run_stage
from onereward.terms import DIMENSIONS, Candidate, Preference, Triplet, Vote


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Whose votes the preferences come from, how several become one, whether a skip makes a tie, and which pairs."""

    voters: tuple[str, ...]
    ties: bool
    all_pairs: bool
    weighting: Weighting


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The preferences that were written, and on how many choices (triplet and dimension) the votes settle nothing."""

    manifest: Manifest
    undecided: int


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Items that want more answers, and votes (one a dimension) that no export takes.

    Those are on items whose answers are known (`gold`), second ones on the same item (`repeats`), those that came when
    somebody else had got the item (`late`), and those of people whose answers are not counted (`dropped`).
    """

    unfinished: int
    gold: int
    repeats: int
    late: int
    dropped: int


def export_preferences(
    database: VoteDatabase,
    pairing: Pairing,
    output: Folder,
    progress: Callable[[int], None] | None = None,
    *,
    ties: bool = False,
    all_pairs: bool = False,
    weighting: Weighting = Weighting.EACH,
) -> Exported:
    """Write the preferences of all votes on the pairing's candidates, in the order of triplets, dimensions, voters.

    With `ties` a skip becomes a tie between two of the candidates, always the same two. With `all_pairs` the best also
    wins against the rest, and the rest against the worst. Of several votes of one voter on one triplet and dimension
    the last counts. `progress` is told how many more shards are done. Raises ValueError if there is no vote on these
    candidates.
    """
    answers = latest_answers(database.answers(pairing.fingerprints["candidates"]))
    if not answers:
        raise ValueError("the database has no votes on these candidates: collect some, or pass their --candidates")
    voters = tuple(sorted({answer.vote.voter for answer in answers}))
    of_triplet: dict[str, list[CastVote]] = defaultdict(list)
    votes = weighed(answers, weighting, _candidates_of(pairing, weighting))
    for answer in votes:
        of_triplet[answer.vote.triplet_id].append(answer)

    config = ExportConfig(voters=voters, ties=ties, all_pairs=all_pairs, weighting=weighting)

    def make_shard(index: int) -> list[Preference]:
        return [
            preference
            for triplet, candidates in pairing.shard(index)
            for preference in _preferences_of(triplet, candidates, of_triplet[triplet.id], config)
        ]

    manifest = run_stage(
        output,
        kind=Preference,
        stage="annotate",
        config=config,
        inputs={**pairing.fingerprints, "votes": _digest(answers)},
        shard_count=len(pairing),
        make_shard=make_shard,
        progress=progress,
    )
    return Exported(manifest=manifest, undecided=len(_choices(answers) - _choices(votes)))


def uncounted(database: VoteDatabase, candidates: str) -> Uncounted:
    """What no export has of the candidates of that fingerprint; a corrected vote counts once."""
    which = VOTES.c.purpose, PEOPLE.c.dropped, VOTES.c.triplet_id, VOTES.c.dimension, VOTES.c.voter
    votes = (
        sa.select(*which).join(PEOPLE, PEOPLE.c.id == VOTES.c.voter).where(VOTES.c.candidates == candidates).distinct()
    )
    unfinished = sa.select(sa.func.count()).where(ITEMS.c.candidates == candidates, ITEMS.c.open)
    with database.reading() as connection:
        found = Counter("dropped" if row.dropped else row.purpose for row in connection.execute(votes))
        return Uncounted(
            unfinished=connection.execute(unfinished).scalar_one(),
            gold=found["gold"],
            repeats=found["repeat"],
            late=found["late"],
            dropped=found["dropped"],
        )


def latest_answers(answers: Sequence[CastVote]) -> list[CastVote]:
    """Each voter's last answer per triplet and dimension: a correction is a new row, not a second opinion."""
    return list(
        {(answer.vote.triplet_id, answer.vote.dimension, answer.vote.voter): answer for answer in answers}.values()
    )


def _choices(answers: Sequence[CastVote]) -> set[tuple[str, str]]:
    return {(answer.vote.triplet_id, answer.vote.dimension.value) for answer in answers}


def _preferences_of(
    triplet: Triplet, candidates: Sequence[Candidate], answers: Sequence[CastVote], config: ExportConfig
) -> list[Preference]:
    images = {candidate.index: candidate.image for candidate in candidates}
    order = DIMENSIONS[triplet.task]
    votes = sorted((answer.vote for answer in answers), key=lambda vote: (order.index(vote.dimension), vote.voter))
    source = hashlib.sha256(triplet.image).hexdigest()
    return [
        Preference(
            triplet_id=triplet.id,
            task=triplet.task,
            dimension=vote.dimension,
            prompt=triplet.prompt,
            winner=images[winner],
            loser=images[loser],
            winner_index=winner,
            loser_index=loser,
            voter=vote.voter,
            kind=vote.kind,
            weight=vote.weight,
            source=source,
            tie=vote.is_skip,
        )
        for vote in votes
        if config.ties or not vote.is_skip
        for winner, loser in _compared(vote, list(images), config.all_pairs)
    ]


def _compared(vote: Vote, indices: Sequence[int], all_pairs: bool) -> list[tuple[int, int]]:
    """The best and the worst of a vote, and both beside each of the rest if wanted; of a skip any two candidates."""
    if vote.best is None or vote.worst is None:
        first, second = python_generator("tie", vote.triplet_id, vote.dimension).sample(indices, 2)
        return [(first, second)]
    rest = [index for index in indices if index not in (vote.best, vote.worst)] if all_pairs else []
    beside = [pair for index in rest for pair in ((vote.best, index), (index, vote.worst))]
    return [(vote.best, vote.worst), *beside]


def _candidates_of(pairing: Pairing, weighting: Weighting) -> dict[str, int]:
    """How many candidates each triplet has, where that is asked for."""
    if weighting is not Weighting.DAWID_SKENE:
        return {}
    shards = (pairing.shard(index) for index in range(len(pairing)))
    return {triplet.id: len(candidates) for shard in shards for triplet, candidates in shard}


def _digest(answers: Sequence[CastVote]) -> str:
    """SHA-256 of the votes, whatever order and uuids they came with."""
    lines = sorted(json.dumps(asdict(answer.vote), sort_keys=True) for answer in answers)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
