"""Algorithms 1 and 2 on a two-weight editor and a judge that can be worked out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onereward.augment import jittered
from onereward.ema import frozen_copy
from onereward.rl import Batch, RLConfig, draw_task, grade, init_models, train
from onereward.seeds import torch_generator
from onereward.terms import EXTEND_PROMPT, Dimension, Task

CONFIG = RLConfig(
    dynamic=False,
    task_mix={Task.FILL: 0.75, Task.REMOVE: 0.25},
    batch=2,
    reference_steps=2,
    policy_steps=2,
    jump_range=(0.4, 0.6),
    bound=0.6,
    decay=0.9,
    anchor=0.0,
    paste_back=False,
    shift=0,
    tone=0.0,
    both_orders=False,
)


class Scale(nn.Module):
    """velocity = weight * x."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, latents_BLC: Tensor) -> Tensor:
        scaled: Tensor = self.weight * latents_BLC
        return scaled


class OnePixelEditor:
    """An editor of one-pixel images: a latent is decoded to three equal channels; noise is 1 where not drawn."""

    def __init__(self, transformer: nn.Module, *, drawn_noise: bool = False) -> None:
        self.transformer = transformer
        self.drawn_noise = drawn_noise
        self.asked: list[tuple[nn.Module, float, bool]] = []

    def encode(self, image_B3HW: Tensor, mask_B1HW: Tensor, prompts: Sequence[str]) -> int:
        return len(prompts)

    def noise(self, condition: Any, sample_keys: Sequence[tuple[int | str, ...]]) -> Tensor:
        if not self.drawn_noise:
            return torch.ones(len(sample_keys), 1, 1)
        return torch.stack([torch.randn(1, 1, generator=torch_generator(*key)) for key in sample_keys])

    def times(self, condition: Any, steps: int) -> Tensor:
        return torch.linspace(1, 0, steps + 1)

    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, condition: Any, *, transformer: nn.Module | None = None
    ) -> Tensor:
        used = transformer or self.transformer
        velocity_BLC: Tensor = used(latents_BLC)
        self.asked.append((used, float(t_B[0]), velocity_BLC.requires_grad))
        return velocity_BLC

    def decode(self, latents_BLC: Tensor, condition: Any) -> Tensor:
        return latents_BLC[:, :, :, None].expand(-1, 3, 1, 1)


class DifferenceJudge(nn.Module):
    """log odds = difference of the images' mean + `bias` towards the first; NaN beyond a sample's last query.

    `asked` keeps the queries.
    """

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = bias
        self.gain = nn.Parameter(torch.tensor(1.0), requires_grad=False)
        self.asked: list[Sequence[Sequence[str]]] = []

    def log_odds(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        self.asked.append(queries)
        count_B = torch.tensor([len(own) for own in queries])
        beyond_BK = torch.arange(int(count_B.max()))[None] >= count_B[:, None]
        odds_B = self.gain * (first_B3HW - second_B3HW).mean((1, 2, 3)) + self.bias
        return odds_B[:, None].expand(beyond_BK.shape).masked_fill(beyond_BK, torch.nan)

    def prob_yes(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        return self.log_odds(first_B3HW, second_B3HW, queries, second_grad=second_grad).sigmoid()

    def prob_yes_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        forward_BK = self.prob_yes(first_B3HW, second_B3HW, queries)
        return (forward_BK + 1 - self.prob_yes(second_B3HW, first_B3HW, queries)) / 2


def batch_of(task: Task, prompts: Sequence[str], slots: Sequence[int] = (0, 1), step: int = 1) -> Batch:
    size = len(prompts)
    return Batch(
        task=task,
        prompts=prompts,
        keys=[(7, step, slot) for slot in slots[:size]],
        image_B3HW=torch.zeros(size, 3, 1, 1),
        mask_B1HW=torch.zeros(size, 1, 1, 1),
        condition=size,
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def descend(policy: Scale, rate: float) -> Any:
    def update(losses: Any) -> None:
        policy.weight.grad = None
        for loss in losses:
            loss.backward()
        assert policy.weight.grad is not None
        with torch.no_grad():
            policy.weight -= rate * policy.weight.grad

    return update


def test_one_graded_batch_by_hand() -> None:
    # Times 1, .5, 0; the jump can leave from .5 only. v = x, both noises 1.
    # Reference: 1 - .5 = .5, then .5 - .25 = .25. Policy: .5 without gradient, then .5 - .5 * w * .5 = .25 at w = 1.
    # P(yes) = sigmoid(0) = .5, J = .6 - .5 = .1 in each dimension and sample.
    # dJ/dw = -P (1 - P) * d x0_hat/dw = -.25 * -.25 = .0625.
    policy = Scale(1.0)
    models = init_models(policy, CONFIG)
    graded = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch_of(Task.FILL, ["a", "b"]), CONFIG)
    assert graded.prob_yes_BK.flatten().tolist() == pytest.approx([0.5] * 8)
    assert graded.loss.item() == pytest.approx(0.1)
    graded.loss.backward()
    assert policy.weight.grad is not None and policy.weight.grad.item() == pytest.approx(0.0625)


def test_gradient_reaches_the_policy_and_nothing_else_and_only_through_the_jump() -> None:
    policy, judge = Scale(1.0), DifferenceJudge()
    models = init_models(policy, replace(CONFIG, dynamic=True, anchor=1.0))
    editor = OnePixelEditor(policy)
    grade(models, editor, judge, batch_of(Task.FILL, ["a", "b"]), CONFIG).loss.backward()
    assert policy.weight.grad is not None and policy.weight.grad.item() != 0
    assert models.start is not None
    for frozen in (models.reference, models.average, models.start, judge):
        assert all(parameter.grad is None for parameter in frozen.parameters())
    assert [(used is policy, time) for used, time, graded in editor.asked if graded] == [(True, 0.5)]


def test_a_saturated_dimension_gives_no_gradient() -> None:
    policy = Scale(1.0)
    models = init_models(policy, CONFIG)
    config = replace(CONFIG, bound=0.4)
    graded = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch_of(Task.FILL, ["a", "b"]), config)
    graded.loss.backward()
    assert graded.loss.item() == 0 and policy.weight.grad is not None and policy.weight.grad.item() == 0


def test_each_sample_is_graded_in_its_own_dimensions() -> None:
    policy, judge = Scale(1.0), DifferenceJudge()
    batch = batch_of(Task.EXTEND, ["a house", EXTEND_PROMPT])
    graded = grade(init_models(policy, CONFIG), OnePixelEditor(policy), judge, batch, CONFIG)
    assert [len(own) for own in graded.dimensions] == [4, 3]
    assert Dimension.TEXT_ALIGNMENT not in graded.dimensions[1]
    assert graded.prob_yes_BK.isnan().tolist() == [[False] * 4, [False, False, False, True]]
    assert graded.loss.item() == pytest.approx(0.1)  # the mean over E_k, of three as of four
    graded.loss.backward()
    assert policy.weight.grad is not None and policy.weight.grad.item() == pytest.approx(0.0625)


def test_algorithm_2_is_judged_against_the_moving_average() -> None:
    policy = Scale(1.0)
    config = replace(CONFIG, dynamic=True)
    models = init_models(policy, config)
    assert models.reference is models.average and models.start is None
    batches = [[batch_of(Task.FILL, ["a", "b"], step=step)] for step in (1, 2)]
    editor = OnePixelEditor(policy)
    run = train(models, editor, DifferenceJudge(), batches, descend(policy, 1.0), config)
    next(run)
    # w = 1 - .0625; average .9 * 1 + .1 * .9375 = .99375
    assert policy.weight.item() == pytest.approx(0.9375)
    assert models.reference.get_parameter("weight").item() == pytest.approx(0.99375)
    second = next(run)
    # Reference: (1 - .5 * .99375)^2. Policy: (1 - .5 * .9375)^2.
    expected = sigmoid((1 - 0.5 * 0.9375) ** 2 - (1 - 0.5 * 0.99375) ** 2)
    assert second[0].prob_yes_BK.flatten().tolist() == pytest.approx([expected] * 8)


def test_algorithm_1_keeps_its_reference_and_moves_its_average() -> None:
    policy = Scale(1.0)
    models = init_models(policy, CONFIG)
    run = train(
        models,
        OnePixelEditor(policy),
        DifferenceJudge(),
        [[batch_of(Task.FILL, ["a", "b"])]],
        descend(policy, 1.0),
        CONFIG,
    )
    list(run)
    assert models.reference.get_parameter("weight").item() == 1.0
    assert models.average.get_parameter("weight").item() == pytest.approx(0.99375)


def test_accumulated_parts_equal_the_whole_batch() -> None:
    config = replace(CONFIG, batch=4, policy_steps=5, jump_range=(0.1, 0.9))
    prompts, slots = ["a", "b", "c", "d"], [0, 1, 2, 3]
    layouts = {
        "whole": [batch_of(Task.FILL, prompts, slots)],
        "singles": [batch_of(Task.FILL, [prompts[slot]], [slot]) for slot in slots],
    }
    rewards, weights = {}, {}
    for name, parts in layouts.items():
        policy = Scale(1.0)
        editor = OnePixelEditor(policy, drawn_noise=True)
        run = train(init_models(policy, config), editor, DifferenceJudge(), [parts], descend(policy, 1.0), config)
        rewards[name] = torch.cat([graded.prob_yes_BK for graded in next(run)])
        weights[name] = policy.weight.item()
    assert torch.equal(rewards["whole"], rewards["singles"])
    assert len(rewards["whole"][:, 0].unique()) == 4  # every sample drew for itself
    assert weights["whole"] == pytest.approx(weights["singles"], rel=1e-6)


def test_both_noises_differ() -> None:
    policy = Scale(1.0)
    editor = OnePixelEditor(policy, drawn_noise=True)
    graded = grade(init_models(policy, CONFIG), editor, DifferenceJudge(), batch_of(Task.REMOVE, ["remove"]), CONFIG)
    assert graded.prob_yes_BK.item() != pytest.approx(0.5, abs=1e-4)  # equal models, equal noise would tie


def test_the_anchor_by_hand() -> None:
    # Policy w = .6 against a start of 1: x at .5 is 1 - .3 = .7; x0_hat .7 * .7 = .49, the start's .7 * .5 = .35.
    policy = Scale(0.6)
    config = replace(CONFIG, anchor=2.0, bound=0.0)
    models = replace(init_models(policy, config), start=frozen_copy(Scale(1.0)))
    batch = batch_of(Task.REMOVE, ["remove", "remove"])
    plain = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch, replace(CONFIG, bound=0.0))
    anchored = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch, config)
    assert anchored.loss.item() == pytest.approx(2 * 0.14)
    assert plain.loss.item() == 0.0


def test_pasted_back_the_judge_sees_the_source_outside_the_mask() -> None:
    # One sample is masked, one is not: x0_hat .49 against the reference's .25 in the first, source against source else.
    policy = Scale(0.6)
    models = replace(init_models(policy, CONFIG), reference=frozen_copy(Scale(1.0)))
    mask_B1HW = torch.tensor([1.0, 0.0])[:, None, None, None]
    batch = replace(batch_of(Task.REMOVE, ["remove", "remove"]), mask_B1HW=mask_B1HW)
    whole = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch, CONFIG)
    pasted = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch, replace(CONFIG, paste_back=True))
    assert whole.prob_yes_BK[:, 0].tolist() == pytest.approx([sigmoid(0.24), sigmoid(0.24)])
    assert pasted.prob_yes_BK[:, 0].tolist() == pytest.approx([sigmoid(0.24), 0.5])


def test_both_orders_take_a_preference_for_a_place_away() -> None:
    # As above x0_hat .49 against .25, before a judge whose log odds are .3 higher for whatever comes first.
    policy = Scale(0.6)
    models = replace(init_models(policy, CONFIG), reference=frozen_copy(Scale(1.0)))
    batch, judge = batch_of(Task.REMOVE, ["remove", "remove"]), DifferenceJudge(bias=0.3)
    one = grade(models, OnePixelEditor(policy), judge, batch, CONFIG)
    both = grade(models, OnePixelEditor(policy), judge, batch, replace(CONFIG, both_orders=True))
    assert one.prob_yes_BK[0, 0].item() == pytest.approx(sigmoid(0.54))
    assert both.prob_yes_BK[0, 0].item() == pytest.approx((sigmoid(0.54) + 1 - sigmoid(0.06)) / 2)


def test_the_judge_sees_each_image_in_a_tone_of_its_own() -> None:
    # As above x0_hat .49 against .25, each channel then times its gain and plus its offset.
    policy = Scale(0.6)
    models = replace(init_models(policy, CONFIG), reference=frozen_copy(Scale(1.0)))
    batch = batch_of(Task.REMOVE, ["remove", "remove"])
    graded = grade(models, OnePixelEditor(policy), DifferenceJudge(), batch, replace(CONFIG, tone=0.1))
    ones = torch.ones(2, 3, 1, 1)
    policy_tone, reference_tone = jittered(0.49 * ones, 0.25 * ones, batch.keys, shift=0, tone=0.1)
    by_hand = (policy_tone - reference_tone).mean((1, 2, 3)).sigmoid()
    assert graded.prob_yes_BK[:, 0].tolist() == pytest.approx(by_hand.tolist())
    assert abs(by_hand[0] - sigmoid(0.24)) > 1e-3 and abs(by_hand[0] - by_hand[1]) > 1e-3


def test_tasks_are_drawn_by_seed_and_step_with_their_shares() -> None:
    drawn = [draw_task(CONFIG, 0, step) for step in range(4000)]
    assert drawn == [draw_task(CONFIG, 0, step) for step in range(4000)]
    assert drawn.count(Task.FILL) / 4000 == pytest.approx(0.75, abs=0.03)
    assert drawn != [draw_task(CONFIG, 1, step) for step in range(4000)]
