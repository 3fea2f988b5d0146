"""How an editor runs: what it gives up, or gains, in memory and speed (torch-free, for the command line)."""

from dataclasses import dataclass
from typing import Literal, get_args

Quantize = Literal["fp8", "int8", "nf4"]
Offload = Literal["model", "layers"]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The default computes as the weights are, all of them on the device.

    `quantize` keeps the weights of transformer and T5 in 8 or 4 bits: `fp8` everywhere, `int8` and `nf4` (bitsandbytes)
    on a GPU. `offload` keeps them in the computer's memory: a whole part (`model`) or a layer at a time (`layers`)
    visits the GPU. `compile` compiles the transformer's blocks. `vae_tiling` and `vae_slicing` let the VAE work on
    tiles of a large image and on one image of a batch at a time. With `cache` a sampling step skips the transformer's
    other blocks if the first one's output changed by less than that share since the last step: faster, not the same.
    Raises ValueError for what does not exist or does not go together.
    """

    quantize: Quantize | None = None
    offload: Offload | None = None
    compile: bool = False
    vae_tiling: bool = False
    vae_slicing: bool = False
    cache: float | None = None

    def __post_init__(self) -> None:
        for name, kinds in {"quantize": get_args(Quantize), "offload": get_args(Offload)}.items():
            value = getattr(self, name)
            if value not in (None, *kinds):
                raise ValueError(f"got {name} {value!r}, expected {', '.join(kinds)} or nothing")
        if self.cache is not None and not 0 < self.cache < 1:
            raise ValueError(f"got cache {self.cache}, expected a share between 0 and 1, such as 0.1")
        if self.offload == "layers" and (self.cache is not None or self.quantize in ("int8", "nf4")):
            other = "cache" if self.cache is not None else f"quantize {self.quantize}"
            raise ValueError(f"offload layers does not go with {other}: use offload model")
