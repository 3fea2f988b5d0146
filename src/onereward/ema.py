"""The moving average of what is trained: pi_ema of Algorithms 1 and 2, and a judge's; and other copies of weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def update_average(averaged: Mapping[str, Tensor], trained: Mapping[str, Tensor], decay: float) -> None:
    """pi_ema <- tau pi_ema + (1 - tau) pi_theta, tensor by tensor of equal names (line 14 of Algorithm 1).

    The average must be float32 or finer: with tau near 1 a bfloat16 one rounds every change away and stands still.
    """
    for name, weight in trained.items():
        if averaged[name].dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the average of {name} is {averaged[name].dtype}, expected torch.float32")
        averaged[name].lerp_(weight.to(averaged[name]), 1 - decay)


class WeightCopy:
    """Second values of what a module trains, kept beside it: an average, or how it was; sharded where the module is.

    With `offload` they lie in the CPU's memory, and come to the module's device only while they are in place.
    """

    def __init__(self, module: nn.Module, *, offload: bool = False) -> None:
        self._trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._offload = offload
        self.values: dict[str, Tensor] = {
            name: each.detach().to("cpu" if offload else each.device, copy=True) for name, each in self._trained.items()
        }

    def update(self, decay: float) -> None:
        """value <- decay value + (1 - decay) weight."""
        update_average(self.values, self._trained, decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the module has these values for weights."""
        away = self.values
        self.values = {name: self._here(name, value) for name, value in away.items()}
        self._exchange()
        try:
            yield
        finally:
            self._exchange()
            self.values = away

    def _here(self, name: str, value: Tensor) -> Tensor:
        """What can be the parameter's memory; a part of a split one is copied into it instead."""
        if not self._offload or isinstance(value, DTensor):
            return value
        return value.to(self._trained[name].device, copy=True)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._trained.items():
            value = self.values[name]
            if isinstance(parameter, DTensor):  # what splits a module looks at this memory, so it stays in its place
                kept = parameter.detach().clone()
                parameter.copy_(value)
                value.copy_(kept)
            else:
                parameter.data, self.values[name] = value, parameter.data

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dict(self.values)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        """Go on from a checkpoint of the same module."""
        for name, value in self.values.items():
            value.copy_(state[name])
