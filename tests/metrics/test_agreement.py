import evalica
import numpy as np
import pandas as pd
import pytest

from onereward.metrics.agreement import Agreement, Answered, Level, agreement

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: 4 observers, 12 units, some missing.
PUBLISHED = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def answered(rows: tuple[str, ...]) -> list[Answered]:
    return [
        Answered(item=item, person=person, value=int(cell))
        for person, row in enumerate(rows)
        for item, cell in enumerate(row.split())
        if cell != "."
    ]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level: str, alpha: float) -> None:
    found = agreement(answered(PUBLISHED), level=Level(level))
    assert found.alpha and found.alpha.value == pytest.approx(alpha, abs=0.0005)
    assert found.alpha.low <= found.alpha.value <= found.alpha.high
    assert (found.items, found.people, found.answers) == (11, 4, 40)  # the twelfth unit has one answer


@pytest.mark.parametrize("level", Level)
def test_alpha_is_evalicas(level: Level) -> None:
    generator = np.random.default_rng(4)
    for _ in range(20):
        table = np.clip(np.round(generator.normal(3, 1, 15) + generator.normal(0, 0.8, (5, 15))), 1, 5)
        table[generator.random(table.shape) < 0.3] = np.nan
        ours = agreement(
            [Answered(item=i, person=p, value=float(v)) for (p, i), v in np.ndenumerate(table) if not np.isnan(v)],
            level=level,
            resamples=10,
        )
        stock = evalica.alpha(pd.DataFrame(table), distance=level.value)
        assert ours.alpha and ours.alpha.value == pytest.approx(stock.alpha)


def test_pairs_by_hand() -> None:
    # item a: x x y, 1 of its 3 pairs equal; item b: x x, its one pair is. Weighed by answers: (3 / 3 + 2 * 1) / 5
    answers = [("a", 1, "x"), ("a", 2, "x"), ("a", 3, "y"), ("b", 1, "x"), ("b", 2, "x"), ("c", 1, "y")]
    found = agreement([Answered(item=i, person=p, value=v) for i, p, v in answers], level=Level.NOMINAL)
    assert found.pairwise and found.pairwise.value == pytest.approx(3 / 5)
    assert (found.items, found.answers) == (2, 5)


def test_people_who_guess_have_an_alpha_about_0_and_its_interval_holds_it() -> None:
    covered = 0
    for world in range(100):
        guesses = np.random.default_rng([7, world]).integers(0, 3, size=(40, 4))
        found = agreement(
            [Answered(item=i, person=p, value=int(v)) for (i, p), v in np.ndenumerate(guesses)],
            level=Level.NOMINAL,
            seed=world,
            resamples=500,
        )
        assert found.alpha
        covered += found.alpha.low <= 0 <= found.alpha.high
    assert covered >= 88


def test_what_is_not_defined_is_none() -> None:
    alone = agreement([Answered(item="a", person=1, value=1)], level=Level.ORDINAL)
    assert alone == Agreement(level=Level.ORDINAL, items=0, people=0, answers=0, alpha=None, pairwise=None)
    same = agreement([Answered(item=i, person=p, value=1) for i in range(3) for p in range(2)], level=Level.ORDINAL)
    assert same.alpha is None
    assert same.pairwise and same.pairwise.value == 1


def test_two_answers_of_one_person_and_words_without_order_are_refused() -> None:
    twice = [Answered(item="a", person=1, value=1), Answered(item="a", person=1, value=2)]
    with pytest.raises(ValueError, match="two answers of 1 about a"):
        agreement(twice, level=Level.NOMINAL)
    words = [Answered(item="a", person=person, value="good") for person in range(2)]
    with pytest.raises(ValueError, match="got the answer 'good', expected numbers"):
        agreement(words, level=Level.INTERVAL)
