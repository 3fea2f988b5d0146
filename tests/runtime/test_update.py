"""The optimizer step: parts add up, a large gradient is clipped, a step that is not finite is refused."""

import pytest
import torch
from torch import nn

from onereward.runtime.update import NonFiniteError, Optimizer, Updater


def updater_of(layer: nn.Linear, clip: float = 1e9) -> Updater:
    return Updater(layer, learning_rate=0.1, weight_decay=0.0, clip=clip)


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


def test_muon_moves_a_matrix_along_its_nearest_orthogonal_one_and_adamw_the_rest() -> None:
    """With a diagonal gradient every direction moves alike, scaled as AdamW's root mean square (.2 sqrt(4) * rate)."""
    layer = nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    bias = layer.bias.detach().clone()
    updater = Updater(layer, learning_rate=0.1, weight_decay=0.0, clip=1e9, optimizer=Optimizer.MUON)
    gradient = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    updater(iter([(layer.weight * gradient).sum() + layer.bias.sum()]))
    moved = before - layer.weight.detach()
    assert torch.allclose(moved, torch.eye(4) * 0.1 * 0.2 * 2, atol=0.02)
    assert torch.allclose(bias - layer.bias.detach(), torch.full((4,), 0.1), atol=1e-4)


def test_muon_leaves_an_output_layer_tied_to_an_embedding_to_adamw() -> None:
    tied = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    updater = Updater(tied, learning_rate=0.1, weight_decay=0.0, clip=1e9, optimizer=Optimizer.MUON)
    assert len(updater.state_dict()["optimizers"]) == 1
