"""Which model it is: by content, so that another model under an old name is noticed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import nn

from onereward.models.clip import ClipEmbedder
from onereward.models.flux_fill import FluxFill
from onereward.models.qwen_vl import QwenVLJudge


def fingerprint_of(model: FluxFill | QwenVLJudge | ClipEmbedder) -> str:
    """SHA-256 of the weights and settings that decide what a model answers, wherever it was loaded from."""
    if isinstance(model, FluxFill):
        return _digest([model.transformer, model.vae, model.text_encoder, model.text_encoder_2], model.contract)
    if isinstance(model, ClipEmbedder):
        return _digest([model.vision, model.projection], (model.side, model.mean, model.std))
    return _digest([model.model], (model.pixels, model.answer_ids, model.probability))


def _digest(parts: Sequence[nn.Module], settings: object) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
