"""Votes and preferences on four triplets in two shards, with a voter whose votes are known."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from onereward.annotate.consensus import Weighting
from onereward.annotate.database import CastVote, VoteDatabase
from onereward.annotate.export import Uncounted, export_preferences, latest_answers, uncounted
from onereward.annotate.pairing import Pairing
from onereward.annotate.votes_file import read_votes, write_votes
from onereward.annotate.voting import collect_votes, skip_shares
from onereward.store.shards import fingerprint, read_records, run_stage
from onereward.terms import Candidate, Dimension, Preference, Task, Triplet, Vote, VoterKind, dimensions_of
from tests.annotate.desk import Desk

TASKS = (Task.FILL, Task.REMOVE, Task.EXTEND, Task.FILL)
TRIPLETS = [
    Triplet(id=f"t{n}", task=task, prompt="remove" if task is Task.REMOVE else "" if task is Task.EXTEND else "a cat",
            image=b"i", mask=b"m")
    for n, task in enumerate(TASKS)
]  # fmt: skip
CANDIDATES = [
    Candidate(triplet_id=triplet.id, index=n, image=f"{triplet.id}-{n}".encode(), editor="e", seed=n, settings="{}")
    for triplet in TRIPLETS
    for n in range(3)
]


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    pass


@dataclass
class KnownVoter:
    """Best is candidate 2, worst is 0; consistency is always a skip."""

    name: str = "known"
    revision: str = "1"
    kind: VoterKind = VoterKind.ORACLE
    asked: list[str] = field(default_factory=list)

    def vote(self, triplet: Triplet, candidates: Sequence[Candidate]) -> list[Vote]:
        self.asked.append(triplet.id)
        return [self.vote_on(triplet, dimension) for dimension in dimensions_of(triplet.task, triplet.prompt)]

    def vote_on(self, triplet: Triplet, dimension: Dimension) -> Vote:
        skip = dimension is Dimension.CONSISTENCY
        return Vote(
            triplet_id=triplet.id,
            dimension=dimension,
            best=None if skip else 2,
            worst=None if skip else 0,
            voter=self.name,
            kind=self.kind,
        )


@pytest.fixture
def pairing(tmp_path: Path) -> Pairing:
    triplets, candidates = tmp_path / "triplets", tmp_path / "candidates"
    run_stage(triplets, kind=Triplet, stage="select", config=NoConfig(), inputs={}, shard_count=2,
              make_shard=lambda index: TRIPLETS[2 * index : 2 * index + 2])  # fmt: skip
    run_stage(candidates, kind=Candidate, stage="generate", config=NoConfig(),
              inputs={"triplets": fingerprint(triplets)}, shard_count=2,
              make_shard=lambda index: CANDIDATES[6 * index : 6 * index + 6])  # fmt: skip
    return Pairing(triplets, candidates)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[VoteDatabase]:
    with VoteDatabase(str(tmp_path / "votes.sqlite")) as database:
        yield database


def test_one_candidate_alone_is_nothing_to_vote_on(tmp_path: Path, pairing: Pairing) -> None:
    run_stage(tmp_path / "single", kind=Candidate, stage="generate", config=NoConfig(),
              inputs={"triplets": fingerprint(tmp_path / "triplets")}, shard_count=2,
              make_shard=lambda index: CANDIDATES[6 * index : 6 * index + 6 : 3])  # fmt: skip
    with pytest.raises(ValueError, match="has one candidate, but a vote is for a best and a worst"):
        Pairing(tmp_path / "triplets", tmp_path / "single").shard(0)


def test_a_revised_voter_is_asked_again_and_its_last_word_counts(pairing: Pairing, database: VoteDatabase) -> None:
    class Reversed(KnownVoter):
        def vote_on(self, triplet: Triplet, dimension: Dimension) -> Vote:
            vote = super().vote_on(triplet, dimension)
            return replace(vote, best=vote.worst, worst=vote.best)

    collect_votes(database, pairing, KnownVoter())
    assert collect_votes(database, pairing, Reversed(revision="2")) == 4 + 1 + 3 + 4
    answers = latest_answers(database.answers(pairing.fingerprints["candidates"]))
    assert len(answers) == 4 + 1 + 3 + 4 and {answer.vote.best for answer in answers} == {None, 0}


def test_a_voter_is_asked_once_about_each_triplet(pairing: Pairing, database: VoteDatabase) -> None:
    voter, shards = KnownVoter(), list[int]()
    assert collect_votes(database, pairing, voter, shards.append) == 4 + 1 + 3 + 4
    assert voter.asked == ["t0", "t1", "t2", "t3"] and shards == [1, 1]
    assert collect_votes(database, pairing, voter) == 0
    assert voter.asked == ["t0", "t1", "t2", "t3"]
    assert collect_votes(database, pairing, KnownVoter(name="another")) == 12


def test_preferences_are_the_votes_that_are_no_skips(pairing: Pairing, database: VoteDatabase, tmp_path: Path) -> None:
    collect_votes(database, pairing, KnownVoter())
    export_preferences(database, pairing, tmp_path / "preferences")
    preferences = list(read_records(tmp_path / "preferences", Preference))
    text, structure, taste = Dimension.TEXT_ALIGNMENT, Dimension.STRUCTURE, Dimension.AESTHETICS
    assert [(p.triplet_id, p.dimension) for p in preferences] == [
        ("t0", text), ("t0", structure), ("t0", taste),
        ("t1", Dimension.REMOVAL_QUALITY),
        ("t2", structure), ("t2", taste),
        ("t3", text), ("t3", structure), ("t3", taste),
    ]  # fmt: skip
    assert preferences[3] == Preference(
        triplet_id="t1",
        task=Task.REMOVE,
        dimension=Dimension.REMOVAL_QUALITY,
        prompt="remove",
        winner=b"t1-2",
        loser=b"t1-0",
        winner_index=2,
        loser_index=0,
        voter="known",
        kind=VoterKind.ORACLE,
        weight=1.0,
        source=hashlib.sha256(TRIPLETS[1].image).hexdigest(),
    )
    assert not any(p.tie for p in preferences)


def test_a_skip_becomes_a_tie_where_that_is_asked_for(pairing: Pairing, database: VoteDatabase, tmp_path: Path) -> None:
    """Of 12 votes 3 were skips: all 12 are there, the skips between two candidates that are no accident."""
    collect_votes(database, pairing, KnownVoter())
    export_preferences(database, pairing, tmp_path / "preferences", ties=True)
    preferences = list(read_records(tmp_path / "preferences", Preference))
    assert len(preferences) == 12
    ties = [p for p in preferences if p.tie]
    assert [(p.triplet_id, p.dimension) for p in ties] == [(p.triplet_id, Dimension.CONSISTENCY) for p in ties] and len(
        ties
    ) == 3
    assert all(p.winner_index != p.loser_index for p in ties)
    with pytest.raises(ValueError, match="ties"):
        export_preferences(database, pairing, tmp_path / "preferences")
    export_preferences(database, pairing, tmp_path / "again", ties=True)
    assert list(read_records(tmp_path / "again", Preference)) == preferences


def test_exported_again_nothing_happens_and_new_votes_are_noticed(
    pairing: Pairing, database: VoteDatabase, tmp_path: Path
) -> None:
    collect_votes(database, pairing, KnownVoter())
    first = export_preferences(database, pairing, tmp_path / "preferences")
    assert export_preferences(database, pairing, tmp_path / "preferences") == first
    collect_votes(database, pairing, KnownVoter(name="another"))
    with pytest.raises(ValueError, match=r"config\.voters .*inputs\.votes .*choose another --output"):
        export_preferences(database, pairing, tmp_path / "preferences")


def test_the_last_of_a_voters_answers_counts() -> None:
    vote = KnownVoter().vote_on(TRIPLETS[0], Dimension.STRUCTURE)
    first = CastVote(uuid="1", candidates="c", task=Task.FILL, vote=vote)
    other = replace(first, uuid="2", vote=replace(vote, voter="another"))
    corrected = replace(first, uuid="3", vote=replace(vote, best=1))
    assert latest_answers([first, other, corrected]) == [corrected, other]


def test_skip_shares_worked_by_hand(pairing: Pairing, database: VoteDatabase) -> None:
    collect_votes(database, pairing, KnownVoter())
    shares = {
        (cell.task, cell.dimension): (cell.votes, cell.share)
        for cell in skip_shares(database.answers(pairing.fingerprints["candidates"]))
    }
    assert shares == {
        (Task.FILL, Dimension.TEXT_ALIGNMENT): (2, 0.0),
        (Task.FILL, Dimension.CONSISTENCY): (2, 1.0),
        (Task.FILL, Dimension.STRUCTURE): (2, 0.0),
        (Task.FILL, Dimension.AESTHETICS): (2, 0.0),
        (Task.EXTEND, Dimension.CONSISTENCY): (1, 1.0),
        (Task.EXTEND, Dimension.STRUCTURE): (1, 0.0),
        (Task.EXTEND, Dimension.AESTHETICS): (1, 0.0),
        (Task.REMOVE, Dimension.REMOVAL_QUALITY): (1, 0.0),
    }


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda votes: votes[:-1], r"t0: got votes on .*expected one on each of"),
        (lambda votes: [replace(votes[0], best=7), *votes[1:]], r"t0: got .*two different candidates of \[0, 1, 2\]"),
        (lambda votes: [replace(votes[0], worst=2), *votes[1:]], "t0: got .*two different candidates"),
        (lambda votes: [replace(votes[0], worst=None), *votes[1:]], "t0: got .*two different candidates"),
        (lambda votes: [replace(votes[0], triplet_id="t9"), *votes[1:]], "t0: got .*two different candidates"),
    ],
)
def test_a_vote_that_does_not_fit_is_refused(
    pairing: Pairing, database: VoteDatabase, spoil: Callable[[list[Vote]], list[Vote]], message: str
) -> None:
    class Spoilt(KnownVoter):
        def vote(self, triplet: Triplet, candidates: Sequence[Candidate]) -> list[Vote]:
            return spoil(super().vote(triplet, candidates))

    with pytest.raises(ValueError, match=message):
        collect_votes(database, pairing, Spoilt())
    assert database.answers(pairing.fingerprints["candidates"]) == []


def test_candidates_of_other_triplets_are_refused(pairing: Pairing, tmp_path: Path) -> None:
    run_stage(tmp_path / "other", kind=Triplet, stage="select", config=NoConfig(), inputs={}, shard_count=1,
              make_shard=lambda index: TRIPLETS[:1])  # fmt: skip
    with pytest.raises(ValueError, match="were not made from"):
        Pairing(tmp_path / "other", tmp_path / "candidates")
    with pytest.raises(ValueError, match="no folder"):
        Pairing(tmp_path / "triplets", tmp_path / "nowhere")


def test_no_votes_no_preferences(pairing: Pairing, database: VoteDatabase, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no votes on these candidates"):
        export_preferences(database, pairing, tmp_path / "preferences")
    assert not (tmp_path / "preferences").exists()


def test_annotation_imports_no_torch() -> None:
    code = "import sys, onereward.annotate.export, onereward.annotate.voting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_pairs_are_best_over_rest_over_worst(pairing: Pairing, database: VoteDatabase, tmp_path: Path) -> None:
    collect_votes(database, pairing, KnownVoter())
    export_preferences(database, pairing, tmp_path / "preferences", all_pairs=True)
    found = [one for one in read_records(tmp_path / "preferences", Preference) if one.triplet_id == "t1"]
    assert [(one.winner_index, one.loser_index) for one in found] == [(2, 0), (2, 1), (1, 0)]
    assert [(one.winner, one.loser) for one in found][1:] == [(b"t1-2", b"t1-1"), (b"t1-1", b"t1-0")]


def test_a_consensus_is_exported_as_one_vote_a_triplet_and_dimension(
    pairing: Pairing, database: VoteDatabase, tmp_path: Path
) -> None:
    for name in ("ann", "bob", "cy"):
        collect_votes(database, pairing, KnownVoter(name=name))
    for weighting in (Weighting.MAJORITY, Weighting.DAWID_SKENE):
        exported = export_preferences(database, pairing, tmp_path / weighting, weighting=weighting)
        found = list(read_records(tmp_path / weighting, Preference))
        assert exported.undecided == 0
        assert exported.manifest.rows == 3 + 1 + 2 + 3 and {one.voter for one in found} == {weighting.value}
        assert all((one.winner_index, one.loser_index) == (2, 0) for one in found)
    assert export_preferences(database, pairing, tmp_path / "each").manifest.rows == 3 * 9


def test_choices_on_which_votes_settle_nothing_are_counted(
    pairing: Pairing, database: VoteDatabase, tmp_path: Path
) -> None:
    """Of two voters one has best and worst the other way round, but for the four triplets' three skips."""

    class Reversed(KnownVoter):
        def vote_on(self, triplet: Triplet, dimension: Dimension) -> Vote:
            vote = super().vote_on(triplet, dimension)
            return replace(vote, best=vote.worst, worst=vote.best)

    collect_votes(database, pairing, KnownVoter(name="ann"))
    collect_votes(database, pairing, Reversed(name="bob"))
    exported = export_preferences(database, pairing, tmp_path / "majority", weighting=Weighting.MAJORITY)
    assert (exported.manifest.rows, exported.undecided) == (0, 9)
    assert export_preferences(database, pairing, tmp_path / "each").undecided == 0


def test_what_no_export_takes_is_counted(desk: Desk) -> None:
    """In four dimensions: a answers too late, and corrects it; c's answer is dropped."""
    desk.set_up("a", "b", "c", items=4, annotators=1)
    lost = desk.take("a")
    desk.clock.pass_(601)
    again = desk.take("b")
    desk.answer("a", lost, 1)
    desk.answer("a", desk.work.reopen(desk.ids["a"], lost.id), 2)
    desk.answer("b", again)
    assert uncounted(desk.database, "c") == Uncounted(unfinished=3, gold=0, repeats=0, late=4, dropped=0)
    desk.do("c")
    desk.work.withdraw(desk.ids["c"], drop=True)
    assert uncounted(desk.database, "c") == Uncounted(unfinished=3, gold=0, repeats=0, late=4, dropped=4)
    assert uncounted(desk.database, "other") == Uncounted(unfinished=0, gold=0, repeats=0, late=0, dropped=0)


@pytest.mark.parametrize(("setting", "found"), [("gold", "gold"), ("repeats", "repeats")])
def test_gold_and_repeats_are_counted(desk: Desk, setting: str, found: str) -> None:
    gold = [1] if setting == "gold" else []
    desk.set_up("a", items=3, annotators=1, gold_items=gold, repeat_after=1, **{setting: 1 - 1e-12})
    for _ in range(3):
        desk.do("a")
    assert getattr(uncounted(desk.database, "c"), found) == 4


def test_votes_are_lines_that_only_a_newline_ends(tmp_path: Path) -> None:
    vote = KnownVoter().vote_on(TRIPLETS[0], Dimension.STRUCTURE)
    write_votes(tmp_path / "votes.jsonl", [vote, replace(vote, triplet_id="t1")])
    assert [each.triplet_id for each in read_votes(tmp_path / "votes.jsonl")] == ["t0", "t1"]
    line = '{"triplet_id": "a\u2028b\x85c", "dimension": "structure", "best": 1, "worst": 0}'
    (tmp_path / "raw.jsonl").write_bytes(f"{line}\r\n\n{line}".encode())
    assert [each.triplet_id for each in read_votes(tmp_path / "raw.jsonl")] == ["a\u2028b\x85c"] * 2
    (tmp_path / "raw.jsonl").write_bytes(f"{line}\n\n[]".encode())
    with pytest.raises(ValueError, match="line 3"):
        read_votes(tmp_path / "raw.jsonl")
    (tmp_path / "raw.jsonl").write_bytes(line.encode("utf-16"))
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read_votes(tmp_path / "raw.jsonl")
