"""One optimizer step: backward, accumulation, clipping, AdamW or Muon; shared by both trainings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.tensor import DTensor

from onereward.runtime.shard import is_sharded


class NonFiniteError(ValueError):
    """A loss or a gradient was infinite or not a number; the weights have not been touched by it."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What the last step did: the global batch's loss and the gradient's norm before clipping."""

    loss: float
    grad_norm: float


class Optimizer(StrEnum):
    """AdamW for everything, or Muon for the matrices of linear layers and AdamW for the rest.

    Muon learns a small model in half as many steps; it also magnifies rounding, since it works in bfloat16.
    """

    ADAMW = "adamw"
    MUON = "muon"


class Updater:
    """Trains a module's parameters that take a gradient; `clip` is the largest gradient norm let through.

    `phase` is told what begins (see `Phases`).
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        clip: float,
        optimizer: Optimizer = Optimizer.ADAMW,
        phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    ) -> None:
        self._phase = phase
        self._module = module
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._clip = clip
        matrices = _matrices(module) if optimizer is Optimizer.MUON else []
        chosen = {id(matrix) for matrix in matrices}
        rest = [parameter for parameter in self._parameters if id(parameter) not in chosen]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=learning_rate, weight_decay=weight_decay)
        ]
        if matrices:
            self._optimizers.append(
                torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        self.last = Update(loss=0.0, grad_norm=0.0)

    def set_learning_rate(self, learning_rate: float) -> None:
        """From the next step on."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        if is_sharded(self._module):
            return get_optimizer_state_dict(self._module, self._optimizers)
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a checkpoint of the same module and optimizer."""
        if is_sharded(self._module):
            set_optimizer_state_dict(self._module, self._optimizers, optim_state_dict=state)
            return
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def __call__(self, losses: Iterator[Tensor]) -> None:
        """Descend the sum of `losses`, the parts of one global batch, each taken only when the last is out of memory.

        Raises NonFiniteError, before any weight changes, for a loss or a gradient that is not finite.
        """
        self._zero_grad()
        total = 0.0
        for loss in losses:
            with self._phase("backward"):
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.item()
        with self._phase("optimizer"):
            norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
            grad_norm = (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
        if not torch.tensor([total, grad_norm]).isfinite().all():
            self._zero_grad()
            raise NonFiniteError(
                f"the loss is {total} and the gradient's norm {grad_norm}, so the step was not taken: look at the last "
                "lines of log.jsonl, then run the same command again to go on from the last checkpoint; if it ends "
                "here again, begin anew with a lower learning rate"
            )
        with self._phase("optimizer"):
            for optimizer in self._optimizers:
                optimizer.step()
        self.last = Update(loss=total, grad_norm=grad_norm)

    def _zero_grad(self) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)


def _matrices(module: nn.Module) -> list[Tensor]:
    """The trained weights of linear layers, save one that is tied to an embedding (an output layer's)."""
    tied = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    linear = [part.weight for part in module.modules() if isinstance(part, nn.Linear)]
    return [weight for weight in linear if weight.requires_grad and id(weight) not in tied]
