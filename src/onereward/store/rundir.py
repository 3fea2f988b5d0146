"""A run: one folder that holds everything a training wrote, and the rules by which it goes on.

config.json   every field of the run's config
log.jsonl     one object a step
checkpoints/  what resuming needs
data/         a copy of the training data that can be read at random, while a run is on
samples/      pictures made on the way
final/        the finished model, an ordinary model folder, with `run.json` saying after how many steps
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onereward.store.files import PART, fresh_part, publish, write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class RunDir:
    """The folder of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.log = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.data = self.path / "data"
        self.samples = self.path / "samples"
        self.final = self.path / "final"

    def require_continuable(self, config: "DataclassInstance", names: Collection[str] = ()) -> None:
        """Check that this config may begin here or go on: the same one, or only a larger `steps`; nothing is written.

        `names` are fields that may differ, since others say by content what they name. Raises ValueError that lists the
        fields which differ, or if the folder holds something else than a run.
        """
        if self.config_file.exists():
            there, wanted = json.loads(self.config_file.read_text()), to_json_values(config)
            self._compare({**there, **{name: wanted[name] for name in names}}, wanted)
        elif self.path.exists() and any(path.name != f"config.json{PART}" for path in self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run: name another --output")

    @contextmanager
    def opened(self, config: "DataclassInstance", names: Collection[str] = ()) -> Iterator[None]:
        """Begin the run, or go on with it, and keep others out until the end; ValueError as `require_continuable`.

        Call it when everything else has been checked, so that wrong input leaves no run behind.
        """
        self.require_continuable(config, names)
        self.path.mkdir(parents=True, exist_ok=True)
        with _only_writer(self.path):
            values = json.dumps(to_json_values(config), indent=1)
            write_atomically(self.config_file, f"{values}\n".encode())
            yield

    def is_finished(self, steps: int) -> bool:
        """Whether `final/` holds the model after `steps` steps."""
        provenance = self.final / "run.json"
        return provenance.exists() and json.loads(provenance.read_text())["steps"] == steps

    def write_final(self, steps: int, save: Callable[[Path], None], **facts: Any) -> None:
        """Let `save` write the model into a folder, which becomes `final/` when whole; `facts` go into run.json."""
        part, old = fresh_part(self.final), self.final.with_suffix(".old")
        try:
            save(part)
            provenance = {"steps": steps, **facts, "config": json.loads(self.config_file.read_text())}
            (part / "run.json").write_text(json.dumps(provenance, indent=1) + "\n")
            shutil.rmtree(old, ignore_errors=True)
            if self.final.exists():
                self.final.rename(old)
            publish(part, self.final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    def _compare(self, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differing = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
        if differing == ["steps"] and wanted["steps"] > there["steps"]:
            return
        if differing:
            listed = ", ".join(f"{key} (there {there.get(key)!r}, now {wanted.get(key)!r})" for key in differing)
            raise ValueError(
                f"{self.path} is a run with another config: {listed}; name another --output, or repeat the old "
                "settings (only a larger --steps continues a run)"
            )


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process; raises ValueError if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is at work in {folder}: wait for it, or name another --output"
            ) from error
        yield
    finally:
        os.close(descriptor)


def to_json_values(config: "DataclassInstance") -> dict[str, Any]:
    """A config as JSON reads it back: what `config.json` holds and `--print-config` prints."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values
