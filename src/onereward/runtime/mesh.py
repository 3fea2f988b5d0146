"""One process or many: the same training step, its gradient summed over the processes that share a global batch.

Under torchrun every process runs the command and takes its rank from the environment; without it `launch` starts the
further processes on this machine. The world's size is in no config: it changes sums in their last bits only.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.rendezvous import rendezvous

from onereward.runtime.track import hush_libraries

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """This process's place among `size`; rank 0 is the one that writes."""

    rank: int
    size: int

    def share(self, count: int) -> range:
        """Which of `count` slots of a global batch are this process's."""
        return range(self.rank, count, self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's `values` (in place)."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def gather(self, values: list[T]) -> list[T]:
        """Every process's `values` (what can be pickled), process after process."""
        if self.size == 1:
            return values
        found: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(found, values)
        return [value for one in found for value in one]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; a parameter without one counts as zero."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, total in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))


def launch(processes: int, work: Callable[Concatenate[Mesh, P], T], /, *arguments: P.args, **options: P.kwargs) -> T:
    """`work(mesh, ...)` on `processes` processes of this machine, this one being rank 0, whose result is returned.

    `work` and its arguments must be picklable. Under torchrun the environment decides and `processes` is not looked at.
    """
    if "WORLD_SIZE" in os.environ:
        _join_torchrun()
        try:
            return work(Mesh(rank=distributed.get_rank(), size=distributed.get_world_size()), *arguments, **options)
        except RuntimeError as error:
            if _tells_of_another(error):
                raise OSError(
                    "another process of the training is gone, most often killed for want of memory, or its error is "
                    "above: run the same command again to continue; torchrun --max-restarts N does so by itself"
                ) from error
            raise
        finally:
            distributed.destroy_process_group()
    if processes == 1:
        return work(Mesh(rank=0, size=1), *arguments, **options)
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = str(Path(folder) / "processes")
        context = multiprocessing.get_context("spawn")
        errors, begun = context.SimpleQueue(), context.Semaphore(0)
        others = [
            context.Process(
                target=_join_in,
                args=(errors, begun, rank, processes, meeting_point, torch.get_num_threads(), work, arguments, options),
                daemon=True,
            )
            for rank in range(1, processes)
        ]
        for other in others:
            other.start()
        try:
            _await(others, begun)
            return _in_group(0, processes, meeting_point, work, arguments, options)
        except RuntimeError as error:  # what a collective raises when the other side is gone
            raise _cause(error, others, errors) from error
        finally:
            for other in others:
                other.join(timeout=10)
                other.kill()


def _await(others: "Sequence[BaseProcess]", begun: Semaphore) -> None:
    """Return when all have begun: who waits for one that died at its start, where processes meet, waits for ever."""
    for _ in others:
        while not begun.acquire(timeout=0.1):
            if not all(other.is_alive() for other in others):
                raise RuntimeError("a process of the training has ended before it had begun")


def _join_torchrun() -> None:
    """The process group that torchrun's environment describes.

    torchrun keeps one store over restarts, in which processes that are gone have left their addresses. Only on one
    machine do all processes know how often they were started; on several the launcher can be told to take a new store
    (TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1).
    """
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if restarts and os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        shared, rank, size = next(rendezvous("env://"))
        own = distributed.PrefixStore(f"restart {restarts}", shared)  # type: ignore[attr-defined]  # not in __all__
        distributed.init_process_group(backend, store=own, rank=rank, world_size=size)
    else:
        distributed.init_process_group(backend)


def _tells_of_another(error: RuntimeError) -> bool:
    """Whether it is what a collective raises when the other side is gone."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def _cause(error: RuntimeError, others: "Sequence[BaseProcess]", errors: "SimpleQueue[BaseException]") -> BaseException:
    """Why a further process ended before this one: its own error, or that it was killed; else this one's error."""
    for other in others:
        other.join(timeout=10)
    if not errors.empty():
        return errors.get()
    if any(other.exitcode is not None and other.exitcode < 0 for other in others):
        return OSError(
            "a process of the training was killed, most often for want of memory: run the same command again, with "
            "fewer --processes, to continue"
        )
    return error


def _join_in(
    errors: "SimpleQueue[BaseException]",
    begun: Semaphore,
    rank: int,
    size: int,
    meeting_point: str,
    threads: int,
    work: Callable[..., object],
    arguments: tuple[object, ...],
    options: dict[str, object],
) -> None:
    """A further process: it ends when rank 0 does, since its next collective fails. Rank 0 reports what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; rank 0 alone reports it
    torch.set_num_threads(threads)
    hush_libraries()
    begun.release()
    try:
        _in_group(rank, size, meeting_point, work, arguments, options)
    except BaseException as error:
        errors.put(error)
        sys.exit(1)


def _in_group(
    rank: int,
    size: int,
    meeting_point: str,
    work: Callable[..., T],
    arguments: tuple[object, ...],
    options: dict[str, object],
) -> T:
    distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=size)
    try:
        return work(Mesh(rank=rank, size=size), *arguments, **options)
    finally:
        distributed.destroy_process_group()
