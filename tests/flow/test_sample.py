"""Euler sampling against numbers worked by hand, against diffusers, and its gradient."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from onereward.flow.sample import Jump, Velocity, denoise, denoise_to, euler_step, jump_from
from onereward.flow.schedule import shifted_times

TIMES = torch.tensor([1.0, 0.8, 0.5, 0.0])


def latents(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


def doubling(latents_BLC: Tensor, t_B: Tensor) -> Tensor:
    """v = x: every Euler step multiplies by 1 + (t' - t), the jump by 1 - t."""
    return latents_BLC


def denoise_then_jump(velocity: Velocity, noise_BLC: Tensor, times: Tensor, step_B: Tensor) -> Jump:
    """One graded step a sample, as line 8 of Algorithm 1 has it."""
    [latents_BLC] = denoise_to(velocity, noise_BLC, times, step_B[:, None], int(step_B.max())).unbind(1)
    return jump_from(velocity, latents_BLC, times[step_B])


def test_denoise_by_hand() -> None:
    # 10 * .8 * .7 * .5 = 2.8
    assert denoise(doubling, latents(10.0), TIMES).flatten().tolist() == pytest.approx([2.8])


def test_denoise_then_jump_by_hand_at_each_samples_own_step() -> None:
    # Step 0: 10 * (1 - 1) = 0. Step 1: 10 * .8 * (1 - .8) = 1.6. Step 2: 10 * .8 * .7 * (1 - .5) = 2.8.
    jumped = denoise_then_jump(doubling, latents(10.0, 10.0, 10.0), TIMES, torch.tensor([0, 1, 2]))
    assert jumped.x0_hat_BLC.flatten().tolist() == pytest.approx([0.0, 1.6, 2.8])
    assert jumped.latents_BLC.flatten().tolist() == pytest.approx([10.0, 8.0, 5.6])
    assert jumped.t_B.tolist() == TIMES[:3].tolist()


def test_one_way_from_noise_keeps_the_latents_of_every_step_asked_for() -> None:
    # 10, then 10 * .8 = 8, then 8 * .7 = 5.6; the way may go on for others' sake.
    steps_BJ = torch.tensor([[2, 0], [1, 2]])
    kept_BJLC = denoise_to(doubling, latents(10.0, 10.0), TIMES, steps_BJ, last=3)
    assert kept_BJLC.flatten(1).tolist() == [pytest.approx([5.6, 10.0]), pytest.approx([8.0, 5.6])]


def test_the_jump_finds_the_image_of_a_straight_flow_from_every_step() -> None:
    image, noise = latents(3.0, -1.0, 0.5), latents(0.1, 2.0, -0.7)
    jumped = denoise_then_jump(lambda x, t: noise - image, noise, TIMES, torch.tensor([0, 1, 2]))
    assert torch.allclose(jumped.x0_hat_BLC, image, atol=1e-6)


def test_a_jump_from_the_last_step_is_full_denoising() -> None:
    velocity_field = torch.nn.Linear(1, 1)
    noise = latents(0.3, -2.0)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        field: Tensor = velocity_field(x)
        return field

    last = torch.tensor([2, 2])
    jumped = denoise_then_jump(velocity, noise, TIMES, last)
    assert torch.allclose(jumped.x0_hat_BLC, denoise(velocity, noise, TIMES), atol=1e-6)


def test_samples_do_not_depend_on_their_batch() -> None:
    noise, steps = torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 1, 2])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x) * t[:, None, None]

    together = denoise_then_jump(velocity, noise, TIMES, steps).x0_hat_BLC
    alone = [denoise_then_jump(velocity, noise[b : b + 1], TIMES, steps[b : b + 1]).x0_hat_BLC for b in range(4)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_denoise_equals_diffusers(dtype: torch.dtype) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0.2, 5).numpy(), mu=0.5)
    stock = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    noise = stock
    for timestep in scheduler.timesteps:
        stock = scheduler.step(torch.sin(stock), timestep, stock, return_dict=False)[0]
    assert torch.equal(denoise(lambda x, t: torch.sin(x), noise, scheduler.sigmas), stock)
    assert torch.equal(shifted_times(5, 256), scheduler.sigmas)


def test_only_the_jump_is_graded() -> None:
    weight = torch.tensor(1.0, requires_grad=True)
    graded: list[bool] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        field = weight * x
        graded.append(field.requires_grad)
        return field

    denoise_then_jump(velocity, latents(10.0), TIMES, torch.tensor([2])).x0_hat_BLC.sum().backward()
    assert graded == [False, False, True]
    # x at step 2 is 5.6 whatever the weight's gradient there: d/dw (x - .5 w x) = -2.8, not the full -8.36.
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(-2.8)
    assert not denoise(velocity, latents(10.0), TIMES).requires_grad


def test_a_step_loses_no_double_precision() -> None:
    latents, velocity = torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    time, next_time = torch.tensor([0.75, 0.5])
    assert torch.equal(euler_step(latents, velocity, time, next_time), latents - 0.25 * velocity)
