"""Line 14 of Algorithm 1 with numbers worked by hand, and copies of weights that change places with the module's."""

import pytest
import torch
from torch import Tensor, nn

from onereward.ema import WeightCopy, update_average


def one(value: float) -> dict[str, Tensor]:
    return {"weight": torch.tensor([value])}


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_line_14_by_hand() -> None:
    # tau .9: .9 * 1 + .1 * 3 = 1.2, then .9 * 1.2 + .1 * 3 = 1.38.
    policy, average = one(3.0), one(1.0)
    update_average(average, policy, 0.9)
    assert average["weight"].item() == pytest.approx(1.2)
    update_average(average, policy, 0.9)
    assert average["weight"].item() == pytest.approx(1.38)
    assert policy["weight"].item() == 3.0


def test_a_bfloat16_policy_keeps_a_float32_average() -> None:
    policy, average = {"weight": torch.tensor([1.0], dtype=torch.bfloat16)}, one(0.0)
    for _ in range(100):
        update_average(average, policy, 0.999)
    assert average["weight"].item() == pytest.approx(1 - 0.999**100, rel=1e-4)


def test_a_bfloat16_average_is_refused() -> None:
    with pytest.raises(ValueError, match=r"average of weight is torch.bfloat16, expected torch.float32"):
        update_average({"weight": torch.zeros(1, dtype=torch.bfloat16)}, one(1.0), 0.9)


def test_a_copy_follows_what_is_trained_and_nothing_else() -> None:
    module = nn.Sequential(one_weight(1.0), one_weight(1.0).requires_grad_(False))
    copy = WeightCopy(module)
    with torch.no_grad():
        for layer in module:
            layer.weight.fill_(3.0)
    copy.update(0.9)
    assert {name: value.item() for name, value in copy.values.items()} == {"0.weight": pytest.approx(1.2)}


def test_inside_the_module_has_the_copys_values_and_outside_its_own_in_the_same_memory() -> None:
    module = one_weight(1.0)
    copy, place = WeightCopy(module), module.weight.data_ptr()
    with torch.no_grad():
        module.weight.fill_(3.0)
    with copy.in_place():
        assert module.weight.item() == 1.0 and copy.values["weight"].item() == 3.0
    assert module.weight.item() == 3.0 and copy.values["weight"].item() == 1.0
    assert module.weight.data_ptr() == place


def test_an_offloaded_copy_lends_the_module_values_and_keeps_its_own() -> None:
    module = one_weight(1.0)
    copy, place = WeightCopy(module, offload=True), module.weight.data_ptr()
    kept = copy.values["weight"]
    with torch.no_grad():
        module.weight.fill_(3.0)
    with copy.in_place():
        assert module.weight.item() == 1.0 and module.weight.data_ptr() not in (place, kept.data_ptr())
        with torch.no_grad():
            module.weight.fill_(7.0)  # what is done to the lent values is lost with them
    assert (module.weight.item(), module.weight.data_ptr()) == (3.0, place)
    assert copy.values["weight"] is kept and kept.item() == 1.0
    copy.update(0.5)
    assert kept.item() == 2.0


def test_a_rollout_with_the_copy_leaves_the_policys_gradient_alone() -> None:
    # d (w x)^2 / dw = 2 w x^2 = 2 * 3 * 4 = 24 at w = 3, x = 2; between forward and backward the copy had its turn.
    module = one_weight(1.0)
    copy = WeightCopy(module)
    with torch.no_grad():
        module.weight.fill_(3.0)
    loss = module(torch.tensor([[2.0]])).square().sum()
    with copy.in_place(), torch.no_grad():
        assert module(torch.tensor([[2.0]])).item() == 2.0
    loss.backward()
    assert module.weight.grad is not None and module.weight.grad.item() == pytest.approx(24.0)
