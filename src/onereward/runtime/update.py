"""One optimizer step: backward, accumulation, clipping, AdamW; shared by both trainings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class NonFiniteError(ValueError):
    """A loss or a gradient was infinite or not a number; the weights have not been touched by it."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What the last step did: the global batch's loss and the gradient's norm before clipping."""

    loss: float
    grad_norm: float


class Updater:
    """AdamW on the parameters that take a gradient; `clip` is the largest gradient norm let through."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float, clip: float
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._clip = clip
        self.optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=weight_decay)
        self.last = Update(loss=0.0, grad_norm=0.0)

    def __call__(self, losses: Iterator[Tensor]) -> None:
        """Descend the sum of `losses`, the parts of one global batch, each taken only when the last is out of memory.

        Raises NonFiniteError, before any weight changes, for a loss or a gradient that is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.item()
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._clip).item()
        if not torch.tensor([total, grad_norm]).isfinite().all():
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(
                f"the loss is {total} and the gradient's norm {grad_norm}, so the step was not taken: look at the last "
                "lines of log.jsonl, then run on from the last checkpoint's folder with a lower learning rate"
            )
        self.optimizer.step()
        self.last = Update(loss=total, grad_norm=grad_norm)
