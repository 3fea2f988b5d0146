"""Checkpoints from which a run goes on bit for bit as if it had never stopped (one machine, equal versions).

A checkpoint is a folder `step-00000100/` with one file a part and `checkpoint.json`; of a sharded model every process
writes its shards there (torch's distributed checkpoint). It is written under another name and renamed when whole, so
that a run killed while writing leaves nothing that looks like a checkpoint.
"""

import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded

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
    """The checkpoints of one run, the last `keep` of them.

    If the parts are `sharded` over the processes, every process calls `save` and `load`; else one process saves.
    """

    def __init__(self, folder: Path, *, keep: int, sharded: bool = False) -> None:
        if keep < 1:
            raise ValueError(f"got keep={keep} checkpoints, expected at least 1: a run resumes from its last one")
        self._folder = folder
        self._keep = keep
        self._sharded = sharded

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, in order."""
        names = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, parts: Mapping[str, Stateful], *, also_keep: Collection[int] = ()) -> None:
        """Write the state of every part after `step` steps, then drop what is older than the last `keep`."""
        if not self._sharded:
            self._save(step, parts, also_keep, leads=True)
            return
        distributed.barrier()
        self._save(step, parts, also_keep, leads=distributed.get_rank() == 0)
        distributed.barrier()

    def _save(self, step: int, parts: Mapping[str, Stateful], also_keep: Collection[int], *, leads: bool) -> None:
        """`leads` makes the folder and gives it its name; where parts are sharded, the others only write theirs."""
        part_folder = fresh_part(self._path(step)) if leads else None
        try:
            self._write(part_folder or self._path(step).with_name(self._path(step).name + PART), parts)
            if part_folder is not None:
                (part_folder / "checkpoint.json").write_text(json.dumps(_meta(step)) + "\n")
                shutil.rmtree(self._path(step), ignore_errors=True)
                publish(part_folder, self._path(step))
        finally:
            if part_folder is not None:
                shutil.rmtree(part_folder, ignore_errors=True)
        if leads:
            for old in set(self.steps()[: -self._keep]) - set(also_keep):
                shutil.rmtree(self._path(old))

    def _write(self, folder: Path, parts: Mapping[str, Stateful]) -> None:
        if self._sharded:
            distributed.barrier()  # until the folder is there
            save_sharded(dict(parts), checkpoint_id=folder)
            return
        for name, part in parts.items():
            torch.save(part.state_dict(), folder / f"{name}.pt")

    def load_last(self, parts: Mapping[str, Stateful]) -> int:
        """Put the last checkpoint into the parts, restore its thread count and return its step (0: there is none)."""
        steps = self.steps()
        if steps:
            self.load(steps[-1], parts)
        return steps[-1] if steps else 0

    def load(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Put the checkpoint of a step into the parts and restore its thread count.

        Every tensor is copied into fresh memory: kernels may round otherwise on memory that is aligned otherwise.
        """
        folder = self._path(step)
        meta = _read_meta(folder / "checkpoint.json")
        for what, now in {"torch": torch.__version__, "processes": _process_count()}.items():
            if meta[what] != now:
                logger.warning(
                    "the checkpoint was written with %s %s, now it is %s: the run goes on, but not bit for bit",
                    what,
                    meta[what],
                    now,
                )
        torch.set_num_threads(meta["threads"])
        if self._sharded:
            load_sharded(dict(parts), checkpoint_id=folder)
            return
        for name, part in parts.items():
            part.load_state_dict(_in_fresh_memory(_read(folder / f"{name}.pt")))

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


def _meta(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "torch": torch.__version__,
        "processes": _process_count(),
        "threads": torch.get_num_threads(),
    }


def _process_count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
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
        f"cannot read {path}, the file is damaged; delete {path.parent} to go on from the checkpoint before it"
    )


def _in_fresh_memory(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _in_fresh_memory(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_in_fresh_memory(value) for value in state)
    return state
