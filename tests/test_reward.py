"""One batch of pairs through Eq. 3: who won, in which order, with which weight; by hand, on a judge that is told."""

from collections.abc import Sequence
from math import exp, log

import pytest
import torch
from torch import Tensor

from onereward.query import Variant, build_query
from onereward.reward import Comparison, reward_step
from onereward.terms import Dimension, Task


class ToldJudge:
    """Answers what it was given, whatever it is shown, and keeps the queries."""

    def __init__(self, forward: list[list[float]], backward: list[list[float]]) -> None:
        self.log_odds = torch.tensor(forward), torch.tensor(backward)
        self.queries: list[list[str]] = []

    def log_odds_both_orders(
        self, first: Sequence[Tensor], second: Sequence[Tensor], queries: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        self.queries = [list(own) for own in queries]
        return self.log_odds


def _comparison(dimension: Dimension, first_wins: bool, weight: float = 1.0, tie: bool = False) -> Comparison:
    return Comparison(
        task=Task.FILL, dimension=dimension, prompt="a star", first_wins=first_wins, weight=weight, tie=tie
    )


def _minus_log_sigmoid(x: float) -> float:
    return log(1 + exp(-x))


NAN = float("nan")
PAIRS = [
    [_comparison(Dimension.STRUCTURE, True), _comparison(Dimension.AESTHETICS, False, weight=3.0)],
    [_comparison(Dimension.CONSISTENCY, True, weight=2.0, tie=True)],
]
FORWARD, BACKWARD = [[2.0, 1.0], [0.5, NAN]], [[-1.0, 0.5], [0.25, NAN]]


def test_the_winner_may_be_either_image_and_ties_pull_to_a_half() -> None:
    judge = ToldJudge(FORWARD, BACKWARD)
    images = [torch.zeros(3, 8, 8)] * 2
    judged = reward_step(judge, PAIRS, images, images, tie_weight=0.5)
    structure = (_minus_log_sigmoid(2.0) + _minus_log_sigmoid(1.0)) / 2  # winner first: yes; loser first: no
    aesthetics = (_minus_log_sigmoid(0.5) + _minus_log_sigmoid(-1.0)) / 2  # the second won: orders change places
    tie = sum(map(_minus_log_sigmoid, (0.5, -0.5, 0.25, -0.25))) / 4
    assert judged.loss.item() == pytest.approx((1 * structure + 3 * aesthetics + 2 * 0.5 * tie) / 5)
    assert judged.log_odds_P.tolist() == pytest.approx([1.5, -0.25, 0.125])
    assert judged.weight_P.tolist() == [1.0, 3.0, 1.0]
    assert judged.tie_P.tolist() == [False, False, True]


@pytest.mark.parametrize("variant", Variant)
def test_every_comparison_is_asked_in_its_own_words(variant: Variant) -> None:
    judge = ToldJudge(FORWARD, BACKWARD)
    images = [torch.zeros(3, 8, 8)] * 2
    reward_step(judge, PAIRS, images, images, variant)
    assert judge.queries == [[build_query(c.task, c.dimension, c.prompt, variant) for c in pair] for pair in PAIRS]
