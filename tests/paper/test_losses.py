"""Eq. 3 and Eq. 5 with numbers worked by hand."""

import math

import pytest
import torch

from onereward.losses import judge_loss, reward_hinge


def log_odds(prob_yes: float) -> torch.Tensor:
    return torch.tensor(math.log(prob_yes / (1 - prob_yes)), dtype=torch.float64)


def test_equation_3_by_hand() -> None:
    # Winner first: P(yes) = .8. Loser first: P(yes) = .4, so P(no) = .6. -1/2 (ln .8 + ln .6) = .366985...
    loss = judge_loss(log_odds(0.8), log_odds(0.4))
    assert loss.item() == pytest.approx(0.3669845875401002, abs=1e-12)


def test_equation_3_is_an_expectation_over_preferences() -> None:
    # Both orders undecided: ln 2. One preference as above, one undecided: their mean.
    forward = torch.stack([log_odds(0.8), log_odds(0.5)])
    backward = torch.stack([log_odds(0.4), log_odds(0.5)])
    assert judge_loss(forward, backward).item() == pytest.approx((0.3669845875401002 + math.log(2)) / 2, abs=1e-12)
    weight = torch.tensor([3.0, 1.0], dtype=torch.float64)
    expected = (3 * 0.3669845875401002 + math.log(2)) / 4
    assert judge_loss(forward, backward, weight).item() == pytest.approx(expected, abs=1e-12)


def test_equation_3_gradient_by_hand() -> None:
    # d/dz of -1/2 log sigmoid(z) is -(1 - P(yes)) / 2 = -.1; of -1/2 log sigmoid(-z) it is P(yes) / 2 = .2.
    forward, backward = log_odds(0.8).requires_grad_(), log_odds(0.4).requires_grad_()
    judge_loss(forward, backward).backward()
    assert forward.grad is not None and backward.grad is not None
    assert forward.grad.item() == pytest.approx(-0.1)
    assert backward.grad.item() == pytest.approx(0.2)


def test_equation_5_by_hand() -> None:
    # lambda .6: P(yes) .25 lacks .35; .6 and .9 have reached the bound.
    prob = torch.tensor([0.25, 0.6, 0.9], requires_grad=True)
    hinge = reward_hinge(prob, 0.6)
    assert hinge.tolist() == pytest.approx([0.35, 0.0, 0.0])


def test_equation_5_is_descended_and_lets_saturated_rewards_go() -> None:
    prob = torch.tensor([0.25, 0.9], requires_grad=True)
    reward_hinge(prob, 0.6).sum().backward()
    assert prob.grad is not None
    assert prob.grad.tolist() == [-1.0, 0.0]
