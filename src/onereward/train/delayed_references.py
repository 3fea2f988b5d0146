"""Algorithm 2 against an average that is some steps old, always as many: so references can be made beforehand.

Version v is the average after step v, version 0 the start. Step s is to beat version max(0, s - 1 - staleness); with a
staleness of 0 that is the latest, as the paper has it. No clock enters this rule: references made here, by actors
elsewhere, or after a resume are the same ones.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from onereward.ema import WeightCopy
from onereward.rl_terms import Batch

Weights = Mapping[str, Tensor]


class PastAverages:
    """The present average and the `staleness` before it; the latter are a part of the checkpoint.

    They lie on the device of `average`, sharded as it is. Make it when that will not be replaced any more.
    """

    def __init__(self, average: WeightCopy, staleness: int) -> None:
        self.staleness = staleness
        self._average = average
        self._past = deque((self._copied() for _ in range(staleness)), maxlen=staleness)  # version 0, each its own
        self._now: Weights | None = None

    def keep(self) -> bool:
        """Before the first step and after each; true the first time and the first after a checkpoint was loaded."""
        begins = self._now is None
        if self._now is not None:
            self._past.append(self._now)
        self._now = self._copied()
        return begins

    def oldest_first(self) -> list[Weights]:
        """What the next step is to beat, what the one after it, ... the present average."""
        assert self._now is not None, "keep() comes before the first step"
        return [*self._past, self._now]

    @contextmanager
    def oldest_in_place(self) -> Iterator[None]:
        """Inside, the average is the oldest one that is kept."""
        present, self._average.values = self._average.values, dict(self.oldest_first()[0])
        try:
            yield
        finally:
            self._average.values = present

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {str(place): dict(weights) for place, weights in enumerate(self._past)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a checkpoint of the same training."""
        for place, weights in enumerate(self._past):
            for name, weight in weights.items():
                weight.copy_(state[str(place)][name])
        self._now = None

    def _copied(self) -> Weights:
        return {name: weight.detach().clone() for name, weight in self._average.values.items()}


class DelayedReferences:
    """References by the rule above, made in this process by `make`, which goes by the average."""

    def __init__(self, make: Callable[[Batch], Tensor], averages: PastAverages) -> None:
        self._make, self._averages = make, averages

    @contextmanager
    def running(self, done: int) -> Iterator[None]:
        """Inside, the steps after `done` are taken."""
        self._averages.keep()
        yield

    def __call__(self, batch: Batch) -> Tensor:
        """image_reference_B3HW."""
        with self._averages.oldest_in_place():
            return self._make(batch)

    def advance(self, done: int) -> int:
        """After step `done` and whatever was loaded since; returns by how many versions its reference was late."""
        self._averages.keep()
        return min(self._averages.staleness, done - 1)
