"""The optimizer step: parts add up, a large gradient is clipped, a step that is not finite is refused."""

import pytest
import torch
from torch import nn

from onereward.runtime.update import NonFiniteError, Updater


def updater_of(layer: nn.Linear, clip: float = 1e9) -> Updater:
    return Updater(layer.parameters(), learning_rate=0.1, weight_decay=0.0, clip=clip)


def layer_of(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_the_parts_of_a_batch_add_up_and_the_first_adam_step_is_the_rate() -> None:
    layer = layer_of(1.0)
    updater = updater_of(layer)
    updater(layer.weight.sum() * factor for factor in (1.0, 2.0))
    assert updater.last.loss == pytest.approx(3.0)
    assert updater.last.grad_norm == pytest.approx(3.0)
    assert layer.weight.item() == pytest.approx(0.9)


def test_the_norm_is_reported_before_clipping() -> None:
    layer = layer_of(1.0)
    updater = updater_of(layer, clip=0.5)
    updater(iter([3 * layer.weight.sum()]))
    assert updater.last.grad_norm == pytest.approx(3.0)
    assert layer.weight.grad is not None and layer.weight.grad.item() == pytest.approx(0.5)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(factor: float) -> None:
    layer = layer_of(1.0)
    with pytest.raises(NonFiniteError, match="the step was not taken"):
        updater_of(layer)(iter([factor * layer.weight.sum()]))
    assert torch.equal(layer.weight, torch.ones(1, 1))
