"""One image of any size and a mask in, the edited image out; and the judge for two finished images.

The editor sees a region around the mask at a size that suits it; what comes back is pasted inside the mask, so every
other pixel is the input's. Shape legend: B batch, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy
import torch
from PIL import Image, ImageOps

from onereward.models.contract import Contract
from onereward.models.device import default_device, default_dtype
from onereward.models.flux_fill import FluxFill
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.store.images import MASK_THRESHOLD, image_to_tensor, mask_to_tensor, plain_mask, tensor_to_image
from onereward.terms import Dimension, Task

_CONTEXT = 1.75
"""How much an editor is shown at least if the image has it, in multiples of the hole's sides."""

_KEPT_MODES = ("L", "LA", "RGB", "RGBA")


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """One edit to make; `guidance` and `true_cfg` default to the editor's contract, `seed` is the stock pipeline's."""

    image: Image.Image
    mask: Image.Image
    prompt: str
    task: Task
    seed: int = 0
    guidance: float | None = None
    true_cfg: float | None = None


@dataclass(frozen=True, kw_only=True)
class Borders:
    """How many pixels an extend adds on each side."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    @staticmethod
    def to_size(size: tuple[int, int], wanted: tuple[int, int]) -> "Borders":
        """What makes an image of `size` (width, height) the wanted size, the image in the middle.

        Raises ValueError if the wanted size is smaller than the image.
        """
        wider, higher = wanted[0] - size[0], wanted[1] - size[1]
        if wider < 0 or higher < 0:
            got = f"{wanted[0]}x{wanted[1]} for an image of {size[0]}x{size[1]}"
            raise ValueError(f"an extend only adds pixels, got {got}: ask for a larger size or crop the image first")
        return Borders(left=wider // 2, right=wider - wider // 2, top=higher // 2, bottom=higher - higher // 2)

    @staticmethod
    def to_ratio(size: tuple[int, int], ratio: tuple[int, int]) -> "Borders":
        """The least that gives an image of `size` the ratio width : height (rounded up), the image in the middle."""
        (width, height), (wide, high) = size, ratio
        return Borders.to_size(size, (max(width, ceil(height * wide / high)), max(height, ceil(width * high / wide))))


class ImageEditor:
    """An editor for pictures as people have them: any size, upright after EXIF, grey or with transparency."""

    def __init__(self, model: FluxFill) -> None:
        self.model = model

    def edit(
        self,
        image: Image.Image,
        mask: Image.Image,
        prompt: str,
        task: Task | str,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        true_cfg: float | None = None,
        negative_prompt: str | None = None,
    ) -> Image.Image:
        """The image repainted where the mask is white, in the image's size and mode, other pixels untouched.

        What is None comes from the editor's contract. A removal, and an extend without a prompt, use the contract's
        words. Raises ValueError for an unknown task, an unreadable image, an empty mask or one of another size.
        """
        asked = EditRequest(
            image=image, mask=mask, prompt=prompt, task=as_task(task), seed=seed, guidance=guidance, true_cfg=true_cfg
        )
        return self.edit_batch([asked], steps=steps, negative_prompt=negative_prompt)[0]

    def edit_batch(
        self,
        edits: Sequence[EditRequest],
        *,
        steps: int | None = None,
        negative_prompt: str | None = None,
        on_step: Callable[[], object] | None = None,
    ) -> list[Image.Image]:
        """Several edits at once, in order; those that the editor sees at one size go through it in one batch.

        An edit's noise depends on its own seed alone; `on_step` is called after each sampling step of each batch.
        """
        contract = self.model.contract
        prepared = [_Prepared.of(edit, contract) for edit in edits]
        by_index: dict[int, Image.Image] = {}
        for size in dict.fromkeys(one.region.size for one in prepared):
            indices = [index for index, one in enumerate(prepared) if one.region.size == size]
            images_B3HW = self.model.repaint(
                torch.stack([image_to_tensor(prepared[i].seen_image) for i in indices]),
                torch.stack([mask_to_tensor(prepared[i].seen_mask) for i in indices]),
                [contract.prompt_for(edits[i].task, edits[i].prompt) for i in indices],
                [torch.Generator().manual_seed(edits[i].seed) for i in indices],
                steps=steps,
                guidance=[_or(edits[i].guidance, contract.guidance) for i in indices],
                true_cfg=[_or(edits[i].true_cfg, contract.true_cfg) for i in indices],
                negative_prompt=negative_prompt,
                on_step=on_step,
            )
            by_index |= {
                i: prepared[i].paste(tensor_to_image(new)) for i, new in zip(indices, images_B3HW, strict=True)
            }
        return [by_index[index] for index in range(len(edits))]


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
        query = build_query(as_task(task), as_dimension(dimension), prompt)
        device = self.model.model.device
        first_B3HW, second_B3HW = (image_to_tensor(image)[None].to(device) for image in (first, second))
        forward, backward = self.model.log_odds_both_orders(first_B3HW, second_B3HW, [[query]])
        return float(((forward - backward) / 2).sigmoid())


def load_editor(
    name_or_path: str,
    *,
    base: str | None = None,
    lora: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageEditor:
    """The editor behind `toy`, a folder, a Hub repository or `repo:subfolder` (see `models.load.load_flux_fill`).

    By default on the GPU in bfloat16 if there is one, else on the CPU in float32.
    """
    device = torch.device(device or default_device())
    dtype = dtype or default_dtype(device)
    return ImageEditor(load_flux_fill(name_or_path, base=base, lora=lora, device=device, dtype=dtype))


def load_judge(name_or_path: str, *, device: torch.device | str | None = None) -> ImageJudge:
    """The judge behind `toy`, a folder or a Hub repository; by default on the GPU if there is one."""
    return ImageJudge(load_qwen_vl(name_or_path, device=device or default_device()))


def as_task(name: Task | str) -> Task:
    """The task of that name; raises ValueError, listing the tasks, for another."""
    if name not in list(Task):
        raise ValueError(f"unknown task {str(name)!r}; the tasks are {', '.join(Task)}")
    return Task(name)


def as_dimension(name: Dimension | str) -> Dimension:
    """The dimension of that name; raises ValueError, listing the dimensions, for another."""
    if name not in list(Dimension):
        raise ValueError(f"unknown dimension {str(name)!r}; the dimensions are {', '.join(Dimension)}")
    return Dimension(name)


def upright(image: Image.Image, name: str) -> Image.Image:
    """The image loaded and turned as its EXIF says; raises ValueError, calling it `name`, if its file is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read {name}: {error}; replace it by a whole PNG or JPEG file") from error


def picture_and_mask(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Both as an edit takes them: upright, the image L, LA, RGB or RGBA, the mask 0 and 255.

    Raises ValueError for a damaged file, 16-bit pixels, a mask of another size and an empty one.
    """
    image, mask = _plain(upright(image, "the image")), upright(mask, "the mask")
    if mask.size != image.size:
        sizes = f"{mask.width}x{mask.height} and the image {image.width}x{image.height}"
        raise ValueError(f"the mask is {sizes} (upright): draw the mask on the image or resize it to fit")
    binary = plain_mask(mask).point([255 if level >= MASK_THRESHOLD else 0 for level in range(256)])
    if binary.getbbox() is None:
        raise ValueError("the mask is empty: paint white what should be repainted")
    return image, binary


def extend_canvas(image: Image.Image, borders: Borders) -> tuple[Image.Image, Image.Image]:
    """The larger canvas with the (upright) image on it, and the mask of what is new, for an edit with task `extend`.

    Raises ValueError if a border is negative or all are 0.
    """
    sides = (borders.left, borders.right, borders.top, borders.bottom)
    if min(sides) < 0 or max(sides) == 0:
        raise ValueError(f"got {borders}: no side may be negative and one at least must be above 0")
    image = _plain(upright(image, "the image"))
    size = image.width + borders.left + borders.right, image.height + borders.top + borders.bottom
    canvas, mask = Image.new(image.mode, size), Image.new("L", size, 255)
    canvas.paste(image, (borders.left, borders.top))
    mask.paste(0, (borders.left, borders.top, borders.left + image.width, borders.top + image.height))
    canvas.info = image.info
    return canvas, mask


@dataclass(frozen=True, kw_only=True)
class _Region:
    """What the editor is shown: a box of the image, which may stick out of it, and the size it is shown at."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]  # never larger than the box

    @staticmethod
    def of(mask: Image.Image, contract: Contract) -> "_Region":
        """The hole with context: a square at the editor's native size, or all that `max_pixels` can hold."""
        (width, height), hole = mask.size, mask.getbbox()
        assert hole is not None
        across, down = hole[2] - hole[0], hole[3] - hole[1]
        if contract.native_size is not None:
            wide = high = max(contract.native_size, min(ceil(_CONTEXT * max(across, down)), max(width, height)))
            size = contract.native_size, contract.native_size
        else:
            multiple, full = contract.size_multiple, sqrt(width * height / contract.max_pixels)
            part = min(1.0, max(1 / full, _CONTEXT * across / width, _CONTEXT * down / height))
            shrink = max(1.0, round(part * full, 6))  # rounded, so that 1 is 1
            wide, high = (ceil(part * length / multiple) * multiple for length in (width, height))
            size = _at_most(wide / shrink, multiple), _at_most(high / shrink, multiple)
        left, top = _start(hole[0], hole[2], wide, width), _start(hole[1], hole[3], high, height)
        return _Region(left=left, top=top, width=wide, height=high, size=size)

    def cut(self, image: Image.Image) -> Image.Image:
        """The box, at its own size; beyond the edges the image is mirrored."""
        rows = _mirrored(self.top, self.height, image.height)
        columns = _mirrored(self.left, self.width, image.width)
        return Image.fromarray(numpy.asarray(image)[rows][:, columns])

    def show(self, image: Image.Image) -> Image.Image:
        """The box of an RGB image at the editor's size.

        Each pixel goes into one box: a wider filter would draw colours of the hole into pixels that are not masked.
        """
        return self.cut(image).resize(self.size, Image.Resampling.BOX)

    def show_mask(self, mask: Image.Image) -> Image.Image:
        """The box of the mask at the editor's size, white where any white pixel falls."""
        share = numpy.asarray(self.cut(mask).convert("F").resize(self.size, Image.Resampling.BOX))
        return Image.fromarray((share > 0).astype(numpy.uint8) * 255)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """An edit checked and cut to what the editor is shown."""

    image: Image.Image
    mask: Image.Image
    region: _Region
    seen_image: Image.Image
    seen_mask: Image.Image

    @staticmethod
    def of(edit: EditRequest, contract: Contract) -> "_Prepared":
        if not 0 <= edit.seed < 2**63:
            raise ValueError(f"got seed {edit.seed}, expected a whole number from 0 up to 2^63 - 1")
        image, mask = picture_and_mask(edit.image, edit.mask)
        region = _Region.of(mask, contract)
        return _Prepared(
            image=image,
            mask=mask,
            region=region,
            seen_image=region.show(image.convert("RGB")),
            seen_mask=region.show_mask(mask),
        )

    def paste(self, new: Image.Image) -> Image.Image:
        """The image with `new`, the editor's view of the region, inside the mask; what is new is opaque."""
        box = (self.region.width, self.region.height)
        if new.size != box:
            new = new.resize(box, Image.Resampling.LANCZOS)
        layer = Image.new(self.image.mode, self.image.size)
        layer.paste(new.convert(self.image.mode), (self.region.left, self.region.top))
        result = self.image.copy()
        result.paste(layer, mask=self.mask)
        return result


def _start(low: int, high: int, side: int, length: int) -> int:
    """Where a stretch of `side` begins that has [low, high) in its middle and, if it fits, stays within the image."""
    if side > length:
        return (length - side) // 2
    return min(max((low + high - side) // 2, 0), length - side)


def _at_most(length: float, multiple: int) -> int:
    """The largest positive multiple up to `length`, or one `multiple`."""
    return max(multiple, int(length) // multiple * multiple)


def _mirrored(start: int, count: int, length: int) -> "numpy.ndarray[tuple[int], numpy.dtype[numpy.int_]]":
    """Indices start .. start + count - 1 into `length` pixels, folded back at both ends."""
    folded = numpy.arange(start, start + count) % (2 * length)
    return numpy.where(folded < length, folded, 2 * length - 1 - folded)


def _plain(image: Image.Image) -> Image.Image:
    """The image as grey or RGB, with or without alpha, 8 bits; raises ValueError for deeper pixels."""
    if image.mode in _KEPT_MODES and "transparency" not in image.info:
        return image
    if image.mode[0] in "IF":
        raise ValueError(f"the image has {image.mode} pixels, expected 8 bits a channel: convert it to RGB or L first")
    converted = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
    converted.info.pop("icc_profile", None)  # it described the old mode
    return converted


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
