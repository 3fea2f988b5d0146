"""An editor and a judge whose phases are timed, so that the algorithm knows of no clock."""

from typing import Any

import torch
from torch import Tensor

from onereward.models.base import Editor, Judge, Transformer
from onereward.runtime.phases import Phases


class TimedEditor:
    """An editor whose phases are timed; it computes as the one inside does."""

    def __init__(self, editor: Editor, policy: Transformer, phases: Phases) -> None:
        self._editor, self._policy, self._phases = editor, policy, phases
        self.encode, self.noise, self.times, self.latents = editor.encode, editor.noise, editor.times, editor.latents
        self.cached = editor.cached

    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, condition: Any, *, transformer: Transformer | None = None
    ) -> Tensor:
        graded = torch.is_grad_enabled()
        name = "graded step" if graded else "policy rollout" if transformer == self._policy else "regulariser"
        with self._phases.phase(name):
            return self._editor.velocity(latents_BLC, t_B, condition, transformer=transformer)

    def decode(self, latents_BLC: Tensor, condition: Any) -> Tensor:
        with self._phases.phase("decode"):
            return self._editor.decode(latents_BLC, condition)


class TimedJudge:
    """A judge whose answers are timed."""

    def __init__(self, judge: Judge, phases: Phases) -> None:
        self._judge, self._phases = judge, phases

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._judge, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self._phases.phase("judge"):
                return ask(*arguments, **options)

        return timed
