import dataclasses
import json

import pytest

from onereward.study.criteria import SubTask, criteria_of
from onereward.study.exclusion import ExclusionRules, canonical, digest, exclude
from onereward.study.ratings import AttentionCheck, Collected, Comparison, Rating

RULES = ExclusionRules()


def pages(person: str, *, grades: tuple[int, ...] = (3, 4, 3, 4, 3), seconds: tuple[float, ...] = (20.0,) * 10) -> list:
    """Ratings of one output an entry of `seconds`; grades in the order of the criteria, binary ones are 1."""
    return [
        Rating(
            participant=person,
            item=f"i{place}",
            system="a",
            subtask=SubTask.FILL,
            criterion=criterion,
            value=(1, *grades)[index],
            seconds=worked,
            block=0,
            position=place,
        )
        for place, worked in enumerate(seconds)
        for index, criterion in enumerate(criteria_of(SubTask.FILL))
    ]


def sided(person: str, values: list[int]) -> list[Comparison]:
    return [
        Comparison(
            participant=person,
            item=f"i{place}",
            left="a",
            right="b",
            subtask=SubTask.FILL,
            value=value,
            seconds=9.0,
            block=0,
            position=place,
        )
        for place, value in enumerate(values)
    ]


def study(ratings: list[Rating], comparisons: list[Comparison] = [], failed: int = 0, assigned: int = 10) -> Collected:  # noqa: B006
    people = dict.fromkeys(answer.participant for answer in (*ratings, *comparisons))
    checks = tuple(AttentionCheck(participant="bad", passed=place >= failed) for place in range(4))
    return Collected(
        ratings=tuple(ratings),
        comparisons=tuple(comparisons),
        checks=checks,
        assigned=dict.fromkeys([*people, "bad"], assigned),
    )


HONEST = pages("good")
CASES = {
    "hurried: 3 of 10 pages in less than 2 s": study([*HONEST, *pages("bad", seconds=(1.9,) * 3 + (2.0,) * 7)]),
    "inattentive: 2 of 4 attention checks failed": study([*HONEST, *pages("bad")], failed=2),
    "straight-lining: one answer to all graded questions on 10 of 10 pages": study(
        [*HONEST, *pages("bad", grades=(5,) * 5)]
    ),
    "straight-lining: the right one was better in 9 of 9 comparisons": study(HONEST, sided("bad", [-1] * 9 + [0])),
    "unfinished: 4 of 10 assigned pages answered": study([*HONEST, *pages("bad", seconds=(20.0,) * 4)]),
}
SPARED = {
    "hurried twice": study([*HONEST, *pages("bad", seconds=(1.9,) * 2 + (2.0,) * 8)]),
    "failed once": study([*HONEST, *pages("bad")], failed=1),
    "same on 9 of 10": study([*HONEST, *pages("bad", grades=(5,) * 5)[:54], *pages("bad")[54:]]),
    "too few to tell": study(HONEST, sided("bad", [-1] * 7), assigned=7),
    "half": study([*HONEST, *pages("bad", seconds=(20.0,) * 5)]),
}


@pytest.mark.parametrize("reason", CASES)
def test_each_rule_leaves_out_whom_it_names_and_says_why(reason: str) -> None:
    done = exclude(CASES[reason], RULES)
    assert [(row.participant, row.reasons) for row in done.left_out] == [("bad", (reason,))]
    kept = done.kept
    assert {answer.participant for answer in (*kept.ratings, *kept.comparisons)} == {"good"}
    assert kept.ratings == tuple(HONEST)
    assert (kept.participants, kept.checks) == (("good",), ())


@pytest.mark.parametrize("case", SPARED)
def test_at_the_bound_nobody_is_left_out(case: str) -> None:
    done = exclude(SPARED[case], RULES)
    assert done.left_out == ()
    assert done.kept == SPARED[case]


def test_who_never_answered_is_named_too() -> None:
    (left,) = exclude(study(HONEST), RULES).left_out
    assert left.reasons == ("unfinished: 0 of 10 assigned pages answered",)


def test_the_frozen_line_is_canonical_and_every_rule_changes_it() -> None:
    line = canonical(RULES)
    assert json.loads(line) == dataclasses.asdict(RULES)
    assert " " not in line and list(json.loads(line)) == sorted(json.loads(line))
    assert (
        digest(RULES) == "5b9053d37261d0c01053c890d125f81f8fcf0572d1f3973735f89db6f7a9afbb"
    )  # the same on every machine, for ever
    others = {
        digest(dataclasses.replace(RULES, **{field.name: getattr(RULES, field.name) / 2 + 1 / 8}))
        for field in dataclasses.fields(RULES)
        if field.name not in ("failed_checks", "least_pages")
    }
    others |= {digest(ExclusionRules(failed_checks=2)), digest(ExclusionRules(least_pages=9))}
    assert len(others | {digest(RULES)}) == 1 + len(dataclasses.fields(RULES))


def test_impossible_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="hurried_share 20, expected a number from 0 to 1"):
        ExclusionRules(hurried_share=20)
    for field, value in (("minimum_seconds", -1), ("minimum_seconds", float("nan")), ("failed_checks", -1)):
        with pytest.raises(ValueError, match=f"^got {field} {value}, expected 0 or more$"):
            ExclusionRules(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="least_pages 0, expected 1 or more"):
        ExclusionRules(least_pages=0)
