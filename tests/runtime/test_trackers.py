"""TensorBoard for real, by reading its event files back; wandb and Trackio for real where they are installed."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from onereward.runtime import trackers
from onereward.runtime.trackers import Trackers, check_trackers
from onereward.store.images import encode_png


def _png(colour: tuple[int, int, int]) -> bytes:
    return encode_png(Image.new("RGB", (3, 2), colour))


def _open(folder: Path, *names: str, resume_step: int = 0) -> Trackers:
    return Trackers(names, folder, project="onereward", run_name="rl", resume_step=resume_step, config={"steps": 4})


def _events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_holds_nested_numbers_and_pictures(tmp_path: Path) -> None:
    line = {"task": "fill", "loss": 0.25, "win_rate": {"fill": {"structure": 0.75}}, "alarms": ["x"], "staleness": 0}
    with _open(tmp_path, "tensorboard") as trackers:
        trackers.log(1, line, {"samples/fill": _png((255, 0, 128))})
        trackers.log(2, {"loss": 0.5})
    events = _events(tmp_path)
    assert set(events.Tags()["scalars"]) == {"loss", "win_rate/fill/structure", "staleness"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.25), (2, 0.5)]
    assert [event.value for event in events.Scalars("win_rate/fill/structure")] == [0.75]
    (image,) = events.Images("samples/fill")
    pixels_HW3 = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert pixels_HW3.shape == (2, 3, 3) and (pixels_HW3 == [255, 0, 128]).all()


def test_a_resumed_run_takes_the_place_of_what_it_does_again(tmp_path: Path) -> None:
    with _open(tmp_path, "tensorboard") as first:
        for step in (1, 2, 3, 4):
            first.log(step, {"loss": float(step)})
    with _open(tmp_path, "tensorboard", resume_step=2) as second:
        second.log(3, {"loss": 30.0})
    assert [(event.step, event.value) for event in _events(tmp_path).Scalars("loss")] == [(1, 1), (2, 2), (3, 30)]


def test_unknown_and_missing_trackers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown tracker 'tensorbord'; the trackers are tensorboard, wandb, trackio"):
        check_trackers(["tensorbord"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(OSError, match="pip install wandb"):
        _open(tmp_path, "wandb")
    monkeypatch.setattr(trackers, "find_spec", lambda name: SimpleNamespace(origin=None))  # wandb's output in ./wandb
    with pytest.raises(OSError, match="pip install wandb"):
        _open(tmp_path, "wandb")
    assert list(tmp_path.iterdir()) == []


class _Failing:
    """A tracker whose network fails from the second step on."""

    steps: list[int]

    def __init__(self, run: trackers.TrackedRun) -> None:
        self.steps = _Failing.steps = []

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        self.steps.append(step)
        if step >= 2:
            raise ConnectionError("no route to host")

    def close(self) -> None:
        raise ConnectionError("no route to host")


def test_a_failing_tracker_is_told_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {**trackers.TRACKERS, "failing": _Failing}
    monkeypatch.setattr(trackers, "TRACKERS", known)
    monkeypatch.setattr(trackers, "find_spec", lambda name: SimpleNamespace(origin=name))
    with caplog.at_level(logging.WARNING), _open(tmp_path, "failing", "tensorboard") as both:
        for step in (1, 2, 3):
            both.log(step, {"loss": float(step)})
    assert _Failing.steps == [1, 2]
    assert [event.step for event in _events(tmp_path).Scalars("loss")] == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "the tracker failing failed and gets no more figures (log.jsonl does): no route to host"
    ]
    with caplog.at_level(logging.WARNING), _open(tmp_path, "failing"):
        pass
    assert len(caplog.records) == 2  # closing fails too


def test_a_tracker_that_cannot_begin_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(run: trackers.TrackedRun) -> trackers.Tracker:
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(trackers, "TRACKERS", {"tensorboard": begin})
    with pytest.raises(OSError, match="the tracker tensorboard cannot begin: api_key not configured"):
        _open(tmp_path, "tensorboard")


_TWICE = """
import sys
from pathlib import Path
from onereward.runtime.trackers import Trackers
from onereward.store.images import encode_png
from PIL import Image
name, folder = sys.argv[1], Path(sys.argv[2])
picture = {"samples/fill": encode_png(Image.new("RGB", (4, 4)))}
for resume_step, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    with Trackers([name], folder, project="p", run_name="rl", resume_step=resume_step, config={"steps": 4}) as both:
        for step in steps:
            both.log(step, {"loss": step / 4, "win_rate": {"fill": {"structure": 0.75}}, "task": "fill"}, picture)
"""


_READ_TRACKIO = """
import json
from trackio.sqlite_storage import SQLiteStorage as storage
print(json.dumps([[run["name"], storage.get_logs("p", run["name"])] for run in storage.get_run_records("p")]))
"""


def _run(code: str, name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """In a process of its own: the packages keep a run a process and read their variables when imported."""
    folder.mkdir(exist_ok=True)
    paths = {"PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": str(folder.parent)}
    words = [sys.executable, "-c", code, name, str(folder)]
    done = subprocess.run(words, env={**paths, **environment}, capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_resumes_its_run(tmp_path: Path) -> None:
    folder = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    assert _run(_TWICE, "trackio", tmp_path / "run", folder) == ""
    ((name, logs),) = json.loads(_run(_READ_TRACKIO, "trackio", tmp_path / "run", folder))
    assert name.startswith("rl-")
    assert [(log["step"], log["loss"]) for log in logs] == [(1, 0.25), (2, 0.5), (3, 0.75), (3, 0.75), (4, 1.0)]
    assert logs[0]["win_rate/fill/structure"] == 0.75 and "task" not in logs[0] and "samples/fill" in logs[0]


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_resumes_its_run(tmp_path: Path) -> None:
    assert _run(_TWICE, "wandb", tmp_path / "run", {"WANDB_MODE": "offline"}) == ""
    ids = {folder.name.rsplit("-", 1)[1] for folder in (tmp_path / "run" / "wandb").glob("offline-run-*")}
    assert ids == {(tmp_path / "run" / "tracker-id.txt").read_text()}
