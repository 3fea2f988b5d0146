"""Pairs to score, and a judge that answers a batch when the test lets it, or fails where it is told to."""

import threading
from collections.abc import Sequence
from typing import Any

import torch

from onereward.edit.jobs import data_url
from onereward.edit.judge import ImageJudge, Pair, Scores
from onereward.models.qwen_vl import QwenVLJudge
from onereward.serve.scorer_bodies import Question
from onereward.terms import Dimension, Task
from tests.pictures import noise
from tests.serve.edits import file_of

STRUCTURE = (Dimension.STRUCTURE,)
FIRST, SECOND = file_of(noise(40, 32)), file_of(noise(41, 32))
FILES = {"first": FIRST, "second": SECOND}
PAIR: dict[str, Any] = {
    "first": data_url(FIRST),
    "second": data_url(SECOND),
    "task": "fill",
    "prompt": "a red star",
    "dimension": ["structure"],
}
FIELDS = {"task": "fill", "prompt": "a red star", "dimension": "structure"}


def question(width: int = 40, task: Task = Task.FILL, prompt: str = "", dimensions: Any = STRUCTURE) -> Question:
    """About two pictures of noise, the first `width` wide."""
    first, second = (data_url(file_of(noise(size, 32))) for size in (width, width + 1))
    return Question(first=first, second=second, task=task, prompt=prompt, dimensions=dimensions)


class GatedJudge:
    """A real judge that answers a batch only when the test lets it; `batches` are the sizes of those asked."""

    def __init__(self, judge: ImageJudge) -> None:
        self._judge = judge
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def score_each(self, pairs: Sequence[Pair]) -> list[Scores | Exception]:
        self.batches.append(len(pairs))
        self.entered.release()
        assert self.gate.acquire(timeout=20)
        return self._judge.score_each(pairs)


class FailingModel:
    """A real judge's model that fails when it is shown an image of one width, and is lost for words about another."""

    def __init__(self, model: QwenVLJudge, *, fails_on: int = -1, no_number_of: int = -1) -> None:
        self._model, self._fails_on, self._no_number_of = model, fails_on, no_number_of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def answer_both_orders(self, first: Sequence[torch.Tensor], *rest: Any) -> Any:
        widths = [image.shape[-1] for image in first]
        if self._fails_on in widths:
            raise RuntimeError("/secret/place")
        orders = self._model.answer_both_orders(first, *rest)
        for place, width in enumerate(widths):
            if width == self._no_number_of:
                orders[1].log_yes_BK[place, 0] = torch.inf
        return orders
