"""The oracle: the truth scores high, an empty hole low, and each dimension moves with what it is about."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onereward.store.images import encode_png
from onereward.terms import Candidate, Dimension, Task, Triplet, dimensions_of
from onereward.toy.oracle import DEAD_BAND, ToyOracle, find_figure, read_letters, score_edit
from onereward.toy.scenes import HUES, SHAPES, Scene, draw_object, draw_sign, make_scene, object_rgb

SCENES = [make_scene("validation", index) for index in range(160)]


def of(task: Task, prompted: bool = True) -> list[Scene]:
    chosen = [scene for scene in SCENES if scene.task is task]
    return [s for s in chosen if (s.object is not None) == prompted] if task is Task.EXTEND else chosen


def truth(scene: Scene) -> np.ndarray:
    return scene.truth_HW3 / 255.0


def mean_scores(scenes: list[Scene], edits: list[np.ndarray]) -> dict[Dimension, float]:
    scores = [score_edit(scene, edit) for scene, edit in zip(scenes, edits, strict=True)]
    return {dimension: float(np.mean([score[dimension] for score in scores])) for dimension in scores[0]}


@pytest.mark.parametrize(
    ("task", "prompted"),
    [(Task.FILL, True), (Task.EXTEND, True), (Task.EXTEND, False), (Task.REMOVE, True), (Task.TEXT, True)],
)
def test_the_truth_scores_high_and_an_empty_hole_low(task: Task, prompted: bool) -> None:
    scenes = of(task, prompted)
    best = mean_scores(scenes, [truth(s) for s in scenes])
    empty = mean_scores(scenes, [s.hole_HW3 / 255.0 for s in scenes])
    assert set(best) == set(dimensions_of(task, scenes[0].prompt))
    for dimension, value in best.items():
        assert value > 0.85 or dimension is Dimension.AESTHETICS, (dimension, value)  # a taste, not a truth
        assert empty[dimension] < 0.7 * value, (dimension, value, empty[dimension])


def test_scores_lie_in_0_to_1_for_any_picture() -> None:
    rng = np.random.default_rng(0)
    for scene in SCENES[:48]:
        for edit in (rng.random((64, 64, 3)), np.zeros((64, 64, 3)), np.ones((64, 64, 3))):
            for dimension, value in score_edit(scene, edit).items():
                assert 0.0 <= value <= 1.0, (scene.id, dimension, value)


def test_another_colour_costs_text_alignment_and_nothing_else() -> None:
    """Among objects that stand out from their background: one that does not is lost in any dimension."""
    scenes = of(Task.FILL)
    edits = []
    for scene in scenes:
        assert scene.object is not None
        behind = scene.background_HW3[scene.mask_HW].mean(0) / 255.0
        others = [replace(scene.object, colour=colour) for colour in HUES if colour != scene.object.colour]
        wrong = max(others, key=lambda thing: float(np.linalg.norm(object_rgb(thing) - behind)))
        edits.append(draw_object(scene.background_HW3 / 255.0, wrong))
    right, other = mean_scores(scenes, [truth(s) for s in scenes]), mean_scores(scenes, edits)
    assert other[Dimension.TEXT_ALIGNMENT] < right[Dimension.TEXT_ALIGNMENT] - 0.4
    assert other[Dimension.STRUCTURE] == pytest.approx(right[Dimension.STRUCTURE], abs=0.05)
    assert other[Dimension.CONSISTENCY] == pytest.approx(right[Dimension.CONSISTENCY], abs=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_recognised(shape: str) -> None:
    found = []
    for scene in of(Task.FILL):
        assert scene.object is not None
        edit = draw_object(scene.background_HW3 / 255.0, replace(scene.object, shape=shape))
        found.append(find_figure(scene.mask_HW, scene.background_HW3 / 255.0, edit).shape == shape)
    assert np.mean(found) > 0.9


def test_a_half_drawn_object_loses_structure() -> None:
    scenes = of(Task.FILL)
    halves = []
    for scene in scenes:
        assert scene.object is not None
        half = truth(scene).copy()
        half[: int(scene.object.cy)] = scene.background_HW3[: int(scene.object.cy)] / 255.0
        halves.append(half)
    whole = mean_scores(scenes, [truth(s) for s in scenes])
    assert mean_scores(scenes, halves)[Dimension.STRUCTURE] < whole[Dimension.STRUCTURE] - 0.3


def test_a_tinted_surrounding_loses_consistency_and_a_pale_object_aesthetics() -> None:
    for scene in of(Task.FILL)[:12]:
        assert scene.object is not None
        right = score_edit(scene, truth(scene))
        tinted = truth(scene) + 0.25 * scene.mask_HW[..., None] * np.array([1.0, -1.0, 0.5])
        assert score_edit(scene, tinted.clip(0, 1))[Dimension.CONSISTENCY] < right[Dimension.CONSISTENCY] - 0.3
        pale = draw_object(scene.background_HW3 / 255.0, replace(scene.object, saturation=0.25))
        assert score_edit(scene, pale)[Dimension.AESTHETICS] < right[Dimension.AESTHETICS] - 0.1


def test_letters_are_read_and_wrong_ones_cost_text_alignment() -> None:
    for scene in of(Task.TEXT):
        assert scene.sign is not None
        read = "".join(max(m, key=lambda letter: m[letter]) for m in read_letters(scene.sign, truth(scene)))
        assert read == scene.sign.word
        other = "".join("X" if letter != "X" else "H" for letter in scene.sign.word)
        edit = draw_sign(scene.background_HW3 / 255.0, replace(scene.sign, word=other))
        wrong = score_edit(scene, edit)
        assert wrong[Dimension.TEXT_ALIGNMENT] < 0.35
        assert wrong[Dimension.STRUCTURE] > 0.9


def test_an_object_left_behind_is_no_removal() -> None:
    scenes = of(Task.REMOVE)
    kept = mean_scores(scenes, [scene.source_HW3 / 255.0 for scene in scenes])
    assert kept[Dimension.REMOVAL_QUALITY] < 0.35


def candidates_of(triplet: Triplet, images: list[np.ndarray]) -> list[Candidate]:
    files = [encode_png(Image.fromarray((image * 255).round().astype(np.uint8))) for image in images]
    return [
        Candidate(triplet_id=triplet.id, index=index, image=file, editor="test", seed=0, settings="{}")
        for index, file in enumerate(files)
    ]


def test_it_votes_best_and_worst_per_dimension_and_skips_what_is_negligible() -> None:
    scene = of(Task.FILL)[0]
    assert scene.object is not None
    triplet = scene.triplet()
    wrong = draw_object(scene.background_HW3 / 255.0, replace(scene.object, colour="green", saturation=1.0))
    right = draw_object(scene.background_HW3 / 255.0, replace(scene.object, colour="red", saturation=1.0))
    votes = {v.dimension: v for v in ToyOracle().vote(triplet, candidates_of(triplet, [wrong, right, truth(scene)]))}
    assert set(votes) == set(dimensions_of(triplet.task, triplet.prompt))
    same = ToyOracle().vote(triplet, candidates_of(triplet, [truth(scene)] * 3))
    assert all(vote.is_skip and vote.worst is None for vote in same)
    scores = [score_edit(scene, image) for image in (wrong, right, truth(scene))]
    for dimension, vote in votes.items():
        values = [round(score[dimension], 2) for score in scores]
        spread = max(values) - min(values)
        if spread > DEAD_BAND[dimension] + 0.02:
            assert vote.best is not None and values[vote.best] == pytest.approx(max(values), abs=0.02)
            assert vote.worst is not None and values[vote.worst] == pytest.approx(min(values), abs=0.02)


def test_an_edit_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32x32"):
        ToyOracle()(SCENES[0].triplet(), Image.new("RGB", (32, 32)))
