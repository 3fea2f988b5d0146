"""A judge from and to an ordinary transformers folder, or a PEFT adapter's; a Hub name loads the same way."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import cached_file

from onereward.models.hub import access_refused, not_found
from onereward.models.judge_contract import (
    JUDGE_CONTRACT_FILE,
    JudgeContract,
    read_judge_contract,
    save_judge_contract,
)
from onereward.models.names import resolve
from onereward.models.quiet import quietly
from onereward.models.qwen_pixels import PixelRules
from onereward.models.qwen_vl import QwenVLJudge

if TYPE_CHECKING:
    from peft import PeftModel

MAX_PIXELS = 448 * 448
"""The judge sees at most this many pixels of an image: the setting that reward models on Qwen2.5-VL commonly use."""

JudgeQuantize = Literal["int8", "nf4"]

_CLASSES: dict[str, type[PreTrainedModel]] = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
_ADAPTER = "adapter_config.json"
_WHOLE_WHEN_QUANTIZED = ["visual", "lm_head"]
"""A tenth of the weights, and what the answer is read from."""


def load_qwen_vl(
    name_or_path: str,
    *,
    trainable: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attention: str = "sdpa",
    max_pixels: int = MAX_PIXELS,
    quantize: JudgeQuantize | None = None,
) -> QwenVLJudge:
    """The judge behind `toy`, a folder or a Hub repository id; frozen unless `trainable`, `dtype` as saved by default.

    An adapter's folder (PEFT) is put on the base that it names, and merged where the base is not quantized. `attention`
    is `sdpa`, `eager` or `SDPA_FLOAT32`; `quantize` keeps the language model's weights in 8 or 4 bits. Raises
    ValueError if no Qwen2.5-VL or Qwen3-VL lies there, OSError for a missing library.
    """
    path, quantization = resolve(name_or_path, "judge"), _bits_and_bytes(quantize, dtype)
    try:
        if _file(path, _ADAPTER) is None:
            model = _model(path, dtype, attention, quantization, device)
        else:
            model = _adapted(
                path, partial(_model, dtype=dtype, attention=attention, quantization=quantization, device=device)
            )
        tokenizer = AutoTokenizer.from_pretrained(path)
        processor = Qwen2VLImageProcessorPil.from_pretrained(path)
        contract = _contract(path)
    except OSError as error:
        refused = access_refused(error) or not_found(error)
        raise ValueError(
            f"no judge at {name_or_path!r}; expected 'toy', a folder that holds a Qwen2.5-VL model or an adapter, its "
            "tokenizer and preprocessor_config.json, or a Hub repository id such as Qwen/Qwen2.5-VL-7B-Instruct"
            + (f" ({refused})" if refused else "")
        ) from error
    if not quantize:
        for parameter in model.parameters():
            # Off the file's memory map: misaligned weights change the last bits.
            parameter.data = parameter.data.clone()
        model = model.to(device)
    judge = QwenVLJudge(model, tokenizer, PixelRules.of(processor, max_pixels), contract)
    return judge if trainable else judge.freeze()


def save_judge(folder: Path, judge: QwenVLJudge, *, model: "PreTrainedModel | PeftModel | None" = None) -> None:
    """Writes what `load_qwen_vl` and stock classes read; `model` replaces the judge's own (an average, an adapter)."""
    with quietly():
        (judge.model if model is None else model).save_pretrained(str(folder))
    judge.tokenizer.save_pretrained(folder)
    judge.pixels.to_processor().save_pretrained(folder)
    save_judge_contract(folder, judge.contract)


def _model(
    base: str,
    dtype: torch.dtype | None,
    attention: str,
    quantization: BitsAndBytesConfig | None,
    device: torch.device | str,
) -> PreTrainedModel:
    kind = AutoConfig.from_pretrained(base).model_type
    if kind not in _CLASSES:
        raise ValueError(f"{base} is a {kind}, expected one of {', '.join(_CLASSES)}")
    options: dict[str, Any] = {}
    if quantization is not None:
        options = {"quantization_config": quantization, "device_map": {"": device}}
    with quietly():
        model: PreTrainedModel = _CLASSES[kind].from_pretrained(
            base, dtype=dtype or "auto", attn_implementation=attention, **options
        )
    return model


def _bits_and_bytes(quantize: JudgeQuantize | None, dtype: torch.dtype | None) -> BitsAndBytesConfig | None:
    if quantize is None:
        return None
    if quantize not in get_args(JudgeQuantize):
        raise ValueError(f"got quantize {quantize!r}, expected {', '.join(get_args(JudgeQuantize))} or nothing")
    if find_spec("bitsandbytes") is None:
        raise OSError(f"quantize {quantize} needs the library 'bitsandbytes': pip install 'onereward[quantize]'")
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_WHOLE_WHEN_QUANTIZED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype or torch.bfloat16,
        llm_int8_skip_modules=_WHOLE_WHEN_QUANTIZED,
    )


def _adapted(path: str, load_base: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
    """The adapter in `path` on the base that it names, merged into weights that are not quantized."""
    from peft import PeftConfig, PeftModel

    model = load_base(resolve(str(PeftConfig.from_pretrained(path).base_model_name_or_path), "judge"))
    adapted = PeftModel.from_pretrained(model, path)
    merged: PreTrainedModel = (
        adapted.get_base_model() if getattr(model, "is_quantized", False) else adapted.merge_and_unload()
    )
    return merged


def _file(path: str, file: str) -> Path | None:
    """A file of a folder or Hub repository, None where it has no such file."""
    if Path(path).is_dir():
        local = Path(path) / file
        return local if local.exists() else None
    found = cached_file(path, file, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _contract(path: str) -> JudgeContract:
    file = _file(path, JUDGE_CONTRACT_FILE)
    return JudgeContract() if file is None else read_judge_contract(file)
