"""Euler sampling of a flow: knows a velocity function, no model.

Shape legend: B batch, L latent tokens, C token channels. velocity = noise - x_0, so x_0 = x_t - t * velocity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents_BLC, t_B) -> velocity_BLC."""


def euler_step(latents_BLC: Tensor, velocity_BLC: Tensor, time: Tensor, next_time: Tensor) -> Tensor:
    """x_t -> x_t' along the velocity; the sum in float32 or finer, the result in the latents' type as in diffusers."""
    precise_BLC = latents_BLC.to(torch.promote_types(latents_BLC.dtype, torch.float32))
    moved = precise_BLC + (next_time - time) * velocity_BLC
    return moved.to(latents_BLC.dtype)


@torch.no_grad()
def denoise(velocity: Velocity, noise_BLC: Tensor, times: Tensor) -> Tensor:
    """From noise to x_0 along all `times` (from 1 down to 0), without gradient: line 7 of Algorithm 1."""
    latents_BLC = noise_BLC
    for time, next_time in pairwise(times.to(noise_BLC.device)):
        velocity_BLC = velocity(latents_BLC, time.expand(len(latents_BLC)))
        latents_BLC = euler_step(latents_BLC, velocity_BLC, time, next_time)
    return latents_BLC


@torch.no_grad()
def denoise_to(velocity: Velocity, noise_BLC: Tensor, times: Tensor, step_BJ: Tensor, last: int) -> Tensor:
    """Each sample's latents at its own `times[step_BJ[b, j]]`, on one way from noise without gradient, `latents_BJLC`.

    The way goes on to step `last`, which is at least every sample's last one.
    """
    latents_BLC, times, step_BJ = noise_BLC, times.to(noise_BLC.device), step_BJ.to(noise_BLC.device)
    kept_BJLC = noise_BLC[:, None].repeat(1, step_BJ.shape[1], 1, 1)
    for step in range(last):
        velocity_BLC = velocity(latents_BLC, times[step].expand(len(latents_BLC)))
        latents_BLC = euler_step(latents_BLC, velocity_BLC, times[step], times[step + 1])
        is_there_BJ = step_BJ.eq(step + 1)
        kept_BJLC = torch.where(is_there_BJ[:, :, None, None], latents_BLC[:, None], kept_BJLC)
    return kept_BJLC


def jump(velocity: Velocity, latents_BLC: Tensor, t_B: Tensor) -> Tensor:
    """x0_hat = x_t - t * velocity: one step from time t (one a sample) straight to the image, with gradient."""
    return latents_BLC - t_B[:, None, None] * velocity(latents_BLC, t_B)


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A jump to the image: `x0_hat_BLC` carries the gradient, `latents_BLC` at times `t_B` is where it left from."""

    x0_hat_BLC: Tensor
    latents_BLC: Tensor
    t_B: Tensor


def jump_from(velocity: Velocity, latents_BLC: Tensor, t_B: Tensor) -> Jump:
    """The graded step from where a rollout is (line 8 of Algorithm 1)."""
    return Jump(x0_hat_BLC=jump(velocity, latents_BLC, t_B), latents_BLC=latents_BLC, t_B=t_B)
