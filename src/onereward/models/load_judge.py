"""A judge from and to an ordinary transformers folder, or a PEFT adapter's; a Hub name loads the same way."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor
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

from onereward.models.attention import SDPA_FLOAT32
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
_ATTENTION = ("sdpa", "eager", SDPA_FLOAT32)
_ADAPTER = "adapter_config.json"
_PIXELS = "preprocessor_config.json"
_WHOLE_WHEN_QUANTIZED = ["model.visual", "lm_head"]
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

    An adapter's folder (PEFT) is put on the base that it names, and merged where the base is not quantized; tokenizer,
    preprocessor and contract are the base's if it has none of its own. `attention` is `sdpa`, `eager` or
    `SDPA_FLOAT32`; `quantize` keeps the language model's weights in 8 or 4 bits. Raises ValueError if no whole
    Qwen2.5-VL or Qwen3-VL lies there, OSError for a missing library.
    """
    if attention not in _ATTENTION:
        raise ValueError(f"got attention {attention!r}, expected {', '.join(_ATTENTION)}: others take no packed mask")
    path, quantization = resolve(name_or_path, "judge"), _bits_and_bytes(quantize, dtype)
    base = path
    try:
        base = _base_of(path)
        model = _model(base, dtype, attention, quantization, device)
        if base != path:
            model = _adapted(model, path)
        tokenizer = AutoTokenizer.from_pretrained(path if _file(path, "tokenizer_config.json") else base)
        processor = Qwen2VLImageProcessorPil.from_pretrained(path if _file(path, _PIXELS) else base)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(_cannot_load(name_or_path, base if base != path else None, error)) from error
    if not quantize:
        for parameter in model.parameters():
            # Off the file's memory map: misaligned weights change the last bits.
            parameter.data = parameter.data.clone()
        model = model.to(device)
    judge = QwenVLJudge(model, tokenizer, PixelRules.of(processor, max_pixels), _contract(path, base))
    return judge if trainable else judge.freeze()


def save_judge(
    folder: Path,
    judge: QwenVLJudge,
    *,
    model: "PeftModel | None" = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes what `load_qwen_vl` and stock classes read: the judge, or the adapter `model` on it.

    `state` replaces the weights, by their names in whichever is written.
    """
    with quietly():
        if model is not None:
            model.save_pretrained(str(folder), state_dict=state)
        elif state is None:
            judge.model.save_pretrained(folder)
        else:
            _with_state(judge.model, state).save_pretrained(folder)
    judge.tokenizer.save_pretrained(folder)
    judge.pixels.to_processor().save_pretrained(folder)
    save_judge_contract(folder, judge.contract)


def saved_dtype(name_or_path: str) -> torch.dtype:
    """The precision in which the judge of that name is saved."""
    dtype: torch.dtype | None = AutoConfig.from_pretrained(_base_of(resolve(name_or_path, "judge"))).dtype
    return torch.float32 if dtype is None else dtype


def _with_state(model: PreTrainedModel, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """A model of the same class and config that holds `state` and nothing else."""
    with torch.device("meta"):
        fresh: PreTrainedModel = type(model)(model.config)
    fresh.load_state_dict(dict(state), assign=True)
    fresh.tie_weights()
    return fresh


def _model(
    base: str,
    dtype: torch.dtype | None,
    attention: str,
    quantization: BitsAndBytesConfig | None,
    device: torch.device | str,
) -> PreTrainedModel:
    kind = AutoConfig.from_pretrained(base).model_type
    if kind not in _CLASSES:
        raise ValueError(f"it is a {kind}, not one of {', '.join(_CLASSES)}")
    options: dict[str, Any] = {}
    if quantization is not None:
        options = {"quantization_config": quantization, "device_map": {"": device}}
    with quietly():
        model, found = _CLASSES[kind].from_pretrained(
            base,
            dtype=dtype or "auto",
            attn_implementation=attention,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    unset = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if unset:
        raise ValueError(f"its weights lack {unset[0]} in the shape that its config.json states, {len(unset)} in all")
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Else the first call without a gradient packs 4 bits anew, for good, for a kernel that passes none on.
            module.support_avx512bf16_for_cpu = False
    whole: PreTrainedModel = model
    return whole


def _bits_and_bytes(quantize: JudgeQuantize | None, dtype: torch.dtype | None) -> BitsAndBytesConfig | None:
    if quantize is None:
        return None
    if quantize not in get_args(JudgeQuantize):
        raise ValueError(f"got quantize {quantize!r}, expected {', '.join(get_args(JudgeQuantize))} or nothing")
    if find_spec("bitsandbytes") is None:
        raise OSError(f"quantize {quantize} needs the library 'bitsandbytes': pip install 'onereward[quantize]'")
    if quantize == "int8":
        # It says at every layer of every call that it computes in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_WHOLE_WHEN_QUANTIZED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype or torch.bfloat16,
        llm_int8_skip_modules=_WHOLE_WHEN_QUANTIZED,
    )


def _base_of(path: str) -> str:
    """The folder or Hub repository of the weights: what an adapter names, `path` itself where that is none."""
    if _file(path, _ADAPTER) is None:
        return path
    from peft import PeftConfig

    base = PeftConfig.from_pretrained(path).base_model_name_or_path
    if not base:
        raise ValueError(f"its {_ADAPTER} names no base_model_name_or_path")
    return resolve(str(base), "judge")


def _adapted(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """The model under the adapter in `path`, merged into weights that are not quantized."""
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, path)
    except RuntimeError as error:
        raise ValueError(f"its weights are of other shapes than the base's: {str(error).splitlines()[-1]}") from error
    merged: PreTrainedModel = (
        adapted.get_base_model() if getattr(model, "is_quantized", False) else adapted.merge_and_unload()
    )
    return merged


def _cannot_load(name: str, base: str | None, error: Exception) -> str:
    adapter = "" if base is None else f" (an adapter on {base})"
    reason = access_refused(error) or not_found(error) or (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"no judge at {name!r}{adapter}: {reason}; expected 'toy', a folder that holds a Qwen2.5-VL or Qwen3-VL model "
        "or an adapter on one, its tokenizer and preprocessor_config.json, or a Hub repository id such as "
        "Qwen/Qwen2.5-VL-7B-Instruct"
    )


def _file(path: str, file: str) -> Path | None:
    """A file of a folder or Hub repository, None where it has no such file."""
    if Path(path).is_dir():
        local = Path(path) / file
        return local if local.exists() else None
    found = cached_file(path, file, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _contract(path: str, base: str) -> JudgeContract:
    file = _file(path, JUDGE_CONTRACT_FILE) or _file(base, JUDGE_CONTRACT_FILE)
    return JudgeContract() if file is None else read_judge_contract(file)
