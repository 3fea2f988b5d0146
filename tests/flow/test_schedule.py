"""The times equal diffusers' scheduler, and the jump range is one of noise levels."""

import numpy
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux_fill import calculate_shift

from onereward.flow.schedule import Shift, shifted_times, steps_within


@pytest.mark.parametrize("image_tokens", [16, 64, 256, 1024, 4096])
@pytest.mark.parametrize("steps", [1, 4, 10, 50])
def test_times_equal_diffusers(steps: int, image_tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    sigmas = numpy.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(image_tokens, 256, 4096, 0.5, 1.15))
    assert torch.equal(shifted_times(steps, image_tokens), scheduler.sigmas)


def test_mu_by_hand() -> None:
    # Half-way between 256 and 4096 tokens, mu is half-way between .5 and 1.15.
    assert Shift().mu(2176) == pytest.approx(0.825)


def test_the_same_step_is_another_noise_level_at_another_size() -> None:
    # 40 steps: steps 30-39 are sigma .51-.075 at 1024x1024 (4096 tokens), .385-.046 at 512x512 (1024 tokens).
    large, small = shifted_times(40, 4096), shifted_times(40, 1024)
    assert [large[30].item(), large[39].item()] == pytest.approx([0.51, 0.075], abs=0.005)
    assert [small[30].item(), small[39].item()] == pytest.approx([0.385, 0.046], abs=0.005)


def test_steps_within_keeps_both_ends_and_never_the_image_itself() -> None:
    times = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    assert steps_within(times, 0.25, 0.75) == [1, 2, 3]
    assert steps_within(times, 0.0, 1.0) == [0, 1, 2, 3]


def test_errors_say_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"no sampling step has a time in \[0.8, 0.9\].*1.000, 0.750"):
        steps_within(torch.tensor([1.0, 0.75, 0.0]), 0.8, 0.9)
    with pytest.raises(ValueError, match="got 0 sampling steps, expected at least 1"):
        shifted_times(0, 256)
