"""The moving average of the policy: pi_ema of Algorithms 1 and 2; and one of a judge's weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

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


class WeightAverage:
    """A moving average of what a module trains, kept beside it: sharded where the module is, and of its precision."""

    def __init__(self, module: nn.Module) -> None:
        self._trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._values = {name: parameter.detach().clone() for name, parameter in self._trained.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """average <- decay average + (1 - decay) weights."""
        for name, parameter in self._trained.items():
            self._values[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the module has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._trained.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._values[name])
            self._values[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dict(self._values)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        """Go on from a checkpoint of the same module."""
        for name, value in self._values.items():
            value.copy_(state[name])
