import itertools
import math

import numpy as np
import pytest

from onereward.metrics.intervals import crossed_bootstrap
from onereward.study.design import design_ratings
from onereward.study.plan import Components, answers_needed, components_of, half_width, items_needed

STRONG = Components(participants=0.3, items=0.2, ratings=0.5)
WEAK = Components(participants=0.02, items=0.05, ratings=0.9)


def simulated(
    components: Components, *, items: int, answers: int, size: int, seed: int
) -> tuple[np.ndarray, list, list]:
    """Ratings of one system by the real design, with participants and items."""
    names = [f"i{number}" for number in range(items)]
    blocks = design_ratings(names, ["one", "two"], answers=answers, items_a_block=size, seed=seed)
    shown = [(block.index, page.item) for block in blocks for page in block.pages if page.systems == ("one",)]
    generator = np.random.default_rng(seed)
    of_person = generator.normal(scale=math.sqrt(components.participants), size=len(blocks))
    of_item = dict(zip(names, generator.normal(scale=math.sqrt(components.items), size=items), strict=True))
    rest = generator.normal(scale=math.sqrt(components.ratings), size=len(shown))
    values = np.array([of_person[person] + of_item[item] for person, item in shown]) + rest
    return values, [person for person, _ in shown], [item for _, item in shown]


def test_half_width_by_hand() -> None:
    # .3 / 25 + .2 / 100 + .5 / 300 = .0156667; t(24) at .975 = 2.0639: 2.0639 * sqrt(.0156667) = .25833
    assert half_width(STRONG, participants=25, items=100, answers=3) == pytest.approx(0.25833, abs=1e-4)


@pytest.mark.parametrize("components", [STRONG, WEAK], ids=["strong", "weak"])
def test_the_formula_is_what_studies_give(components: Components) -> None:
    """Mean half-width over 60 simulated studies, and the spread of their means, against the formula's."""
    items, answers, size = 60, 3, 9
    widths, means = [], []
    for seed in range(60):
        values, people, things = simulated(components, items=items, answers=answers, size=size, seed=seed)
        found = crossed_bootstrap(values, people, things, bounds=(-9, 9), seed=seed, resamples=400)
        widths.append((found.high - found.low) / 2)
        means.append(found.value)
    planned = half_width(components, participants=20, items=items, answers=answers)
    assert np.mean(widths) == pytest.approx(planned, rel=0.12)
    spread = planned / 2.093  # t(19) at .975
    assert np.std(means) == pytest.approx(spread, rel=3 / math.sqrt(2 * 60))  # three standard errors of a deviation


@pytest.mark.parametrize("components", [STRONG, WEAK], ids=["strong", "weak"])
def test_components_come_back_from_a_pilot(components: Components) -> None:
    found = [components_of(*simulated(components, items=60, answers=3, size=9, seed=seed)) for seed in range(100)]
    for name in ("participants", "items", "ratings"):
        estimates = [getattr(of, name) for of in found]
        error = float(np.std(estimates)) / 10
        assert np.mean(estimates) == pytest.approx(getattr(components, name), abs=3 * error + 0.01)


def test_the_smallest_study_is_the_smallest() -> None:
    size = items_needed(STRONG, 0.2, answers=3, items_a_participant=10)
    assert size.half_width <= 0.2
    assert (size.participants, size.ratings) == (math.ceil(size.items * 3 / 10), size.items * 3)
    smaller = [math.ceil((size.items - fewer) * 3 / 10) for fewer in (1, 2, 3)]
    for fewer, participants in enumerate(smaller, start=1):
        assert half_width(STRONG, participants=participants, items=size.items - fewer, answers=3) > 0.2
    more = answers_needed(STRONG, size.half_width, items=size.items, items_a_participant=10)
    assert more.answers <= 3


def test_width_falls_with_people_items_and_answers() -> None:
    widths = [half_width(STRONG, participants=n, items=n, answers=k) for n, k in ((10, 2), (10, 4), (40, 4))]
    assert all(earlier > later for earlier, later in itertools.pairwise(widths))


def test_what_cannot_be_had_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"10 items cannot give ± 0.1: even 200 ratings an output give ± 0.3"):
        answers_needed(STRONG, 0.1, items=10, items_a_participant=5)
    with pytest.raises(ValueError, match="no study of up to 10,000 items gives ± 1e-05"):
        items_needed(STRONG, 1e-5, answers=3, items_a_participant=100)
    with pytest.raises(ValueError, match="20 items a participant, expected 1 to 10"):
        answers_needed(STRONG, 0.1, items=10, items_a_participant=20)
    for wanted in (math.nan, 0, -0.1, 2, 9):
        with pytest.raises(ValueError, match=f"half width of {wanted:g}, expected more than 0 and less than 2"):
            answers_needed(STRONG, wanted, items=40, items_a_participant=10)
    counts = r"got -?\d+ (items|answers|items a participant), expected \d to 10,000"
    for items, block in ((0, 1), (-1, 1), (10**9, 2), (4, 0)):
        with pytest.raises(ValueError, match=counts):
            answers_needed(STRONG, 0.2, items=items, items_a_participant=block)
    for answers, block in ((0, 2), (-3, 2), (10**9, 2), (1, 0)):
        with pytest.raises(ValueError, match=counts):
            items_needed(STRONG, 0.2, answers=answers, items_a_participant=block)
    for variance in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"variance of {variance:g} for items, expected 0 or more"):
            Components(participants=0.1, items=variance, ratings=0.1)
    with pytest.raises(ValueError, match="no more than participants"):
        half_width(STRONG, participants=3, items=10, answers=4)
    with pytest.raises(ValueError, match="pilot of at least two of each"):
        components_of([1, 2, 3], ["a", "a", "a"], ["x", "y", "z"])
