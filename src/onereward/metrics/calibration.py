"""Is the judge's P(yes) a probability? ECE, Brier score and reliability by bins, and the temperature that mends it.

Every pair gives two predictions, one an order: P(yes) should be 1 with the winner first and 0 with the loser first.

Shape legend: P pairs, N = 2 P predictions (all winners first, then all losers first), B bins, D draws.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from onereward.metrics.intervals import wilson
from onereward.metrics.records import Answer
from onereward.seeds import numpy_generator
from onereward.terms import Dimension

BINS = 15
"""Of equal mass: a judge that is sure of itself leaves most bins of equal width empty, and the rest speak for few."""

AT_LEAST = 50
"""Pairs of a dimension from which a temperature is fitted."""

_DRAWS = 100
_TEMPERATURES = (0.1, 10.0)  # a judge that separates its pairs, or is wrong about most, has no best temperature


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Errors of calibrated probabilities over both orders: expected calibration error and Brier score, 0 is best.

    `ece_floor` is the mean ECE of a judge whose probabilities are these and true, on as many pairs: with few pairs in a
    bin chance alone keeps the ECE away from 0.
    """

    ece: float
    ece_floor: float
    brier: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions of similar size: their number, their mean, and how often yes was true.

    [low, high] is Wilson's interval, too narrow where pairs of one triplet fall into the same bin.
    """

    n: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability diagram: one row of the tables in one dimension, over its tasks; `n` counts pairs."""

    variant: str
    dimension: str
    n: int
    temperature: float
    ece: float
    ece_floor: float
    brier: float
    bins: tuple[Bin, ...]


def calibration(answers: Sequence[Answer], *, seed: int = 0) -> Calibration:
    """How far the probabilities of at least one answer are from what was true; `seed` keys the draws of the floor."""
    prob_N, true_N = _predictions(answers)
    uniform_DP = numpy_generator(seed, "calibration", len(answers)).random((_DRAWS, len(answers)))
    drawn_DN = np.concatenate([uniform_DP, 1 - uniform_DP], axis=1) < prob_N  # a pair has one truth for both orders
    return Calibration(
        ece=float(_ece(prob_N, true_N[None])[0]),
        ece_floor=float(_ece(prob_N, drawn_DN).mean()),
        brier=float(np.square(prob_N - true_N).mean()),
    )


def reliability(variant: str, dimension: Dimension, answers: Sequence[Answer], *, seed: int = 0) -> Reliability:
    """The diagram of answers of one row and dimension."""
    prob_N, true_N = _predictions(answers)
    place_N = _bins(prob_N)
    return Reliability(
        variant=variant,
        dimension=dimension,
        n=len(answers),
        temperature=answers[0].temperature,
        bins=tuple(_bin(prob_N[place_N == place], true_N[place_N == place]) for place in np.unique(place_N)),
        **vars(calibration(answers, seed=seed)),
    )


def reliability_rows(answers: Iterable[Answer], *, seed: int = 0) -> list[Reliability]:
    """One diagram a (variant, dimension) present, ties left out."""
    groups: dict[str, dict[Dimension, list[Answer]]] = {}
    for answer in answers:
        if not answer.tie:
            groups.setdefault(answer.variant, {}).setdefault(answer.dimension, []).append(answer)
    return [
        reliability(variant, dimension, of[dimension], seed=seed)
        for variant, of in groups.items()
        for dimension in Dimension
        if dimension in of
    ]


def fit_temperatures(answers: Iterable[Answer], *, at_least: int = AT_LEAST) -> dict[Dimension, float]:
    """For each dimension present the temperature, .1 to 10, of least mean negative log-likelihood over both orders.

    1 where fewer than `at_least` pairs are not ties. Fit it on pairs that neither training nor a table has seen.
    """
    margins: dict[Dimension, list[float]] = {}
    for answer in answers:
        if not answer.tie:
            margins.setdefault(answer.dimension, []).extend((answer.winner_first, -answer.loser_first))
    enough = 2 * at_least
    return {e: _temperature(np.array(of)) if len(of) >= enough else 1.0 for e in Dimension if (of := margins.get(e))}


def negative_log_likelihood(margin_N: NDArray[np.float64], temperature: float) -> float:
    """Mean of -log P(what was true), for log-odds of what was true."""
    return float(np.logaddexp(0, -margin_N / temperature).mean())


def _temperature(margin_N: NDArray[np.float64]) -> float:
    found = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(margin_N, np.exp(log_temperature)),
        bounds=np.log(_TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x)) if found.fun < negative_log_likelihood(margin_N, 1) else 1.0


def _predictions(answers: Sequence[Answer]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Calibrated P(yes)_N and whether yes was true."""
    log_odds_2P = [[a.winner_first / a.temperature, a.loser_first / a.temperature] for a in answers]
    prob_N = expit(np.array(log_odds_2P).T.ravel())
    return prob_N, np.arange(len(prob_N)) < len(answers)


def _bins(prob_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each prediction; equal predictions share one, whatever came first."""
    edges = np.quantile(prob_N, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, prob_N, side="right")


def _ece(prob_N: NDArray[np.float64], true_DN: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum over bins of |mean prediction - share of yes|, each weighed by its share of the predictions, ece_D."""
    in_bin_NB = (_bins(prob_N)[:, None] == np.arange(BINS)).astype(np.float64)
    gap_DB = (prob_N - true_DN) @ in_bin_NB
    error_D: NDArray[np.float64] = np.abs(gap_DB).sum(axis=1) / len(prob_N)
    return error_D


def _bin(prob_N: NDArray[np.float64], true_N: NDArray[np.bool_]) -> Bin:
    share = wilson(int(true_N.sum()), len(true_N))
    return Bin(n=len(true_N), predicted=float(prob_N.mean()), observed=share.value, low=share.low, high=share.high)
