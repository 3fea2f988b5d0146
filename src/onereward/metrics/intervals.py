"""Intervals: bootstrap over whole triplets, or over participants and items at once; Wilson's for plain rates.

Shape legend: T triplets (the resampled units), C cells (columns averaged after the ratio), R resamples; P participants,
I items, N ratings.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from onereward.seeds import numpy_generator

RESAMPLES = 2000
CONFIDENCE = 0.95
IntArray = NDArray[np.int64]
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


def crossed_bootstrap(
    values: ArrayLike,
    participants: Sequence[Hashable],
    items: Sequence[Hashable],
    *,
    bounds: tuple[float, float],
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Interval of the mean of ratings, for other people and other items: the participant x item bootstrap.

    `values` are ratings, one each of a participant and an item, on a scale that ends at `bounds`; the design may be
    incomplete. Participants and items are resampled independently and their weights multiply (Owen 2007). That alone
    counts what neither explains three times, and knows nothing of how few people there are. So the resamples give the
    interval's shape (its skew near the end of a scale), `crossed_error` its size, and Student's t with the smaller
    number of participants or items, less one, as degrees of freedom its reach (Cameron and Miller 2015).
    Where all ratings are equal it is Wilson's for as many trials as the smaller number; where there is one participant
    or one item, nothing is known about others: the whole scale. Raises ValueError without a rating or beyond the scale.
    """
    observations = np.asarray(values, dtype=np.float64)
    low, high = bounds
    if observations.size == 0:
        raise ValueError("got no rating, expected at least one")
    if observations.min() < low or observations.max() > high:
        raise ValueError(
            f"got ratings from {observations.min():g} to {observations.max():g}, expected {low:g} to {high:g}"
        )
    people, things = codes_of(participants), codes_of(items)
    units = min(people.max(), things.max()) + 1
    value = float(observations.mean())
    if units == 1:
        return Interval(value=value, low=low, high=high)
    if (observations == observations[0]).all():
        return _on_scale(wilson((value - low) / (high - low) * units, int(units), confidence), bounds)
    sums_PI, counts_PI = np.zeros((2, people.max() + 1, things.max() + 1))
    np.add.at(sums_PI, (people, things), observations)
    np.add.at(counts_PI, (people, things), 1)
    means = _resampled_means(sums_PI, counts_PI, numpy_generator(seed, "crossed", len(observations)), resamples)
    error = crossed_error((observations - value) / len(observations), people, things)
    tail = (1 - confidence) / 2
    stretch = t_reach(int(units), confidence) * error / (-ndtri(tail) * float(means.std()))
    ends = value + (np.quantile(means, [tail, 1 - tail]) - value) * stretch
    return Interval(value=value, low=max(low, float(ends[0])), high=min(high, float(ends[1])))


def crossed_error(influences_N: NDArray[np.float64], participants_N: IntArray, items_N: IntArray) -> float:
    """Standard error of an estimate for other participants and other items, from each rating's influence on it.

    The influence of a rating on a mean is (value - mean) / N. Two-way clustered: the variance between participants,
    plus that between items, less that of independent ratings, which both contain (Cameron, Gelbach and Miller 2011);
    neither is taken to be less than the last. `participants_N` and `items_N` count from 0.
    """
    parts = crossed_variances(influences_N, participants_N, items_N)
    alone = parts.ratings
    return float(np.sqrt(max(parts.participants, alone) + max(parts.items, alone) - alone))


@dataclass(frozen=True, kw_only=True)
class CrossedVariances:
    """Variance of an estimate if only participants were drawn anew, if only items, and if each rating were its own."""

    participants: float
    items: float
    ratings: float


def crossed_variances(
    influences_N: NDArray[np.float64], participants_N: IntArray, items_N: IntArray
) -> CrossedVariances:
    """What `crossed_error` is made of; two answers of one participant about one item stay together."""
    answers_N = codes_of(list(zip(participants_N.tolist(), items_N.tolist(), strict=True)))
    between = [_between(influences_N, codes) for codes in (participants_N, items_N, answers_N)]
    return CrossedVariances(participants=between[0], items=between[1], ratings=between[2])


def t_reach(units: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors an interval reaches when there are `units` (2 or more) of what is scarcer."""
    return float(stdtrit(units - 1, (1 + confidence) / 2))


def naive_mean(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The interval that takes every rating for independent: too short for people, and shown beside the right one."""
    observations = np.asarray(values, dtype=np.float64)
    if len(observations) < 2:
        raise ValueError(f"got {len(observations)} ratings, expected at least 2")
    value = float(observations.mean())
    reach = float(ndtri((1 + confidence) / 2) * observations.std(ddof=1) / np.sqrt(len(observations)))
    return Interval(value=value, low=value - reach, high=value + reach)


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
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


def codes_of(names: Sequence[Hashable]) -> IntArray:
    """Each name's number, from 0 in order of first appearance."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _between(influences_N: NDArray[np.float64], codes_N: IntArray) -> float:
    """Variance of the sum of influences when whole groups are drawn anew; 0 where there is one group."""
    sums = np.bincount(codes_N, weights=influences_N)
    return float(len(sums) / max(len(sums) - 1, 1) * (sums**2).sum())


def _resampled_means(
    sums_PI: NDArray[np.float64], counts_PI: NDArray[np.float64], generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Means under multiplied weights of participants and items; a resample without a rating is left out."""
    people, things = sums_PI.shape
    weights_RP = generator.multinomial(people, np.full(people, 1 / people), size=resamples).astype(np.float64)
    weights_RI = generator.multinomial(things, np.full(things, 1 / things), size=resamples).astype(np.float64)
    sums_R, counts_R = (((weights_RP @ table) * weights_RI).sum(axis=1) for table in (sums_PI, counts_PI))
    rated = counts_R > 0
    means: NDArray[np.float64] = sums_R[rated] / counts_R[rated]
    return means


def _on_scale(share: Interval, bounds: tuple[float, float]) -> Interval:
    """An interval of shares, from 0 to 1, on the scale that ends at `bounds`."""
    low, high = (bounds[0] + end * (bounds[1] - bounds[0]) for end in (share.low, share.high))
    return Interval(value=bounds[0] + share.value * (bounds[1] - bounds[0]), low=low, high=high)
