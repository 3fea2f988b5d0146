"""A run: one folder that holds everything a training wrote, and the rules by which it goes on.

config.json   every field of the run's config
log.jsonl     one object a step
checkpoints/  what resuming needs
samples/      pictures made on the way
final/        the finished model, an ordinary model folder, with `run.json` saying after how many steps
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onereward.store.shards import write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class RunDir:
    """The folder of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.log = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.final = self.path / "final"

    def open(self, config: "DataclassInstance") -> None:
        """Begin the run, or check that it may go on: the same config, or only a larger `steps`.

        Raises ValueError that lists the fields which differ, or if the folder holds something else than a run.
        """
        wanted = to_json_values(config)
        if self.config_file.exists():
            self._require_continuable(json.loads(self.config_file.read_text()), wanted)
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run: name another --output")
        write_atomically(self.config_file, (json.dumps(wanted, indent=1) + "\n").encode())

    def is_finished(self, steps: int) -> bool:
        """Whether `final/` holds the model after `steps` steps."""
        provenance = self.final / "run.json"
        return provenance.exists() and json.loads(provenance.read_text())["steps"] == steps

    def write_final(self, steps: int, save: Callable[[Path], None]) -> None:
        """Let `save` write the model into a folder, which becomes `final/` when it is whole."""
        part, old = self.final.with_suffix(".part"), self.final.with_suffix(".old")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            save(part)
            provenance = {"steps": steps, "config": json.loads(self.config_file.read_text())}
            (part / "run.json").write_text(json.dumps(provenance, indent=1) + "\n")
            shutil.rmtree(old, ignore_errors=True)
            if self.final.exists():
                self.final.rename(old)
            part.rename(self.final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    def _require_continuable(self, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differing = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
        if differing == ["steps"] and wanted["steps"] > there["steps"]:
            return
        if differing:
            listed = ", ".join(f"{key} (there {there.get(key)!r}, now {wanted.get(key)!r})" for key in differing)
            raise ValueError(
                f"{self.path} is a run with another config: {listed}; name another --output, or repeat the old "
                "settings (only a larger --steps continues a run)"
            )


def to_json_values(config: "DataclassInstance") -> dict[str, Any]:
    """A config as JSON reads it back: what `config.json` holds and `--print-config` prints."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values
