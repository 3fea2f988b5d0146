"""Worker processes with one torch thread each: on a CPU two of them are faster than one process with two threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import wait

import torch

from onereward.runtime.track import hush_libraries


@contextmanager
def workers(count: int, start: Callable[..., None] | None = None, *arguments: object) -> Iterator[Executor | None]:
    """`worker_processes`, or None for a count of 1: this process does the work; ValueError for a count below 1."""
    if count < 1:
        raise ValueError(f"got --workers {count}, expected 1 or more")
    with nullcontext() if count == 1 else worker_processes(count, start, *arguments) as executor:
        yield executor


@contextmanager
def worker_processes(count: int, start: Callable[..., None] | None = None, *arguments: object) -> Iterator[Executor]:
    """An executor of `count` fresh processes, each of which has called `start(*arguments)`.

    A worker ends with its parent, also when that is killed, and with the block, also when an error or a signal leaves
    it. A worker that is killed is an OSError.
    """
    context = multiprocessing.get_context("spawn")  # forked torch threads deadlock
    try:
        with ProcessPoolExecutor(count, context, _start_worker, (start, arguments)) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                for worker in multiprocessing.active_children():
                    worker.terminate()
                raise
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed, most often for want of memory: run the same command again to "
            "continue, with fewer --workers if it takes them"
        ) from error


def _start_worker(start: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback; the parent reports it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    hush_libraries()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """A pool's workers hold both ends of its queues: without this they wait for ever once their parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
