"""What a study collected, as the analysis takes it: systems by name, everything else by opaque id.

A page is what a participant sees at once: one output with its questions, or two outputs to compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onereward.study.criteria import Criterion, SubTask


@dataclass(frozen=True, kw_only=True)
class Rating:
    """A participant's answer to one question about one system's output for an item.

    `value` is 0 or 1 for a binary criterion and 1 to 5 for a graded one; `seconds` is how long the output's page was
    worked on (the same in all ratings of that page); `position` counts all pages that the participant was given from 0,
    those of practice and attention checks among them.
    """

    participant: str
    item: str
    system: str
    subtask: SubTask
    criterion: Criterion
    value: int
    seconds: float
    block: int
    position: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which of two systems' outputs for an item is better; `left` and `right` are the systems, by where they stood.

    `value` is 1 where the left one is better, 0 where they are the same and -1 where the right one is.
    """

    participant: str
    item: str
    left: str
    right: str
    subtask: SubTask
    value: int
    seconds: float
    block: int
    position: int


@dataclass(frozen=True, kw_only=True)
class AttentionCheck:
    """A page whose right answer is plain to anybody who looks at it."""

    participant: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Collected:
    """All answers of a closed study.

    `assigned` has the number of pages of the block that each participant began; `dropped`, by person, why answers that
    were given are not among these.
    """

    ratings: tuple[Rating, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[AttentionCheck, ...] = ()
    assigned: Mapping[str, int]
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def participants(self) -> tuple[str, ...]:
        """Everybody who was assigned a page, whether or not they answered, in the order of `assigned`."""
        return tuple(self.assigned)

    def of(self, participants: frozenset[str]) -> "Collected":
        """What these participants answered."""
        return Collected(
            ratings=tuple(rating for rating in self.ratings if rating.participant in participants),
            comparisons=tuple(answer for answer in self.comparisons if answer.participant in participants),
            checks=tuple(check for check in self.checks if check.participant in participants),
            assigned={person: pages for person, pages in self.assigned.items() if person in participants},
        )
