"""Candidates of some triplets: jobs that share steps, true CFG and size run as one batch.

Shape legend: B batch, H W pixels, L latent tokens, C token channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onereward.generate.settings import GenerateConfig, Settings, draw_settings
from onereward.models.flux_fill import FluxFill
from onereward.runtime.batches import batches_of
from onereward.store.images import encode_png, tensor_to_image, triplet_tensors
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
    for batch in batches_of(jobs, config.batch_size, _alike):
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
    image_3HW, mask_1HW = triplet_tensors(triplet)
    height, width = mask_1HW.shape[1:]
    multiple = editor.contract.size_multiple
    if width % multiple or height % multiple:
        raise ValueError(
            f"{triplet.id}: the image is {width}x{height}, expected sides in multiples of {multiple}: "
            "crop or resize image and mask"
        )
    prompt = editor.contract.prompt_for(triplet.task, triplet.prompt)
    for index in range(config.candidates):
        settings = draw_settings(config, triplet.id, index)
        yield _Job(
            triplet_id=triplet.id,
            index=index,
            settings=settings,
            prompt=prompt if settings.prompted else "",
            image_3HW=image_3HW,
            mask_1HW=mask_1HW,
        )


def _alike(job: _Job) -> tuple[int, bool, torch.Size]:
    """Equal steps and size; jobs without true CFG apart, since they need one pass where others need two."""
    return job.settings.steps, job.settings.true_cfg > 1, job.image_3HW.shape


def _edit(editor: FluxFill, batch: Sequence[_Job]) -> Tensor:
    """image_B3HW as a user would see it: repainted inside the mask, the source's pixels outside."""
    image_B3HW = torch.stack([job.image_3HW for job in batch])
    mask_B1HW = torch.stack([job.mask_1HW for job in batch])
    settings = [job.settings for job in batch]
    edited_B3HW = editor.repaint(
        image_B3HW,
        mask_B1HW,
        [job.prompt for job in batch],
        [torch.Generator().manual_seed(drawn.seed) for drawn in settings],
        steps=settings[0].steps,
        guidance=[drawn.guidance for drawn in settings],
        true_cfg=[drawn.true_cfg for drawn in settings],
        noise_scale=[drawn.noise_scale for drawn in settings],
    )
    return torch.where(mask_B1HW > 0, edited_B3HW.cpu(), image_B3HW)
