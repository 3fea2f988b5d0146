from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from onereward.select.stage import SelectConfig, select
from onereward.store.images import encode_png
from onereward.store.shards import read_records, run_stage, shard_ranges
from onereward.terms import Task, Triplet


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    count: int


def mean_colour(images: Sequence[Image.Image]) -> NDArray[numpy.float32]:
    return numpy.stack([numpy.asarray(image, dtype=numpy.float32).mean((0, 1)) for image in images])


def write_pool(folder: Path, count: int = 30, corrupt: int | None = None) -> list[Triplet]:
    """Every third triplet is a removal; grey level grows with the index."""
    mask = encode_png(Image.new("L", (4, 4), 255))
    triplets = [
        Triplet(
            id=f"t{index}",
            task=Task.REMOVE if index % 3 == 0 else Task.FILL,
            prompt="remove" if index % 3 == 0 else "a cat",
            image=b"broken" if index == corrupt else encode_png(Image.new("RGB", (4, 4), (8 * index,) * 3)),
            mask=mask,
        )
        for index in range(count)
    ]
    parts = shard_ranges(count, 7)
    run_stage(
        folder,
        kind=Triplet,
        stage="data",
        config=PoolConfig(count=count),
        inputs={},
        shard_count=len(parts),
        make_shard=lambda index: [triplets[row] for row in parts[index]],
    )
    return triplets


def test_select_writes_pool_triplets_with_the_pools_task_mix(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool")
    seen: list[int] = []
    config = SelectConfig(count=9, clip="mean", shard_size=4)
    manifest = select(tmp_path / "pool", tmp_path / "triplets", config, mean_colour, weights="w", embedded=seen.append)
    chosen = list(read_records(tmp_path / "triplets", Triplet))
    places = [pool.index(triplet) for triplet in chosen]
    assert places == sorted(set(places)) and len(places) == 9 and sum(seen) == 30
    assert Counter(triplet.task for triplet in chosen) == {Task.FILL: 6, Task.REMOVE: 3}
    assert [shard.rows for shard in manifest.shards] == [4, 4, 1]
    # Spread over the grey levels: each third of the pool is represented in both tasks.
    assert Counter(place // 10 for place in places) == {0: 3, 1: 3, 2: 3}


def test_a_finished_selection_embeds_nothing(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool")
    config = SelectConfig(count=4, clip="mean")
    first = select(tmp_path / "pool", tmp_path / "triplets", config, mean_colour, weights="w")

    def fail(images: Sequence[Image.Image]) -> NDArray[numpy.float32]:
        raise AssertionError("embedded again")

    assert select(tmp_path / "pool", tmp_path / "triplets", config, fail, weights="w") == first


def test_another_clip_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool")
    config = SelectConfig(count=4, clip="mean")
    select(tmp_path / "pool", tmp_path / "triplets", config, mean_colour, weights="one")
    with pytest.raises(ValueError, match="clip"):
        select(tmp_path / "pool", tmp_path / "triplets", config, mean_colour, weights="another")


def test_wrong_input_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", corrupt=11)
    with pytest.raises(ValueError, match=r"cannot decode the image of t11 .*replace or remove"):
        select(tmp_path / "pool", tmp_path / "triplets", SelectConfig(count=4, clip="mean"), mean_colour, weights="w")
    assert not (tmp_path / "triplets").exists()
    with pytest.raises(ValueError, match="expected 1 to 30"):
        select(tmp_path / "pool", tmp_path / "triplets", SelectConfig(count=31, clip="mean"), mean_colour, weights="w")
    with pytest.raises(ValueError, match="no folder"):
        select(
            tmp_path / "nowhere", tmp_path / "triplets", SelectConfig(count=4, clip="mean"), mean_colour, weights="w"
        )
