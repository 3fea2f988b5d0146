"""Where a run's figures go besides `log.jsonl`: TensorBoard, Weights & Biases, Trackio.

None of them may stop a training: one that fails while the run is on is left out from then on, with one warning, since
`log.jsonl` has every figure anyway. One that cannot begin is an error, for it is told before anything was computed.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol
from uuid import uuid4

import numpy
from PIL import Image

from onereward.store.files import write_atomically
from onereward.store.images import decode_image

logger = logging.getLogger(__name__)

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SECONDS_UNTIL_SHOWN = 15


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run; `resume_step` is the last step that is kept, 0 for a run that begins."""

    folder: Path
    project: str
    name: str
    resume_step: int
    config: Mapping[str, Any]

    def id(self) -> str:
        """Under which a service finds the run again: kept in the folder, since names are not unique."""
        file = self.folder / "tracker-id.txt"
        if not file.exists():
            write_atomically(file, uuid4().hex.encode())
        return file.read_text()


class Tracker(Protocol):
    """One service or file format; `step` may be lower than the last, after a run went back."""

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's folder; those of a resumed run hide what was logged after `resume_step`."""

    def __init__(self, run: TrackedRun) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        folder = str(run.folder / "tensorboard")
        self._writer = writer(folder, purge_step=run.resume_step + 1, flush_secs=_SECONDS_UNTIL_SHOWN)

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(name, numpy.asarray(picture), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run at wandb.ai, or offline files in the run's folder where `WANDB_MODE=offline`.

    The step is a figure of its own: wandb's counter refuses to go back, and would drop what a resumed run does again.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._wandb = import_module("wandb")
        named = {"project": run.project, "name": run.name, "id": run.id(), "config": dict(run.config)}
        self._run = self._wandb.init(**named, dir=str(run.folder), resume="allow")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        images = {name: self._wandb.Image(picture) for name, picture in pictures.items()}
        self._run.log({**scalars, **images, "step": step})

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of Trackio's dashboard, in its own folder on this machine (`TRACKIO_DIR`) unless it is told of a Space."""

    def __init__(self, run: TrackedRun) -> None:
        self._trackio = import_module("trackio")
        # Trackio finds a run again by its name alone.
        named = {"project": run.project, "name": f"{run.name}-{run.id()[:6]}", "config": dict(run.config)}
        with redirect_stdout(sys.stderr):  # stdout is for what a command prints
            self._run = self._trackio.init(**named, resume="allow", embed=False)

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        images = {name: self._trackio.Image(picture) for name, picture in pictures.items()}
        self._run.log({**scalars, **images}, step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._trackio.finish()


TRACKERS: Mapping[str, Callable[[TrackedRun], Tracker]] = MappingProxyType(
    {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "trackio": Trackio}
)
"""The trackers by name, which is also the name of the package that each needs."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError for an unknown name, OSError with the pip command for a package that is missing."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"unknown tracker {name!r}; the trackers are {', '.join(TRACKERS)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # without origin: a folder of that name, such as wandb's own output
            raise OSError(f"the tracker {name} needs a package that is missing: pip install {name}")


class Trackers:
    """Sends a run's log lines and pictures to every named tracker.

    After a run went back to an earlier step, close them and open them anew with that `resume_step`. Raises as
    `check_trackers`, and OSError for a tracker that cannot begin.
    """

    def __init__(
        self,
        names: Sequence[str],
        run_folder: Path,
        *,
        project: str,
        run_name: str,
        resume_step: int = 0,
        config: Mapping[str, Any] = _NOTHING,
    ) -> None:
        check_trackers(names)
        run = TrackedRun(folder=run_folder, project=project, name=run_name, resume_step=resume_step, config=config)
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = TRACKERS[name](run)
            except Exception as error:
                self.close()
                raise OSError(f"the tracker {name} cannot begin: {error}; mend that, or leave it out") from error

    def log(self, step: int, values: Mapping[str, Any], pictures: Mapping[str, bytes] = _NOTHING) -> None:
        """One line of `log.jsonl` (nested numbers become scalars `a/b/c`) and PNG files by name."""
        if self._open:
            scalars = dict(scalars_of(values))
            decoded = {name: decode_image(png, name) for name, png in pictures.items()}
            self._tell(lambda tracker: tracker.log(step, scalars, decoded))

    def close(self) -> None:
        """Send what is still to be sent; nothing can be logged after it."""
        self._tell(lambda tracker: tracker.close())
        self._open.clear()

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:
                logger.warning("the tracker %s failed and gets no more figures (log.jsonl does): %s", name, error)
                del self._open[name]


def scalars_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings with their paths, such as `reward/structure`; all else is passed over."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from scalars_of(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)
