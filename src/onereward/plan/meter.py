"""What a piece of torch work takes: bytes of live tensors and floating point operations, of real tensors or of shapes.

A shape is torch's fake tensor: it knows its size, its type and where it lies, and holds no numbers. Work on shapes
runs the very code of work on tensors, kernels left out, so what is counted here is what that code keeps.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

MODELS = "conditions, pictures, buffers"
"""The phase outside all that are named."""

_aten = torch.ops.aten
_DEVICE, _NUMBER = torch.ops.prim.device.default, _aten._local_scalar_dense.default


def shapes() -> FakeTensorMode:
    """Inside, new tensors are shapes. Outside too, what is computed from a shape is one, and the rest is real."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@dataclass(kw_only=True)
class Taken:
    """What one phase of the work took: its highest bytes, of what they were, and floating point operations."""

    peak: int = 0
    by_label: Counter[str] = field(default_factory=Counter)
    flops: Counter[torch.dtype] = field(default_factory=Counter)


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts what runs inside; a storage counts once, from the operation that made it until nothing refers to it.

    It has the label of where it was made: the innermost watched module, else the phase. `shares` gives the part of the
    bytes of a label that this process holds, where others hold the rest. A number read off a shape is 1.
    """

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.taken: dict[str, Taken] = {}
        self.modules: Counter[str] = Counter()
        self._shares = shares or {}
        self._live: dict[int, tuple[str, int]] = {}
        self._by_label: Counter[str] = Counter()
        self._bytes = 0
        self._labels: list[str] = []
        self._phases = [MODELS]
        self._at = self.taken.setdefault(MODELS, Taken())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Inside, what is taken counts as the phase of that name's."""
        self._enter([*self._phases, name])
        try:
            yield
        finally:
            self._enter(self._phases[:-1])

    def _enter(self, phases: list[str]) -> None:
        self._phases = phases
        self._at = self.taken.setdefault(phases[-1], Taken())
        self._note_peak()

    def watch(self, module: nn.Module, label: str, phase: Callable[[], str] | None = None) -> None:
        """From now on what a call of the module makes has this label, also when the call is repeated on the way back.

        With `phase` a call of the module is a phase by itself.
        """
        self.modules[label] += 1
        calls: list[ExitStack] = []

        def enter(*_: Any) -> None:
            stack = ExitStack()
            if phase is not None:
                stack.enter_context(self.phase(phase()))
            self._labels.append(label)
            stack.callback(self._labels.pop)
            calls.append(stack)

        module.register_forward_pre_hook(enter, prepend=True)
        module.register_forward_hook(lambda *_: calls.pop().close(), always_call=True)

    def is_in(self, phase: str) -> bool:
        """Whether that phase has been entered and not left."""
        return phase in self._phases

    def bytes_of(self, label: str) -> int:
        """What is live under the label now."""
        return self._by_label[label]

    def restart(self) -> None:
        """Forget what was taken up to now; what is live stays counted."""
        self.taken = {}
        self._enter(self._phases)

    def name(self, tensors: Iterable[Tensor], label: str) -> None:
        """The tensors' storages count under this label, also those made outside."""
        for tensor in tensors:
            key = self._add(tensor)
            before, size = self._live[key]
            self._live[key] = (label, self._share(tensor, label))
            self._change(before, -size)
            self._change(*self._live[key])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and isinstance(args[0], FakeTensor):
            if func is _DEVICE:  # asked of every shape many times over
                return args[0].fake_device
            if func is _NUMBER:
                return 1.0
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        count = _FLOPS.get(func.overloadpacket)
        if count is not None:
            self._at.flops[_operand(args).dtype] += count(*args, **(kwargs or {}), out_val=found)
        return found

    def _add(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        if key not in self._live:
            label = self._labels[-1] if self._labels else self._phases[-1]
            self._live[key] = (label, self._share(tensor, label))
            weakref.finalize(storage, self._drop, key).atexit = False
            self._change(*self._live[key])
        return key

    def _share(self, tensor: Tensor, label: str) -> int:
        return round(tensor.untyped_storage().nbytes() * self._shares.get(label, 1))

    def _drop(self, key: int) -> None:
        label, size = self._live.pop(key)
        self._change(label, -size)

    def _change(self, label: str, size: int) -> None:
        self._by_label[label] += size
        self._bytes += size
        self._note_peak()

    def _note_peak(self) -> None:
        if self._bytes > self._at.peak:
            self._at.peak = self._bytes
            self._at.by_label = self._by_label.copy()


def _operand(args: tuple[Any, ...]) -> Tensor:
    """A tensor whose type is that of the products."""
    return next(tensor for tensor in tree_leaves(args) if isinstance(tensor, Tensor))


_FLOPS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    # torch's own table knows the GPU's kernels only.
    _aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
