"""Candidates of some triplets: jobs that share steps, true CFG and size run as one batch.

Shape legend: B batch, H W pixels, L latent tokens, C token channels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onereward.flow.sample import denoise
from onereward.generate.settings import GenerateConfig, Settings, draw_settings
from onereward.models.flux_fill import FluxFill
from onereward.store.images import (
    decode_image,
    decode_mask,
    encode_png,
    image_to_tensor,
    mask_to_tensor,
    tensor_to_image,
)
from onereward.terms import Candidate, Triplet


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One candidate to make."""

    triplet_id: str
    index: int
    settings: Settings
    prompt: str
    image_3HW: Tensor
    mask_1HW: Tensor


def make_candidates(
    editor: FluxFill, editor_name: str, triplets: Sequence[Triplet], config: GenerateConfig
) -> list[Candidate]:
    """`config.candidates` candidates of each triplet, in the triplets' order, then by index.

    Each sample's noise is its own, so its image does not depend on what shares its batch (beyond float rounding).
    Raises ValueError for a corrupt image and for a mask of another size.
    """
    jobs = [job for triplet in triplets for job in _jobs_of(triplet, editor, config)]
    images: dict[tuple[str, int], bytes] = {}
    for batch in _batches(jobs, config.batch_size):
        edited_B3HW = _edit(editor, batch)
        for job, edited_3HW in zip(batch, edited_B3HW, strict=True):
            images[job.triplet_id, job.index] = encode_png(tensor_to_image(edited_3HW))
    return [
        Candidate(
            triplet_id=job.triplet_id,
            index=job.index,
            image=images[job.triplet_id, job.index],
            editor=editor_name,
            seed=job.settings.seed,
            settings=job.settings.to_json(),
        )
        for job in jobs
    ]


def _jobs_of(triplet: Triplet, editor: FluxFill, config: GenerateConfig) -> Iterator[_Job]:
    image = decode_image(triplet.image, f"the image of {triplet.id}")
    mask = decode_mask(triplet.mask, f"the mask of {triplet.id}")
    if image.size != mask.size:
        raise ValueError(
            f"{triplet.id}: the mask is {mask.width}x{mask.height}, expected the image's {image.width}x{image.height}: "
            "draw the mask on the image itself"
        )
    multiple = editor.contract.size_multiple
    if image.width % multiple or image.height % multiple:
        raise ValueError(
            f"{triplet.id}: the image is {image.width}x{image.height}, expected sides in multiples of {multiple}: "
            "crop or resize image and mask"
        )
    image_3HW, mask_1HW = image_to_tensor(image), mask_to_tensor(mask)
    for index in range(config.candidates):
        yield _Job(
            triplet_id=triplet.id,
            index=index,
            settings=draw_settings(config, triplet.id, index),
            prompt=editor.contract.prompt_for(triplet.task, triplet.prompt),
            image_3HW=image_3HW,
            mask_1HW=mask_1HW,
        )


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[list[_Job]]:
    """Jobs with equal steps and size; those without true CFG apart, since they need one pass where others need two."""
    groups: dict[tuple[int, bool, torch.Size], list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[job.settings.steps, job.settings.true_cfg > 1, job.image_3HW.shape].append(job)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


@torch.no_grad()
def _edit(editor: FluxFill, batch: Sequence[_Job]) -> Tensor:
    """image_B3HW as a user would see it: repainted inside the mask, the source's pixels outside."""
    image_B3HW = torch.stack([job.image_3HW for job in batch])
    mask_B1HW = torch.stack([job.mask_1HW for job in batch])
    settings = [job.settings for job in batch]
    condition = editor.encode(
        image_B3HW,
        mask_B1HW,
        [job.prompt for job in batch],
        guidance=[drawn.guidance for drawn in settings],
        true_cfg=[drawn.true_cfg for drawn in settings],
    )
    noise_BLC = editor.noise(condition, [(drawn.seed, "candidate") for drawn in settings])
    scale_B = torch.tensor([drawn.noise_scale for drawn in settings], device=noise_BLC.device)
    times = editor.times(condition, settings[0].steps)
    latents_BLC = denoise(
        lambda latents, t_B: editor.velocity(latents, t_B, condition), noise_BLC * scale_B[:, None, None], times
    )
    edited_B3HW = editor.decode(latents_BLC, condition).cpu()
    return torch.where(mask_B1HW > 0, edited_B3HW, image_B3HW)
