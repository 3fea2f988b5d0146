"""One image of any size and a mask in, the edited image out.

The editor sees a region of the picture at a size that suits it; what comes back is pasted inside the mask, so every
other pixel is the input's. Shape legend: B batch, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from onereward.edit.jobs import EditRequest
from onereward.edit.pictures import blend, from_rgb, picture_and_mask, to_rgb
from onereward.edit.regions import Fit, Region
from onereward.models.contract import Contract
from onereward.models.device import default_device, default_dtype
from onereward.models.execution import Execution
from onereward.models.flux_fill import FluxFill
from onereward.models.load import Loader
from onereward.runtime.batches import batches_of
from onereward.store.images import image_to_tensor, mask_to_tensor, tensor_to_image
from onereward.terms import Task, task_named


class ImageEditor:
    """An editor for pictures as people have them: any size, upright after EXIF, grey, transparent or of 16 bits."""

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
        fit: Fit | str = Fit.CROP,
        feather: int = 0,
    ) -> Image.Image:
        """The image repainted where the mask is white, in the image's size and mode, other pixels untouched.

        What is None comes from the editor's contract. A removal, and an extend without a prompt, use the contract's
        words. Raises ValueError for an unknown task, an unreadable image, an empty mask or one of another size.
        """
        asked = EditRequest(
            image=image,
            mask=mask,
            prompt=prompt,
            task=task_named(task),
            seed=seed,
            steps=steps,
            guidance=guidance,
            true_cfg=true_cfg,
            negative_prompt=negative_prompt,
            fit=Fit(fit),
            feather=feather,
        )
        return self.edit_batch([asked])[0]

    def edit_batch(
        self,
        edits: Sequence[EditRequest],
        *,
        batch_size: int | None = None,
        on_step: Callable[[], object] | None = None,
    ) -> list[Image.Image]:
        """Several edits at once, in order; those that the editor sees at one size with equal steps share a batch.

        An edit's noise depends on its own seed alone; `on_step` is called after each sampling step of each batch.
        """
        prepared = [_Prepared.of(edit, self.model.contract) for edit in edits]
        done: dict[int, Image.Image] = {}
        for batch in batches_of(range(len(edits)), batch_size or len(edits), lambda index: prepared[index].alike):
            done |= zip(batch, self._repaint([prepared[index] for index in batch], on_step), strict=True)
        return [done[index] for index in range(len(edits))]

    def _repaint(self, batch: Sequence["_Prepared"], on_step: Callable[[], object] | None) -> list[Image.Image]:
        images_B3HW = self.model.repaint(
            torch.stack([image_to_tensor(one.seen_image) for one in batch]),
            torch.stack([mask_to_tensor(one.seen_mask) for one in batch]),
            [one.prompt for one in batch],
            [torch.Generator().manual_seed(one.seed) for one in batch],
            steps=batch[0].steps,
            guidance=[one.guidance for one in batch],
            true_cfg=[one.true_cfg for one in batch],
            negative_prompt=[one.negative_prompt for one in batch],
            on_step=on_step,
        )
        return [one.paste(tensor_to_image(new_3HW)) for one, new_3HW in zip(batch, images_B3HW, strict=True)]


def load_editor(
    name_or_path: str,
    *,
    base: str | None = None,
    lora: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    execution: Execution | None = None,
) -> ImageEditor:
    """The editor behind `toy`, a folder, a Hub repository or `repo:subfolder` (see `models.load.load_flux_fill`).

    By default on the GPU in bfloat16 if there is one, else on the CPU in float32; `execution` says how it runs there
    (quantized, offloaded, compiled).
    """
    device = torch.device(device or default_device())
    loader = Loader(
        device=device, dtype=dtype or default_dtype(device), base=base, lora=lora, execution=execution or Execution()
    )
    return load_with(loader, name_or_path)


def load_with(loader: Loader, name_or_path: str) -> ImageEditor:
    """The editor that the loader finds under a name: picklable with both, for worker processes."""
    return ImageEditor(loader(name_or_path))


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """An edit checked, its settings filled in from the contract, cut to what the editor is shown."""

    image: Image.Image
    mask: Image.Image
    region: Region
    seen_image: Image.Image
    seen_mask: Image.Image
    prompt: str
    seed: int
    steps: int
    guidance: float
    true_cfg: float
    negative_prompt: str
    feather: int

    @staticmethod
    def of(edit: EditRequest, contract: Contract) -> "_Prepared":
        if not 0 <= edit.seed < 2**63:
            raise ValueError(f"got seed {edit.seed}, expected a whole number from 0 up to 2^63 - 1")
        if edit.feather < 0:
            raise ValueError(f"got a feather of {edit.feather} pixels, expected 0 (a hard edge) or more")
        image, mask = picture_and_mask(edit.image, edit.mask)
        region = Region.of(mask, contract, edit.fit)
        return _Prepared(
            image=image,
            mask=mask,
            region=region,
            seen_image=region.show(to_rgb(image)),
            seen_mask=region.show_mask(mask),
            prompt=contract.prompt_for(edit.task, edit.prompt),
            seed=edit.seed,
            steps=contract.steps if edit.steps is None else edit.steps,
            guidance=contract.guidance if edit.guidance is None else edit.guidance,
            true_cfg=contract.true_cfg if edit.true_cfg is None else edit.true_cfg,
            negative_prompt=contract.negative_prompt if edit.negative_prompt is None else edit.negative_prompt,
            feather=edit.feather,
        )

    @property
    def alike(self) -> tuple[tuple[int, int], int, bool]:
        """What edits of one batch have in common; those without true CFG need one pass where others need two."""
        return self.region.size, self.steps, self.true_cfg > 1

    def paste(self, new: Image.Image) -> Image.Image:
        """The image with `new`, the editor's view of the region, inside the mask; what is new is opaque."""
        share = (numpy.asarray(self.mask) > 0).astype(numpy.float64)
        if self.feather and not share.all():
            # Whole at `feather` pixels from the nearest one outside; the picture's own edge is no edge of the mask.
            share = numpy.minimum(distance_transform_edt(share) / (self.feather + 1), 1.0)
        layer = from_rgb(self.region.put_back(new, self.image.size), self.image.mode)
        return blend(layer, self.image, share)
