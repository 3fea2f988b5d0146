"""Qwen2.5-VL in float64 throughout: the stock classes compute norms and the vision tower's rotation in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen


def _norm(self: qwen.Qwen2_5_VLRMSNorm, hidden: Tensor) -> Tensor:
    scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    return self.weight * hidden * scale


def _rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = cos.unsqueeze(-2).to(query.dtype), sin.unsqueeze(-2).to(query.dtype)
    query, key = (part * cos + qwen.rotate_half(part) * sin for part in (query, key))
    return query, key


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, nothing of a float64 model is rounded to float32."""
    with patch.object(qwen.Qwen2_5_VLRMSNorm, "forward", _norm), patch.object(qwen, "apply_rotary_pos_emb_vision", _rotate):
        yield
