"""The states of an editor's transformer that RL tells apart, on one module (`Copies`): policy, average, frozen start.

The module is the policy's; for a call as the average or as the start, their values of what is trained change places
with the policy's. `WholeCopies` trains every weight: three sets of them in float32. `AdapterCopies` trains a LoRA:
three models for the memory of one, since the frozen base is shared and the start is the base with adapters off.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from onereward.ema import WeightCopy
from onereward.models.base import Transformer

ADAPTER = "policy"

Split = Callable[[nn.Module], None]
_LINEAR = (
    r"(transformer_blocks|single_transformer_blocks)\.\d+\."
    r"(attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
    r"|ff\.net\.0\.proj|ff\.net\.2|ff_context\.net\.0\.proj|ff_context\.net\.2|proj_mlp|proj_out)"
)
"""Every Linear of FLUX's blocks that tokens go through; those of the modulation see time and guidance only."""


class WholeCopies:
    """All weights trained (implements `Copies`): `transformer` becomes the policy, its weights float32 or finer.

    The start is left out unless `keep_start`. With `bfloat16` products are computed in it. `split` shards the module,
    before there are copies.
    """

    def __init__(
        self, transformer: nn.Module, *, keep_start: bool, bfloat16: bool = False, split: Split | None = None
    ) -> None:
        _make_at_least_single(transformer.requires_grad_(True))
        self._begin(transformer, bfloat16, split)
        self._start = WeightCopy(self.module) if keep_start else None

    def _begin(self, module: nn.Module, bfloat16: bool, split: Split | None) -> None:
        if split is not None:
            split(module)
        self.module, self._bfloat16 = module, bfloat16
        self.kept_average = WeightCopy(module)

    @property
    def policy(self) -> Transformer:
        return self._call

    @property
    def average(self) -> Transformer:
        return self._as(self.kept_average.in_place)

    @property
    def start(self) -> Transformer:
        return self._as(self._start_in_place)

    def update_average(self, decay: float) -> None:
        """pi_ema <- tau pi_ema + (1 - tau) pi_theta."""
        self.kept_average.update(decay)

    def _start_in_place(self) -> AbstractContextManager[None]:
        assert self._start is not None, "the frozen start was not kept"
        return self._start.in_place()

    def _as(self, state: Any) -> Transformer:
        def call(*inputs: Any, **named: Any) -> Any:
            assert not torch.is_grad_enabled(), "only the policy has a gradient"
            with state():
                return self._call(*inputs, **named)

        return call

    def _call(self, *inputs: Any, **named: Any) -> Any:
        device = next(self.module.parameters()).device.type
        # No cache: casts that a rollout left in it would lack a gradient, or be of values that are elsewhere now.
        with torch.autocast(device, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
            return self.module(*inputs, **named)


class AdapterCopies(WholeCopies):
    """A LoRA of that rank trained on all Linears of the blocks (implements `Copies`); `transformer` gets the adapters.

    They are float32 or finer and begin as nothing: B is 0, A drawn from `seed`; alpha is the rank.
    """

    def __init__(
        self, transformer: nn.Module, *, rank: int, seed: int, bfloat16: bool = False, split: Split | None = None
    ) -> None:
        transformer.requires_grad_(False)
        self.lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=_LINEAR)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inject_adapter_in_model(self.lora, transformer, ADAPTER)
        self._layers = [layer for layer in transformer.modules() if isinstance(layer, LoraLayer)]
        for layer in self._layers:
            _make_at_least_single(layer.lora_A)
            _make_at_least_single(layer.lora_B)
        self._begin(transformer, bfloat16, split)

    @contextmanager
    def _start_in_place(self) -> Iterator[None]:
        for layer in self._layers:
            layer._disable_adapters = True  # PEFT's own switch also changes which weights take a gradient
        try:
            yield
        finally:
            for layer in self._layers:
                layer._disable_adapters = False


def _make_at_least_single(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
