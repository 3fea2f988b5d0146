"""The states of an editor's transformer that RL tells apart, on one module (`Copies`): policy, average, frozen start.

The module is the policy's; for a call as the average or as the start, their values of what is trained change places
with the policy's. `WholeCopies` trains every weight: three sets of them in float32. `AdapterCopies` trains a LoRA:
three models for the memory of one, since the frozen base is shared and the start is the base with adapters off.
With `offload` what is no policy lies in the CPU's memory until it is called.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.distributed.tensor import DTensor

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
        self,
        transformer: nn.Module,
        *,
        keep_start: bool,
        bfloat16: bool = False,
        offload: bool = False,
        split: Split | None = None,
    ) -> None:
        _make_at_least_single(transformer.requires_grad_(True))
        self._begin(transformer, bfloat16, offload, split)
        self._start = WeightCopy(self.module, offload=offload) if keep_start else None

    def _begin(self, module: nn.Module, bfloat16: bool, offload: bool, split: Split | None) -> None:
        if split is not None:
            split(module)
        self.module, self._bfloat16 = module, bfloat16
        self.kept_average = WeightCopy(module, offload=offload)

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
        self,
        transformer: nn.Module,
        *,
        rank: int,
        seed: int,
        bfloat16: bool = False,
        offload: bool = False,
        split: Split | None = None,
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
        self._begin(transformer, bfloat16, offload, split)
        # Where weights are split their gathering casts them.
        self._cast = [weight for weight in self._adapters() if bfloat16 and not isinstance(weight, DTensor)]
        self._cast_to = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in self._cast]

    def _adapters(self) -> Iterator[nn.Parameter]:
        for layer in self._layers:
            yield from layer.lora_A.parameters()
            yield from layer.lora_B.parameters()

    def _call(self, *inputs: Any, **named: Any) -> Any:
        if not self._cast or torch.is_grad_enabled():
            return super()._call(*inputs, **named)
        with self._cast_at_once():
            return super()._call(*inputs, **named)

    @contextmanager
    def _cast_at_once(self) -> Iterator[None]:
        """Inside, adapters are the bfloat16 that autocast would else make of each one and of its input, one by one."""
        single = [(weight.data, weight.grad) for weight in self._cast]
        torch._foreach_copy_(self._cast_to, [data for data, _ in single])
        for weight, cast in zip(self._cast, self._cast_to, strict=True):
            weight.grad = None  # that of an earlier part is single, and must not be of another type than its weight
            weight.data = cast
        try:
            yield
        finally:
            for weight, (data, gradient) in zip(self._cast, single, strict=True):
                weight.data = data
                weight.grad = gradient

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
