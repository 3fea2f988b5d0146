import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from onereward.metrics.calibration import (
    BINS,
    calibration,
    fit_temperatures,
    negative_log_likelihood,
    reliability,
    reliability_rows,
)
from onereward.metrics.records import Answer
from onereward.terms import Dimension
from tests.metrics.answers import answer


def true_answers(count: int, seed: int, *, temperature: float = 1.0) -> list[Answer]:
    """Answers of a judge whose log-odds are `temperature` times those by which winners were drawn."""
    generator = np.random.default_rng(seed)
    log_odds = generator.normal(0, 2, count)  # that the first of two images is better
    sign = np.where(generator.random(count) < expit(log_odds), 1, -1)  # and so the winner
    margins = temperature * sign * log_odds
    return [answer(f"{place}", margin, -margin) for place, margin in enumerate(margins.tolist())]


def test_ece_and_brier_by_hand() -> None:
    # winner first: .8 (true) and .8 (true); loser first: .2 (false) and .4 (false): bins {.2}, {.4}, {.8, .8}
    answers = [answer("a", logit(0.8), logit(0.2)), answer("b", logit(0.8), logit(0.4))]
    found = calibration(answers)
    assert found.ece == pytest.approx((0.2 + 0.4 + 2 * (1 - 0.8)) / 4)
    assert found.brier == pytest.approx((0.2**2 + 0.2**2 + 0.2**2 + 0.4**2) / 4)


def test_bins_and_brier_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    answers = [answer(f"{i}", *pair) for i, pair in enumerate(generator.normal((1, -1), 2, (100, 2)).tolist())]
    prob = expit([a.winner_first for a in answers] + [a.loser_first for a in answers])
    true = [1] * 100 + [0] * 100
    observed, predicted = calibration_curve(true, prob, n_bins=BINS, strategy="quantile")
    diagram = reliability("tuned", Dimension.STRUCTURE, answers)
    assert [each.predicted for each in diagram.bins] == pytest.approx(predicted)
    assert [each.observed for each in diagram.bins] == pytest.approx(observed)
    assert diagram.brier == pytest.approx(brier_score_loss(true, prob))
    assert diagram.ece == pytest.approx(sum(b.n * abs(b.predicted - b.observed) for b in diagram.bins) / 200)
    assert {each.n for each in diagram.bins} == {13, 14}
    assert all(each.low <= each.observed <= each.high for each in diagram.bins)


def test_equal_predictions_share_a_bin_whatever_their_order() -> None:
    """A judge that always says one half is calibrated, although all winners come before all losers."""
    answers = [answer(f"{i}", 0, 0) for i in range(40)]
    assert calibration(answers).ece == 0
    assert len(reliability("untuned", Dimension.STRUCTURE, answers).bins) == 1


@given(st.permutations([(-2.0, 1.0), (1.0, 1.0), (3.0, -2.0), (0.5, 0.5), (1.0, -1.0), (2.0, 1.0)]))
def test_the_order_of_answers_does_not_matter(pairs: list[tuple[float, float]]) -> None:
    ordered = calibration([answer("t", *pair) for pair in sorted(pairs)])
    found = calibration([answer("t", *pair) for pair in pairs])
    assert (found.ece, found.brier) == pytest.approx((ordered.ece, ordered.brier))


def test_the_floor_is_what_true_probabilities_give_at_that_n() -> None:
    worlds = [calibration(true_answers(100, seed)) for seed in range(60)]
    ece, floor = (np.mean([getattr(world, field) for world in worlds]) for field in ("ece", "ece_floor"))
    assert ece == pytest.approx(floor, rel=0.1)
    assert floor > 0.03  # far from 0: to be printed beside an ECE
    assert calibration(true_answers(10000, 0)).ece_floor < 0.01
    assert calibration(true_answers(10000, 0, temperature=3)).ece > 0.1


def test_temperature_divides_before_the_probability_is_read() -> None:
    overconfident = true_answers(2000, 1, temperature=3)
    cooled = [answer(a.triplet_id, a.winner_first, a.loser_first, temperature=3) for a in overconfident]
    assert calibration(cooled).ece < 0.03 < 0.1 < calibration(overconfident).ece


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
def test_the_temperature_of_drawn_answers_is_found(temperature: float) -> None:
    found = fit_temperatures(true_answers(4000, 2, temperature=temperature))
    assert found == {Dimension.STRUCTURE: pytest.approx(temperature, rel=0.1)}


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=30))
def test_no_temperature_is_more_likely_than_the_one_found(pairs: list[tuple[float, float]]) -> None:
    margins = np.array([(winner_first, -loser_first) for winner_first, loser_first in pairs]).ravel()
    found = fit_temperatures([answer("t", *pair) for pair in pairs], at_least=1)[Dimension.STRUCTURE]
    assert negative_log_likelihood(margins, found) <= negative_log_likelihood(margins, 1)
    grid = min(negative_log_likelihood(margins, t) for t in np.geomspace(0.1, 10, 41))
    assert negative_log_likelihood(margins, found) <= grid + 1e-3


def test_each_dimension_has_its_own_temperature_and_few_pairs_have_none() -> None:
    few = [answer(f"{i}", 5, 5, dimension=Dimension.AESTHETICS) for i in range(49)]
    ties = [answer(f"tie-{i}", 5, 5, dimension=Dimension.AESTHETICS, tie=True) for i in range(9)]
    right = [answer(f"{i}", 1, -1, dimension=Dimension.CONSISTENCY) for i in range(50)]
    wrong = [answer(f"{i}", -1, 1, dimension=Dimension.REMOVAL_QUALITY) for i in range(50)]
    found = fit_temperatures([*few, *ties, *right, *wrong])
    assert found == {
        Dimension.CONSISTENCY: pytest.approx(0.1, rel=1e-3),  # the sharpest and the flattest that it may be
        Dimension.AESTHETICS: 1.0,
        Dimension.REMOVAL_QUALITY: pytest.approx(10, rel=1e-3),
    }


def test_diagrams_are_by_row_and_dimension_without_ties() -> None:
    answers = [
        answer("a", 1, -1, variant="untuned"),
        answer("b", 1, -1, variant="tuned", temperature=2.5),
        answer("c", 1, -1, variant="tuned", temperature=2.5),
        answer("d", 1, -1, variant="tuned", dimension=Dimension.AESTHETICS, tie=True),
    ]
    rows = [(row.variant, row.dimension, row.n, row.temperature) for row in reliability_rows(answers)]
    assert rows == [("untuned", "structure", 1, 1.0), ("tuned", "structure", 2, 2.5)]
