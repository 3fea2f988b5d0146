"""Training of the judge, Sec. 4.3: every comparison is asked in both orders (Eq. 2) and answered by Eq. 3.

All that was voted about one pair of images is asked at once, so that the judge sees each image once.

Shape legend: B pairs, K comparisons of a pair (the most), P all comparisons of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from onereward.losses import judge_loss
from onereward.query import Variant, build_query
from onereward.terms import Dimension, Task


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One vote about a pair in one dimension: the first image wins, or the second, or (`tie`) neither."""

    task: Task
    dimension: Dimension
    prompt: str
    first_wins: bool
    weight: float = 1.0
    tie: bool = False


class TwoWayJudge(Protocol):
    """A judge that can be asked about a pair in both orders at once, so that it sees each image once."""

    def log_odds_both_orders(
        self, first: Sequence[Tensor], second: Sequence[Tensor], queries: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """log P(yes) - log P(no) of (first, second) and of (second, first), both `log_odds_BK`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the judge made of a batch: `log_odds_P` > 0 where it prefers the winner, averaged over both orders.

    `loss` is the mean weighted by `weight_P`; `tie_P` marks the comparisons that nobody won.
    """

    loss: Tensor
    log_odds_P: Tensor
    weight_P: Tensor
    tie_P: Tensor


def reward_step(
    judge: TwoWayJudge,
    pairs: Sequence[Sequence[Comparison]],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    variant: Variant = Variant.TASK_DIMENSION,
    *,
    tie_weight: float = 0.0,
) -> Judged:
    """One batch of pairs through Eq. 3, each comparison weighted by its vote, a tie by `tie_weight` times that.

    `pairs[b]` is what was voted about `first[b]` and `second[b]`, images in [-1, 1] of any sizes (or two image_B3HW).
    """
    queries = [[build_query(c.task, c.dimension, c.prompt, variant) for c in pair] for pair in pairs]  # Eq. 1
    forward_BK, backward_BK = judge.log_odds_both_orders(first, second, queries)  # Eq. 2: yes, then no
    asked_BK = ~forward_BK.isnan()
    forward_P, backward_P = forward_BK[asked_BK], backward_BK[asked_BK]
    comparisons = [comparison for pair in pairs for comparison in pair]
    first_wins_P, tie_P = (
        torch.tensor([getattr(c, name) for c in comparisons], device=forward_P.device) for name in ("first_wins", "tie")
    )
    weight_P = forward_P.new_tensor([c.weight * (tie_weight if c.tie else 1) for c in comparisons])
    winner_first_P = torch.where(first_wins_P, forward_P, backward_P)
    loser_first_P = torch.where(first_wins_P, backward_P, forward_P)
    return Judged(
        loss=judge_loss(winner_first_P, loser_first_P, weight_P, tie_P),
        log_odds_P=(winner_first_P - loser_first_P).detach() / 2,
        weight_P=weight_P,
        tie_P=tie_P,
    )
