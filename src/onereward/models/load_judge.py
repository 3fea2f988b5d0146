"""A judge from and to an ordinary transformers folder; a Hub name loads the same way."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.names import resolve
from onereward.models.quiet import quietly
from onereward.models.qwen_pixels import PixelRules
from onereward.models.qwen_vl import Probability, QwenVLJudge

MAX_PIXELS = 448 * 448
"""The judge sees at most this many pixels of an image: the setting that reward models on Qwen2.5-VL commonly use."""


def load_qwen_vl(
    name_or_path: str,
    *,
    trainable: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attention: str = "sdpa",
    max_pixels: int = MAX_PIXELS,
    answers: tuple[str, str] = ("yes", "no"),
    probability: Probability = Probability.BINARY,
) -> QwenVLJudge:
    """The judge behind `toy`, a folder or a Hub repository id; frozen unless `trainable`, `dtype` as saved by default.

    `attention` is `sdpa`, `eager` or `SDPA_FLOAT32`. Raises ValueError if no Qwen2.5-VL lies there.
    """
    path = resolve(name_or_path, "judge")
    try:
        with quietly():
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                path, dtype=dtype or "auto", attn_implementation=attention
            )
        tokenizer = AutoTokenizer.from_pretrained(path)
        processor = Qwen2VLImageProcessorPil.from_pretrained(path)
    except OSError as error:
        raise ValueError(
            f"no judge at {name_or_path!r}; expected 'toy', a folder that holds a Qwen2.5-VL model, its tokenizer and "
            f"preprocessor_config.json, or a Hub repository id such as Qwen/Qwen2.5-VL-7B-Instruct"
        ) from error
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # off the file's memory map: misaligned weights change the last bits
    judge = QwenVLJudge(
        model.to(device),
        tokenizer,
        PixelRules.of(processor, max_pixels),
        answers=answers,
        probability=probability,
    )
    return judge if trainable else judge.freeze()


def save_judge(folder: Path, judge: QwenVLJudge, *, model: PreTrainedModel | None = None) -> None:
    """Writes what `load_qwen_vl` and transformers' own classes read; `model` replaces the judge's own (an average)."""
    with quietly():
        (judge.model if model is None else model).save_pretrained(folder)
    judge.tokenizer.save_pretrained(folder)
    judge.pixels.to_processor().save_pretrained(folder)
