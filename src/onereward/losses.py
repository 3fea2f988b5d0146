"""The losses: Eq. 3 trains the judge, Eq. 5 the policy; beside it that of flow matching, which the paper leaves out.

P(yes) is taken over the two answers {yes, no}, so that log P(yes) = logsigmoid(log odds) (docs/paper.md).
"""

import math
from collections.abc import Callable
from enum import StrEnum

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


class Reward(StrEnum):
    """What of the judge's answer the bound is held against."""

    PROBABILITY = "probability"
    LOG_ODDS = "log_odds"


def reward_hinge(prob_yes: Tensor, bound: float, reward: Reward = Reward.PROBABILITY) -> Tensor:
    """J = max(0, lambda - P(yes | policy image, reference image, q)), elementwise (Eq. 5).

    J falls as the reward rises, so it is descended; lines 13/12 of the algorithms say ascent (erratum, docs/paper.md).
    With `LOG_ODDS` both are log odds, log(p / (1 - p)): it ends at the same P, and its gradient does not vanish where P
    is near 0 (the paper has the probability).
    """
    if reward is Reward.LOG_ODDS:
        return (math.log(bound / (1 - bound)) - prob_yes.logit(eps=1e-7)).clamp(min=0)
    return (bound - prob_yes).clamp(min=0)


def flow_matching(
    velocity: Callable[[Tensor, Tensor], Tensor], x_0_BLC: Tensor, noise_BLC: Tensor, t_B: Tensor
) -> Tensor:
    """||v(x_t, t) - (noise - x_0)||^2 at x_t = (1 - t) x_0 + t noise, a number of the latents, `loss_B`.

    The loss that flow editors were pretrained with (Lipman et al. 2023, Flow Matching for Generative Modeling).
    """
    t_B11 = t_B[:, None, None]
    velocity_BLC = velocity((1 - t_B11) * x_0_BLC + t_B11 * noise_BLC, t_B)
    return (velocity_BLC - (noise_BLC - x_0_BLC)).square().mean((1, 2))
