from pathlib import Path

import pytest

from onereward.store.shards import read_records
from onereward.terms import Task, Triplet
from onereward.toy.pool import ToyPoolConfig, scene_indices, write_toy_pool
from onereward.toy.scenes import Split, make_scene


def test_a_pool_holds_the_scenes_in_order(tmp_path: Path) -> None:
    manifest = write_toy_pool(tmp_path, ToyPoolConfig(split=Split.VALIDATION, count=5, first=7, shard_size=3))
    assert list(read_records(tmp_path, Triplet)) == [make_scene("validation", n).triplet() for n in range(7, 12)]
    assert [shard.rows for shard in manifest.shards] == [3, 2]


def test_scenes_of_some_tasks_only() -> None:
    # The cycle begins fill, extend, remove, fill, extend, text, fill, extend, remove, ...
    assert scene_indices(0, 3, [Task.REMOVE]) == [2, 8, 14]
    assert scene_indices(3, 4, [Task.REMOVE, Task.TEXT]) == [5, 8, 11, 14]


@pytest.mark.parametrize("change", [{"count": 0}, {"first": -1}, {"tasks": ()}])
def test_a_pool_of_nothing_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        write_toy_pool(tmp_path, ToyPoolConfig(**{"split": Split.TRAIN, "count": 4, **change}))  # type: ignore[arg-type]
