"""The stage `select`: pool -> representative triplets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy
from numpy.typing import NDArray
from PIL import Image

from onereward.select.representatives import choose_representatives
from onereward.store.images import decode_image
from onereward.store.shards import (
    Folder,
    Manifest,
    fingerprint,
    read_manifest,
    read_shard,
    run_stage,
    shard_ranges,
)
from onereward.terms import Task, Triplet

Embed = Callable[[Sequence[Image.Image]], NDArray[numpy.float32]]
"""RGB images -> embedding_ND, one row an image."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """`count` triplets, `per_cluster` from each K-means cluster; `clip` names the embedding."""

    count: int
    clip: str
    per_cluster: int = 1
    seed: int = 0
    shard_size: int = 32


def select(
    pool: Folder,
    output: Folder,
    config: SelectConfig,
    embed: Embed,
    *,
    weights: str,
    embedded: Callable[[int], None] | None = None,
) -> Manifest:
    """Write the representative triplets of `pool` to `output`, in the pool's order.

    `weights` says by content which model embeds, so that another one under the same name is noticed. `embedded` is
    told how many more triplets have been embedded, which is nearly all of the work.
    Raises ValueError for a pool that is missing, holds a corrupt image or has fewer than `config.count` triplets.
    """
    pool_manifest = read_manifest(pool)
    if not 1 <= config.count <= pool_manifest.rows:
        raise ValueError(f"got --count {config.count}, expected 1 to {pool_manifest.rows}, the size of the pool {pool}")
    if config.per_cluster < 1:
        raise ValueError(f"got --per-cluster {config.per_cluster}, expected 1 or more")
    parts = shard_ranges(config.count, config.shard_size)

    @cache  # when the first shard is missing, and not at all for a finished folder
    def chosen() -> list[int]:
        embedding_ND, tasks = _embed_pool(pool, pool_manifest, embed, embedded)
        return choose_representatives(
            embedding_ND, tasks, count=config.count, per_cluster=config.per_cluster, seed=config.seed
        )

    def make_shard(index: int) -> list[Triplet]:
        return _read_rows(pool, pool_manifest, [chosen()[place] for place in parts[index]])

    return run_stage(
        output,
        kind=Triplet,
        stage="select",
        config=config,
        inputs={"pool": fingerprint(pool), "clip": weights},
        shard_count=len(parts),
        make_shard=make_shard,
    )


def _embed_pool(
    pool: Folder, manifest: Manifest, embed: Embed, embedded: Callable[[int], None] | None
) -> tuple[NDArray[numpy.float32], list[Task]]:
    """One shard of images in memory at a time."""
    embeddings, tasks = [], []
    for index in range(len(manifest.shards)):
        triplets = read_shard(pool, Triplet, manifest, index)
        if not triplets:
            continue
        embeddings.append(embed([decode_image(triplet.image, f"the image of {triplet.id}") for triplet in triplets]))
        tasks += [triplet.task for triplet in triplets]
        if embedded is not None:
            embedded(len(triplets))
    return numpy.concatenate(embeddings), tasks


def _read_rows(pool: Folder, manifest: Manifest, rows: Sequence[int]) -> list[Triplet]:
    """The triplets at ascending row numbers of the whole pool."""
    found: list[Triplet] = []
    start = 0
    for index, shard in enumerate(manifest.shards):
        within = [row - start for row in rows if start <= row < start + shard.rows]
        if within:
            triplets = read_shard(pool, Triplet, manifest, index)
            found += [triplets[row] for row in within]
        start += shard.rows
    return found
