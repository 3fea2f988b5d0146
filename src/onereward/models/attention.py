"""Attention in float32 under bf16 autocast: on a CPU the backward pass of bf16 attention is six times slower."""

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
