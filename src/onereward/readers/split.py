"""The stage `data split`: preferences -> training and held-out preferences that have no source in common."""

import hashlib
import logging
import math
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from onereward.seeds import seed_for
from onereward.store.shards import (
    Folder,
    Manifest,
    fingerprint,
    read_manifest,
    read_shard,
    run_stage,
    shard_ranges,
)
from onereward.terms import Preference

logger = logging.getLogger(__name__)

_FAR = 0.25
"""A split that differs from its share by more than this part of it is warned of."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The share of each split by name; they sum to 1."""

    shares: Mapping[str, float]
    seed: int = 0
    shard_size: int = 64

    def __post_init__(self) -> None:
        odd = [name for name in self.shares if not re.fullmatch(r"\w[\w.-]*", name)]
        if odd:
            raise ValueError(f"got a split named {odd[0]!r}, expected a folder's name such as train or validation")
        if not self.shares or min(self.shares.values()) <= 0 or not math.isclose(sum(self.shares.values()), 1):
            given = ", ".join(f"{name}={share:g}" for name, share in self.shares.items())
            raise ValueError(f"got the shares {given or '(none)'}, expected shares above 0 that sum to 1")


def group_preferences(preferences: Folder, progress: Callable[[int], None] | None = None) -> list[str]:
    """The name of each preference's group, in their order; one shard of images in memory at a time.

    A group is what the same source, else triplet, or the same image file connects, directly or through others.
    `progress` is told how many more shards are done. Raises ValueError for preferences that are missing or changed.
    """

    def links() -> Iterator[tuple[str, ...]]:
        manifest = read_manifest(preferences)
        for index in range(len(manifest.shards)):
            for preference in read_shard(preferences, Preference, manifest, index):
                images = (hashlib.sha256(image).hexdigest() for image in (preference.winner, preference.loser))
                yield (_origin(preference), *images)
            if progress is not None:
                progress(1)

    return connected(links())


def connected(links: Iterable[Sequence[str]]) -> list[str]:
    """The group of each link, a sequence of names; links that share a name are of one group, and so are theirs.

    A group is called by the smallest of the first names of its links, whatever their order.
    """
    numbers: dict[str, int] = {}
    parents: list[int] = []

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = node = parents[parents[node]]  # halves the path to the root for the next time
        return node

    firsts: list[str] = []
    for link in links:
        nodes = []
        for name in link:
            if name not in numbers:
                numbers[name] = len(parents)
                parents.append(len(parents))
            nodes.append(numbers[name])
        for node in nodes[1:]:
            parents[root(node)] = root(nodes[0])
        firsts.append(link[0])
    roots = [root(numbers[first]) for first in firsts]
    names: dict[int, str] = {}
    for node, first in zip(roots, firsts, strict=True):
        names[node] = min(first, names.get(node, first))
    return [names[node] for node in roots]


def choose_splits(groups: Sequence[str], config: SplitConfig) -> dict[str, list[int]]:
    """The numbers of the preferences in each split, where `groups` has the group of each.

    Groups lie in an order drawn by seed and name, and the shares are cut from it: a split differs from its share by at
    most the largest group, and new groups move only those that lie near a cut. A split that is far from its share is
    logged as a warning. Raises ValueError for an empty split.
    """
    sizes = Counter(groups)
    chosen = _cut(sizes, config)
    splits: dict[str, list[int]] = {name: [] for name in config.shares}
    for number, group in enumerate(groups):
        splits[chosen[group]].append(number)
    largest = max(sizes.values(), default=0)
    empty = [name for name, numbers in splits.items() if not numbers]
    if empty:
        raise ValueError(
            f"split {empty[0]} would be empty: the {len(groups)} preferences are of {len(sizes)} sources (counted as "
            f"one where an image connects them), the largest with {largest}, which stay whole: "
            "give it a larger share, or more sources"
        )
    for name, numbers in splits.items():
        if abs(len(numbers) - config.shares[name] * len(groups)) > _FAR * config.shares[name] * len(groups):
            logger.warning(
                "split %s has %.1f %% of the preferences, not %.1f %%: sources, and those that an image connects, stay "
                "whole, and the largest such group has %.1f %%",
                name,
                100 * len(numbers) / len(groups),
                100 * config.shares[name],
                100 * largest / len(groups),
            )
    return splits


def write_split(
    preferences: Folder,
    output: Folder,
    name: str,
    numbers: Sequence[int],
    config: SplitConfig,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write the preferences of these ascending numbers to `output`/`name`, their images one shard in memory at a time.

    `progress` is told how many more shards are done. Raises ValueError for preferences that are missing or changed.
    """
    manifest = read_manifest(preferences)
    starts = list(accumulate((shard.rows for shard in manifest.shards), initial=0))
    parts = shard_ranges(len(numbers), config.shard_size)

    @lru_cache(maxsize=1)
    def shard(index: int) -> list[Preference]:
        return read_shard(preferences, Preference, manifest, index)

    def record(number: int) -> Preference:
        index = bisect_right(starts, number) - 1
        return shard(index)[number - starts[index]]

    return run_stage(
        f"{os.fspath(output).rstrip('/')}/{name}",
        kind=Preference,
        stage=f"data split {name}",
        config=config,
        inputs={"preferences": fingerprint(preferences)},
        shard_count=len(parts),
        make_shard=lambda index: [record(numbers[place]) for place in parts[index]],
        progress=progress,
    )


def _origin(preference: Preference) -> str:
    return f"source {preference.source}" if preference.source else f"triplet {preference.triplet_id}"


def _cut(sizes: Mapping[str, int], config: SplitConfig) -> dict[str, str]:
    """The split of each group: where its middle lies in the drawn order; the splits lie there by name."""
    names = sorted(config.shares)
    ends = list(accumulate(config.shares[name] for name in names))
    total, before, chosen = sum(sizes.values()), 0, {}
    for group in sorted(sizes, key=lambda name: (seed_for(config.seed, "split", name), name)):
        middle = (before + sizes[group] / 2) / total
        chosen[group] = names[min(bisect_right(ends, middle), len(names) - 1)]
        before += sizes[group]
    return chosen
