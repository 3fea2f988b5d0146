"""Algorithms 1 and 2: multi-task reward feedback learning (Sec. 4.4) and its dynamic form (Sec. 4.5).

Comments at the end of a line give the line of Algorithm 1. Algorithm 2 differs by one expression, in `reference_of`.
Shape legend: B samples, H W pixels, J graded steps, K dimensions, L latent tokens, C token channels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from onereward.augment import jittered
from onereward.flow.sample import Velocity, denoise, denoise_to, jump_from
from onereward.flow.schedule import steps_within
from onereward.losses import reward_hinge
from onereward.models.base import Copies, Editor, Judge, Transformer
from onereward.query import build_query
from onereward.regularisers import regularisation
from onereward.rl_terms import Batch, Graded, Key, RLConfig
from onereward.seeds import python_generator
from onereward.terms import Dimension, Task, dimensions_of


def reference_of(models: Copies, config: RLConfig) -> Transformer:
    """pi_ref: the frozen start (line 1); Algorithm 2: the moving average."""
    return models.average if config.dynamic else models.start


def draw_task(config: RLConfig, seed: int, step: int) -> Task:
    """The task of a global batch, k with probability p_k."""
    tasks = list(config.task_mix)
    return python_generator(seed, step, "task").choices(tasks, [config.task_mix[task] for task in tasks])[0]


def train(
    models: Copies,
    editor: Editor,
    judge: Judge,
    references: Callable[[Batch], Tensor],
    batches: Iterable[Iterable[Batch]],
    update: Callable[[Iterator[Tensor]], None],
    config: RLConfig,
    inspect: Callable[[Graded], None] = lambda graded: None,
) -> Iterator[Sequence[Graded]]:
    """Algorithm 1, or 2: one item of `batches` is one global batch, in the parts that `update` accumulates.

    `references` makes the images to beat; `inspect` sees what was graded before its gradient is taken.
    """
    for parts in batches:  # lines 3 and 4
        done: list[Graded] = []

        def losses(parts: Iterable[Batch] = parts, done: list[Graded] = done) -> Iterator[Tensor]:
            for batch in parts:
                for graded in grade(models, editor, judge, references(batch), batch, config):  # lines 5 to 12
                    inspect(graded)
                    yield graded.loss
                    done.append(graded.without_graph())

        update(losses())  # line 13
        models.update_average(config.decay)  # line 14
        yield done


@torch.no_grad()
def reference_images(editor: Editor, reference: Transformer, batch: Batch, config: RLConfig) -> Tensor:
    """image_B3HW that the policy must beat: full denoising from a noise of its own (Eq. 4)."""
    noise_1 = editor.noise(batch.condition, [(*key, "reference noise") for key in batch.reference_keys])  # line 5
    times = editor.times(batch.condition, config.reference_steps)
    with editor.cached(config.reference_cache):
        x_0 = denoise(_velocity_of(editor, reference, batch), noise_1, times)  # line 7
    return editor.decode(x_0, batch.condition)  # line 7, Eq. 4


def grade(
    models: Copies, editor: Editor, judge: Judge, reference_B3HW: Tensor, batch: Batch, config: RLConfig
) -> Iterator[Graded]:
    """Lines 5 to 12: a rollout, judged in every dimension after each graded step; gradient reaches the policy only."""
    condition = batch.condition
    policy, start = (_velocity_of(editor, each, batch) for each in (models.policy, models.start))
    noise_2 = editor.noise(condition, [(*key, "policy noise") for key in batch.keys])  # line 5
    times = editor.times(condition, config.policy_steps)
    jumps_BJ = draw_jumps(batch.keys, times, config)  # line 6
    most = int(draw_jumps(batch.abreast, times, config).max())
    latents_BJLC = denoise_to(policy, noise_2, times, jumps_BJ, most)  # line 8
    dimensions = [dimensions_of(batch.task, prompt) for prompt in batch.prompts]  # line 9
    for latents_BLC, t_B in zip(latents_BJLC.unbind(1), times[jumps_BJ.to(times.device)].unbind(1), strict=True):
        jumped = jump_from(policy, latents_BLC, t_B)  # line 8
        image_B3HW = editor.decode(jumped.x0_hat_BLC, condition)  # line 8, Eq. 4
        prob_yes_BK = ask(judge, image_B3HW, reference_B3HW, dimensions, batch, config)  # lines 10 and 11
        hinge_BK = reward_hinge(prob_yes_BK, config.bound, config.reward)  # line 13: Eq. 5
        weight_BK = _weights(dimensions, config).to(hinge_BK)
        loss_B = (weight_BK * hinge_BK).nanmean(1)  # lines 11 and 13: mean over E_k
        if config.is_regularised:
            loss_B = loss_B + regularisation(jumped, editor, policy, start, reference_B3HW, batch, config)
        yield Graded(
            loss=batch.weight * loss_B.sum() / (config.batch * config.graded_steps),
            batch=batch,
            dimensions=dimensions,
            prob_yes_BK=prob_yes_BK,
            hinge_BK=hinge_BK,
            x0_hat_BLC=jumped.x0_hat_BLC,
        )


def draw_jumps(keys: Sequence[Key], times: Tensor, config: RLConfig) -> Tensor:
    """The steps from which each sample jumps to the image, all within [t1, t2], `steps_BJ` (line 6)."""
    late = steps_within(times, *config.jump_range, at_least=config.graded_steps)
    return torch.tensor([python_generator(*key, "jump").sample(late, config.graded_steps) for key in keys])


def ask(
    judge: Judge,
    image_B3HW: Tensor,
    reference_B3HW: Tensor,
    dimensions: Sequence[Sequence[Dimension]],
    batch: Batch,
    config: RLConfig,
) -> Tensor:
    """y = r(x_theta, x_ref, q), the probability that the policy's image is better, in each dimension `prob_yes_BK`."""
    queries = [  # line 10
        [build_query(batch.task, dimension, prompt) for dimension in own]
        for own, prompt in zip(dimensions, batch.prompts, strict=True)
    ]
    if config.paste_back:
        source, inside = batch.image_B3HW, batch.mask_B1HW > 0
        image_B3HW, reference_B3HW = (torch.where(inside, image, source) for image in (image_B3HW, reference_B3HW))
    first, second = jittered(image_B3HW, reference_B3HW, batch.keys, shift=config.shift, tone=config.tone)
    prob_yes = judge.prob_yes_both_orders if config.both_orders else judge.prob_yes
    return prob_yes(first, second, queries, second_grad=False)  # line 11


def _velocity_of(editor: Editor, transformer: Transformer, batch: Batch) -> Velocity:
    return lambda latents_BLC, t_B: editor.velocity(latents_BLC, t_B, batch.condition, transformer=transformer)


def _weights(dimensions: Sequence[Sequence[Dimension]], config: RLConfig) -> Tensor:
    most = max(len(own) for own in dimensions)
    rows = [[config.dimension_weights[each] for each in own] + [0.0] * (most - len(own)) for own in dimensions]
    return torch.tensor(rows)
