import numpy as np
import pytest
from scipy.stats import bootstrap

from onereward.metrics.intervals import (
    bootstrap_mean,
    bootstrap_ratio,
    cluster_table,
    crossed_bootstrap,
    crossed_error,
    naive_mean,
    t_reach,
    wilson,
)


def test_ratio_and_mean_of_cells_by_hand() -> None:
    # cell 0: (1 + 0 + 1) / 3, cell 1: 1 / 2; the mean weighs the two cells equally whatever their n
    interval = bootstrap_ratio([[1, 1], [0, 0], [1, 0]], [[1, 1], [1, 1], [1, 0]], seed=0)
    assert interval.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert interval.low <= interval.value <= interval.high


def test_same_seed_same_interval_and_other_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_agrees_with_scipy_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).exponential(size=200)
    ours = bootstrap_mean(values, seed=0)
    stock = bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(0))
    width = stock.confidence_interval.high - stock.confidence_interval.low
    assert ours.low == pytest.approx(stock.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(stock.confidence_interval.high, abs=0.05 * width)


def test_cluster_table_by_hand() -> None:
    sums, counts = cluster_table([1, 2, 3, 4], ["a", "b", "a", "a"], ["x", "x", "x", "y"])
    assert sums.tolist() == [[4, 4], [2, 0]]
    assert counts.tolist() == [[2, 1], [1, 0]]


@pytest.mark.parametrize("worlds", [100, pytest.param(300, marks=pytest.mark.soak)])
def test_coverage_holds_when_a_triplet_carries_correlated_values(worlds: int) -> None:
    """Of worlds whose true mean is 0, the clustered interval covers about 95 %; the naive one does not."""
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(60), 4)
    covered = naive = 0
    for world in range(worlds):
        values = np.repeat(generator.normal(size=60), 4) + 0.3 * generator.normal(size=240)
        ours, theirs = (
            bootstrap_mean(values, seed=world, clusters=clusters.tolist()),
            bootstrap_mean(values, seed=world),
        )
        covered += ours.low <= 0 <= ours.high
        naive += theirs.low <= 0 <= theirs.high
    assert 0.91 <= covered / worlds <= 0.98
    assert naive / worlds < 0.80


def test_wilson_by_hand() -> None:
    # 8 of 10 at z = 1.96: centre (8 + 1.9207) / (10 + 3.8415) = .7167, half-width .2265
    interval = wilson(8, 10)
    assert (interval.value, round(interval.low, 3), round(interval.high, 3)) == (0.8, 0.490, 0.943)


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_an_empty_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="no observation"):
        bootstrap_ratio([[1, 0]], [[1, 0]], seed=0)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_mean([], seed=0)


def test_crossed_error_by_hand() -> None:
    # 2 people x 2 items, ratings 1 2 / 3 6, mean 3: influences -2/4 -1/4 / 0 3/4. Sums by person -3/4 3/4, by item
    # -1/2 1/2; times 2 for two groups: 9/4 and 1; alone 4/3 * (4 + 1 + 0 + 9) / 16 = 7/6. 9/4 + max(1, 7/6) - 7/6 = 9/4
    influences = np.array([-2, -1, 0, 3]) / 4
    people, items = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert crossed_error(influences, people, items) == pytest.approx(np.sqrt(9 / 4))
    # and without what people share, influences -1 1 / -2 2 over 4: by item 2 * 2 * (3/4)^2 = 9/4, people 0, alone 5/6
    influences = np.array([-1, 1, -2, 2]) / 4
    assert crossed_error(influences, people, items) == pytest.approx(np.sqrt(9 / 4))


def test_crossed_interval_where_all_variance_is_between_people_is_student_t() -> None:
    # everybody gives all items one value: 12 people with 1 to 12, se = sqrt(13 / 12), t(11) = 2.201
    people, items = (axis.ravel().tolist() for axis in np.indices((12, 12)))
    interval = crossed_bootstrap(np.array(people) + 1, people, items, bounds=(-9, 19), seed=0)
    assert t_reach(12) == pytest.approx(2.201, abs=1e-3)
    assert interval.value == 6.5
    assert (interval.high - interval.low) / 2 == pytest.approx(2.201 * np.sqrt(13 / 12), rel=0.04)


def test_crossed_interval_ignores_order_of_names_and_stays_on_the_scale() -> None:
    generator = np.random.default_rng(2)
    people, items = np.indices((6, 12)).reshape(2, -1)
    values = (generator.normal(size=6)[people] + generator.normal(size=72) > -1.5).astype(float)
    first = crossed_bootstrap(values, people.tolist(), items.tolist(), bounds=(0, 1), seed=5)
    named = [f"p{number}" for number in people]
    assert first == crossed_bootstrap(values, named, items.tolist(), bounds=(0, 1), seed=5)
    assert first != crossed_bootstrap(values, named, items.tolist(), bounds=(0, 1), seed=6)
    assert 0 <= first.low < first.value < first.high <= 1


def test_crossed_interval_where_nothing_varies() -> None:
    people, items = [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]
    unanimous = crossed_bootstrap([5] * 6, people, items, bounds=(1, 5), seed=0)
    share = wilson(2, 2)  # 2 items are the scarcer
    assert (unanimous.value, unanimous.low, unanimous.high) == (5, 1 + 4 * share.low, 5)
    alone = crossed_bootstrap([1, 0, 1], ["one"] * 3, [0, 1, 2], bounds=(0, 1), seed=0)
    assert (alone.value, alone.low, alone.high) == (pytest.approx(2 / 3), 0, 1)


def test_naive_mean_by_hand() -> None:
    # 1 2 3 4: sd 1.29099, se .645497, times 1.959964
    interval = naive_mean([1, 2, 3, 4])
    assert (interval.low, interval.high) == (pytest.approx(2.5 - 1.265152), pytest.approx(2.5 + 1.265152))


def test_ratings_beyond_the_scale_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match="ratings from 0 to 6, expected 1 to 5"):
        crossed_bootstrap([0, 6], [1, 2], [1, 2], bounds=(1, 5), seed=0)
    with pytest.raises(ValueError, match="no rating"):
        crossed_bootstrap([], [], [], bounds=(1, 5), seed=0)
    with pytest.raises(ValueError, match="1 ratings, expected at least 2"):
        naive_mean([1])
