"""Where a model is put if nobody says."""

import torch


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """What an editor computes in there: bfloat16 on a GPU, float32 on a CPU."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16
