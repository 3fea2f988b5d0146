"""The paper's two losses: Eq. 3 trains the judge, Eq. 5 trains the policy.

P(yes) is taken over the two answers {yes, no}, so that log P(yes) = logsigmoid(log odds) (docs/paper.md).
"""

import torch
from torch import Tensor
from torch.nn import functional


def judge_loss(
    log_odds_forward: Tensor, log_odds_backward: Tensor, weight: Tensor | None = None, tie: Tensor | None = None
) -> Tensor:
    """-1/2 E[log P(yes | winner, loser, q) + log P(no | loser, winner, q)], a scalar (Eq. 3).

    `log_odds_forward` is log P(yes) - log P(no) with the winner shown first, `log_odds_backward` with the loser first;
    `weight` (same shape, not all zero) weighs the preferences, by default equally. Where `tie` (booleans) is true
    either image counts as the winner by half, so that P = 1/2 is best; the paper leaves such pairs out.
    """
    loss = _two_orders(log_odds_forward, log_odds_backward)
    if tie is not None:
        swapped = _two_orders(log_odds_backward, log_odds_forward)
        loss = torch.where(tie, (loss + swapped) / 2, loss)
    return loss.mean() if weight is None else (weight * loss).sum() / weight.sum()


def _two_orders(log_odds_forward: Tensor, log_odds_backward: Tensor) -> Tensor:
    """Minus the mean of log P(yes) forward and log P(no) backward."""
    return -0.5 * (functional.logsigmoid(log_odds_forward) + functional.logsigmoid(-log_odds_backward))


def reward_hinge(prob_yes: Tensor, bound: float) -> Tensor:
    """J = max(0, lambda - P(yes | policy image, reference image, q)), elementwise (Eq. 5).

    J falls as the reward rises, so it is descended; lines 13/12 of the algorithms say ascent (erratum, docs/paper.md).
    """
    return (bound - prob_yes).clamp(min=0)
