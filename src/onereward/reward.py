"""Training of the judge, Sec. 4.3: every preference is asked in both orders (Eq. 2) and answers by Eq. 3.

Shape legend: B preferences, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from onereward.losses import judge_loss
from onereward.query import Variant, build_query
from onereward.terms import Preference


class TwoWayJudge(Protocol):
    """A judge that can be asked about a pair in both orders at once, so that it sees each image once."""

    def log_odds_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """log P(yes) - log P(no) of (first, second) and of (second, first), both `log_odds_BK`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the judge made of a batch: `log_odds_B` > 0 where it prefers the winner, averaged over both orders."""

    loss: Tensor
    log_odds_B: Tensor


def reward_step(
    judge: TwoWayJudge,
    preferences: Sequence[Preference],
    winner_B3HW: Tensor,
    loser_B3HW: Tensor,
    variant: Variant = Variant.TASK_DIMENSION,
) -> Judged:
    """One batch of preferences through Eq. 3, each weighted by its vote; images are float in [-1, 1]."""
    queries = [[build_query(p.task, p.dimension, p.prompt, variant)] for p in preferences]  # Eq. 1
    forward_BK, backward_BK = judge.log_odds_both_orders(winner_B3HW, loser_B3HW, queries)  # Eq. 2: yes, then no
    forward_B, backward_B = forward_BK[:, 0], backward_BK[:, 0]
    weight_B = forward_B.new_tensor([p.weight for p in preferences])
    return Judged(loss=judge_loss(forward_B, backward_B, weight_B), log_odds_B=(forward_B - backward_B).detach() / 2)
