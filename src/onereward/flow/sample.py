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
def denoise_to(velocity: Velocity, noise_BLC: Tensor, times: Tensor, step_B: Tensor) -> Tensor:
    """From noise to each sample's own `times[step_B[b]]`, without gradient."""
    latents_BLC, times, step_B = noise_BLC, times.to(noise_BLC.device), step_B.to(noise_BLC.device)
    for step in range(int(step_B.max())):
        velocity_BLC = velocity(latents_BLC, times[step].expand(len(latents_BLC)))
        moved_BLC = euler_step(latents_BLC, velocity_BLC, times[step], times[step + 1])
        latents_BLC = torch.where((step < step_B)[:, None, None], moved_BLC, latents_BLC)
    return latents_BLC


def jump(velocity: Velocity, latents_BLC: Tensor, t_B: Tensor) -> Tensor:
    """x0_hat = x_t - t * velocity: one step from time t (one a sample) straight to the image, with gradient."""
    return latents_BLC - t_B[:, None, None] * velocity(latents_BLC, t_B)


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A jump to the image: `x0_hat_BLC` carries the gradient, `latents_BLC` at times `t_B` is where it left from."""

    x0_hat_BLC: Tensor
    latents_BLC: Tensor
    t_B: Tensor


def denoise_then_jump(velocity: Velocity, noise_BLC: Tensor, times: Tensor, jump_B: Tensor) -> Jump:
    """No gradient up to each sample's own step `jump_B`, then one graded step to x0_hat (line 8 of Algorithm 1)."""
    latents_BLC = denoise_to(velocity, noise_BLC, times, jump_B)
    t_B = times[jump_B].to(latents_BLC.device)
    return Jump(x0_hat_BLC=jump(velocity, latents_BLC, t_B), latents_BLC=latents_BLC, t_B=t_B)
