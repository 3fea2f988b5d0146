"""Judge folders of random weights, small enough to build in a test: Qwen2.5-VL as the toy has it, and Qwen3-VL."""

import math
from functools import cache
from pathlib import Path

import torch
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.quiet import quietly
from onereward.toy.judge_model import (
    CHAT_TEMPLATE,
    new_toy_judge,
    save_judge_folder,
    toy_judge_config,
    toy_judge_tokenizer,
    toy_texts,
)

QWEN3_PIXELS = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
"""What Qwen3-VL's preprocessor_config.json changes."""

_QWEN3_TEMPLATE = CHAT_TEMPLATE.removeprefix("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")


@cache
def tiny_judge_tokenizer() -> Qwen2Tokenizer:
    return toy_judge_tokenizer(toy_texts())


def tiny_judge_folder(path: Path, *, seed: int = 7, window: int | None = None) -> Path:
    """Writes the toy judge at width 64 with two layers at `path` and returns it.

    With `window` (pixels) the first block of the vision tower sees only windows, as most of Qwen2.5-VL's do.
    """
    tokenizer = tiny_judge_tokenizer()
    config = toy_judge_config(tokenizer, width=64, text_layers=2, vision_layers=2)
    if window is not None:
        config.vision_config.window_size = window
        config.vision_config.fullatt_block_indexes = [1]
    save_judge_folder(path, new_toy_judge(config, seed=seed), tokenizer)
    return path


def tiny_qwen3_folder(path: Path, *, seed: int = 7) -> Path:
    """Writes a Qwen3-VL of width 64 with deeper vision features, patches of 16 and its own pixels; returns `path`."""
    tokenizer = toy_judge_tokenizer(toy_texts())
    tokenizer.chat_template = _QWEN3_TEMPLATE
    with quietly():
        _tiny_qwen3(tokenizer, seed).save_pretrained(path)
    tokenizer.save_pretrained(path)
    size = {"shortest_edge": 32 * 32, "longest_edge": 256 * 256}
    Qwen2VLImageProcessorPil(**QWEN3_PIXELS, size=size).save_pretrained(path)
    return path


def _tiny_qwen3(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen3VLForConditionalGeneration:
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    image, video, start, end = tokenizer.convert_tokens_to_ids(list(marks))
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
        for weight in model.parameters():
            if weight.ndim > 1:
                # At this width the library's own (std .02) makes every answer nearly the same.
                torch.nn.init.normal_(weight, std=1 / math.sqrt(weight[0].numel()))
    return model
