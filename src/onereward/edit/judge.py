"""The judge for two finished images: its answers as numbers, and never a number where it has none.

Shape legend: H W pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from onereward.edit.pictures import editable, to_rgb, upright
from onereward.models.device import default_device
from onereward.models.fingerprint import fingerprint_of
from onereward.models.load_judge import JudgeQuantize, load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.store.images import image_to_tensor
from onereward.terms import Dimension, Task, dimension_named, dimensions_of, task_named


class NoAnswerError(ValueError):
    """The judge computed something that is no number, so there is no score."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The judge's answer about a pair in one dimension; what is not finite is no score and raises NoAnswerError.

    `probability` that the first image is better is calibrated and of both orders: the swapped pair has 1 minus it.
    `log_odds_forward` shows the first image first, `log_odds_backward` last: log P(yes) - log P(no), as the judge says
    it. `outside_mass` is the probability of every other word, the mean of both orders.
    """

    probability: float
    log_odds_forward: float
    log_odds_backward: float
    outside_mass: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise NoAnswerError(f"the judge's answer is no number ({name} is {value}), so this pair has no score")


Scores = Mapping[Dimension, Score]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two images as the judge takes them, in [-1, 1] and each of its own size, and the query of each dimension."""

    first_3HW: Tensor
    second_3HW: Tensor
    queries: Mapping[Dimension, str]


class ImageJudge:
    """The judge for two finished images."""

    def __init__(self, model: QwenVLJudge) -> None:
        self.model = model
        self._signs = tuple(model.tokenizer.get_added_vocab())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides what it answers."""
        return fingerprint_of(self.model)

    def prob_better(
        self, first: Image.Image, second: Image.Image, task: Task | str, dimension: Dimension | str, prompt: str
    ) -> float:
        """P(the first image is better) in [0, 1], the `probability` of `scores`: swapping gives 1 minus it.

        Raises ValueError for an unknown task or dimension and for images of different sizes, NoAnswerError for none.
        """
        first, second = upright(first, "the first image"), upright(second, "the second image")
        if first.size != second.size:
            sizes = " and ".join(f"{image.width}x{image.height}" for image in (first, second))
            raise ValueError(f"the two images are {sizes}: give two edits of one image, or resize one to the other")
        [score] = self.scores(first, second, task, prompt, [dimension]).values()
        return score.probability

    def scores(
        self,
        first: Image.Image,
        second: Image.Image,
        task: Task | str,
        prompt: str = "",
        dimensions: Sequence[Dimension | str] = (),
    ) -> Scores:
        """The score of each dimension (default: all that apply), of images of any sizes.

        Raises ValueError for what the judge cannot be asked, NoAnswerError where it has no answer.
        """
        [answer] = self.score_each([self.pair(first, second, task, prompt, dimensions)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pair(
        self,
        first: Image.Image,
        second: Image.Image,
        task: Task | str,
        prompt: str = "",
        dimensions: Sequence[Dimension | str] = (),
    ) -> Pair:
        """What `score_each` takes, at most as large as the judge looks at; needs no device and changes nothing.

        Raises ValueError for damaged images, a side over 200 times the other, unknown words, a dimension that the task
        does not have, text alignment without a prompt, and a prompt with signs that mean something else to the judge.
        """
        task = task_named(task)
        signs = [sign for sign in self._signs if sign in prompt]
        if signs:
            raise ValueError(f"the prompt has the judge's own sign {signs[0]}: leave it out")
        return Pair(
            first_3HW=self._shown(first, "the first image"),
            second_3HW=self._shown(second, "the second image"),
            queries={
                dimension: build_query(task, dimension, prompt, self.model.contract.variant)
                for dimension in asked_dimensions(task, prompt, dimensions)
            },
        )

    def score_each(self, pairs: Sequence[Pair]) -> list[Scores | Exception]:
        """The scores of each pair, or the error that it meets, all asked at once.

        Where that fails the halves are asked, so that no pair fails another one.
        """
        if not pairs:
            return []
        try:
            return self._answers(pairs)
        except Exception as error:
            if len(pairs) == 1:
                return [error]
        half = len(pairs) // 2  # out here the error is gone, and with it the memory that it held
        return self.score_each(pairs[:half]) + self.score_each(pairs[half:])

    def _shown(self, image: Image.Image, name: str) -> Tensor:
        """An image_3HW; one of more pixels than the judge looks at is resized as its stock processor does it."""
        image = to_rgb(editable(upright(image, name)))
        try:
            height, width = self.model.pixels.target_size(image.height, image.width)
        except ValueError as error:
            raise ValueError(f"cannot show the judge {name} of {image.width}x{image.height}: {error}") from None
        if image.height * image.width > self.model.pixels.max_pixels:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return image_to_tensor(image)

    @torch.no_grad()
    def _answers(self, pairs: Sequence[Pair]) -> list[Scores | Exception]:
        orders = self.model.answer_both_orders(
            [pair.first_3HW for pair in pairs],
            [pair.second_3HW for pair in pairs],
            [list(pair.queries.values()) for pair in pairs],
        )
        forward_BK, backward_BK = (answers.log_odds_BK.tolist() for answers in orders)
        outside_BK = torch.stack([answers.outside_BK for answers in orders]).mean(0).clamp(min=0).tolist()
        return [
            self._scores(pair, forward_K, backward_K, outside_K)
            for pair, forward_K, backward_K, outside_K in zip(pairs, forward_BK, backward_BK, outside_BK, strict=True)
        ]

    def _scores(
        self, pair: Pair, forward_K: Sequence[float], backward_K: Sequence[float], outside_K: Sequence[float]
    ) -> Scores | Exception:
        """The numbers of one pair; lists are as long as those of the pair with the most queries."""
        try:
            return {
                dimension: Score(
                    probability=_sigmoid((forward - backward) / 2 / self.model.contract.temperature(dimension)),
                    log_odds_forward=forward,
                    log_odds_backward=backward,
                    outside_mass=outside,
                )
                for dimension, forward, backward, outside in zip(
                    pair.queries, forward_K, backward_K, outside_K, strict=False
                )
            }
        except NoAnswerError as error:
            return error


def asked_dimensions(task: Task, prompt: str, dimensions: Sequence[Dimension | str] = ()) -> tuple[Dimension, ...]:
    """The dimensions of those names, each once, or all that apply where there are none; ValueError for a wrong one."""
    asked = tuple(dict.fromkeys(map(dimension_named, dimensions)))
    for dimension in asked:
        build_query(task, dimension, prompt)  # refuses one that the task does not have
    if Dimension.TEXT_ALIGNMENT in asked and not prompt:
        raise ValueError("text_alignment asks whether an image shows what the prompt says: give the prompt")
    return asked or dimensions_of(task, prompt)


def load_judge(
    name_or_path: str, *, device: torch.device | str | None = None, quantize: JudgeQuantize | None = None
) -> ImageJudge:
    """The judge behind `toy`, a folder or a Hub repository; by default on the GPU if there is one.

    `quantize` keeps the language model's weights in 8 or 4 bits.
    """
    return ImageJudge(load_qwen_vl(name_or_path, device=device or default_device(), quantize=quantize))


def _sigmoid(value: float) -> float:
    """In double precision, where no value overflows and -x has exactly 1 minus what x has."""
    return (1 + math.tanh(value / 2)) / 2
