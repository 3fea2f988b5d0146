"""Who is left out of the analysis, by rules that are frozen before the first answer.

`canonical` writes any frozen config as one line of JSON that is the same on every machine; `digest` is its SHA-256, to
be kept where it cannot be changed.
"""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from onereward.runtime.checks import require
from onereward.study.criteria import Kind
from onereward.study.ratings import Collected


@dataclass(frozen=True, kw_only=True)
class ExclusionRules:
    """A participant who breaks any of these is left out with all answers; the defaults are those of a careful study.

    hurried: more than `hurried_share` of the pages took less than `minimum_seconds`. inattentive: more than
    `failed_checks` attention checks failed. straight-lining: on more than `straight_share` of the pages with three or
    more graded questions all of them got one answer, or more than `side_share` of the comparisons that chose a side
    chose the same one. unfinished: fewer than `answered_share` of the assigned pages answered. Straight-lining is
    judged from `least_pages` pages on.
    """

    minimum_seconds: float = 2.0
    hurried_share: float = 0.2
    failed_checks: int = 1
    straight_share: float = 0.9
    side_share: float = 0.95
    answered_share: float = 0.5
    least_pages: int = 8

    def __post_init__(self) -> None:
        shares = "hurried_share", "straight_share", "side_share", "answered_share"
        require(self, at_least=0, at_most=1, fields=shares)
        require(self, at_least=0, fields=("minimum_seconds", "failed_checks"))
        require(self, at_least=1, fields=("least_pages",))


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A participant who is left out, and each rule that was broken as a sentence with its numbers."""

    participant: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """What the rules did: who is left out and why, and the answers that stay."""

    left_out: tuple[LeftOut, ...]
    kept: Collected


def exclude(collected: Collected, rules: ExclusionRules) -> Exclusion:
    """Apply the rules to every participant, one by one: nobody's fate depends on another's answers or on a system."""
    pages = _pages(collected)
    reasons = {
        person: (
            *_hurried(pages[person], rules),
            *_inattentive(collected, person, rules),
            *_straight(pages[person], rules),
            *_one_sided(collected, person, rules),
            *_unfinished(len(pages[person]), collected.assigned[person], rules),
        )
        for person in collected.participants
    }
    gone = {person: (why,) for person, why in collected.dropped.items()}
    return Exclusion(
        left_out=tuple(LeftOut(participant=person, reasons=why) for person, why in (reasons | gone).items() if why),
        kept=collected.of(frozenset(person for person, why in reasons.items() if not why)),
    )


def canonical(config: object) -> str:
    """A frozen dataclass as JSON: keys sorted, no spaces, ASCII; equal configs give equal lines.

    Raises ValueError for numbers that JSON does not have.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"got {config!r}, expected a dataclass")
    return json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(config: object) -> str:
    """SHA-256 of the canonical line, in hexadecimal."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Page:
    seconds: float
    grades: tuple[int, ...]


def _pages(collected: Collected) -> dict[str, list[_Page]]:
    """Each participant's answered pages."""
    grades: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    seconds: dict[tuple[str, str, str], float] = {}
    for rating in collected.ratings:
        key = (rating.participant, rating.item, rating.system)
        seconds[key] = rating.seconds
        if rating.criterion.question.kind is Kind.GRADED:
            grades[key].append(rating.value)
    pages: dict[str, list[_Page]] = {person: [] for person in collected.participants}
    for key, worked in seconds.items():
        pages[key[0]].append(_Page(seconds=worked, grades=tuple(grades[key])))
    for answer in collected.comparisons:
        pages[answer.participant].append(_Page(seconds=answer.seconds, grades=()))
    return pages


def _hurried(pages: list[_Page], rules: ExclusionRules) -> Iterable[str]:
    hurried = sum(page.seconds < rules.minimum_seconds for page in pages)
    if pages and hurried / len(pages) > rules.hurried_share:
        yield f"hurried: {hurried} of {len(pages)} pages in less than {rules.minimum_seconds:g} s"


def _inattentive(collected: Collected, person: str, rules: ExclusionRules) -> Iterable[str]:
    checks = [check.passed for check in collected.checks if check.participant == person]
    if checks.count(False) > rules.failed_checks:
        yield f"inattentive: {checks.count(False)} of {len(checks)} attention checks failed"


def _straight(pages: list[_Page], rules: ExclusionRules) -> Iterable[str]:
    graded = [page.grades for page in pages if len(page.grades) >= 3]
    straight = sum(len(set(grades)) == 1 for grades in graded)
    if len(graded) >= rules.least_pages and straight / len(graded) > rules.straight_share:
        yield f"straight-lining: one answer to all graded questions on {straight} of {len(graded)} pages"


def _one_sided(collected: Collected, person: str, rules: ExclusionRules) -> Iterable[str]:
    sides = [answer.value for answer in collected.comparisons if answer.participant == person and answer.value]
    for name, value in (("left", 1), ("right", -1)):
        times = sides.count(value)
        if len(sides) >= rules.least_pages and times / len(sides) > rules.side_share:
            yield f"straight-lining: the {name} one was better in {times} of {len(sides)} comparisons"


def _unfinished(answered: int, assigned: int, rules: ExclusionRules) -> Iterable[str]:
    if answered < rules.answered_share * assigned:
        yield f"unfinished: {answered} of {assigned} assigned pages answered"
