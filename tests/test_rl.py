"""Algorithms 1 and 2 on a two-weight editor and a judge that can be worked out by hand."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onereward.augment import jittered
from onereward.losses import Reward
from onereward.models.copies import WholeCopies
from onereward.rl import draw_task, grade, reference_images, reference_of, train
from onereward.rl_terms import Batch, Graded, RLConfig
from onereward.seeds import python_generator, torch_generator
from onereward.terms import EXTEND_PROMPT, Dimension, Task

CONFIG = RLConfig(
    dynamic=False,
    task_mix={Task.FILL: 0.75, Task.REMOVE: 0.25},
    batch=2,
    reference_steps=2,
    reference_cache=0.0,
    policy_steps=2,
    graded_steps=1,
    jump_range=(0.4, 0.6),
    bound=0.6,
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

    def cached(self, threshold: float | None) -> Any:
        return nullcontext()

    def latents(self, image_B3HW: Tensor) -> Tensor:
        return image_B3HW[:, :1, :, 0]

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


@dataclass(frozen=True, kw_only=True)
class States:
    """Three states that are what they are told to be."""

    policy: nn.Module
    start: nn.Module
    average: nn.Module

    def update_average(self, decay: float) -> None:
        raise AssertionError("no step is taken")


def states(policy: float, start: float = 1.0) -> States:
    return States(policy=Scale(policy), start=Scale(start), average=Scale(start))


def batch_of(task: Task, prompts: Sequence[str], slots: Sequence[int] = (0, 1), step: int = 1) -> Batch:
    size = len(prompts)
    keys = [(7, step, slot) for slot in slots[:size]]
    return Batch(
        task=task,
        prompts=prompts,
        keys=keys,
        reference_keys=keys,
        abreast=keys,
        image_B3HW=torch.zeros(size, 3, 1, 1),
        mask_B1HW=torch.zeros(size, 1, 1, 1),
        condition=size,
    )


def graded_of(models: Any, judge: Any, batch: Batch, config: RLConfig, editor: Any = None) -> list[Graded]:
    """All of a batch's grades, its references made by the rollout."""
    editor = editor or OnePixelEditor(Scale(0.0))
    reference_B3HW = reference_images(editor, reference_of(models, config), batch, config)
    return list(grade(models, editor, judge, reference_B3HW, batch, config))


def graded_once(models: Any, judge: Any, batch: Batch, config: RLConfig, editor: Any = None) -> Graded:
    [graded] = graded_of(models, judge, batch, config, editor)
    return graded


def whole(weight: float, config: RLConfig) -> WholeCopies:
    return WholeCopies(Scale(weight), keep_start=config.needs_start)


def references_of(models: Any, editor: Any, config: RLConfig) -> Any:
    return lambda batch: reference_images(editor, reference_of(models, config), batch, config)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def descend(module: nn.Module, rate: float) -> Any:
    weight = module.get_parameter("weight")

    def update(losses: Any) -> None:
        weight.grad = None
        for loss in losses:
            loss.backward()
        assert weight.grad is not None
        with torch.no_grad():
            weight.sub_(rate * weight.grad)

    return update


FILL = batch_of(Task.FILL, ["a", "b"])
REMOVE = batch_of(Task.REMOVE, ["remove", "remove"])


def test_one_graded_batch_by_hand() -> None:
    # Times 1, .5, 0; the jump can leave from .5 only. v = x, both noises 1.
    # Reference: 1 - .5 = .5, then .5 - .25 = .25. Policy: .5 without gradient, then .5 - .5 * w * .5 = .25 at w = 1.
    # P(yes) = sigmoid(0) = .5, J = .6 - .5 = .1 in each dimension and sample.
    # dJ/dw = -P (1 - P) * d x0_hat/dw = -.25 * -.25 = .0625.
    models = whole(1.0, CONFIG)
    graded = graded_once(models, DifferenceJudge(), FILL, CONFIG)
    assert graded.prob_yes_BK.flatten().tolist() == pytest.approx([0.5] * 8)
    assert graded.loss.item() == pytest.approx(0.1)
    graded.loss.backward()
    assert models.module.weight.grad.item() == pytest.approx(0.0625)


def test_gradient_reaches_the_policy_and_nothing_else_and_only_through_the_jump() -> None:
    models, judge, editor = states(1.0), DifferenceJudge(), OnePixelEditor(Scale(0.0))
    config = replace(CONFIG, dynamic=True, anchor=1.0, kl=1.0)
    graded_once(models, judge, FILL, config, editor).loss.backward()
    assert models.policy.weight.grad is not None and models.policy.weight.grad.item() != 0
    for frozen in (models.average, models.start, judge):
        assert all(parameter.grad is None for parameter in frozen.parameters())
    assert [(used is models.policy, time) for used, time, graded in editor.asked if graded] == [(True, 0.5)]


def test_a_saturated_dimension_gives_no_gradient() -> None:
    models = whole(1.0, CONFIG)
    graded = graded_once(models, DifferenceJudge(), FILL, replace(CONFIG, bound=0.4))
    graded.loss.backward()
    assert graded.loss.item() == 0 and models.module.weight.grad.item() == 0


def test_each_sample_is_graded_in_its_own_dimensions() -> None:
    models, judge = whole(1.0, CONFIG), DifferenceJudge()
    graded = graded_once(models, judge, batch_of(Task.EXTEND, ["a house", EXTEND_PROMPT]), CONFIG)
    assert [len(own) for own in graded.dimensions] == [4, 3]
    assert Dimension.TEXT_ALIGNMENT not in graded.dimensions[1]
    assert graded.prob_yes_BK.isnan().tolist() == [[False] * 4, [False, False, False, True]]
    assert graded.loss.item() == pytest.approx(0.1)  # the mean over E_k, of three as of four
    graded.loss.backward()
    assert models.module.weight.grad.item() == pytest.approx(0.0625)


def test_a_dimensions_weight_multiplies_its_hinge() -> None:
    # Hinges of .1 each: (2 * .1 + .1 + .1 + 0) / 4 = .1; with 2, 1, 1, 1 it would be .125.
    weights = {**CONFIG.dimension_weights, Dimension.STRUCTURE: 2.0, Dimension.AESTHETICS: 0.0}
    graded = graded_once(whole(1.0, CONFIG), DifferenceJudge(), FILL, replace(CONFIG, dimension_weights=weights))
    assert graded.loss.item() == pytest.approx(0.1)
    weights[Dimension.AESTHETICS] = 1.0
    graded = graded_once(whole(1.0, CONFIG), DifferenceJudge(), FILL, replace(CONFIG, dimension_weights=weights))
    assert graded.loss.item() == pytest.approx(0.125)


def test_log_odds_end_at_the_same_bound_and_keep_their_gradient() -> None:
    # Log odds 0 against log(.6 / .4) = .4055; d/dw = -1 * d x0_hat/dw = .25, four times the probability's .0625.
    models = whole(1.0, CONFIG)
    graded = graded_once(models, DifferenceJudge(), FILL, replace(CONFIG, reward=Reward.LOG_ODDS))
    assert graded.loss.item() == pytest.approx(math.log(1.5), rel=1e-4)
    graded.loss.backward()
    assert models.module.weight.grad.item() == pytest.approx(0.25, rel=1e-4)
    far = graded_once(states(1.0), DifferenceJudge(bias=50.0), FILL, replace(CONFIG, reward=Reward.LOG_ODDS))
    far.loss.backward()
    assert far.loss.item() == 0  # and no 0 * inf on the way back


def test_algorithm_2_is_judged_against_the_moving_average() -> None:
    config = replace(CONFIG, dynamic=True)
    models, editor = whole(1.0, config), OnePixelEditor(Scale(0.0))
    batches = [[batch_of(Task.FILL, ["a", "b"], step=step)] for step in (1, 2)]
    references = references_of(models, editor, config)
    run = train(models, editor, DifferenceJudge(), references, batches, descend(models.module, 1.0), config)
    next(run)
    # w = 1 - .0625; average .9 * 1 + .1 * .9375 = .99375
    assert models.module.weight.item() == pytest.approx(0.9375)
    assert models.kept_average.values["weight"].item() == pytest.approx(0.99375)
    second = next(run)
    # Reference: (1 - .5 * .99375)^2. Policy: (1 - .5 * .9375)^2.
    expected = sigmoid((1 - 0.5 * 0.9375) ** 2 - (1 - 0.5 * 0.99375) ** 2)
    assert second[0].prob_yes_BK.flatten().tolist() == pytest.approx([expected] * 8)


def test_algorithm_1_keeps_its_reference_and_moves_its_average() -> None:
    models, editor = whole(1.0, CONFIG), OnePixelEditor(Scale(0.0))
    references = references_of(models, editor, CONFIG)
    list(train(models, editor, DifferenceJudge(), references, [[FILL]], descend(models.module, 1.0), CONFIG))
    assert models.kept_average.values["weight"].item() == pytest.approx(0.99375)
    with torch.no_grad():
        assert models.start(torch.ones(1)).item() == 1.0
        assert models.average(torch.ones(1)).item() == pytest.approx(0.99375)
        assert models.policy(torch.ones(1)).item() == pytest.approx(0.9375)


def test_accumulated_parts_equal_the_whole_batch() -> None:
    config = replace(CONFIG, batch=4, policy_steps=5, jump_range=(0.1, 0.9), graded_steps=2)
    prompts, slots = ["a", "b", "c", "d"], [0, 1, 2, 3]
    layouts = {
        "whole": [batch_of(Task.FILL, prompts, slots)],
        "singles": [batch_of(Task.FILL, [prompts[slot]], [slot]) for slot in slots],
    }
    rewards, weights = {}, {}
    for name, parts in layouts.items():
        models, editor = whole(1.0, config), OnePixelEditor(Scale(0.0), drawn_noise=True)
        update, references = descend(models.module, 1.0), references_of(models, editor, config)
        graded = next(train(models, editor, DifferenceJudge(), references, [parts], update, config))
        rewards[name] = torch.stack([torch.cat([g.prob_yes_BK for g in graded[step::2]]) for step in range(2)])
        weights[name] = models.module.weight.item()
    assert torch.equal(rewards["whole"], rewards["singles"])
    assert len(rewards["whole"][0, :, 0].unique()) == 4  # every sample drew for itself
    assert weights["whole"] == pytest.approx(weights["singles"], rel=1e-6)


def test_a_rollout_is_graded_at_several_steps_by_hand() -> None:
    # Times 1, .75, .5, .25, 0 and v = x: at .5 the latents are .75 * .75, x0_hat .75^2 * .5 = .28125; at .25 they are
    # .75^3, x0_hat .75^3 * .75 = .31640625. The reference in two steps: .25. Two of two steps in range: both are taken.
    config = replace(CONFIG, policy_steps=4, jump_range=(0.2, 0.6), graded_steps=2, bound=1.0)
    graded = graded_of(states(1.0), DifferenceJudge(), batch_of(Task.REMOVE, ["remove"], [0]), config)
    found = sorted(each.prob_yes_BK.item() for each in graded)
    assert found == pytest.approx([sigmoid(0.28125 - 0.25), sigmoid(0.31640625 - 0.25)])
    assert [each.loss.item() for each in graded] == pytest.approx(
        [(1 - each.prob_yes_BK.item()) / (2 * 2) for each in graded]  # of a batch of two, in two steps
    )


def test_a_batch_goes_as_far_as_those_abreast_and_grades_the_same() -> None:
    config = replace(CONFIG, policy_steps=10, jump_range=(0.05, 0.95))
    short, long = (7, 1, 0), (7, 1, 1)
    alone, editor = batch_of(Task.REMOVE, ["remove"], [0]), OnePixelEditor(Scale(0.0))
    far = replace(alone, abreast=[short, *((7, 1, slot) for slot in range(1, 30))])
    first = graded_once(states(0.5), DifferenceJudge(), alone, config, editor)
    steps = len(editor.asked)
    second = graded_once(states(0.5), DifferenceJudge(), far, config, editor)
    assert len(editor.asked) - steps > steps and long in far.abreast
    assert first.loss.item() == second.loss.item()


def test_a_batch_of_weight_0_adds_nothing() -> None:
    models = whole(0.5, CONFIG)
    graded = graded_once(models, DifferenceJudge(), replace(REMOVE, weight=0.0), CONFIG)
    graded.loss.backward()
    assert graded.loss.item() == 0 and models.module.weight.grad.item() == 0


def test_both_noises_differ() -> None:
    editor = OnePixelEditor(Scale(0.0), drawn_noise=True)
    graded = graded_once(states(1.0), DifferenceJudge(), batch_of(Task.REMOVE, ["remove"]), CONFIG, editor)
    assert graded.prob_yes_BK.item() != pytest.approx(0.5, abs=1e-4)  # equal models, equal noise would tie


def test_the_reference_keys_draw_the_references_noise_alone() -> None:
    editor, models = OnePixelEditor(Scale(0.0), drawn_noise=True), states(0.5)
    other = replace(REMOVE, reference_keys=[("pool", 1), ("pool", 2)])
    images = [reference_images(editor, models.start, batch, CONFIG) for batch in (REMOVE, other)]
    assert not torch.equal(*images)
    grades = [next(grade(models, editor, DifferenceJudge(), images[0], batch, CONFIG)) for batch in (REMOVE, other)]
    assert torch.equal(grades[0].x0_hat_BLC, grades[1].x0_hat_BLC)


# Policy w = .6 against a start of 1: x at .5 is 1 - .3 = .7; x0_hat .7 * .7 = .49, the start's .7 * .5 = .35.
NO_REWARD = replace(CONFIG, bound=0.0)


def test_the_anchor_by_hand() -> None:
    plain = graded_once(states(0.6), DifferenceJudge(), REMOVE, NO_REWARD)
    anchored = graded_once(states(0.6), DifferenceJudge(), REMOVE, replace(NO_REWARD, anchor=2.0))
    assert anchored.loss.item() == pytest.approx(2 * 0.14)
    assert plain.loss.item() == 0.0


def test_the_kl_by_hand() -> None:
    graded = graded_once(states(0.6), DifferenceJudge(), REMOVE, replace(NO_REWARD, kl=3.0))
    assert graded.loss.item() == pytest.approx(3 * 0.14**2 / 2)


def test_flow_matching_by_hand() -> None:
    # x_0 is the reference's .25, the noise 1; at time t: x_t = .25 + .75 t, v = .6 x_t against 1 - .25.
    config = replace(NO_REWARD, flow_matching=2.0)
    batch = batch_of(Task.REMOVE, ["remove"], [0])
    t = python_generator(*batch.keys[0], "flow matching time").random()
    graded = graded_once(states(0.6), DifferenceJudge(), batch, config)
    assert graded.loss.item() == pytest.approx(2 * (0.6 * (0.25 + 0.75 * t) - 0.75) ** 2 / 2, rel=1e-5)


def test_pasted_back_the_judge_sees_the_source_outside_the_mask() -> None:
    # One sample is masked, one is not: x0_hat .49 against the reference's .25 in the first, source against source else.
    batch = replace(REMOVE, mask_B1HW=torch.tensor([1.0, 0.0])[:, None, None, None])
    seen = graded_once(states(0.6), DifferenceJudge(), batch, CONFIG)
    pasted = graded_once(states(0.6), DifferenceJudge(), batch, replace(CONFIG, paste_back=True))
    assert seen.prob_yes_BK[:, 0].tolist() == pytest.approx([sigmoid(0.24), sigmoid(0.24)])
    assert pasted.prob_yes_BK[:, 0].tolist() == pytest.approx([sigmoid(0.24), 0.5])


def test_both_orders_take_a_preference_for_a_place_away() -> None:
    # As above x0_hat .49 against .25, before a judge whose log odds are .3 higher for whatever comes first.
    judge = DifferenceJudge(bias=0.3)
    one = graded_once(states(0.6), judge, REMOVE, CONFIG)
    both = graded_once(states(0.6), judge, REMOVE, replace(CONFIG, both_orders=True))
    assert one.prob_yes_BK[0, 0].item() == pytest.approx(sigmoid(0.54))
    assert both.prob_yes_BK[0, 0].item() == pytest.approx((sigmoid(0.54) + 1 - sigmoid(0.06)) / 2)


def test_the_judge_sees_each_image_in_a_tone_of_its_own() -> None:
    # As above x0_hat .49 against .25, each channel then times its gain and plus its offset.
    graded = graded_once(states(0.6), DifferenceJudge(), REMOVE, replace(CONFIG, tone=0.1))
    ones = torch.ones(2, 3, 1, 1)
    policy_tone, reference_tone = jittered(0.49 * ones, 0.25 * ones, REMOVE.keys, shift=0, tone=0.1)
    by_hand = (policy_tone - reference_tone).mean((1, 2, 3)).sigmoid()
    assert graded.prob_yes_BK[:, 0].tolist() == pytest.approx(by_hand.tolist())
    assert abs(by_hand[0] - sigmoid(0.24)) > 1e-3 and abs(by_hand[0] - by_hand[1]) > 1e-3


def test_tasks_are_drawn_by_seed_and_step_with_their_shares() -> None:
    drawn = [draw_task(CONFIG, 0, step) for step in range(4000)]
    assert drawn == [draw_task(CONFIG, 0, step) for step in range(4000)]
    assert drawn.count(Task.FILL) / 4000 == pytest.approx(0.75, abs=0.03)
    assert drawn != [draw_task(CONFIG, 1, step) for step in range(4000)]
