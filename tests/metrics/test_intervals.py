import numpy as np
import pytest
from scipy.stats import bootstrap

from onereward.metrics.intervals import bootstrap_mean, bootstrap_ratio, cluster_table, wilson


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


def test_coverage_holds_when_a_triplet_carries_correlated_values() -> None:
    """Of 300 worlds whose true mean is 0, the clustered interval covers about 95 %; the naive one does not."""
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(60), 4)
    covered = naive = 0
    for world in range(300):
        values = np.repeat(generator.normal(size=60), 4) + 0.3 * generator.normal(size=240)
        ours, theirs = (
            bootstrap_mean(values, seed=world, clusters=clusters.tolist()),
            bootstrap_mean(values, seed=world),
        )
        covered += ours.low <= 0 <= ours.high
        naive += theirs.low <= 0 <= theirs.high
    assert 0.91 <= covered / 300 <= 0.98
    assert naive / 300 < 0.80


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
