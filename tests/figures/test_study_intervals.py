"""Do the study's intervals hold the truth? Simulated raters whose true mean opinion, rate and net preference are known.

A rating counts the thresholds below a normal variable, the sum of what is the participant's, the item's and its own, so
the truth over all people and items is a sum of normal tails.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from onereward.metrics.intervals import Interval, crossed_bootstrap, naive_mean, t_reach

ITEMS = 40
DESIGNS = ((5, 5), (10, 10), (40, 40), (40, 3))
"""(people, ratings of each item): everybody rates everything, and an incomplete one."""
RESAMPLES = 1000
LEAST, MOST = 0.92, 0.98


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A scale: its lowest value, and the thresholds above each of which a rating is one more."""

    lowest: int
    thresholds: tuple[float, ...]

    @property
    def bounds(self) -> tuple[int, int]:
        return self.lowest, self.lowest + len(self.thresholds)


MEASURES = {
    "mos": Measure(lowest=1, thresholds=(-2.0, -0.9, 0.1, 1.2)),
    "rate": Measure(lowest=0, thresholds=(-0.5,)),
    "gsb": Measure(lowest=-1, thresholds=(-0.4, 0.6)),
}
# Standard deviations of participants, of items and of single ratings.
SETTINGS = {"strong": (0.7, 0.7, 0.8), "weak": (0.2, 0.2, 1.0), "none": (0.0, 0.0, 1.0)}
FORMS = [pytest.param(60, id="short"), pytest.param(500, id="long", marks=pytest.mark.soak)]


def simulate(measure: Measure, setting: str, people: int, study: int) -> np.ndarray:
    """Ratings (people, items) of one study, if everybody rated everything."""
    generator = np.random.default_rng([study, people, list(SETTINGS).index(setting), measure.lowest + 1])
    of_participant, of_item, of_rating = SETTINGS[setting]
    latent = (
        of_participant * generator.normal(size=(people, 1))
        + of_item * generator.normal(size=ITEMS)
        + of_rating * generator.normal(size=(people, ITEMS))
    )
    return measure.lowest + sum(latent > threshold for threshold in measure.thresholds)


def true_mean(measure: Measure, setting: str) -> float:
    spread = np.hypot.reduce(SETTINGS[setting])
    return measure.lowest + sum(float(ndtr(-threshold / spread)) for threshold in measure.thresholds)


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def allowance(bound: float, studies: int) -> float:
    """Twice the binomial error of a share by which a number of studies may miss a bound; none in the long form."""
    return 0.0 if studies >= 500 else 2.0 * float(np.sqrt(bound * (1 - bound) / studies))


@pytest.mark.parametrize("studies", FORMS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_hold_the_truth(name: str, setting: str, studies: int) -> None:
    measure, truth = MEASURES[name], true_mean(MEASURES[name], setting)
    for people, answers in DESIGNS:
        participants, items = (axis.ravel() for axis in np.indices((people, ITEMS)))
        rated = (participants - answers * items) % people < answers  # the people of an item follow one another
        who, what = participants[rated].tolist(), items[rated].tolist()
        crossed, naive = [], []
        for study in range(studies):
            ratings = simulate(measure, setting, people, study).ravel()[rated]
            crossed.append(
                crossed_bootstrap(ratings, who, what, bounds=measure.bounds, seed=study, resamples=RESAMPLES)
            )
            naive.append(naive_mean(ratings))
        covered, naively = (np.mean([holds(interval, truth) for interval in kind]) for kind in (crossed, naive))
        width, narrow = (np.mean([interval.high - interval.low for interval in kind]) for kind in (crossed, naive))
        print(
            f"{name:4} {setting:6} {people:2} people, {ITEMS} items of {answers:2} ratings, {studies} studies: "
            f"covers {covered:.3f}, "
            f"width {width:.3f}; as if independent {naively:.3f}, width {narrow:.3f}"
        )
        assert covered >= LEAST - allowance(LEAST, studies)
        if setting == "strong":
            assert covered <= MOST + allowance(MOST, studies)
            assert naively < 0.86  # what the crossed interval is for
            reach = 2 * t_reach(min(people, ITEMS)) * np.std([interval.value for interval in crossed])
            assert width <= reach * (1.08 + 2 / np.sqrt(2 * studies))  # two errors of a standard deviation
