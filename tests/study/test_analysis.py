import dataclasses
import json

import evalica
import numpy as np
import pytest

from onereward.metrics.intervals import crossed_error
from onereward.study.analysis import ALL, BETTER, AnalysisPlan, analyse, bradley_terry, results_of
from onereward.study.criteria import Criterion, Group, SubTask
from onereward.study.exclusion import ExclusionRules, digest
from onereward.study.ratings import AttentionCheck, Collected, Comparison, Rating
from tests.study.simulated import SUBTASKS, SYSTEMS, collected

PLAN = AnalysisPlan(main="Ours", rules=ExclusionRules(), resamples=200)


def rating(participant: str, item: str, system: str, value: int, subtask: SubTask = SubTask.FILL) -> Rating:
    return Rating(
        participant=participant,
        item=item,
        system=system,
        subtask=subtask,
        criterion=Criterion.STRUCTURE,
        value=value,
        seconds=20.0,
        block=0,
        position=0,
    )


def comparison(participant: str, item: str, left: str, right: str, value: int) -> Comparison:
    return Comparison(
        participant=participant,
        item=item,
        left=left,
        right=right,
        subtask=SubTask.FILL,
        value=value,
        seconds=9.0,
        block=0,
        position=0,
    )


def test_scores_and_leads_by_hand() -> None:
    # Ours: 5 4 3; Other: 2 4 and 1 by somebody who did not rate ours; text counts among the fills
    ratings = (
        rating("ann", "one", "Ours", 5),
        rating("bob", "one", "Ours", 4),
        rating("bob", "two", "Ours", 3, SubTask.TEXT),
        rating("ann", "one", "Other", 2),
        rating("bob", "one", "Other", 4),
        rating("cat", "two", "Other", 1, SubTask.TEXT),
    )
    ours, other = sorted(
        results_of(Collected(ratings=ratings, assigned={}), PLAN).scores, key=lambda row: row.system != "Ours"
    )
    assert (ours.score.value, other.score.value) == (4, pytest.approx(7 / 3))
    assert (other.counts.answers, other.counts.participants, other.counts.items) == (3, 3, 2)
    assert ours.lead is None
    assert other.lead and other.lead.value == 1.5  # (5 - 2 + 4 - 4) / 2
    assert {row.group for row in (ours, other)} == {Group.FILL}


def test_preferences_are_told_from_the_main_systems_side_wherever_it_stood() -> None:
    answers = [
        comparison("ann", "one", "Ours", "Other", 1),  # good
        comparison("bob", "one", "Other", "Ours", -1),  # good
        comparison("ann", "two", "Other", "Ours", 1),  # bad
        comparison("bob", "two", "Ours", "Other", 0),
        comparison("cat", "two", "Other", "Ours", -1),  # good
    ]
    results = results_of(Collected(comparisons=tuple(answers), assigned={}), PLAN)
    (row,) = results.preferences
    assert (row.system, row.other, row.good, row.same, row.bad) == ("Ours", "Other", 3, 1, 1)
    assert row.net.value == pytest.approx(2 / 5)
    assert results.left_bias and results.left_bias.value == pytest.approx(0)  # left twice, right twice
    (agreed,) = results.agreements
    # as good bad ... of one item: good good; of the other: bad same good, no two of them equal: (2 + 0) / 5
    assert agreed.criterion == BETTER
    assert agreed.agreement.pairwise and agreed.agreement.pairwise.value == pytest.approx(2 / 5)


def test_every_cell_of_a_study_is_there() -> None:
    analysis = analyse(collected(items=6, answers=2), PLAN)
    asked = {Group.FILL: 7, Group.EXTEND_FREE: 5, Group.REMOVE: 4}
    for group, criteria in asked.items():
        rows = [row for row in analysis.results.scores if row.group is group]
        assert len(rows) == criteria * len(SYSTEMS)
        assert all(row.score.low <= row.score.value <= row.score.high for row in rows)
        assert all((row.lead is None) == (row.system == "Ours") for row in rows)
    assert {row.group for row in analysis.results.preferences} == {*asked, ALL}
    assert {subtask.group for subtask in SUBTASKS} == set(asked)
    assert len(analysis.results.agreements) == sum(asked.values()) + len(asked)
    text = [row for row in analysis.results.scores if row.criterion is Criterion.TEXT_RENDERING]
    assert {row.counts.items for row in text} == {6}  # of 12 in image fill, those of words alone
    assert json.loads(analysis.to_json())["plan_sha256"] == digest(PLAN)


def test_results_stand_with_and_without_those_left_out() -> None:
    honest = collected(items=6, answers=2)
    failed = tuple(AttentionCheck(participant="p0", passed=False) for _ in range(2))
    study = dataclasses.replace(honest, checks=(*honest.checks, *failed))
    analysis = analyse(study, PLAN)
    assert [row.participant for row in analysis.left_out] == ["p0"]
    assert analysis.everybody == results_of(honest, PLAN)
    without = Collected.of(honest, frozenset(honest.participants) - {"p0"})
    assert analysis.results == results_of(without, PLAN)
    assert analysis.results != analysis.everybody


def test_all_may_be_left_out_but_somebody_has_to_have_answered() -> None:
    honest = collected(items=6, answers=2)
    nobody = analyse(honest, dataclasses.replace(PLAN, rules=ExclusionRules(minimum_seconds=99)))
    assert (nobody.results.participants, nobody.results.scores, nobody.results.preferences) == (0, (), ())
    assert len(nobody.left_out) == nobody.everybody.participants > 0
    with pytest.raises(ValueError, match="no answers to analyse; ann: unfinished: 0 of 4 assigned pages answered"):
        analyse(Collected(assigned={"ann": 4}), PLAN)


def test_strengths_are_evalicas() -> None:
    generator = np.random.default_rng(3)
    left, right = generator.integers(0, 4, 400), generator.integers(1, 4, 400)
    right = (left + right) % 4
    wins = generator.choice([0, 0.5, 1], 400)
    ours, _ = bradley_terry(left, right, wins, 4, prior=0)
    winners = [{0: evalica.Winner.Y, 0.5: evalica.Winner.Draw, 1: evalica.Winner.X}[win] for win in wins.tolist()]
    stock = evalica.bradley_terry(left.tolist(), right.tolist(), winners, tolerance=1e-12, limit=10_000)
    scores = np.log([stock.scores[system] for system in range(4)])
    assert ours == pytest.approx(scores - scores.mean(), abs=1e-6)


def test_a_system_that_always_wins_has_a_strength() -> None:
    strengths, _ = bradley_terry(np.zeros(50, int), np.ones(50, int), np.ones(50), 2)
    assert strengths.sum() == pytest.approx(0)
    assert 1 < strengths[0] < 4


def test_influences_are_what_leaving_out_does() -> None:
    generator = np.random.default_rng(9)
    left = generator.integers(0, 3, 600)
    right = (left + generator.integers(1, 3, 600)) % 3
    wins = generator.choice([0, 0.5, 1], 600, p=[0.3, 0.2, 0.5])
    strengths, influences_NS = bradley_terry(left, right, wins, 3)
    for place in range(5):
        rest = np.arange(600) != place
        without, _ = bradley_terry(left[rest], right[rest], wins[rest], 3)
        assert strengths - without == pytest.approx(influences_NS[place], abs=2e-4)


def tilted(study: int, bias: float, people: int = 12, items: int = 20) -> list[Comparison]:
    """Comparisons of three systems of strengths .5, 0, -.5, with noise by person and item, and a lean to the left."""
    draw = np.random.default_rng([study, people])
    of_person, of_item = draw.normal(0, 0.4, (people, 3)), draw.normal(0, 0.4, (items, 3))
    answers = []
    for person in range(people):
        for item in range(items):
            one = (person + item) % 3
            pair = [one, (one + 1) % 3][:: 1 if (person + item // 3) % 2 else -1]
            quality = [(0.5, 0.0, -0.5)[system] + of_person[person, system] + of_item[item, system] for system in pair]
            gain = quality[0] - quality[1] + bias + draw.logistic()
            names = [f"s{system}" for system in pair]
            answers.append(comparison(f"p{person}", f"i{item}", names[0], names[1], int(gain > 0.3) - int(gain < -0.3)))
    return answers


def test_unbiased_voters_have_no_bias_and_leaning_ones_have() -> None:
    covered = 0
    for study in range(30):
        found = results_of(Collected(comparisons=tuple(tilted(study, 0.0)), assigned={}), PLAN).left_bias
        assert found
        covered += found.low <= 0 <= found.high
    assert covered / 30 >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 30)
    leaning = results_of(Collected(comparisons=tuple(tilted(0, 0.7)), assigned={}), PLAN).left_bias
    assert leaning and leaning.low > 0


def test_strengths_intervals_hold_the_truth() -> None:
    """The error from influences, against the spread of the strengths over 120 simulated studies."""
    strengths, errors = [], []
    for study in range(120):
        answers = tilted(study, 0.0)
        left, right = (np.array([int(getattr(a, side)[1]) for a in answers]) for side in ("left", "right"))
        people, items = (np.array([int(getattr(a, name)[1:]) for a in answers]) for name in ("participant", "item"))
        found, influences_NS = bradley_terry(left, right, np.array([(1 + a.value) / 2 for a in answers]), 3)
        strengths.append(found)
        errors.append([crossed_error(influences_NS[:, place], people, items) for place in range(3)])
    spread = np.std(strengths, axis=0)
    assert np.mean(errors, axis=0) == pytest.approx(spread, rel=3 / np.sqrt(2 * 120))
