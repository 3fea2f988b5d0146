"""The sampler's times: t = 1 is noise, t = 0 the image (the paper uses two conventions, docs/paper.md maps them)."""

import math

import torch
from torch import Tensor

from onereward.flow.shift import Shift


def shifted_times(steps: int, image_tokens: int, shift: Shift | None = None) -> Tensor:
    """`steps + 1` float32 times from 1 down to 0, exponentially shifted for the image's size (default: FLUX's shift).

    Equal to diffusers' `FlowMatchEulerDiscreteScheduler` with dynamic shifting, as `FluxFillPipeline` drives it.
    """
    if steps < 1:
        raise ValueError(f"got {steps} sampling steps, expected at least 1")
    even = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).to(torch.float32)
    # A tensor: torch turns number / tensor into number * reciprocal, which rounds otherwise than numpy's division.
    scale = torch.full_like(even, math.exp((shift or Shift()).mu(image_tokens)))
    shifted = scale / (scale + (1 / even - 1))
    return torch.cat([shifted, torch.zeros(1)])


def steps_within(times: Tensor, low: float, high: float, *, at_least: int = 1) -> list[int]:
    """The steps whose time lies in [low, high]: the noise levels from which the policy may jump ([t1, t2], line 6).

    The range is given in sigma, not in step numbers: one step number means another noise level at another resolution.
    Raises ValueError for fewer than `at_least`.
    """
    steps = [step for step, time in enumerate(times[:-1].tolist()) if low <= time <= high]
    if len(steps) < at_least:
        listed = ", ".join(f"{time:.3f}" for time in times[:-1].tolist())
        few = f"{len(steps)} sampling steps have" if steps else "no sampling step has"
        needed = f", {at_least} are needed" if at_least > 1 else ""
        raise ValueError(f"{few} a time in [{low}, {high}]{needed}: widen the range; the times are {listed}")
    return steps
