from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from onereward.evaluate.editor import edit_triplets, score_edits
from onereward.metrics.gsb import good_same_bad, score_table
from onereward.metrics.records import CEILING, HOLE, Edit, Score
from onereward.store.images import decode_image, decode_mask, encode_png
from onereward.store.shards import read_records, run_stage, shard_ranges
from onereward.terms import Dimension, Task, Triplet
from tests.tiny import tiny_flux_fill_folder

COUNT = 5


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    name: str = "test"


@dataclass(frozen=True)
class Brightness:
    """A scorer whose numbers can be worked out from the pixels."""

    name: str = "brightness"
    revision: str = "1"
    dead_band: Mapping[Dimension, float] = field(default_factory=lambda: MappingProxyType({Dimension.STRUCTURE: 0.01}))

    def __call__(self, triplet: Triplet, image: Image.Image) -> dict[Dimension, float]:
        return {Dimension.STRUCTURE: float(np.asarray(image).mean() / 255)}


def white(triplet: Triplet) -> Image.Image:
    return Image.new("RGB", decode_image(triplet.image).size, "white")


@pytest.fixture(scope="module")
def editors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(tiny_flux_fill_folder(folder / name, seed=seed)) for seed, name in enumerate(("base", "other"))}


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "triplets"
    generator = np.random.default_rng(0)
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 12, 10))
    pixels = generator.integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    made = [
        Triplet(
            id=f"t{index}",
            task=Task.FILL,
            prompt="a red star",
            image=encode_png(Image.fromarray(image)),
            mask=encode_png(mask),
        )
        for index, image in enumerate(pixels)
    ]
    parts = shard_ranges(COUNT, 2)
    run_stage(
        folder,
        kind=Triplet,
        stage="data",
        config=PoolConfig(),
        inputs={},
        shard_count=len(parts),
        make_shard=lambda index: [made[place] for place in parts[index]],
    )
    return folder


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory, triplets: Path, editors: dict[str, str]) -> Path:
    output = tmp_path_factory.mktemp("evaluated") / "edits"
    torch.set_num_threads(1)
    edit_triplets(triplets, output, editors, seed=3, truth=white)
    return output


def test_every_editor_and_both_ends_cover_every_triplet(edits: Path) -> None:
    rows = list(read_records(edits, Edit))
    names = [HOLE, "base", "other", CEILING]
    assert sorted((row.triplet_id, row.editor) for row in rows) == sorted(
        (f"t{index}", name) for index in range(COUNT) for name in names
    )


def test_pixels_outside_the_mask_are_the_sources_and_drift_is_kept(edits: Path, triplets: Path) -> None:
    sources = {triplet.id: triplet for triplet in read_records(triplets, Triplet)}
    for row in read_records(edits, Edit):
        triplet = sources[row.triplet_id]
        outside = np.asarray(decode_mask(triplet.mask)) == 0
        image, source = np.asarray(decode_image(row.image)), np.asarray(decode_image(triplet.image))
        assert (image[outside] == source[outside]).all()
        assert (row.drift == 0) == (row.editor == HOLE)
        if row.editor == HOLE:
            assert np.abs(image[~outside].astype(int) - 127.5).max() < 1


def test_equal_weights_give_equal_images_under_another_name(
    tmp_path: Path, triplets: Path, editors: dict[str, str]
) -> None:
    """All editors start a triplet from the same noise: the comparison is paired."""
    edit_triplets(triplets, tmp_path / "edits", {"base": editors["base"], "twin": editors["base"]}, seed=3)
    images: dict[str, list[bytes]] = {"base": [], "twin": [], HOLE: []}
    for row in read_records(tmp_path / "edits", Edit):
        images[row.editor].append(row.image)
    assert images["base"] == images["twin"] != images[HOLE]
    score_edits(triplets, tmp_path / "edits", tmp_path / "scores", Brightness())
    table = score_table(read_records(tmp_path / "scores", Score))
    assert {row.net for row in good_same_bad(table, "twin")} == {0.0}


def test_run_again_does_nothing_and_a_lost_shard_comes_back_the_same(
    tmp_path: Path, triplets: Path, editors: dict[str, str], edits: Path
) -> None:
    before = {path.name: path.read_bytes() for path in edits.iterdir()}
    for name in before.keys() - {"manifest.json", "shard-00001.parquet"}:
        (tmp_path / name).write_bytes(before[name])  # as if killed before shard 1
    edit_triplets(triplets, tmp_path, editors, seed=3, truth=white)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_worker_processes_write_the_same_bytes(
    tmp_path: Path, triplets: Path, editors: dict[str, str], edits: Path
) -> None:
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as executor:
        edit_triplets(triplets, tmp_path, editors, seed=3, truth=white, executor=executor)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in edits.iterdir()}


def test_scores_are_the_scorers_and_another_seed_is_refused(
    tmp_path: Path, triplets: Path, editors: dict[str, str], edits: Path
) -> None:
    score_edits(triplets, edits, tmp_path, Brightness())
    images = {(row.triplet_id, row.editor): row.image for row in read_records(edits, Edit)}
    for score in read_records(tmp_path, Score):
        image = np.asarray(decode_image(images[score.triplet_id, score.editor]))
        assert score.value == pytest.approx(image.mean() / 255)
        assert (score.scorer, score.dead_band) == ("brightness", 0.01)
    with pytest.raises(ValueError, match=r"seed \(there 3, now 4\)"):
        edit_triplets(triplets, edits, editors, seed=4, truth=white)


def test_wrong_inputs_say_what_is_wrong(tmp_path: Path, triplets: Path, editors: dict[str, str], edits: Path) -> None:
    with pytest.raises(ValueError, match="none called hole or ceiling"):
        edit_triplets(triplets, tmp_path / "a", {"hole": editors["base"]}, seed=0)
    with pytest.raises(ValueError, match="no folder"):
        edit_triplets(tmp_path / "missing", tmp_path / "a", editors, seed=0)
    with pytest.raises(ValueError, match="not made from the triplets"):
        score_edits(edits, edits, tmp_path / "a", Brightness())


def test_a_revised_scorer_does_not_pass_its_old_scores_as_new(edits: Path, triplets: Path, tmp_path: Path) -> None:
    score_edits(triplets, edits, tmp_path / "scores", Brightness())
    with pytest.raises(ValueError, match=r"config\.revision \(there '1', now '2'\)"):
        score_edits(triplets, edits, tmp_path / "scores", Brightness(revision="2"))
