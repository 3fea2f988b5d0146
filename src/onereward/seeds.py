"""Random numbers keyed by what they are for, never by rank, batch layout or call order.

A run's draw for one sample is the same whether the sample comes alone or in a batch, on one process or on eight,
before or after a resume: the generator is built from (seed, step, sample id, purpose) alone.
"""

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch


def seed_for(*key: int | str) -> int:
    """A 63-bit seed from the key; equal keys give equal seeds on every machine and Python version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def python_generator(*key: int | str) -> random.Random:
    """A `random.Random` for the key."""
    return random.Random(seed_for(*key))


def numpy_generator(*key: int | str) -> "numpy.random.Generator":
    """A numpy generator for the key."""
    import numpy

    return numpy.random.default_rng(seed_for(*key))


def torch_generator(*key: int | str) -> "torch.Generator":
    """A CPU torch generator for the key: drawn on the CPU so that the device does not change the numbers."""
    import torch

    return torch.Generator().manual_seed(seed_for(*key))
