"""What holds a policy back while a reward pulls: to the frozen start, or to being a flow model; the paper has none.

Shape legend: B samples, H W pixels, L latent tokens, C token channels.
"""

import torch
from torch import Tensor

from onereward.flow.sample import Jump, Velocity, jump
from onereward.losses import flow_matching
from onereward.models.base import Editor
from onereward.rl_terms import Batch, RLConfig
from onereward.seeds import python_generator


def regularisation(
    jumped: Jump, editor: Editor, policy: Velocity, start: Velocity, reference_B3HW: Tensor, batch: Batch, c: RLConfig
) -> Tensor:
    """What each sample pays for leaving the start, and for failing as a flow model of the reference's images, `loss_B`.

    `c` weighs |x0_hat - the start's x0_hat|, the KL between unit Gaussians around the two (half their squared
    difference), both a number of the latents, and the flow matching loss.
    """
    loss_B = jumped.x0_hat_BLC.new_zeros(len(batch.keys))
    if c.anchor or c.kl:
        with torch.no_grad():
            start_BLC = jump(start, jumped.latents_BLC, jumped.t_B)
        change_BLC = jumped.x0_hat_BLC - start_BLC
        loss_B = loss_B + c.anchor * change_BLC.abs().mean((1, 2)) + c.kl * change_BLC.square().mean((1, 2)) / 2
    if c.flow_matching:
        noise_BLC = editor.noise(batch.condition, [(*key, "flow matching noise") for key in batch.keys])
        t_B = torch.tensor([python_generator(*key, "flow matching time").random() for key in batch.keys])
        x_0 = editor.latents(reference_B3HW)
        loss_B = loss_B + c.flow_matching * flow_matching(policy, x_0, noise_BLC, t_B.to(noise_BLC))
    return loss_B
