"""Pixels reach the judge as the stock image processor would send them, with a gradient."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.load_judge import MAX_PIXELS
from onereward.models.qwen_pixels import PixelRules, grid_thw, patches_of, to_patches
from onereward.store.images import image_to_tensor
from onereward.toy.judge_model import toy_image_processor
from tests.tiny_judge import QWEN3_PIXELS

PROCESSORS = {
    "qwen2.5": Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": MAX_PIXELS}),
    "qwen3": Qwen2VLImageProcessorPil(**QWEN3_PIXELS, size={"shortest_edge": 256 * 256, "longest_edge": MAX_PIXELS}),
    "toy": toy_image_processor(),
}
TOLERANCE = 0.017
"""Above 1.125 grey levels at the smallest standard deviation: the most that rounding twice can do (`to_patches`)."""


def _sizes(count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Height and width from 28 to 700, every fifth at 1:20."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        height, width = (int(side) for side in generator.integers(28, 701, 2))
        if number % 5 == 0:
            height = int(generator.integers(28, 36))
            width = 20 * height
        yield (width, height) if number % 2 else (height, width)


def _noise(height: int, width: int) -> Image.Image:
    levels: NDArray[np.uint8] = np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )
    return Image.fromarray(levels)


def _differences(processor: Qwen2VLImageProcessorPil, image: Image.Image) -> Tensor:
    """How far our patches of an image are from the stock processor's, in normalised units; the grids are equal."""
    rules = PixelRules.of(processor, MAX_PIXELS)
    stock = processor([image], return_tensors="pt")
    ours, grids = patches_of([image_to_tensor(image)], rules)
    assert torch.equal(grid_thw(grids, rules), stock["image_grid_thw"])
    assert ours.dtype == stock["pixel_values"].dtype == torch.float32
    return (ours - stock["pixel_values"]).abs()


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_without_a_resize_every_bit_is_the_stock_processor_s(processor: Qwen2VLImageProcessorPil) -> None:
    """50 sizes that it takes as they are, each a multiple of its token's side; wide, tall and square."""
    rules = PixelRules.of(processor, MAX_PIXELS)
    side, compared = rules.patch_size * rules.merge_size, 0
    for size in _sizes(200, seed=1):
        height, width = (round(length / side) * side for length in size)
        if height and width and rules.target_size(height, width) == (height, width) and compared < 50:
            compared += 1
            assert _differences(processor, _noise(height, width)).max() == 0
    assert compared == 50


@pytest.mark.parametrize(("name", "side"), [("qwen2.5", 224), ("qwen3", 448), ("toy", 224)])
def test_every_grey_level_of_every_channel_is_exact(name: str, side: int) -> None:
    """256 levels through the tensors in [-1, 1] that the store makes, in single and in double precision."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tile = np.stack([ramp, ramp.T, ramp[::-1]], axis=2)
    image = Image.fromarray(np.tile(tile, (side // 16, side // 16, 1)))
    assert _differences(PROCESSORS[name], image).max() == 0
    rules = PixelRules.of(PROCESSORS[name], MAX_PIXELS)
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].double()
    double = to_patches(levels / 127.5 - 1, rules)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (rules.mean, rules.std))
    assert torch.equal(double.unique(), ((levels / 255 - mean) / std).unique())
    assert (double[0] - PROCESSORS[name]([image], return_tensors="pt")["pixel_values"]).abs().max() < 1e-6


def test_what_is_not_whole_stays_between_the_levels() -> None:
    """Only rounding is undone: an editor's images keep every difference that has a gradient."""
    rules = PixelRules.of(PROCESSORS["toy"], MAX_PIXELS)
    levels = torch.arange(200.0, 202.0, 1 / 512).reshape(1, 1, 32, 32).expand(1, 3, 32, 32)
    patches = to_patches(levels / 127.5 - 1, rules)[..., 0::128]
    assert all(len(patches[..., channel].unique()) > 1 for channel in range(3))
    assert len(to_patches(levels / 127.5 - 1, rules)[..., :128].unique()) == 1024


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_a_resize_is_pillow_s_on_noise(processor: Qwen2VLImageProcessorPil) -> None:
    """50 random sizes; noise, because smooth images hide a wrong kernel."""
    worst, differing, half, total, resized = 0.0, 0, 0, 0, set()
    level = 1 / 255 / max(processor.image_std)
    for size in _sizes(50, seed=0):
        differences = _differences(processor, _noise(*size))
        worst = max(worst, float(differences.max()))
        differing, total = differing + int((differences > 0).sum()), total + differences.numel()
        half += int((differences > level / 2).sum())
        tall, wide = PixelRules.of(processor, MAX_PIXELS).target_size(*size)
        resized.add((np.sign(tall - size[0]), np.sign(wide - size[1])))
    print(f"50 random sizes, {total} values: {differing / total:.1%} differ, at most by {worst:.5f}")
    print(f"{half / total:.1%} by more than half a grey level")
    assert worst <= TOLERANCE
    assert resized >= {(-1, -1), (1, 1)} and resized & {(1, -1), (-1, 1)}, "every way of resizing was to be there"


def _rules(minimum: int, maximum: int) -> PixelRules:
    """Patches of 2x2, merged 2x2: small enough for whole Jacobians."""
    return PixelRules(
        patch_size=2,
        merge_size=2,
        temporal_patch_size=2,
        min_pixels=minimum,
        max_pixels=maximum,
        mean=(0.48, 0.45, 0.4),
        std=(0.27, 0.26, 0.28),
    )


@pytest.mark.parametrize(
    ("size", "limits", "resized"),
    [
        ((8, 12), (16, 400), (8, 12)),
        ((5, 23), (16, 400), (4, 24)),
        ((10, 6), (16, 400), (8, 8)),
        ((5, 7), (100, 400), (12, 12)),
        ((15, 9), (16, 64), (8, 4)),
        ((4, 37), (16, 80), (4, 24)),
    ],
    ids=["as-it-is", "shrinks-and-grows", "grows-and-shrinks", "grows", "shrinks", "one-side"],
)
@pytest.mark.parametrize("reach", [0.6, 1.3], ids=["in-range", "clamped"])
def test_the_gradient_is_the_derivative(
    size: tuple[int, int], limits: tuple[int, int], resized: tuple[int, int], reach: float
) -> None:
    """Numerically, in double precision, on noise; `clamped` noise leaves the range of grey levels."""
    rules = _rules(*limits)
    assert rules.target_size(*size) == resized
    generator = torch.Generator().manual_seed(0)
    image = ((torch.rand(1, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1) * reach).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: to_patches(one, rules), (image,), eps=1e-7, atol=1e-6)
    (gradient,) = torch.autograd.grad(to_patches(image, rules).square().sum(), image)
    assert (gradient[image.abs() > 1] == 0).all()
    assert (gradient[image.abs() < 1] != 0).all() or reach > 1


def test_half_precision_is_read_in_single() -> None:
    """An autoencoder under autocast gives bfloat16: nothing more is lost than it has lost already."""
    rules = PixelRules.of(PROCESSORS["toy"], MAX_PIXELS)
    image = image_to_tensor(_noise(50, 60))[None].bfloat16()
    assert torch.equal(to_patches(image, rules), to_patches(image.float(), rules))


def test_a_list_of_any_sizes_is_each_image_alone() -> None:
    rules = PixelRules.of(PROCESSORS["qwen2.5"], MAX_PIXELS)
    images = [image_to_tensor(_noise(*size)) for size in ((50, 80), (300, 40), (56, 56))]
    patches, grids = patches_of(images, rules)
    assert grids == [(2, 3), (11, 1), (2, 2)]
    assert torch.equal(patches, torch.cat([to_patches(image[None], rules)[0] for image in images]))
    assert grid_thw(grids, rules).tolist() == [[1, 4, 6], [1, 22, 2], [1, 4, 4]]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(list(PROCESSORS)))
def test_every_size_fits_its_limits_or_is_refused(height: int, width: int, name: str) -> None:
    rules = PixelRules.of(PROCESSORS[name], MAX_PIXELS)
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(ValueError, match="aspect ratio"):
            rules.target_size(height, width)
        return
    tall, wide = rules.target_size(height, width)
    rows, columns = rules.merged_grid(height, width)
    side = rules.patch_size * rules.merge_size
    assert (rows * side, columns * side) == (tall, wide)
    assert rows * columns * side * side >= rules.min_pixels
    assert tall * wide <= rules.max_pixels or min(rows, columns) == 1


def test_max_pixels_lowers_the_processors_limit_only() -> None:
    assert PixelRules.of(Qwen2VLImageProcessorPil(), 448 * 448).target_size(1000, 1000) == (448, 448)
    small = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 4})
    assert PixelRules.of(small, 448 * 448).target_size(1000, 1000) == (56, 56)
    below = PixelRules.of(PROCESSORS["qwen3"], 128 * 128)
    assert below.target_size(1000, 1000) == below.target_size(20, 20) == (128, 128)


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_rules_survive_the_stock_processor(processor: Qwen2VLImageProcessorPil) -> None:
    rules = PixelRules.of(processor, MAX_PIXELS)
    assert PixelRules.of(rules.to_processor(), MAX_PIXELS) == rules
