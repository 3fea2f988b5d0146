"""Line 14 of Algorithm 1 with numbers worked by hand."""

import pytest
import torch
from torch import nn

from onereward.ema import frozen_copy, update_average


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_line_14_by_hand() -> None:
    # tau .9: .9 * 1 + .1 * 3 = 1.2, then .9 * 1.2 + .1 * 3 = 1.38.
    policy, average = one_weight(3.0), frozen_copy(one_weight(1.0))
    update_average(average, policy, 0.9)
    assert average.weight.item() == pytest.approx(1.2)
    update_average(average, policy, 0.9)
    assert average.weight.item() == pytest.approx(1.38)
    assert policy.weight.item() == 3.0


def test_a_bfloat16_policy_keeps_a_float32_average() -> None:
    policy, average = one_weight(1.0).bfloat16(), frozen_copy(one_weight(0.0))
    for _ in range(100):
        update_average(average, policy, 0.999)
    assert average.weight.item() == pytest.approx(1 - 0.999**100, rel=1e-4)


def test_a_bfloat16_average_is_refused() -> None:
    with pytest.raises(ValueError, match=r"average of weight is torch.bfloat16, expected torch.float32"):
        update_average(frozen_copy(one_weight(0.0)).bfloat16(), one_weight(1.0), 0.9)


def test_frozen_parameters_are_left_alone() -> None:
    policy, average = one_weight(3.0).requires_grad_(False), frozen_copy(one_weight(1.0))
    update_average(average, policy, 0.9)
    assert average.weight.item() == 1.0


def test_a_frozen_copy_shares_no_memory_and_takes_no_gradient() -> None:
    policy = one_weight(3.0)
    copy = frozen_copy(policy)
    assert copy.weight.data_ptr() != policy.weight.data_ptr()
    assert not copy.weight.requires_grad and policy.weight.requires_grad
    assert not copy.training
    assert torch.equal(copy.weight, policy.weight)
