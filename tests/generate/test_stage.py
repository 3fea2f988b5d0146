import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy
import psutil
import pytest
import torch
from PIL import Image

from onereward.edit.editor import ImageEditor
from onereward.generate.candidates import make_candidates
from onereward.generate.settings import GenerateConfig
from onereward.generate.stage import generate
from onereward.models.flux_fill import FluxFill
from onereward.models.load import load_flux_fill
from onereward.runtime.workers import worker_processes
from onereward.runtime.workers import workers as started_workers
from onereward.store.images import decode_image, decode_mask, encode_png
from onereward.store.shards import Manifest, read_manifest, read_records, run_stage, shard_ranges
from onereward.terms import Candidate, Task, Triplet
from tests.tiny import tiny_flux_fill_folder

CONFIG = GenerateConfig(
    candidates=3,
    seed=1,
    steps=(1, 2),
    guidance=(2.0, 5.0),
    true_cfg=(1.0, 2.0),
    noise_scale=(0.8, 1.2),
    prompt_drop=0.5,
    batch_size=4,
)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    name: str = "test"


@pytest.fixture(scope="module")
def editor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("models") / "editor")


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> FluxFill:
    return load_flux_fill(str(editor_folder))


def make_triplet(index: int, size: tuple[int, int] = (16, 16)) -> Triplet:
    rng = numpy.random.default_rng(index)
    mask = Image.new("L", size)
    mask.paste(255, (4, 4, 12, 10))
    return Triplet(
        id=f"t{index}",
        task=Task.REMOVE if index % 2 else Task.FILL,
        prompt="remove" if index % 2 else "a red star",
        image=encode_png(Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8))),
        mask=encode_png(mask),
    )


def write_triplets(folder: Path, triplets: list[Triplet], shard_size: int = 2) -> None:
    parts = shard_ranges(len(triplets), shard_size)
    run_stage(
        folder,
        kind=Triplet,
        stage="select",
        config=PoolConfig(),
        inputs={},
        shard_count=len(parts),
        make_shard=lambda index: [triplets[row] for row in parts[index]],
    )


def run(folder: Path, output: Path, editor_folder: Path, workers: int = 1) -> Manifest:
    load = partial(load_flux_fill, str(editor_folder))
    with started_workers(workers) as executor:
        return generate(folder, output, CONFIG, load, editor=load(), editor_name="tiny", executor=executor)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def pixels(candidate: Candidate) -> numpy.ndarray:
    return numpy.asarray(decode_image(candidate.image), dtype=int)


def test_outside_the_mask_a_candidate_is_its_source(editor: FluxFill) -> None:
    triplets = [make_triplet(0), make_triplet(1)]
    candidates = make_candidates(editor, "tiny", triplets, CONFIG)
    assert [(c.triplet_id, c.index) for c in candidates] == [(f"t{t}", n) for t in range(2) for n in range(3)]
    for triplet in triplets:
        source = numpy.asarray(decode_image(triplet.image), dtype=int)
        inside = numpy.asarray(decode_mask(triplet.mask)) >= 128
        images = [pixels(c) for c in candidates if c.triplet_id == triplet.id]
        for image in images:
            assert (image == source)[~inside].all()
            assert (image != source)[inside].mean() > 0.5
        assert all((images[0] != other).any() for other in images[1:])


def test_edit_repeats_a_candidate_from_its_settings(editor: FluxFill) -> None:
    triplet = make_triplet(0, size=(32, 32))
    for candidate in make_candidates(editor, "tiny", [triplet], replace(CONFIG, noise_scale=(1.0, 1.0), prompt_drop=0)):
        settings = json.loads(candidate.settings)
        again = ImageEditor(editor).edit(
            decode_image(triplet.image),
            decode_image(triplet.mask),
            triplet.prompt,
            triplet.task,
            seed=candidate.seed,
            **{name: settings[name] for name in ("steps", "guidance", "true_cfg")},
        )
        assert abs(numpy.asarray(again, dtype=int) - pixels(candidate)).max() <= 1


def test_without_its_prompt_a_candidate_does_not_depend_on_it(editor: FluxFill) -> None:
    def images(prompt: str, prompt_drop: float) -> list[bytes]:
        config = replace(CONFIG, prompt_drop=prompt_drop)
        return [c.image for c in make_candidates(editor, "tiny", [replace(make_triplet(0), prompt=prompt)], config)]

    assert images("a red star", 1.0) == images("a blue ring", 1.0)
    assert all(one != other for one, other in zip(images("a red star", 0.0), images("a blue ring", 0.0), strict=True))


def test_an_image_does_not_depend_on_its_batch(editor: FluxFill) -> None:
    triplets = [make_triplet(index) for index in range(3)]
    together = make_candidates(editor, "tiny", triplets, replace(CONFIG, batch_size=9))
    alone = [c for t in triplets for c in make_candidates(editor, "tiny", [t], replace(CONFIG, batch_size=1))]
    for one, other in zip(together, alone, strict=True):
        assert (one.triplet_id, one.index, one.settings) == (other.triplet_id, other.index, other.settings)
        assert abs(pixels(one) - pixels(other)).max() <= 1


def test_images_of_two_sizes_in_one_shard(editor: FluxFill) -> None:
    candidates = make_candidates(editor, "tiny", [make_triplet(0), make_triplet(1, size=(24, 16))], CONFIG)
    sizes = [decode_image(candidate.image).size for candidate in candidates]
    assert sizes == [(16, 16)] * 3 + [(24, 16)] * 3


def test_a_shard_of_candidates_is_made_of_each_of_triplets_and_left_alone_then(
    tmp_path: Path, editor_folder: Path
) -> None:
    write_triplets(tmp_path / "triplets", [make_triplet(index) for index in range(5)])
    manifest = run(tmp_path / "triplets", tmp_path / "one", editor_folder)
    assert manifest.rows == 15 and [shard.rows for shard in manifest.shards] == [6, 6, 3]
    assert len(list(read_records(tmp_path / "one", Candidate))) == 15
    before = contents(tmp_path / "one")
    run(tmp_path / "triplets", tmp_path / "one", editor_folder, workers=2)  # which start nothing
    assert contents(tmp_path / "one") == before


@pytest.mark.soak
def test_two_workers_write_what_one_writes(tmp_path: Path, editor_folder: Path) -> None:
    """That some shards of two and the rest of one are all of one is in the short form of kills."""
    assert torch.get_num_threads() == 1
    write_triplets(tmp_path / "triplets", [make_triplet(index) for index in range(5)])
    run(tmp_path / "triplets", tmp_path / "one", editor_folder)
    run(tmp_path / "triplets", tmp_path / "two", editor_folder, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_editor_under_the_same_name_is_noticed(tmp_path: Path, editor_folder: Path, editor: FluxFill) -> None:
    write_triplets(tmp_path / "triplets", [make_triplet(0)])
    run(tmp_path / "triplets", tmp_path / "candidates", editor_folder)
    other = tiny_flux_fill_folder(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"other settings: inputs\.editor"):
        run(tmp_path / "triplets", tmp_path / "candidates", other)


def test_a_workers_error_arrives_as_itself(tmp_path: Path, editor: FluxFill) -> None:
    write_triplets(tmp_path / "triplets", [make_triplet(0)])
    load = partial(load_flux_fill, str(tmp_path / "gone"))
    with worker_processes(2) as executor, pytest.raises(ValueError, match="cannot load an editor"):
        generate(
            tmp_path / "triplets", tmp_path / "out", CONFIG, load, editor=editor, editor_name="tiny", executor=executor
        )


def test_wrong_input_is_named(editor: FluxFill) -> None:
    triplet = make_triplet(0)
    with pytest.raises(ValueError, match=r"cannot decode the image of t0 .*replace or remove"):
        make_candidates(editor, "tiny", [replace(triplet, image=triplet.image[:60])], CONFIG)
    with pytest.raises(ValueError, match="t0: the mask is 8x16, expected the image's 16x16"):
        make_candidates(editor, "tiny", [replace(triplet, mask=encode_png(Image.new("L", (8, 16))))], CONFIG)
    with pytest.raises(ValueError, match="t0: the image is 20x16, expected sides in multiples of 8"):
        make_candidates(editor, "tiny", [make_triplet(0, size=(20, 16))], CONFIG)


KILLED = """
import sys
from pathlib import Path
from tests.generate.test_stage import run

if __name__ == "__main__":
    run(*map(Path, sys.argv[1:]), workers=2)
"""


def test_killed_then_the_same_bytes_and_no_worker_is_left(tmp_path: Path, editor_folder: Path) -> None:
    write_triplets(tmp_path / "triplets", [make_triplet(index) for index in range(24)], shard_size=1)
    run(tmp_path / "triplets", tmp_path / "whole", editor_folder)
    output = tmp_path / "killed"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "triplets"), str(output), str(editor_folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}/src{os.pathsep}{root}"},
    )
    deadline = time.monotonic() + 120
    while not list(output.glob("*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert workers and not (output / "manifest.json").exists()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    run(tmp_path / "triplets", output, editor_folder)
    assert contents(output) == contents(tmp_path / "whole")


def test_candidates_are_png_of_the_sources_size(tmp_path: Path, editor_folder: Path) -> None:
    write_triplets(tmp_path / "triplets", [make_triplet(0)])
    run(tmp_path / "triplets", tmp_path / "out", editor_folder)
    (candidate, *_) = read_records(tmp_path / "out", Candidate)
    with Image.open(io.BytesIO(candidate.image)) as image:
        assert image.format == "PNG" and image.size == (16, 16)
    assert read_manifest(tmp_path / "out").plan.config["candidates"] == 3
