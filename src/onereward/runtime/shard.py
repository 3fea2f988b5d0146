"""A model split over the processes of a run (FSDP2): each holds a part of its weights, gradients and averages."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from onereward.runtime.mesh import Mesh


def shard(mesh: Mesh, root: nn.Module, blocks: Sequence[nn.Module], device: torch.device, *, bfloat16: bool) -> None:
    """Split `root`, through whose forward all computing must run, block by block; gradients are summed, not averaged.

    With `bfloat16` the float32 weights are gathered as bfloat16, and gradients reduced in float32. Every process must
    run as many forwards as the others.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32 if bfloat16 else None,
        cast_forward_inputs=False,  # autocast does that, and leaves a block's float32 angles alone
    )
    devices = init_device_mesh(device.type, (mesh.size,))
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of changes in place to what a block returns: none here
    for module in (*blocks, root):
        # The root too: what a forward without gradient leaves gathered would miss the weights' next change.
        sharded = fully_shard(module, mesh=devices, mp_policy=policy, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other


def is_sharded(module: nn.Module) -> bool:
    """Whether the module's weights are split."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole_state(module: nn.Module, *, trained_only: bool = False) -> dict[str, Tensor]:
    """The module's state, gathered into the memory of rank 0 (empty elsewhere) if it is split; all processes call."""
    if is_sharded(module):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
        state: dict[str, Any] = get_model_state_dict(module, options=options)
        return state
    frozen = {name for name, parameter in module.named_parameters() if trained_only and not parameter.requires_grad}
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if name not in frozen}
