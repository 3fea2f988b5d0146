"""Pooled references: made once, each by itself, the same image for any layout and after a restart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onereward.losses import Reward
from onereward.models.load import load_flux_fill
from onereward.rl import reference_images
from onereward.rl_terms import Batch, Key, RLConfig
from onereward.runtime.mesh import Mesh
from onereward.seeds import torch_generator
from onereward.store.cache import Cache
from onereward.terms import Dimension, Task
from onereward.train.conditions import Encoder
from onereward.train.draws import Part
from onereward.train.references import PooledReferences, only
from tests.tiny import tiny_flux_fill_folder
from tests.train.test_conditions import triplet

CONFIG = RLConfig(
    dynamic=False,
    task_mix={Task.FILL: 1.0},
    batch=3,
    reference_steps=3,
    reference_cache=0.0,
    policy_steps=3,
    graded_steps=1,
    jump_range=(0.0, 1.0),
    bound=0.9,
    decay=0.9,
    reward=Reward.PROBABILITY,
    dimension_weights=dict.fromkeys(Dimension, 1.0),
    anchor=0.0,
    kl=0.0,
    flow_matching=0.0,
    paste_back=False,
    shift=0,
    tone=0.0,
    both_orders=False,
)


class Plain:
    """A condition that knows only how many it is of."""

    def __init__(self, count: int) -> None:
        self.count = count

    def select(self, indices: Sequence[int]) -> "Plain":
        return Plain(len(indices))


def batch_of(*reference_keys: Key, prompt: str = "a star") -> Batch:
    """Grey pictures of the triplets that the keys name."""
    count = len(reference_keys)
    shades = [torch.full((3, 4, 4), len(str(key[1])) / 127.5 - 1) for key in reference_keys]
    return Batch(
        task=Task.FILL,
        prompts=[prompt] * count,
        keys=[(0, 1, slot) for slot in range(count)],
        reference_keys=reference_keys,
        abreast=[(0, 1, slot) for slot in range(count)],
        image_B3HW=torch.stack(shades),
        mask_B1HW=torch.ones(count, 1, 4, 4),
        condition=Plain(count),
    )


class Maker:
    """Noise from the reference's key, beyond [-1, 1] too; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, batch: Batch) -> Tensor:
        [key] = batch.reference_keys
        assert batch.condition.count == len(batch.image_B3HW) == len(batch.prompts) == len(batch.keys) == 1
        self.asked.append(key)
        return torch.randn(1, 3, 4, 4, generator=torch_generator(*key))


KEYS = (0, "a", 0), (0, "b", 0), (0, "a", 1)


def test_images_are_made_once_and_are_equal_in_any_layout_and_after_a_restart(tmp_path: Path) -> None:
    maker = Maker()
    pool = PooledReferences(maker, Cache(tmp_path), "weights")
    images = pool(batch_of(*KEYS))
    assert maker.asked == list(KEYS) and images.shape == (3, 3, 4, 4) and images.dtype == torch.float32
    expected = torch.cat([Maker()(batch_of(key)) for key in KEYS]).clamp(-1, 1)
    assert (images - expected).abs().max() <= 1.001 / 255  # half a grey level
    assert torch.equal(pool(batch_of(*KEYS[::-1], KEYS[0])), torch.cat([images.flip(0), images[:1]]))
    restarted = PooledReferences(Maker(), Cache(tmp_path), "weights")
    for place, key in enumerate(KEYS):
        assert torch.equal(restarted(batch_of(key))[0], images[place])
    assert restarted._make.asked == [] and len(maker.asked) == 3  # type: ignore[attr-defined]


def test_an_image_wanted_twice_at_once_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    images = PooledReferences(maker, Cache(tmp_path), "weights")(batch_of(KEYS[0], KEYS[1], KEYS[0]))
    assert maker.asked == [KEYS[0], KEYS[1]] and torch.equal(images[0], images[2])


def test_a_corrupt_or_deleted_image_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    pool = PooledReferences(maker, Cache(tmp_path), "weights")
    image = pool(batch_of(KEYS[0]))
    [path] = tmp_path.glob("references/*/*")
    path.write_bytes(path.read_bytes()[:-3])
    assert torch.equal(pool(batch_of(KEYS[0])), image) and f"{path} is corrupt" in caplog.text
    path.unlink()
    assert torch.equal(pool(batch_of(KEYS[0])), image)
    assert maker.asked == [KEYS[0]] * 3


def test_other_weights_pictures_words_or_sizes_are_other_images(tmp_path: Path) -> None:
    maker, cache = Maker(), Cache(tmp_path)
    one = batch_of(KEYS[0])
    shown = replace(one, image_B3HW=one.image_B3HW.clone().index_fill_(3, torch.tensor([0]), 1.0))
    masked = replace(one, mask_B1HW=one.mask_B1HW.clone().index_fill_(3, torch.tensor([0]), 0.0))
    long = replace(one, image_B3HW=one.image_B3HW.reshape(1, 3, 2, 8), mask_B1HW=one.mask_B1HW.reshape(1, 1, 2, 8))
    others = [one, shown, masked, long, batch_of(KEYS[0], prompt="a disc"), replace(one, task=Task.TEXT)]
    pool = PooledReferences(maker, cache, "weights")
    pool.fill(others)
    PooledReferences(maker, cache, "other weights").fill([one])
    assert len(maker.asked) == 7
    pool.fill([*others, batch_of(KEYS[1])])
    assert len(maker.asked) == 8


class Three(Mesh):
    """The first of three processes; the others miss 2 and 0 images."""

    def gather(self, values: list[Any]) -> list[Any]:
        return [*values, 2, 0]


def test_with_split_weights_all_processes_make_as_many(tmp_path: Path) -> None:
    maker = Maker()
    pool = PooledReferences(maker, Cache(tmp_path), "weights", Three(rank=0, size=3))
    images = pool(batch_of(KEYS[0]))
    assert maker.asked == [KEYS[0]] * 2
    assert torch.equal(pool(batch_of(KEYS[0])), images) and len(maker.asked) == 4
    pool(batch_of(*KEYS))
    assert maker.asked[4:] == [KEYS[1], KEYS[2]]


def test_the_pool_s_images_are_the_rollout_s_within_half_a_grey_level(tmp_path: Path) -> None:
    editor = load_flux_fill(str(tiny_flux_fill_folder(tmp_path / "editor")))

    def make(batch: Batch) -> Tensor:
        return reference_images(editor, editor.transformer, batch, CONFIG)

    triplets = [triplet(index) for index in range(3)]
    keys: list[Key] = [(0, 1, slot) for slot in range(3)]
    members: list[Key] = [(0, each.id, 1) for each in triplets]
    part = Part(triplets=triplets, keys=keys, reference_keys=members, abreast=keys, weight=1.0)
    batch = Encoder(editor).batch(part)
    images = PooledReferences(make, Cache(tmp_path / "cache"), "weights")(batch)
    levels = (images + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    whole = make(batch)
    assert (images - whole.clamp(-1, 1)).abs().max() <= 1.001 / 255
    alone = torch.cat([make(only(batch, place)) for place in range(3)])
    assert torch.allclose(alone, whole, atol=1e-5)
    again = PooledReferences(make, Cache(tmp_path / "other cache"), "weights")
    assert torch.equal(torch.cat([again(only(batch, place)) for place in (2, 1, 0)]), images.flip(0))
