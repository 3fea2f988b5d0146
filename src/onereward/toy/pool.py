"""A pool of toy triplets, as another pool would come from people's photographs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, islice

from onereward.store.shards import Folder, Manifest, run_stage, shard_ranges
from onereward.terms import Task, Triplet
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene


@dataclass(frozen=True, kw_only=True)
class ToyPoolConfig:
    """The first `count` scenes of a split from index `first` on that have one of `tasks`."""

    split: Split
    count: int
    tasks: tuple[Task, ...] = tuple(Task)
    first: int = 0
    shard_size: int = 32


def write_toy_pool(output: Folder, config: ToyPoolConfig, progress: Callable[[int], None] | None = None) -> Manifest:
    """Write the scenes' triplets to `output`; `progress` is told how many more shards are done."""
    if config.count < 1 or config.first < 0 or not config.tasks:
        raise ValueError(
            f"got --count {config.count}, --first {config.first}, --tasks {' '.join(config.tasks) or 'none'}: "
            "expected 1 or more, 0 or more, and at least one task"
        )
    indices = scene_indices(config.first, config.count, config.tasks)
    parts = shard_ranges(config.count, config.shard_size)

    def make_shard(index: int) -> list[Triplet]:
        return [make_scene(config.split, indices[place]).triplet() for place in parts[index]]

    return run_stage(
        output,
        kind=Triplet,
        stage="data",
        config=config,
        inputs={},
        shard_count=len(parts),
        make_shard=make_shard,
        progress=progress,
    )


def scene_indices(first: int, wanted: int, tasks: Sequence[Task]) -> list[int]:
    """The next `wanted` scene indices from `first` on whose task is one of `tasks`."""
    return list(islice((index for index in count(first) if TASK_CYCLE[index % len(TASK_CYCLE)] in tasks), wanted))
