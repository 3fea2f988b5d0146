"""Checkpoints from which a run goes on bit for bit as if it had never stopped (one machine, equal versions).

A checkpoint is a folder `step-00000100/` with one file a part and `checkpoint.json`. It is written under another name
and renamed when whole, so that a run killed while writing leaves nothing that looks like a checkpoint.
"""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import distributed

from onereward.store.files import fresh_part, publish

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8})")


class Stateful(Protocol):
    """Anything with torch's two state methods: a module, an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Checkpoints:
    """The checkpoints of one run, the last `keep` of them."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"got keep={keep} checkpoints, expected at least 1: a run resumes from its last one")
        self._folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, in order."""
        names = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Write the state of every part after `step` steps, then drop what is older than the last `keep`."""
        part_folder = fresh_part(self._path(step))
        try:
            for name, part in parts.items():
                torch.save(part.state_dict(), part_folder / f"{name}.pt")
            meta = {
                "step": step,
                "torch": torch.__version__,
                "processes": _process_count(),
                "threads": torch.get_num_threads(),
            }
            (part_folder / "checkpoint.json").write_text(json.dumps(meta) + "\n")
            shutil.rmtree(self._path(step), ignore_errors=True)
            publish(part_folder, self._path(step))
        finally:
            shutil.rmtree(part_folder, ignore_errors=True)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._path(old))

    def load_last(self, parts: Mapping[str, Stateful]) -> int:
        """Put the last checkpoint into the parts, restore its thread count and return its step (0: there is none).

        Every tensor is copied into fresh memory: kernels may round otherwise on memory that is aligned otherwise.
        """
        steps = self.steps()
        if not steps:
            return 0
        folder = self._path(steps[-1])
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
        for name, part in parts.items():
            part.load_state_dict(_in_fresh_memory(_read(folder / f"{name}.pt")))
        return steps[-1]

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


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
