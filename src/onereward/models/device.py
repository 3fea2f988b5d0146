"""Where a model is put and how precisely it computes there, if nobody says and if somebody does."""

import logging
from enum import StrEnum

import torch

logger = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}


class Precision(StrEnum):
    """What a training computes in; the weights that it trains are float32 under `bfloat16` too, lest steps be lost."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @property
    def dtype(self) -> torch.dtype:
        """Its torch name."""
        dtype: torch.dtype = getattr(torch, self.value)
        return dtype


def default_device() -> torch.device:
    """The CUDA GPU if there is one, else the CPU: where models are trained and judged (Apple's GPU only if named)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """What an editor computes in there: bfloat16 on a GPU (float16 where it has none), float32 on a CPU."""
    return torch.float32 if device.type == "cpu" else _supported(torch.bfloat16, device)


def device_named(name: str) -> torch.device:
    """The device called `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is CUDA's, else Apple's GPU, else the CPU.

    Raises ValueError, listing what is there, for a device that is not.
    """
    there = _devices_there()
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in there))
    if name not in there:
        raise ValueError(f"got device {name}, expected one of this machine: auto, {', '.join(there)}")
    return torch.device(name)


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """The precision called `bf16`, `fp16`, `fp32`, `fp64`, or what `device` has in its place; `auto` is the default.

    Raises ValueError for another name.
    """
    if name == "auto":
        return default_dtype(device)
    if name not in DTYPES:
        raise ValueError(f"got dtype {name}, expected one of auto, {', '.join(DTYPES)}")
    return _supported(DTYPES[name], device)


def _devices_there() -> list[str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{index}" for index in range(count))] if count else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _supported(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """`dtype`, or what comes next to it on the device, which is said in one line."""
    if _has(device, dtype):
        return dtype
    instead = torch.float16 if dtype == torch.bfloat16 else torch.float32
    names = {value: name for name, value in DTYPES.items()}
    logger.warning("the device %s has no %s: computing in %s instead", device, names[dtype], names[instead])
    return instead


def _has(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type == "cuda" and dtype == torch.bfloat16:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps" and dtype == torch.bfloat16:
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return not (device.type == "mps" and dtype == torch.float64)
