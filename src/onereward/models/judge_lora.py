"""A LoRA on a judge: what a card of 24 or 80 GB can train of a model of 3 or 7 billion weights."""

from typing import TYPE_CHECKING

import torch

from onereward.models.qwen_vl import QwenVLJudge

if TYPE_CHECKING:
    from peft import PeftModel

_LANGUAGE = r".*language_model\.layers\..*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_VISION = r".*visual\..*(qkv|proj|gate_proj|up_proj|down_proj|linear_fc1|linear_fc2|mlp\.0|mlp\.2)"


def add_lora(judge: QwenVLJudge, *, rank: int, vision: bool, seed: int) -> "PeftModel":
    """Puts float32 adapters, which alone will be trained, on every Linear of the language model; returns their owner.

    With `vision` also on the vision tower's. They start as nothing: B is 0, A drawn from `seed`.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=f"{_LANGUAGE}|{_VISION}" if vision else _LANGUAGE)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(judge.model, config)


def train_all(judge: QwenVLJudge, *, vision: bool) -> None:
    """Every weight takes a gradient, those of the vision tower if `vision`."""
    judge.model.requires_grad_(True)
    judge.model.model.visual.requires_grad_(vision)
