"""A pipeline's parts put where, and as small as, an `Execution` says: diffusers' and transformers' own means."""

from importlib.util import find_spec
from typing import Any

import torch
from diffusers import BitsAndBytesConfig, FluxFillPipeline
from diffusers.hooks import apply_layerwise_casting
from transformers import BitsAndBytesConfig as TransformersBitsAndBytesConfig

from onereward.models.execution import Execution

_T5_WHOLE = ("shared", "embed_tokens", "layer_norm", "relative_attention_bias", "wo")
"""Modules of T5 that stay as they are under fp8: it casts what goes into `wo` to that one's own precision."""


def check_execution(execution: Execution, device: torch.device, *, is_gguf: bool) -> None:
    """Raises ValueError for what the device or a GGUF file does not do, OSError for a library that is missing."""
    if execution.quantize in ("int8", "nf4"):
        if device.type != "cuda":
            raise ValueError(f"quantize {execution.quantize} needs a CUDA GPU, got {device}: use fp8 there, or none")
        _require("bitsandbytes", f"quantize {execution.quantize}")
    if is_gguf:
        if execution.quantize is not None:
            raise ValueError(f"a GGUF file is quantized already, got quantize {execution.quantize}: leave it out")
        _require("gguf", "a GGUF file")
    if execution.offload == "model" and device.type == "cpu":
        raise ValueError("offload model moves parts between a GPU and memory, got the device cpu: leave it out")


def _require(library: str, what: str) -> None:
    if find_spec(library) is None:
        raise OSError(f"{what} needs the library {library!r}: pip install 'onereward[quantize]'")


def bits_and_bytes(execution: Execution, dtype: torch.dtype) -> dict[str, Any]:
    """How bitsandbytes loads `transformer` and `text_encoder_2`, by part; empty if it does not."""
    if execution.quantize not in ("int8", "nf4"):
        return {}
    settings: dict[str, Any] = {"load_in_8bit": True}
    if execution.quantize == "nf4":
        settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return {
        "transformer": BitsAndBytesConfig(**settings),
        "text_encoder_2": TransformersBitsAndBytesConfig(**settings),
    }


def place(pipeline: FluxFillPipeline, execution: Execution, device: torch.device, dtype: torch.dtype) -> None:
    """Cast to 8 bits, move or offload, compile: in this order, each before what needs it."""
    if execution.quantize == "fp8":
        small = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": dtype}
        pipeline.transformer.enable_layerwise_casting(**small)
        apply_layerwise_casting(pipeline.text_encoder_2, **small, skip_modules_pattern=_T5_WHOLE)
    if execution.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif execution.offload == "layers":
        streams = device.type == "cuda"
        pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=streams)
    else:
        pipeline.to(device)
    if execution.vae_tiling:
        pipeline.vae.enable_tiling()
    if execution.vae_slicing:
        pipeline.vae.enable_slicing()
    if execution.compile:
        pipeline.transformer.compile_repeated_blocks()
