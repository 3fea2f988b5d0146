"""The toy judge: the real Qwen2.5-VL classes at a width that one CPU core can train, with a vocabulary of toy words."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.quiet import quietly
from onereward.models.qwen_vl import CHAT
from onereward.query import Variant, build_query
from onereward.seeds import torch_generator
from onereward.terms import DIMENSIONS
from onereward.toy.scenes import HUES, LETTERS, SHAPES, SIZE

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def toy_texts() -> list[str]:
    """Every query that the toy world can ask, so that each of their words becomes one token; words are spelt."""
    prompts = ["remove", "high-definition, perfect composition", 'a sign that says "']
    prompts += [f"a {colour} {shape}" for colour in HUES for shape in SHAPES]
    queries = [
        build_query(task, dimension, prompt, variant)
        for prompt in prompts
        for task, dimensions in DIMENSIONS.items()
        for dimension in dimensions
        for variant in Variant
    ]
    return [*(CHAT.format(image="", query=query) for query in dict.fromkeys(queries)), "yes", "no", *LETTERS]


def toy_judge_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """A `Qwen2Tokenizer` in which each word of `texts` is one token and any other text is spelt in bytes."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    without_special = [_without_special_tokens(text) for text in texts]
    tokenizer.train_from_iterator(
        without_special,
        trainers.BpeTrainer(
            vocab_size=100_000,
            min_frequency=1,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    model = json.loads(tokenizer.to_str())["model"]
    words = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        model_max_length=1024,
    )
    words.chat_template = CHAT_TEMPLATE
    return words


def _without_special_tokens(text: str) -> str:
    for token in SPECIAL_TOKENS:
        text = text.replace(token, "\n")
    return text


def toy_judge_config(
    tokenizer: Qwen2Tokenizer, *, width: int = 128, text_layers: int = 4, vision_layers: int = 4
) -> Qwen2_5_VLConfig:
    """Heads of 32; 8x8 patches merged 2x2, so a 64x64 image is 16 tokens; full attention in every vision block."""
    token = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": width // 32,
            "num_key_value_heads": width // 32,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_heads": width // 32,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": SIZE,
            "out_hidden_size": width,
            "fullatt_block_indexes": list(range(vision_layers)),
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def new_toy_judge(config: Qwen2_5_VLConfig, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A fresh judge with fan-in initialisation: at this width the library's own (std .02) never leaves chance.

    Weights have std 1 / sqrt(fan_in), halved where a block writes to the residual stream; embeddings .5; the final
    norm starts at .2, so that the tied output layer begins with small logits.
    """
    model = Qwen2_5_VLForConditionalGeneration(config)
    generator = torch_generator(seed, "toy-judge-init")
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0, 0.5, generator=generator)
            elif isinstance(module, (nn.Linear, nn.Conv3d)) and name != "lm_head":
                writes_residual = name.endswith(("o_proj", "down_proj", "attn.proj"))
                std = (0.5 if writes_residual else 1.0) / math.sqrt(module.weight[0].numel())
                module.weight.normal_(0, std, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        model.model.language_model.norm.weight.fill_(0.2)
    return model


def toy_image_processor() -> Qwen2VLImageProcessorPil:
    """The stock processor with the toy's patches; a 64x64 image is taken as it is."""
    return Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 256 * 256}
    )


def save_judge_folder(path: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Qwen2Tokenizer) -> None:
    """Writes an ordinary transformers folder: config, safetensors, tokenizer, preprocessor_config.json."""
    with quietly():
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    toy_image_processor().save_pretrained(path)
