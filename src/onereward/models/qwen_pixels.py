"""From images to a Qwen-VL's patches, differentiably, equal to the stock image processor on uint8 images.

Shape legend: B batch, H W pixels, N patches of one image (2x2 merge blocks together), D numbers of a patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize


@dataclass(frozen=True, kw_only=True)
class PixelRules:
    """What a checkpoint's `preprocessor_config.json` says about pixels; `mean` and `std` are of RGB in [0, 1]."""

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: Qwen2VLImageProcessorPil, max_pixels: int) -> "PixelRules":
        """The processor's rules, its limit on pixels lowered to `max_pixels`."""
        longest = min(int(processor.size["longest_edge"]), max_pixels)
        return cls(
            patch_size=int(processor.patch_size),
            merge_size=int(processor.merge_size),
            temporal_patch_size=int(processor.temporal_patch_size),
            min_pixels=min(int(processor.size["shortest_edge"]), longest),
            max_pixels=longest,
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
        )

    def to_processor(self) -> Qwen2VLImageProcessorPil:
        """The stock processor that these rules describe."""
        return Qwen2VLImageProcessorPil(
            patch_size=self.patch_size,
            merge_size=self.merge_size,
            temporal_patch_size=self.temporal_patch_size,
            size={"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels},
            image_mean=list(self.mean),
            image_std=list(self.std),
        )

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width the judge sees: multiples of patch x merge within the limits; ValueError beyond 200:1."""
        factor = self.patch_size * self.merge_size
        resized: tuple[int, int] = smart_resize(height, width, factor, self.min_pixels, self.max_pixels)
        return resized

    def merged_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the language model's tokens for an image of this size."""
        factor = self.patch_size * self.merge_size
        tall, wide = self.target_size(height, width)
        return tall // factor, wide // factor


def to_patches(image_B3HW: Tensor, rules: PixelRules) -> Tensor:
    """patches_BND of images in [-1, 1] (clamped): resized, normalised, both temporal copies equal.

    On whole grey levels bit for bit those of the stock processor where nothing is resized; resized within 1.125 levels,
    for it rounds after each of the two passes (half a level, the first half times the 1.25 of the kernel).
    """
    grey = _resize(_grey(image_B3HW), *rules.target_size(*image_B3HW.shape[-2:]))
    mean = grey.new_tensor(rules.mean)[:, None, None]
    std = grey.new_tensor(rules.std)[:, None, None]
    patches = rearrange(
        (grey / 255 - mean) / std,
        "b c (gh mh ph) (gw mw pw) -> b (gh gw mh mw) c ph pw",
        mh=rules.merge_size,
        mw=rules.merge_size,
        ph=rules.patch_size,
        pw=rules.patch_size,
    )
    return repeat(patches, "b n c ph pw -> b n (c t ph pw)", t=rules.temporal_patch_size)


def _grey(image_B3HW: Tensor) -> Tensor:
    """Levels from 0 to 255, in float32 or double; what rounding alone keeps from a whole level is put on it."""
    at_least_single = torch.promote_types(image_B3HW.dtype, torch.float32)
    grey = ((image_B3HW.to(at_least_single) + 1) * 127.5).clamp(0, 255)
    missing = grey.detach().round() - grey.detach()
    return grey + missing.where(missing.abs() <= 255 * torch.finfo(grey.dtype).eps, 0)


def _resize(grey_B3HW: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic as Pillow 12 does it: horizontally, then vertically, clamped to [0, 255] after each pass."""
    for size in ((grey_B3HW.shape[-2], width), (height, width)):
        if size != tuple(grey_B3HW.shape[-2:]):
            grey_B3HW = functional.interpolate(grey_B3HW, size, mode="bicubic", antialias=True).clamp(0, 255)
    return grey_B3HW


Images = Tensor | Sequence[Tensor]
"""Images in [-1, 1]: one image_B3HW, or a list of image_3HW of any sizes."""


def patches_of(images: Images, rules: PixelRules) -> tuple[Tensor, list[tuple[int, int]]]:
    """patches_ND of all images, one after the other, and the rows and columns of tokens that each of them takes.

    Raises ValueError for what is no image in [-1, 1] and for sides of more than 200:1.
    """
    for image in images:
        if image.shape[:-2] != (3,) or not image.is_floating_point():
            raise ValueError(
                f"got an image of shape {tuple(image.shape)} and {image.dtype}, expected 3 x height x width floats in "
                "[-1, 1] (store.images.image_to_tensor makes them)"
            )
    grids = [rules.merged_grid(*image.shape[-2:]) for image in images]
    if isinstance(images, Tensor):
        return to_patches(images, rules).flatten(0, 1), grids
    if len({image.shape for image in images}) == 1:
        return to_patches(torch.stack(tuple(images)), rules).flatten(0, 1), grids
    return torch.cat([to_patches(image[None], rules)[0] for image in images]), grids


def grid_thw(grids: Sequence[tuple[int, int]], rules: PixelRules) -> Tensor:
    """`image_grid_thw` of images that take `grids` tokens: frames, rows and columns of patches."""
    merge = rules.merge_size
    return torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
