"""Where the seconds and the memory of a training step go."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Phases:
    """Seconds by phase, on a GPU by its own clock, so that measuring does not make it wait.

    Of nested phases the outermost counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside = False
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What runs inside counts for `name`."""
        if self._inside:
            yield
            return
        self._inside = True
        if self._device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in "12")  # type: ignore[no-untyped-call]
            start.record()
        began = time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            if self._device.type == "cuda":
                end.record()
                self._events.append((name, start, end))
            else:
                self._seconds[name] += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """The seconds since the last call, by phase."""
        if self._events:
            self._events[-1][2].synchronize()
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000
        seconds = {name: round(value, 4) for name, value in self._seconds.items()}
        self._seconds.clear()
        self._events.clear()
        return seconds


def take_peak_gib(device: torch.device) -> float:
    """The most memory in use since the last call: of the GPU's tensors; on a CPU of the whole process so far."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return round(peak / 2**30, 3)
