"""People's votes and a program's for the same choices are the same preferences, byte for byte, and train a judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from onereward.annotate.database import VoteDatabase
from onereward.annotate.export import export_preferences
from onereward.annotate.pairing import Pairing
from onereward.annotate.project import ProjectConfig, import_items
from onereward.annotate.voting import collect_votes
from onereward.annotate.work import Assignment, Choice, Nothing, Reason, Submission, Work
from onereward.people.pictures import Pictures
from onereward.terms import Candidate, Dimension, Triplet, Vote, VoterKind, dimensions_of
from tests.annotate.desk import FakeClock
from tests.annotate.running import Project, pairing_of


@dataclass(frozen=True, kw_only=True)
class Program:
    """Votes like the people of these tests, under a name that it is given; of consistency it has no opinion."""

    name: str
    revision: str = "1"
    kind: VoterKind = VoterKind.PERSON

    def vote(self, triplet: Triplet, candidates: Sequence[Candidate]) -> list[Vote]:
        return [
            Vote(triplet_id=triplet.id, dimension=each, best=ends[0], worst=ends[1], voter=self.name, kind=self.kind)
            for each in dimensions_of(triplet.task, triplet.prompt)
            for ends in [choice_in(each)]
        ]


def choice_in(dimension: Dimension) -> tuple[int | None, int | None]:
    return (None, None) if dimension is Dimension.CONSISTENCY else (len(dimension) % 3, (len(dimension) + 1) % 3)


@pytest.fixture
def pairing(tmp_path: Path) -> Pairing:
    return pairing_of(tmp_path, 6)


@pytest.fixture
def by_hand(tmp_path: Path, pairing: Pairing) -> Iterator[tuple[VoteDatabase, str]]:
    """A database in which one person has answered all, out of order and with a correction, and who that is."""
    clock, pictures = FakeClock(), Pictures(tmp_path / "images")
    config = ProjectConfig(annotators=1, extra=0, gold=0.0, repeats=0.3, repeat_after=1, minimum_seconds=0.0)
    with VoteDatabase(str(tmp_path / "people.sqlite")) as database:
        import_items(database, pictures, pairing, config, clock)
        made = Project(
            place=database.place, database=database, pictures=pictures, images=tmp_path / "images", clock=clock
        )
        work, (person, _) = Work(database, clock), made.link_of("Ann")
        while not isinstance(item := work.claim(person, uuid4()), Nothing):
            clock.now += 3
            answer(work, person, item, wrong=True)
            answer(work, person, work.reopen(person, item.id))
        yield database, person


def answer(work: Work, person: str, item: Assignment, *, wrong: bool = False) -> None:
    """The choices of `choice_in`, or others."""

    def chosen(dimension: Dimension) -> Choice:
        best, worst = (0, 2) if wrong else choice_in(dimension)
        return Choice(dimension=dimension, best=best, worst=worst, reason=Reason.ALIKE if best is None else None)

    choices = tuple(chosen(dimension) for dimension in reversed(item.dimensions))
    work.answer(person, Submission(uuid=uuid4(), assignment=item.id, seconds=3.0, choices=choices))


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_both_export_to_the_same_bytes(by_hand: tuple[VoteDatabase, str], pairing: Pairing, tmp_path: Path) -> None:
    database, person = by_hand
    export_preferences(database, pairing, tmp_path / "of people", ties=True)
    with VoteDatabase(str(tmp_path / "program.sqlite")) as other:
        collect_votes(other, pairing, Program(name=person))
        export_preferences(other, pairing, tmp_path / "of a program", ties=True)
    of_people, of_program = shards_of(tmp_path / "of people"), shards_of(tmp_path / "of a program")
    assert of_people == of_program and of_people
    assert (tmp_path / "of people" / "manifest.json").read_bytes() == (
        tmp_path / "of a program" / "manifest.json"
    ).read_bytes()
    with VoteDatabase(str(tmp_path / "another.sqlite")) as another:
        collect_votes(another, pairing, Program(name=person, kind=VoterKind.ORACLE))
        export_preferences(another, pairing, tmp_path / "of an oracle", ties=True)
    assert shards_of(tmp_path / "of an oracle") != of_people  # an oracle is never called a person


def test_a_judge_trains_on_what_people_said(
    by_hand: tuple[VoteDatabase, str], pairing: Pairing, tmp_path: Path
) -> None:
    from onereward.recipes.settings import with_settings
    from onereward.recipes.toy_judge import toy_judge
    from onereward.train.reward import train_reward
    from tests.tiny_judge import tiny_judge_folder

    database, _ = by_hand
    export_preferences(database, pairing, tmp_path / "preferences")
    judge = str(tiny_judge_folder(tmp_path / "judge"))
    config = replace(with_settings(toy_judge(), ["batch=2", "micro_batch=2"]), judge=judge, steps=2)
    final = train_reward(config, tmp_path / "preferences", tmp_path / "run")
    assert (final / "model.safetensors").exists()
