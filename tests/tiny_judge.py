"""A judge folder of random weights, small enough to build in a test: the toy judge at width 64 with two layers."""

from functools import cache
from pathlib import Path

from transformers import Qwen2Tokenizer

from onereward.toy.judge_model import new_toy_judge, save_judge_folder, toy_judge_config, toy_judge_tokenizer, toy_texts


@cache
def tiny_judge_tokenizer() -> Qwen2Tokenizer:
    return toy_judge_tokenizer(toy_texts())


def tiny_judge_folder(path: Path, *, seed: int = 7) -> Path:
    """Writes the folder at `path` and returns it."""
    tokenizer = tiny_judge_tokenizer()
    config = toy_judge_config(tokenizer, width=64, text_layers=2, vision_layers=2)
    save_judge_folder(path, new_toy_judge(config, seed=seed), tokenizer)
    return path
