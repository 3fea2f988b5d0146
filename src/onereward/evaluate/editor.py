"""The stage `evaluate editor`: held-out triplets -> every editor's images, from the same noise -> scores.

Two folders, so that another scorer needs no new images: `edits/` holds one image an editor and triplet, `scores/` one
number an image and dimension. Two ends are edited along: `hole`, what an editor that did nothing would return, and,
where the truth is known, `ceiling`, the truth as the VAE lets it through.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from onereward.metrics.drift import drift_outside
from onereward.metrics.records import CEILING, HOLE, Edit, Score
from onereward.models.device import default_device, default_dtype
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
from onereward.models.load import Loader
from onereward.runtime.batches import batches_of
from onereward.seeds import seed_for, torch_generator
from onereward.store.images import decode_image, encode_png, image_to_tensor, tensor_to_image, triplet_tensors
from onereward.store.shards import Folder, Manifest, fingerprint, read_manifest, read_shard, run_stage
from onereward.terms import Dimension, Triplet

Truth = Callable[[Triplet], Image.Image]
"""The ideal edit of a triplet; a module-level function, so that worker processes can be told it."""


class Scorer(Protocol):
    """Scores one edit per dimension, in [0, 1], higher is better; `dead_band` is what counts as the same."""

    name: str
    revision: str  # changes whenever the same edit would get another score

    @property
    def dead_band(self) -> Mapping[Dimension, float]: ...

    def __call__(self, triplet: Triplet, image: Image.Image) -> dict[Dimension, float]: ...


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """Editors by name, the seed of the noise that they share, and the steps (None: each editor's contract says)."""

    editors: tuple[str, ...]
    ceiling: bool
    seed: int
    steps: int | None = None
    batch_size: int = 16


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """The scorer by name and revision, and its dead bands, which are part of what it says."""

    scorer: str
    revision: str
    dead_band: Mapping[Dimension, float]


@dataclass(frozen=True, kw_only=True)
class _Job:
    triplet: Triplet
    image_3HW: Tensor
    mask_1HW: Tensor


def edit_triplets(
    triplets: Folder,
    output: Folder,
    sources: Mapping[str, str],
    *,
    seed: int,
    steps: int | None = None,
    truth: Truth | None = None,
    load: Loader | None = None,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write an Edit of every triplet by every editor of `sources` (name -> what `load_flux_fill` takes).

    Sample by sample all editors start from the same noise. `load` loads them (default: onto the GPU if there is one).
    `progress` is told how many more shards are done.
    Raises ValueError for an empty or reserved set of names, and for triplets that are missing, changed or corrupt.
    """
    if not sources or {HOLE, CEILING} & sources.keys():
        raise ValueError(f"got editors {sorted(sources)}, expected one or more, none called {HOLE} or {CEILING}")
    manifest = read_manifest(triplets)
    config = EditConfig(editors=tuple(sources), ceiling=truth is not None, seed=seed, steps=steps)
    load = load or Loader(device=default_device(), dtype=default_dtype(default_device()))
    weights = {f"editor {name}": fingerprint_of(_editor(load, source)) for name, source in sources.items()}
    return run_stage(
        output,
        kind=Edit,
        stage="evaluate editor",
        config=config,
        inputs={"triplets": fingerprint(triplets), **weights},
        shard_count=len(manifest.shards),
        make_shard=partial(_edit_shard, triplets, manifest, config, dict(sources), truth, load),
        progress=progress,
        executor=executor,
    )


def score_edits(
    triplets: Folder,
    edits: Folder,
    output: Folder,
    scorer: Scorer,
    *,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a Score of every Edit in every dimension that `scorer` names for its triplet."""
    of_triplets, of_edits = read_manifest(triplets), read_manifest(edits)
    if of_edits.plan.inputs.get("triplets") != fingerprint(triplets):
        raise ValueError(f"{edits} was not made from the triplets in {triplets}: pass the triplets that were edited")
    return run_stage(
        output,
        kind=Score,
        stage="score",
        config=ScoreConfig(scorer=scorer.name, revision=scorer.revision, dead_band=dict(scorer.dead_band)),
        inputs={"edits": fingerprint(edits)},
        shard_count=len(of_edits.shards),
        make_shard=partial(_score_shard, triplets, of_triplets, edits, of_edits, scorer),
        progress=progress,
        executor=executor,
    )


def _edit_shard(
    triplets: Folder,
    manifest: Manifest,
    config: EditConfig,
    sources: Mapping[str, str],
    truth: Truth | None,
    load: Loader,
    index: int,
) -> list[Edit]:
    """The edits of one shard of triplets, editor by editor, each in the triplets' order."""
    jobs = [_job(triplet) for triplet in read_shard(triplets, Triplet, manifest, index)]
    edits = [_pasted(job, HOLE, _emptied(job), config.seed) for job in jobs]
    for name in config.editors:
        outputs = _repainted(_editor(load, sources[name]), jobs, config)
        edits += [_pasted(job, name, outputs[job.triplet.id], config.seed) for job in jobs]
    if truth is not None:
        vae_owner = _editor(load, sources[config.editors[0]])
        edits += [_pasted(job, CEILING, _through_vae(vae_owner, truth(job.triplet)), config.seed) for job in jobs]
    return edits


@cache
def _editor(load: Loader, source: str) -> FluxFill:
    """One editor a source and process: a worker keeps it over its shards."""
    return load(source)


def _job(triplet: Triplet) -> _Job:
    image_3HW, mask_1HW = triplet_tensors(triplet)
    return _Job(triplet=triplet, image_3HW=image_3HW, mask_1HW=mask_1HW)


def _repainted(editor: FluxFill, jobs: Sequence[_Job], config: EditConfig) -> dict[str, Tensor]:
    """Triplet id -> the editor's whole image_3HW, before paste-back."""
    outputs = {}
    for batch in batches_of(jobs, config.batch_size, lambda job: job.image_3HW.shape):
        images_B3HW = editor.repaint(
            torch.stack([job.image_3HW for job in batch]),
            torch.stack([job.mask_1HW for job in batch]),
            [editor.contract.prompt_for(job.triplet.task, job.triplet.prompt) for job in batch],
            [torch_generator(config.seed, job.triplet.id, "evaluate") for job in batch],
            steps=config.steps,
        )
        outputs.update({job.triplet.id: image for job, image in zip(batch, images_B3HW.cpu(), strict=True)})
    return outputs


def _emptied(job: _Job) -> Tensor:
    """The source with a mid-grey hole, image_3HW."""
    return job.image_3HW * (1 - job.mask_1HW)


@torch.no_grad()
def _through_vae(editor: FluxFill, image: Image.Image) -> Tensor:
    """Encoded and decoded again, image_3HW."""
    image_B3HW = image_to_tensor(image)[None].to(editor.device, editor.vae.dtype)
    decoded: Tensor = editor.vae.decode(editor.vae.encode(image_B3HW).latent_dist.mode()).sample
    return decoded[0].float().cpu()


def _pasted(job: _Job, editor: str, output_3HW: Tensor, seed: int) -> Edit:
    """The output inside the mask and the source outside, with how far the output had drifted there."""
    source, output = (np.asarray(tensor_to_image(image_3HW)) for image_3HW in (job.image_3HW, output_3HW))
    mask_HW = job.mask_1HW[0].numpy() > 0
    pasted = Image.fromarray(np.where(mask_HW[..., None], output, source))
    return Edit(
        triplet_id=job.triplet.id,
        task=job.triplet.task,
        prompt=job.triplet.prompt,
        editor=editor,
        image=encode_png(pasted),
        drift=drift_outside(source, output, mask_HW),
        seed=seed_for(seed, job.triplet.id, "evaluate"),
    )


def _score_shard(
    triplets: Folder, of_triplets: Manifest, edits: Folder, of_edits: Manifest, scorer: Scorer, index: int
) -> list[Score]:
    by_id = {triplet.id: triplet for triplet in read_shard(triplets, Triplet, of_triplets, index)}
    return [
        Score(
            triplet_id=edit.triplet_id,
            task=edit.task,
            dimension=dimension,
            editor=edit.editor,
            scorer=scorer.name,
            value=value,
            dead_band=scorer.dead_band[dimension],
        )
        for edit in read_shard(edits, Edit, of_edits, index)
        for dimension, value in scorer(by_id[edit.triplet_id], decode_image(edit.image)).items()
    ]
