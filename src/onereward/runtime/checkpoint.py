"""Checkpoints from which a run goes on bit for bit as if it had never stopped (one machine, equal versions).

A checkpoint is a folder `step-00000100/` with one file a part and `checkpoint.json`; of a sharded model every process
writes its shards there (torch's distributed checkpoint). It is written in the background, under another name, and
renamed when whole, so that a run killed at any moment leaves nothing half that looks like a checkpoint.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, Self

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from torch.distributed.checkpoint.storage import WriteResult

from onereward.store.files import PART, fresh_part, publish

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8})")


class Stateful(Protocol):
    """Anything with torch's two state methods: a module, an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class TrainedParameters:
    """What of a module is trained, as a part of a checkpoint: the frozen rest comes from where the module came from."""

    def __init__(self, module: nn.Module) -> None:
        self._trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name."""
        return {name: parameter.detach() for name, parameter in self._trained.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        """Put a checkpoint's values in place."""
        for name, parameter in self._trained.items():
            parameter.copy_(state[name])


class Checkpoints:
    """The checkpoints of one run, the last `keep` of them, written while the run goes on.

    `save` copies the parts' states to CPU memory and returns. What goes wrong with the write is raised by whichever is
    called first: `check` (call it at every step), any other method, or the end of a `with` block. If the parts are
    `sharded` over the processes, every process makes this object and calls every method; else one process saves.
    """

    def __init__(self, folder: Path, *, keep: int, sharded: bool = False) -> None:
        if keep < 1:
            raise ValueError(f"got keep={keep} checkpoints, expected at least 1: a run resumes from its last one")
        self._folder = folder
        self._keep = keep
        self._sharded = sharded
        self._group = _background_group() if sharded else None
        self._leads = not sharded or distributed.get_rank() == 0
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._written_step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the write; of two errors the block's own is the one to raise."""
        try:
            self.wait()
        except Exception as error:
            if kind is None:
                raise
            logger.warning("%s", error)

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, in order; waits for the one that is being written."""
        self.wait()
        return self._steps()

    def save(self, step: int, parts: Mapping[str, Stateful], *, also_keep: Collection[int] = ()) -> None:
        """Take the state of every part after `step` steps, to be written in the background.

        Waits for the write before it. Once the checkpoint has its name, all but the last `keep` up to this step and
        those in `also_keep` are dropped; so are later ones, which a run that went back has left. If there is one of
        this very step, it gives way just before: a process killed there leaves those before it.
        """
        self.wait()
        meta = _meta(step, self._sharded)
        self._written_step = step
        self._writing = self._writer.submit(self._write, step, _snapshot(parts), meta, frozenset(also_keep))

    def check(self) -> None:
        """Raise what went wrong with the write, if it has ended; costs nothing."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until what was saved last is on the disk; OSError if it could not be written."""
        if self._writing is None:
            return
        error = self._writing.exception()
        self._writing = None
        if isinstance(error, OSError):
            raise self._not_written(error)
        if error is not None:
            raise error

    def load_last(self, parts: Mapping[str, Stateful]) -> int:
        """Put the last checkpoint into the parts, restore its thread count and return its step (0: there is none)."""
        steps = self.steps()
        if steps:
            self.load(steps[-1], parts)
        return steps[-1] if steps else 0

    def load(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Put the checkpoint of a step into the parts and restore its thread count.

        Every tensor is copied into fresh memory: kernels may round otherwise on memory that is aligned otherwise.
        Raises ValueError, with what to do, if there is none of this step, or a file of it is missing or damaged.
        """
        if step not in self.steps():
            raise ValueError(f"there is no checkpoint of step {step} in {self._folder}, only of {self._steps()}")
        folder = self._path(step)
        self._restore_setting(folder / "checkpoint.json")
        if self._sharded:
            _load_shards(folder, parts)
            return
        for name, part in parts.items():
            part.load_state_dict(_in_fresh_memory(_read(folder / f"{name}.pt")))

    def _steps(self) -> list[int]:
        names = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _part(self, step: int) -> Path:
        return self._folder / (self._path(step).name + PART)

    def _restore_setting(self, file: Path) -> None:
        """What a checkpoint says of the run that wrote it: how it was split, its thread count; a change is told."""
        meta = _read_meta(file)
        if meta.get("sharded", self._sharded) != self._sharded:
            how = "with" if meta["sharded"] else "without"
            raise ValueError(
                f"{file.parent} was written by {meta['processes']} processes {how} --sharded: go on with the same"
            )
        for what, now in {"torch": torch.__version__, "processes": _process_count()}.items():
            if meta[what] != now:
                logger.warning(
                    "the checkpoint was written with %s %s, now it is %s: the run goes on, but not bit for bit",
                    what,
                    meta[what],
                    now,
                )
        torch.set_num_threads(meta["threads"])

    def _write(self, step: int, snapshot: dict[str, Any], meta: dict[str, Any], also_keep: frozenset[int]) -> None:
        """Runs in the background. Where parts are sharded, the processes meet in a group of their own (gloo): there
        the last one to have written is waited for, and training's collectives are not disturbed. If a process dies,
        its connections close and the others fail at once, here and in training.
        """
        try:
            self._together(lambda: self._begin(step))
            if self._group is not None:
                _write_shards(self._part(step), snapshot, self._group)
            else:
                for name, state in snapshot.items():
                    _write_part(self._part(step) / f"{name}.pt", state)
            self._together(lambda: self._end(step, meta, also_keep))
        finally:
            if self._leads:
                shutil.rmtree(self._part(step), ignore_errors=True)

    def _begin(self, step: int) -> None:
        for left_by_killed in self._folder.glob(f"step-*{PART}"):
            shutil.rmtree(left_by_killed, ignore_errors=True)
        fresh_part(self._path(step))

    def _end(self, step: int, meta: dict[str, Any], also_keep: frozenset[int]) -> None:
        (self._part(step) / "checkpoint.json").write_text(json.dumps(meta) + "\n")
        if self._path(step).exists():
            self._drop(step)
        publish(self._part(step), self._path(step))
        there = self._steps()
        up_to_now = [other for other in there if other <= step]
        for dropped in set(there) - set(up_to_now[-self._keep :]) - (also_keep & set(up_to_now)):
            self._drop(dropped)

    def _drop(self, step: int) -> None:
        """Under another name first, lest a process killed meanwhile leave half a checkpoint."""
        aside = self._folder / f"{self._path(step).name}.dropped{PART}"
        self._path(step).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _together(self, work: Callable[[], None]) -> None:
        """Let the leader do it, and fail on every process if it fails: none waits for one that has given up."""
        errors: list[OSError | None] = [None]
        if self._leads:
            try:
                work()
            except OSError as error:
                errors = [error]
        if self._group is not None:
            distributed.broadcast_object_list(errors, src=0, group=self._group)
        if errors[0] is not None:
            raise errors[0]

    def _not_written(self, error: OSError) -> OSError:
        """Raised without its cause, which is in the message: that names the way back."""
        good = self._steps()
        way = f"that of step {good[-1]} is good and a run can go on from it" if good else "there is none before it"
        return OSError(
            f"the checkpoint of step {self._written_step} in {self._folder} could not be written "
            f"({(error.strerror or str(error)).lower()}); {way}: make room for it, then run the same command again to "
            "continue"
        )


class _ShardWriter(FileSystemWriter):
    """One process's files. Nothing is copied ahead: that would take the stream of a GPU this process does not use."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, per_thread_copy_ahead=0)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> torch.futures.Future[list[WriteResult]]:
        """As torch does it."""
        with _system_errors():
            return super().write_data(plan, planner)


def _background_group() -> distributed.ProcessGroup:
    distributed.barrier()  # a process that is gone fails here at once, and in new_group after half an hour
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo")
    return group


def _snapshot(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Every part's state in CPU memory of its own; tensors that share memory still do."""
    options = StagingOptions(
        use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
    )
    staged = DefaultStager(options).stage({name: part.state_dict() for name, part in parts.items()})
    assert isinstance(staged, dict)
    return staged


def _write_part(path: Path, state: Any) -> None:
    """Through a file of Python's: given a path, torch keeps the interpreter locked while it writes."""
    with _system_errors(), path.open("wb") as file:
        torch.save(state, file)


def _write_shards(folder: Path, snapshot: dict[str, Any], group: distributed.ProcessGroup) -> None:
    try:
        save_sharded(snapshot, storage_writer=_ShardWriter(folder), process_group=group)
    except CheckpointException as error:
        raise _first_cause(error) from None


def _load_shards(folder: Path, parts: Mapping[str, Stateful]) -> None:
    _require_shards(folder)
    try:
        load_sharded(dict(parts), checkpoint_id=folder)
    except CheckpointException as error:
        raise ValueError(
            f"cannot read {folder} ({_first_cause(error)}); delete it to go on from the checkpoint before it"
        ) from error


def _first_cause(error: CheckpointException) -> BaseException:
    """What went wrong on one of the processes: the system's error, if there was one."""
    causes = [cause for cause, _ in error.failures.values()]
    return next((cause for cause in causes if isinstance(cause, OSError)), causes[0])


@contextmanager
def _system_errors() -> Iterator[None]:
    """torch turns a failed write into a RuntimeError about positions; the disk's own error is its context."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _require_shards(folder: Path) -> None:
    """Raises ValueError if a file that the checkpoint's `.metadata` counts on is missing or too short."""
    try:
        places = FileSystemReader(folder).read_metadata().storage_data.values()
    except Exception as error:  # whatever unpickling half a file may raise
        raise _damaged(folder / ".metadata") from error
    for place in places:
        shard = folder / place.relative_path
        if not shard.exists() or shard.stat().st_size < place.offset + place.length:
            raise _damaged(shard)


def _meta(step: int, sharded: bool) -> dict[str, Any]:
    return {
        "step": step,
        "torch": torch.__version__,
        "processes": _process_count(),
        "threads": torch.get_num_threads(),
        "sharded": sharded,
    }


def _process_count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    return meta


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, UnpicklingError) as error:
        raise _damaged(path) from error
    return state


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"cannot read {path}, the file is {'damaged' if path.exists() else 'missing'}; "
        f"delete {path.parent} to go on from the checkpoint before it"
    )


def _in_fresh_memory(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _in_fresh_memory(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_in_fresh_memory(value) for value in state)
    return state
