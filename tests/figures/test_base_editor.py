"""The shipped base editor is good enough to be worth improving: the bars of its pretraining, on held-out scenes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from _pytest.mark.structures import ParameterSet
from PIL import Image

from onereward.edit.editor import load_editor
from onereward.edit.jobs import EditRequest
from onereward.metrics.gsb import normalised
from onereward.terms import DIMENSIONS, Dimension, Task
from onereward.toy.oracle import find_figure, read_letters, score_edit
from onereward.toy.scenes import Scene, Split, make_scene

SHORT, LONG = 320, 1600
COUNTS = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.soak)]
SIGNS = [pytest.param(40, id="short"), pytest.param(200, id="long", marks=pytest.mark.soak)]
FIRST = 50_000  # scenes that no sweep and no demo looks at
CELLS = [(task, dimension) for task in Task for dimension in DIMENSIONS[task]]

NEAR = {
    (Task.FILL, Dimension.CONSISTENCY),
    (Task.FILL, Dimension.STRUCTURE),
    (Task.TEXT, Dimension.CONSISTENCY),
}
"""Cells at the bar: on which side they come out depends on the scenes."""

MISSED = {
    (Task.EXTEND, Dimension.TEXT_ALIGNMENT),
    (Task.EXTEND, Dimension.CONSISTENCY),
    (Task.EXTEND, Dimension.STRUCTURE),
    (Task.REMOVE, Dimension.REMOVAL_QUALITY),
}
"""Cells that the shipped editor does not bring to the bar; docs/log.md has their figures and what was tried."""


def known_to_miss(*, strict: bool = True) -> pytest.MarkDecorator:
    """The bar stands; a test that clears it after all fails, if `strict`, so that the mark goes."""
    return pytest.mark.xfail(reason="docs/log.md, 2026-11-24", strict=strict, raises=AssertionError)


def bars() -> Iterator[ParameterSet]:
    """Every cell in both forms."""
    for task, dimension in CELLS:
        cell = task, dimension
        marks = [known_to_miss(strict=cell in MISSED)] if cell in MISSED | NEAR else []
        yield pytest.param(task, dimension, SHORT, marks=marks, id=f"{task}-{dimension}-short")
        yield pytest.param(task, dimension, LONG, marks=[*marks, pytest.mark.soak], id=f"{task}-{dimension}-long")


def chunks(scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    for start in range(0, len(scenes), 20):
        yield scenes[start : start + 20]


def edited(scenes: Sequence[Scene]) -> list[np.ndarray]:
    """The base editor's edits, RGB in [0, 1], with its own contract's settings."""
    editor = load_editor("toy")
    images = []
    for chunk in chunks(scenes):
        triplets = [scene.triplet() for scene in chunk]
        edits = [
            EditRequest(image=image, mask=mask, prompt=triplet.prompt, task=triplet.task, seed=scene.index)
            for scene, triplet, (image, mask) in zip(chunk, triplets, map(pictures, chunk), strict=True)
        ]
        images += [np.asarray(image) / 255.0 for image in editor.edit_batch(edits)]
    return images


def pictures(scene: Scene) -> tuple[Image.Image, Image.Image]:
    return Image.fromarray(scene.source_HW3), Image.fromarray(scene.mask_HW.astype(np.uint8) * 255)


def through_vae(scenes: Sequence[Scene]) -> list[np.ndarray]:
    """The truths as the VAE lets them through, RGB in [0, 1]."""
    vae = load_editor("toy").model.vae
    images = []
    for chunk in chunks(scenes):
        truth = torch.from_numpy(np.stack([scene.truth_HW3 for scene in chunk])).permute(0, 3, 1, 2) / 127.5 - 1.0
        with torch.no_grad():
            decoded = vae.decode(vae.encode(truth).latent_dist.mode()).sample.clamp(-1, 1)
        images += list((decoded.permute(0, 2, 3, 1).double() / 2 + 0.5).numpy())
    return images


def held_out(count: int) -> list[Scene]:
    return [make_scene(Split.TEST, FIRST + index) for index in range(count)]


@cache
def evaluated(count: int) -> tuple[list[Scene], list[np.ndarray], list[np.ndarray]]:
    scenes = held_out(count)
    return scenes, edited(scenes), through_vae(scenes)


def test_the_vae_lets_the_truth_through() -> None:
    count = 1600
    scenes = held_out(count)
    ceilings = through_vae(scenes)
    errors = [((scene.truth_HW3 / 255.0 - image) ** 2).mean() for scene, image in zip(scenes, ceilings, strict=True)]
    psnr = float(np.mean(-10 * np.log10(errors)))
    print(f"VAE: {psnr:.2f} dB over {count} scenes")
    assert psnr >= 32.0


@cache
def shares(count: int) -> dict[tuple[Task, Dimension], tuple[float, float]]:
    """Of each cell the share of the way from hole to ceiling that the base goes, and the ceiling's of the truth."""
    rows: dict[tuple[Task, Dimension], list[tuple[float, ...]]] = defaultdict(list)
    for scene, base, ceiling in zip(*evaluated(count), strict=True):
        versions = (scene.hole_HW3 / 255.0, base, ceiling, scene.truth_HW3 / 255.0)
        scores = [score_edit(scene, version) for version in versions]
        for dimension in scores[0]:
            rows[scene.task, dimension].append(tuple(score[dimension] for score in scores))
    means = {cell: np.mean(values, 0) for cell, values in rows.items()}
    return {cell: (normalised(*of[[1, 0, 2]]), float(of[2] / of[3])) for cell, of in means.items()}


@pytest.mark.parametrize(("task", "dimension", "count"), bars())
def test_the_base_goes_three_quarters_of_the_way(task: Task, dimension: Dimension, count: int) -> None:
    share, ceiling = shares(count)[task, dimension]
    print(f"{task} {dimension}: {count} scenes, share {share:.3f}, ceiling {ceiling:.3f} of the truth")
    assert share >= 0.75


@pytest.mark.parametrize("count", COUNTS)
def test_the_ceiling_is_near_the_truth(count: int) -> None:
    assert min(ceiling for _, ceiling in shares(count).values()) >= 0.85


@known_to_miss()
@pytest.mark.parametrize("count", COUNTS)
def test_objects_have_the_asked_shape(count: int) -> None:
    scenes, images, _ = evaluated(count)
    right = [
        find_figure(scene.mask_HW, scene.background_HW3 / 255.0, image).shape == scene.object.shape
        for scene, image in zip(scenes, images, strict=True)
        if scene.object is not None and scene.task is not Task.REMOVE
    ]
    print(f"best-fitting template right: {np.mean(right):.3f}, n {len(right)}")
    assert np.mean(right) >= 0.85


@pytest.mark.parametrize("signs", SIGNS)
def test_both_letters_of_two_are_legible(signs: int) -> None:
    texts = (make_scene(Split.TEST, FIRST + index, Task.TEXT) for index in range(100_000))
    scenes = list(islice((scene for scene in texts if scene.sign and len(scene.sign.word) == 2), signs))
    right = []
    for scene, image in zip(scenes, edited(scenes), strict=True):
        assert scene.sign is not None
        read = "".join(max(match, key=lambda letter: match[letter]) for match in read_letters(scene.sign, image))
        right.append(read == scene.sign.word)
    print(f"both letters right: {np.mean(right):.3f}, n {len(right)}")
    assert np.mean(right) >= 0.80
