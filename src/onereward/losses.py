"""The paper's two losses: Eq. 3 trains the judge, Eq. 5 trains the policy.

P(yes) is taken over the two answers {yes, no}, so that log P(yes) = logsigmoid(log odds) (docs/paper.md).
"""

from torch import Tensor
from torch.nn import functional


def judge_loss(log_odds_forward: Tensor, log_odds_backward: Tensor, weight: Tensor | None = None) -> Tensor:
    """-1/2 E[log P(yes | winner, loser, q) + log P(no | loser, winner, q)], a scalar (Eq. 3).

    `log_odds_forward` is log P(yes) - log P(no) with the winner shown first, `log_odds_backward` with the loser first;
    `weight` (same shape, not all zero) weighs the preferences, by default equally.
    """
    log_yes_forward = functional.logsigmoid(log_odds_forward)
    log_no_backward = functional.logsigmoid(-log_odds_backward)
    loss = -0.5 * (log_yes_forward + log_no_backward)
    return loss.mean() if weight is None else (weight * loss).sum() / weight.sum()


def reward_hinge(prob_yes: Tensor, bound: float) -> Tensor:
    """J = max(0, lambda - P(yes | policy image, reference image, q)), elementwise (Eq. 5).

    J falls as the reward rises, so it is descended; lines 13/12 of the algorithms say ascent (erratum, docs/paper.md).
    """
    return (bound - prob_yes).clamp(min=0)
