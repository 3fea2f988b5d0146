"""Pixels reach the judge as the stock image processor would send them, with a gradient."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.qwen_pixels import PixelRules, grid_thw, to_patches
from onereward.toy.judge_model import toy_image_processor

LEVEL = 1 / 255 / 0.26  # one grey level after normalisation, for the smallest of CLIP's standard deviations


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def _ours(image: np.ndarray, rules: PixelRules) -> torch.Tensor:
    image_1CHW = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 127.5 - 1
    return to_patches(image_1CHW, rules)[0]


@pytest.mark.parametrize(
    ("processor", "size"),
    [(toy_image_processor(), (64, 64)), (toy_image_processor(), (48, 160)), (Qwen2VLImageProcessorPil(), (112, 336))],
    ids=["toy", "toy-wide", "qwen"],
)
def test_no_resize_equals_stock(processor: Qwen2VLImageProcessorPil, size: tuple[int, int]) -> None:
    image = _noise(*size)
    rules = PixelRules.of(processor, 448 * 448)
    assert rules.target_size(*size) == size
    stock = processor([Image.fromarray(image)], return_tensors="pt")
    assert (_ours(image, rules) - stock["pixel_values"]).abs().max() < 1e-5
    assert torch.equal(grid_thw([rules.merged_grid(*size)], rules), stock["image_grid_thw"])


@pytest.mark.parametrize("size", [(200, 150), (100, 333), (60, 90), (500, 450), (30, 30)])
def test_resize_equals_pillow_on_noise(size: tuple[int, int]) -> None:
    """Smaller, larger and mixed; noise, because smooth images hide a wrong kernel."""
    image = _noise(*size)
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 224 * 224})
    rules = PixelRules.of(processor, 448 * 448)
    stock = processor([Image.fromarray(image)], return_tensors="pt")
    assert torch.equal(grid_thw([rules.merged_grid(*size)], rules), stock["image_grid_thw"])
    assert (_ours(image, rules) - stock["pixel_values"]).abs().max() < 1.1 * LEVEL


def test_gradient_reaches_every_pixel_that_is_in_range() -> None:
    image = (torch.rand(1, 3, 50, 60, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9).requires_grad_()
    to_patches(image, PixelRules.of(Qwen2VLImageProcessorPil(), 448 * 448)).square().sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).all()


def test_max_pixels_lowers_the_processors_limit_only() -> None:
    assert PixelRules.of(Qwen2VLImageProcessorPil(), 448 * 448).target_size(1000, 1000) == (448, 448)
    small = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 4})
    assert PixelRules.of(small, 448 * 448).target_size(1000, 1000) == (56, 56)
