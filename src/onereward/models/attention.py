"""Attention kernels: float32 under bf16 autocast, six times quicker backwards on a CPU; none of cuDNN's in training."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SDPA_FLOAT32 = "sdpa_float32"
"""Name under which transformers' models find it (`attn_implementation`)."""


def _sdpa_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(SDPA_FLOAT32, _sdpa_float32)


def without_cudnn() -> None:
    """From now on attention on a GPU takes any kernel but cuDNN's, in this process.

    On an H100 (torch 2.11) its way back through FLUX's blocks gave gradients that were not a number, or finite and far
    too large, where flash and memory-efficient attention agreed with the plain one (docs/log.md, 2026-11-27).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
