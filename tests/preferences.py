"""Preferences that any judge can learn: the brighter of two noisy images wins."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from onereward.seeds import numpy_generator
from onereward.store.images import encode_png
from onereward.store.shards import run_stage
from onereward.terms import DIMENSIONS, Preference, Task, VoterKind


@dataclass(frozen=True, kw_only=True)
class Made:
    count: int


def bright_preference(index: int) -> Preference:
    """Preference `index` of any task and dimension in turn; text's images are 48x32 pixels, the others 32x32."""
    rng = numpy_generator("brightness", index)
    task = list(Task)[index % 4]
    dimension = DIMENSIONS[task][index // 4 % len(DIMENSIONS[task])]
    size = (32, 48, 3) if task is Task.TEXT else (32, 32, 3)
    bright, dark = (np.clip(rng.normal(mean, 40, size), 0, 255).astype(np.uint8) for mean in (180, 80))
    return Preference(
        triplet_id=f"triplet-{index}",
        task=task,
        dimension=dimension,
        prompt="a red star",
        winner=encode_png(Image.fromarray(bright)),
        loser=encode_png(Image.fromarray(dark)),
        winner_index=0,
        loser_index=1,
        voter="brightness",
        kind=VoterKind.ORACLE,
        weight=1.0 + index % 2,
    )


def bright_preferences_folder(folder: Path, count: int) -> Path:
    """Writes two shards of `count` preferences in all and returns the folder."""
    half = count // 2
    run_stage(
        folder,
        kind=Preference,
        stage="test",
        config=Made(count=count),
        inputs={},
        shard_count=2,
        make_shard=lambda shard: [bright_preference(half * shard + i) for i in range(half)],
    )
    return folder


def packed_preferences_folder(folder: Path, count: int) -> Path:
    """As `bright_preferences_folder`, but every pair is voted on in all of its task's dimensions, some as ties."""
    votes = [
        replace(made, dimension=dimension, tie=(index + place) % 5 == 4)
        for index in range(count)
        for made in [bright_preference(index)]
        for place, dimension in enumerate(DIMENSIONS[made.task])
    ]
    half = len(votes) // 2
    run_stage(
        folder,
        kind=Preference,
        stage="test",
        config=Made(count=count),
        inputs={},
        shard_count=2,
        make_shard=lambda shard: votes[half:] if shard else votes[:half],
    )
    return folder
