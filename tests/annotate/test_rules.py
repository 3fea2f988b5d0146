"""Whatever people do in whatever order: no slot twice, no answer too many, nothing lost (by hypothesis).

A model keeps what has to be counted, in a dictionary; the database is asked after each step.
"""

import tempfile
from collections import defaultdict
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from onereward.annotate.database import VoteDatabase
from onereward.annotate.work import HELD, Assignment, ConflictError, LostAssignmentError, Nothing, State
from onereward.people.tables import SLOTS
from tests.annotate.desk import Desk, check_whole
from tests.postgres import MEMORY

PEOPLE = "abcde"
ITEMS, LEASE = 4, 600
people = strategies.sampled_from(PEOPLE)
bests = strategies.sampled_from([0, 1, 2, None])
nth = strategies.integers(0, 50)


class Project(RuleBasedStateMachine):
    """Five people, four items (one of them gold), two answers an item and one more where they differ."""

    @initialize()
    def begin(self) -> None:
        # An id decides what its person is given: drawn, no example could be played again.
        self.patch, numbers = pytest.MonkeyPatch(), count()
        for module in ("people.persons", "annotate.work"):
            self.patch.setattr(f"onereward.{module}.new_id", lambda: f"{next(numbers):022d}")
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.database = VoteDatabase(str(Path(self.folder.name) / "votes.sqlite"))
        self.desk = Desk(self.database)
        self.desk.set_up(
            *PEOPLE, items=ITEMS, gold_items=[4], candidates=3, annotators=2, extra=1, gold=0.2, repeats=0.2,
            repeat_after=1, lease_seconds=LEASE,
        )  # fmt: skip
        self.given: list[tuple[str, Assignment, UUID]] = []
        self.until: dict[str, float] = {}  # lease of each assignment that is held and unanswered
        self.answered: dict[str, tuple[str, Assignment, UUID, int | None, State]] = {}
        self.counted: dict[tuple[str, int], int | None] = {}
        self.gone: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            check_whole(self.database)
            self.database.__exit__(None, None, None)
            self.folder.cleanup()
            self.patch.undo()

    @rule(name=people)
    def claim(self, name: str) -> None:
        before, request = self.present(), uuid4()
        try:
            found = self.desk.claim(name, request)
        except ConflictError:
            held = sum(owner == name for owner in self.owners())
            assert name in self.gone or held >= HELD
            return
        assert name not in self.gone
        if isinstance(found, Nothing):
            return
        purpose = self.purposes()[found.id]
        same = [each for owner, each, _ in self.given if owner == name and each.item == found.item]
        if purpose == "work":  # again only if it was lost before there was an answer
            assert not any(each.id in self.answered or each.id in before for each in same)
        lost = before - self.present()
        assert len(lost) <= 1 and all(self.until[each] < self.desk.clock.now for each in lost)
        for each in lost:
            del self.until[each]
        self.given.append((name, found, request))
        self.until[found.id] = self.desk.clock.now + LEASE

    @precondition(lambda self: self.given)
    @rule(which=nth)
    def claim_again(self, which: int) -> None:
        name, assignment, request = self.given[which % len(self.given)]
        try:
            again = self.desk.claim(name, request)
            assert isinstance(again, Assignment) and replace(again, choices=None) == assignment
            assert (again.choices is not None) == (assignment.id in self.answered)
        except LostAssignmentError:
            assert assignment.id not in self.present()

    @precondition(lambda self: self.given)
    @rule(which=nth, best=bests)
    def answer(self, which: int, best: int | None) -> None:
        name, assignment, _ = self.given[which % len(self.given)]
        uuid = uuid4()
        if name in self.gone:
            with pytest.raises(ConflictError, match="no longer"):
                self.desk.answer(name, assignment, best, uuid)
            return
        purpose = self.purposes().get(assignment.id) or ("work" if self.may_come_back(name, assignment) else "late")
        state = self.desk.answer(name, assignment, best, uuid)
        assert state is (State.LATE if purpose == "late" else State.ACCEPTED)
        self.until.pop(assignment.id, None)
        self.answered[assignment.id] = name, assignment, uuid, best, state
        if state is State.ACCEPTED and purpose == "work":
            self.counted[name, assignment.item] = best

    @precondition(lambda self: self.answered)
    @rule(which=nth)
    def answer_again(self, which: int) -> None:
        name, assignment, uuid, best, _ = list(self.answered.values())[which % len(self.answered)]
        assert self.desk.answer(name, assignment, best, uuid) is State.KNOWN

    @rule(seconds=strategies.sampled_from([1, LEASE // 2, LEASE + 1]))
    def wait(self, seconds: int) -> None:
        self.desk.clock.pass_(seconds)

    @precondition(lambda self: self.until)
    @rule(which=nth)
    def heartbeat(self, which: int) -> None:
        held = sorted(self.until)
        assignment = held[which % len(held)]
        name = next(owner for owner, each, _ in self.given if each.id == assignment)
        assert self.desk.work.heartbeat(self.desk.ids[name], assignment) == LEASE
        self.until[assignment] = self.desk.clock.now + LEASE

    @precondition(lambda self: self.until)
    @rule(which=nth)
    def release(self, which: int) -> None:
        held = sorted(self.until)
        self.desk.work.release(held[which % len(held)])
        del self.until[held[which % len(held)]]

    @precondition(lambda self: len(self.gone) < 2)
    @rule(name=people, drop=strategies.booleans())
    def withdraw(self, name: str, drop: bool) -> None:
        self.desk.work.withdraw(self.desk.ids[name], drop=drop)
        self.gone.add(name)
        for owner, assignment, _ in self.given:
            if owner == name:
                self.until.pop(assignment.id, None)
                if drop:
                    self.counted.pop((name, assignment.item), None)

    @invariant()
    def what_is_held_is_what_the_model_holds(self) -> None:
        if hasattr(self, "until"):
            assert self.present(done=False) == self.until.keys()

    @invariant()
    def what_counts_is_what_the_model_counts(self) -> None:
        if hasattr(self, "counted"):
            assert self.desk.counted() == self.counted

    @invariant()
    def no_item_has_too_many_answers_or_is_left_undecided(self) -> None:
        if not hasattr(self, "counted"):
            return
        said: dict[int, list[int | None]] = defaultdict(list)
        for (_, item), best in self.counted.items():
            said[item].append(best)
        for item in range(1, ITEMS):
            assert len(said[item]) <= 3 and self.desk.slots(item) <= 3
            if not self.desk.is_open(item):
                most = max((said[item].count(best) for best in said[item]), default=0)
                assert len(said[item]) == 3 or (len(said[item]) == 2 and most == 2)

    def present(self, *, done: bool = True) -> set[str]:
        """Assignments whose slot is still theirs, answered ones as well unless said otherwise."""
        return set(self._slots(done)) - {None}

    def may_come_back(self, name: str, assignment: Assignment) -> bool:
        """Whether an item that was taken from somebody still has a slot that nobody has, nor they another."""
        of_item = SLOTS.c.item == assignment.item
        free = self.desk.count(SLOTS, of_item, SLOTS.c.purpose == "work", SLOTS.c.person.is_(None))
        own = self.desk.count(SLOTS, of_item, SLOTS.c.person == self.desk.ids[name])
        return name not in self.gone and free > 0 and own == 0

    def purposes(self) -> dict[str, str]:
        return {claim: row.purpose for claim, row in self._slots(True).items() if claim is not None}

    def owners(self) -> list[str]:
        names = {id: name for name, id in self.desk.ids.items()}
        return [names[row.person] for row in self._slots(False).values() if row.person is not None]

    def _slots(self, done: bool) -> dict[str, Any]:
        query = sa.select(SLOTS) if done else sa.select(SLOTS).where(SLOTS.c.done_at.is_(None))
        with self.database.reading() as connection:
            return {row.claim: row for row in connection.execute(query)}


@pytest.mark.parametrize("examples", [12, pytest.param(1000, marks=pytest.mark.soak)])
def test_whatever_people_do_the_rules_hold(examples: int) -> None:
    run_state_machine_as_test(
        Project, settings=hypothesis.settings(max_examples=examples, stateful_step_count=40, deadline=None)
    )
