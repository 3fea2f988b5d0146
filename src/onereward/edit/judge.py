"""The judge for two finished images."""

import torch
from PIL import Image

from onereward.edit.pictures import editable, to_rgb, upright
from onereward.models.device import default_device
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.store.images import image_to_tensor
from onereward.terms import Dimension, Task, dimension_named, task_named


class ImageJudge:
    """The judge for two finished images."""

    def __init__(self, model: QwenVLJudge) -> None:
        self.model = model

    @torch.no_grad()
    def prob_better(
        self, first: Image.Image, second: Image.Image, task: Task | str, dimension: Dimension | str, prompt: str
    ) -> float:
        """P(the first image is better) in [0, 1], the mean log-odds of both orders: swapping gives 1 minus it.

        Raises ValueError for an unknown task or dimension and for images of different sizes.
        """
        first, second = upright(first, "the first image"), upright(second, "the second image")
        if first.size != second.size:
            sizes = " and ".join(f"{image.width}x{image.height}" for image in (first, second))
            raise ValueError(f"the two images are {sizes}: give two edits of one image, or resize one to the other")
        query = build_query(task_named(task), dimension_named(dimension), prompt)
        device = self.model.model.device
        first_B3HW, second_B3HW = (
            image_to_tensor(to_rgb(editable(image)))[None].to(device) for image in (first, second)
        )
        forward, backward = self.model.log_odds_both_orders(first_B3HW, second_B3HW, [[query]])
        return float(((forward - backward) / 2).sigmoid())


def load_judge(name_or_path: str, *, device: torch.device | str | None = None) -> ImageJudge:
    """The judge behind `toy`, a folder or a Hub repository; by default on the GPU if there is one."""
    return ImageJudge(load_qwen_vl(name_or_path, device=device or default_device()))
