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
        parts = [model.transformer, model.vae, model.text_encoder, model.text_encoder_2]
        return _digest(parts, (model.contract, model.shift, model.cache, *_scale_and_words(model)))
    if isinstance(model, ClipEmbedder):
        return _digest([model.vision, model.projection], (model.side, model.mean, model.std))
    words = sorted(model.tokenizer.get_vocab().items())
    settings = (model.pixels, model.answer_ids, model.contract, model.tokenizer.chat_template, words)
    return _digest([model.model], settings)


def encoding_fingerprint_of(editor: FluxFill) -> str:
    """SHA-256 of what decides how an editor encodes texts and pictures: its text encoders and VAE, not the transformer.

    Raises ValueError if the text encoders were freed.
    """
    parts = [editor.text_encoder, editor.text_encoder_2, editor.vae]
    return _digest(parts, (editor.contract.max_sequence_length, *_scale_and_words(editor)))


def _scale_and_words(editor: FluxFill) -> tuple[object, object]:
    words = [sorted(tokenizer.get_vocab().items()) for tokenizer in (editor.tokenizer, editor.tokenizer_2)]
    return (editor.vae.config.scaling_factor, editor.vae.config.shift_factor), words


def _digest(parts: Sequence[nn.Module], settings: object) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
