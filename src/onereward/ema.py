"""The moving average of the policy: pi_ema of Algorithms 1 and 2."""

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def frozen_copy(module: ModuleT) -> ModuleT:
    """A copy in memory of its own, without gradients, in evaluation mode."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, policy: nn.Module, decay: float) -> None:
    """pi_ema <- tau pi_ema + (1 - tau) pi_theta over the trained parameters (line 14 of Algorithm 1).

    The average must be float32: with tau near 1 a bfloat16 one rounds every change away and stands still.
    """
    averaged = dict(average.named_parameters())
    for name, parameter in policy.named_parameters():
        if not parameter.requires_grad:
            continue
        if averaged[name].dtype is not torch.float32:
            raise ValueError(f"the average of {name} is {averaged[name].dtype}, expected torch.float32")
        averaged[name].lerp_(parameter.to(averaged[name]), 1 - decay)
