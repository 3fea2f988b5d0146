"""Toy scenes: pure functions of split and index, with held-out things in the test splits only."""

import numpy as np
import pytest

from onereward.store.images import decode_image, decode_mask
from onereward.terms import EXTEND_PROMPT, REMOVE_PROMPT, Task
from onereward.toy.scenes import (
    HELD_OUT_PAIRS,
    HELD_OUT_PHOTOS,
    SHAPES,
    TASK_CYCLE,
    Scene,
    Split,
    hsv_to_rgb,
    is_held_out_word,
    make_scene,
    scene_of,
    shape_alpha,
)

COUNT = 320


@pytest.fixture(scope="module")
def scenes() -> dict[Split, list[Scene]]:
    return {split: [make_scene(split, index) for index in range(COUNT)] for split in Split}


def test_a_scene_is_made_again_from_its_triplets_id() -> None:
    scene = make_scene("validation", 37)
    again = scene_of(scene.triplet().id)
    assert scene.triplet() == again.triplet()
    assert np.array_equal(scene.truth_HW3, again.truth_HW3)


@pytest.mark.parametrize("name", ["photo-1", "toy-nosplit-000001", "toy-train-x"])
def test_an_id_that_is_no_scene_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a toy scene"):
        scene_of(name)


def test_the_task_cycle_gives_each_task_its_share(scenes: dict[Split, list[Scene]]) -> None:
    counts = {task: sum(scene.task is task for scene in scenes[Split.TRAIN]) for task in Task}
    assert counts == {task: COUNT * TASK_CYCLE.count(task) // len(TASK_CYCLE) for task in Task}


def test_half_of_the_backgrounds_are_photographs(scenes: dict[Split, list[Scene]]) -> None:
    share = np.mean([scene.photo is not None for split in Split for scene in scenes[split]])
    assert 0.45 < share < 0.55


def test_held_out_things_appear_in_the_test_splits_and_nowhere_else(scenes: dict[Split, list[Scene]]) -> None:
    for split, members in scenes.items():
        photos = {scene.photo for scene in members if scene.photo}
        pairs = {(s.object.colour, s.object.shape) for s in members if s.object}
        words = [is_held_out_word(scene.sign.word) for scene in members if scene.sign]
        if split.held_out:
            assert photos == set(HELD_OUT_PHOTOS)
            assert pairs & HELD_OUT_PAIRS and pairs - HELD_OUT_PAIRS
            assert 0.2 < np.mean(words) < 0.6
        else:
            assert not photos & set(HELD_OUT_PHOTOS)
            assert not pairs & HELD_OUT_PAIRS
            assert not any(words)


def test_no_two_splits_share_a_scene(scenes: dict[Split, list[Scene]]) -> None:
    truths = [scene.truth_HW3.tobytes() for members in scenes.values() for scene in members]
    assert len(set(truths)) == len(truths)


def test_truth_and_source_agree_outside_the_mask_and_the_edit_shows_inside(scenes: dict[Split, list[Scene]]) -> None:
    for scene in scenes[Split.TRAIN]:
        outside = ~scene.mask_HW
        assert scene.mask_HW.any() and outside.any()
        assert np.array_equal(scene.source_HW3[outside], scene.truth_HW3[outside]), scene.id
        assert not np.array_equal(scene.source_HW3, scene.truth_HW3), scene.id


def test_a_triplet_tells_nothing_of_the_truth(scenes: dict[Split, list[Scene]]) -> None:
    """Its image is the source, its mask the mask; a fill's source does not hold the object asked for."""
    for scene in scenes[Split.VALIDATION][:32]:
        triplet = scene.triplet()
        assert np.array_equal(np.asarray(decode_image(triplet.image)), scene.source_HW3)
        assert np.array_equal(np.asarray(decode_mask(triplet.mask)) > 127, scene.mask_HW)
        if scene.task is not Task.REMOVE:
            hidden = scene.source_HW3[scene.mask_HW]
            assert not np.array_equal(hidden, scene.truth_HW3[scene.mask_HW])


def test_prompts_by_task(scenes: dict[Split, list[Scene]]) -> None:
    by_task = {task: [s for s in scenes[Split.TRAIN] if s.task is task] for task in Task}
    assert {s.prompt for s in by_task[Task.REMOVE]} == {REMOVE_PROMPT}
    unprompted = [s.prompt == EXTEND_PROMPT for s in by_task[Task.EXTEND]]
    assert 0.25 < np.mean(unprompted) < 0.55
    assert all(s.prompt == f'a sign that says "{s.sign.word}"' for s in by_task[Task.TEXT] if s.sign)
    assert all(s.prompt == f"a {s.object.colour} {s.object.shape}" for s in by_task[Task.FILL] if s.object)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi * 0.95**2),
        ("square", 1.64**2),
        ("ring", np.pi * (1.0 - 0.25)),
        ("cross", 4 * 0.66 * 1.0 - 0.66**2),
        ("triangle", 3 * np.sqrt(3) * 0.58**2),
        ("star", 5 * 1.1 * 0.48 * np.sin(np.pi / 5)),
    ],
)
def test_a_shape_has_the_area_of_its_geometry_and_its_centre_of_mass_at_the_centre(shape: str, area: float) -> None:
    alpha = shape_alpha(shape, 32.0, 32.0, 20.0)
    assert alpha.sum() / 400 == pytest.approx(area, rel=0.01)
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert (alpha * columns).sum() / alpha.sum() == pytest.approx(32.0, abs=0.1)
    assert (alpha * rows).sum() / alpha.sum() == pytest.approx(32.0, abs=0.1)


def test_an_unknown_shape_lists_the_known() -> None:
    with pytest.raises(ValueError, match=", ".join(SHAPES)):
        shape_alpha("blob", 32, 32, 10)


@pytest.mark.parametrize(
    ("hue", "rgb"), [(0, (1, 0, 0)), (60, (1, 1, 0)), (120, (0, 1, 0)), (240, (0, 0, 1)), (300, (1, 0, 1))]
)
def test_pure_hues(hue: float, rgb: tuple[float, float, float]) -> None:
    assert hsv_to_rgb(hue, 1.0, 1.0) == pytest.approx(rgb)
    assert hsv_to_rgb(hue, 0.0, 0.7) == pytest.approx((0.7, 0.7, 0.7))
