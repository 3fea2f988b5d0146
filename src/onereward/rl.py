"""Algorithms 1 and 2: multi-task reward feedback learning (Sec. 4.4) and its dynamic form (Sec. 4.5).

Comments at the end of a line give the line of Algorithm 1. Algorithm 2 differs by one expression, in `init_models`.
Shape legend: B samples, H W pixels, K dimensions, L latent tokens, C token channels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onereward.augment import jittered
from onereward.ema import frozen_copy, update_average
from onereward.flow.sample import Velocity, denoise, denoise_then_jump, jump
from onereward.flow.schedule import steps_within
from onereward.losses import reward_hinge
from onereward.models.base import Condition, Editor, Judge
from onereward.query import build_query
from onereward.seeds import python_generator
from onereward.terms import Dimension, Task, dimensions_of


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """What Algorithms 1 and 2 need to know; the paper gives few of the values, a recipe states them all."""

    dynamic: bool  # Algorithm 2: the average is the reference
    task_mix: Mapping[Task, float]  # p_k
    batch: int  # samples an iteration, over all processes
    reference_steps: int
    policy_steps: int
    jump_range: tuple[float, float]  # [t1, t2], as noise levels
    bound: float  # lambda of Eq. 5
    decay: float  # tau
    anchor: float  # weight of |x0_hat - the frozen start's x0_hat| in latents; the paper has none: 0
    paste_back: bool  # the judge sees what a user gets: outside the mask the source; the paper does not say: False
    shift: int  # pixels by which the judge's two images are moved about; the paper has none: 0
    tone: float  # by which each one's gain and offset vary; the paper has none: 0
    both_orders: bool  # reward averaged over both orders of the two images; the paper shows the policy's first: False


@dataclass(frozen=True, kw_only=True)
class Models:
    """pi_theta, pi_ref, pi_ema, and the frozen start where an anchor needs it."""

    policy: nn.Module
    reference: nn.Module
    average: nn.Module
    start: nn.Module | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one task; `keys[b]` is (seed, step, slot in the global batch), from which every draw is made."""

    task: Task
    prompts: Sequence[str]
    keys: Sequence[tuple[int, int, int]]
    image_B3HW: Tensor
    mask_B1HW: Tensor
    condition: Condition


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One batch's share of the loss, and P(yes) of each sample in its dimensions E_k (NaN beyond a sample's last)."""

    loss: Tensor
    dimensions: Sequence[tuple[Dimension, ...]]
    prob_yes_BK: Tensor


def init_models(policy: nn.Module, config: RLConfig) -> Models:
    """The models of lines 1 and 2; the policy gets float32 weights, lest steps of 5e-6 be rounded away."""
    average = frozen_copy(policy).float()  # line 2
    reference = average if config.dynamic else frozen_copy(policy)  # line 1; Algorithm 2 reuses the average
    start = None if config.anchor == 0 else frozen_copy(policy) if config.dynamic else reference
    return Models(policy=policy.float().requires_grad_(True), reference=reference, average=average, start=start)


def draw_task(config: RLConfig, seed: int, step: int) -> Task:
    """The task of a global batch, k with probability p_k."""
    tasks = list(config.task_mix)
    return python_generator(seed, step, "task").choices(tasks, [config.task_mix[task] for task in tasks])[0]


def train(
    models: Models,
    editor: Editor,
    judge: Judge,
    batches: Iterable[Sequence[Batch]],
    update: Callable[[Iterator[Tensor]], None],
    config: RLConfig,
) -> Iterator[Sequence[Graded]]:
    """Algorithm 1, or 2: one item of `batches` is one global batch, in the parts that `update` accumulates."""
    for parts in batches:  # lines 3 and 4
        graded: list[Graded] = []

        def losses(parts: Sequence[Batch] = parts, graded: list[Graded] = graded) -> Iterator[Tensor]:
            for batch in parts:
                graded.append(grade(models, editor, judge, batch, config))  # lines 5 to 12
                yield graded[-1].loss

        update(losses())  # line 13
        update_average(models.average, models.policy, config.decay)  # line 14
        yield graded


def grade(models: Models, editor: Editor, judge: Judge, batch: Batch, config: RLConfig) -> Graded:
    """Lines 5 to 12: two rollouts from one condition, judged in every dimension; gradient reaches the policy only."""

    def velocity_of(transformer: nn.Module) -> Velocity:
        return lambda latents_BLC, t_B: editor.velocity(latents_BLC, t_B, batch.condition, transformer=transformer)

    condition, policy = batch.condition, velocity_of(models.policy)
    noise_1 = editor.noise(condition, [(*key, "reference noise") for key in batch.keys])  # line 5
    noise_2 = editor.noise(condition, [(*key, "policy noise") for key in batch.keys])  # line 5
    times = editor.times(condition, config.policy_steps)
    late_steps = steps_within(times, *config.jump_range)
    jump_B = torch.tensor([python_generator(*key, "jump").choice(late_steps) for key in batch.keys])  # line 6
    with torch.no_grad():
        x_0 = denoise(velocity_of(models.reference), noise_1, editor.times(condition, config.reference_steps))  # line 7
        image_reference = editor.decode(x_0, condition)  # line 7, Eq. 4
    jumped = denoise_then_jump(policy, noise_2, times, jump_B)  # line 8
    image_policy = editor.decode(jumped.x0_hat_BLC, condition)  # line 8, Eq. 4

    dimensions = [dimensions_of(batch.task, prompt) for prompt in batch.prompts]  # line 9
    queries = [  # line 10
        [build_query(batch.task, dimension, prompt) for dimension in own]
        for own, prompt in zip(dimensions, batch.prompts, strict=True)
    ]
    first, second = (pasted(image, batch) if config.paste_back else image for image in (image_policy, image_reference))
    first, second = jittered(first, second, batch.keys, shift=config.shift, tone=config.tone)
    ask = judge.prob_yes_both_orders if config.both_orders else judge.prob_yes
    prob_yes_BK = ask(first, second, queries, second_grad=False)
    loss_B = reward_hinge(prob_yes_BK, config.bound).nanmean(1)  # lines 11 and 13: Eq. 5, mean over E_k

    if models.start is not None:
        with torch.no_grad():
            x0_start = jump(velocity_of(models.start), jumped.latents_BLC, jumped.t_B)
        loss_B = loss_B + config.anchor * (jumped.x0_hat_BLC - x0_start).abs().mean((1, 2))
    return Graded(loss=loss_B.sum() / config.batch, dimensions=dimensions, prob_yes_BK=prob_yes_BK.detach())


def pasted(image_B3HW: Tensor, batch: Batch) -> Tensor:
    """The image inside the mask, the source outside."""
    return torch.where(batch.mask_B1HW > 0, image_B3HW, batch.image_B3HW)
