"""Intervals: the percentile bootstrap over whole triplets, and Wilson's for plain rates.

Shape legend: T triplets (the resampled units), C cells (columns averaged after the ratio), R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onereward.seeds import numpy_generator

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 500  # resamples drawn at once: 500 x 1,000 triplets of float64 is 4 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the ends of its interval, all in the unit of the estimate."""

    value: float
    low: float
    high: float


def bootstrap_ratio(
    sums_TC: ArrayLike,
    counts_TC: ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Interval of mean over cells of (sum / count) when whole triplets are resampled (percentile bootstrap).

    One triplet may carry several observations of several cells: they stay together, so that the interval knows they
    are not independent. Differences of two editors on the same triplets as `sums` make it the paired bootstrap.
    The same inputs and seed give the same interval. Raises ValueError when a cell has no observation.
    """
    sums = np.asarray(sums_TC, dtype=np.float64)
    counts = np.asarray(counts_TC, dtype=np.float64)
    if sums.ndim != 2 or sums.shape != counts.shape:
        raise ValueError(
            f"got sums {sums.shape} and counts {counts.shape}, expected two equal (triplets, cells) shapes"
        )
    if not (counts.sum(axis=0) > 0).all():
        raise ValueError("a cell has no observation, so it has no mean: leave it out")
    triplets = len(sums)
    generator = numpy_generator(seed, "bootstrap", triplets)
    uniform = np.full(triplets, 1 / triplets)
    means = []
    for start in range(0, resamples, _CHUNK):
        weights_RT = generator.multinomial(triplets, uniform, size=min(_CHUNK, resamples - start)).astype(np.float64)
        means.append(_mean_of_ratios(weights_RT @ sums, weights_RT @ counts))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(value=float((sums.sum(0) / counts.sum(0)).mean()), low=float(low), high=float(high))


def bootstrap_mean(values: ArrayLike, *, seed: int, clusters: Sequence[Hashable] | None = None) -> Interval:
    """Interval of the mean of `values`, one number an observation; `clusters` names the triplet of each.

    Without `clusters` every value is a triplet of its own.
    """
    observations = np.asarray(values, dtype=np.float64)
    if observations.size == 0:
        raise ValueError("got no value, expected at least one")
    if clusters is None:
        return bootstrap_ratio(observations[:, None], np.ones((len(observations), 1)), seed=seed)
    sums, counts = cluster_table(observations, clusters, ["all"] * len(observations))
    return bootstrap_ratio(sums, counts, seed=seed)


def cluster_table(
    values: ArrayLike, clusters: Sequence[Hashable], cells: Sequence[Hashable]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sums_TC, counts_TC) of observations given as (value, triplet, cell) columns, in order of first appearance."""
    rows = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    columns = {cell: index for index, cell in enumerate(dict.fromkeys(cells))}
    sums, counts = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    at = ([rows[cluster] for cluster in clusters], [columns[cell] for cell in cells])
    np.add.at(sums, at, np.asarray(values, dtype=np.float64))
    np.add.at(counts, at, 1)
    return sums, counts


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval of a rate of independent trials (statsmodels)."""
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"got {successes} successes of {n} trials, expected 0 <= successes <= n and n > 0")
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(value=successes / n, low=float(low), high=float(high))


def _mean_of_ratios(sums_RC: NDArray[np.float64], counts_RC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over cells of sums / counts per resample; nan where a resample left a cell without an observation."""
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = (sums_RC / counts_RC).mean(axis=1)
    return means
