"""What the folder of a training says of it while it is at work: its `log.jsonl` and `config.json`, read by others.

Tolerant of what a log lacks, since runs differ in what they measure; torch-free, so that looking costs nothing.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onereward.store.rundir import RunDir
from onereward.terms import DIMENSIONS, Task

_RECENT = 20  # steps over which times are averaged


class LogTail:
    """The lines of a growing `log.jsonl`, their steps rising.

    A step that comes again (a resumed run, or one that went back) takes the place of that step and all after it; a file
    put in the log's place is read from its beginning. Lines that are no JSON object with a step are passed over.
    """

    def __init__(self, path: Path) -> None:
        self.lines: list[Mapping[str, Any]] = []
        self._path = path
        self._file, self._offset = 0, 0

    def read(self) -> None:
        """Take in what has been written since the last time; a line without its end waits for it."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._offset:
                    self.lines, self._file, self._offset = [], status.st_ino, 0
                file.seek(self._offset)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            self.lines, self._file, self._offset = [], 0, 0
            return
        self._offset += len(whole) + len(end)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
        except ValueError:
            return
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            return
        while self.lines and self.lines[-1]["step"] >= values["step"]:
            self.lines.pop()
        self.lines.append(values)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The latest figures of a task and dimension; None where the log has none."""

    task: str
    dimension: str
    reward: float | None  # P(yes) against the current reference
    win_rate: float | None  # P(yes) against the start
    held_out: float | None  # the same by a judge never trained with
    clipped: float | None  # share without a gradient, beyond the bound
    gradient: float | None  # its norm
    series: tuple[float, ...] = field(repr=False)  # the reward over the run


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """The latest figures of a task."""

    task: str
    distance: float | None  # of the edits to the start's
    drift: Mapping[str, float]
    cosine: Mapping[str, float]  # between the gradients of two dimensions, `structure|aesthetics`


@dataclass(frozen=True, kw_only=True)
class Fired:
    """An alarm in the log, and what was done."""

    step: int
    words: str
    action: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run's folder says of it now; what `--json` prints."""

    run: str
    step: int
    steps: int | None
    finished: bool
    seconds: float | None  # of a step, lately
    remaining: float | None  # seconds
    age: float | None  # seconds since the log was written
    figures: Mapping[str, float]  # loss, grad_norm, learning_rate, peak_gib, staleness: the last of each
    phases: Mapping[str, float]  # seconds of a step, lately
    cells: tuple[Cell, ...]
    tasks: tuple[TaskFigures, ...]
    alarms: tuple[Fired, ...]


def summary_of(folder: RunDir, lines: Sequence[Mapping[str, Any]]) -> Summary:
    """From a run's folder and its log's lines."""
    step = int(lines[-1]["step"]) if lines else 0
    steps = _steps(folder)
    recent = lines[-_RECENT:]
    seconds = _mean([value for line in recent if (value := _number(line.get("seconds"))) is not None])
    return Summary(
        run=str(folder.path),
        step=step,
        steps=steps,
        finished=steps is not None and folder.is_finished(steps),
        seconds=seconds,
        remaining=None if seconds is None or steps is None else seconds * max(steps - step, 0),
        age=max(time.time() - folder.log.stat().st_mtime, 0) if folder.log.exists() else None,
        figures=_last_figures(lines),
        phases=_phases(recent),
        cells=tuple(_cells(lines)),
        tasks=tuple(_tasks(lines)),
        alarms=tuple(_alarms(lines)),
    )


def _steps(folder: RunDir) -> int | None:
    try:
        steps = json.loads(folder.config_file.read_text()).get("steps")
    except (OSError, ValueError, AttributeError):
        return None
    return steps if isinstance(steps, int) else None


def _last_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("loss", "grad_norm", "learning_rate", "peak_gib", "staleness")
    return {name: value for name in names if (value := _latest(lines, name)) is not None}


def _phases(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean seconds by phase over the lines that have the phase, in the log's own order."""
    names = dict.fromkeys(name for line in lines for name in _part(line, "phases"))
    means = {name: _mean(list(_series(lines, "phases", name))) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}


def _cells(lines: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_task.setdefault(str(line.get("task", "")), []).append(line)
    found = {(task, dimension) for task, own in by_task.items() for line in own for dimension in _part(line, "reward")}
    for measure in ("win_rate", "held_out"):
        tasks = {task for line in lines for task in _part(line, measure)}
        found |= {(task, dimension) for task in tasks for line in lines for dimension in _part(line, measure, task)}
    known = [(str(task), str(dimension)) for task in Task for dimension in DIMENSIONS[task]]
    for task, dimension in [*(cell for cell in known if cell in found), *sorted(found - set(known))]:
        own = by_task.get(task, [])
        yield Cell(
            task=task,
            dimension=dimension,
            reward=_latest(own, "reward", dimension),
            win_rate=_latest(lines, "win_rate", task, dimension),
            held_out=_latest(lines, "held_out", task, dimension),
            clipped=_latest(own, "clipped", dimension),
            gradient=_latest(lines, "gradients", task, "norm", dimension),
            series=tuple(_series(own, "reward", dimension)),
        )


def _tasks(lines: Sequence[Mapping[str, Any]]) -> Iterator[TaskFigures]:
    names = {name for line in lines for measure in ("distance", "drift", "gradients") for name in _part(line, measure)}
    for task in [*(str(task) for task in Task if task in names), *sorted(names - set(Task))]:
        yield TaskFigures(
            task=task,
            distance=_latest(lines, "distance", task),
            drift=_latest_of_each(lines, "drift", task),
            cosine=_latest_of_each(lines, "gradients", task, "cosine"),
        )


def _alarms(lines: Sequence[Mapping[str, Any]]) -> Iterator[Fired]:
    for line in lines:
        alarms = line.get("alarms")
        for words in alarms if isinstance(alarms, list) else []:
            yield Fired(step=int(line["step"]), words=str(words), action=str(line.get("action") or ""))


def _part(line: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at a path; an empty one if there is none."""
    found: Any = line
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _series(lines: Sequence[Mapping[str, Any]], *path: str) -> Iterator[float]:
    """The numbers at a path, from the lines that have one."""
    for line in lines:
        value = _number(_part(line, *path[:-1]).get(path[-1]))
        if value is not None:
            yield value


def _latest(lines: Sequence[Mapping[str, Any]], *path: str) -> float | None:
    return next(_series(lines[::-1], *path), None)


def _latest_of_each(lines: Sequence[Mapping[str, Any]], *path: str) -> dict[str, float]:
    """The last number of every name in the mappings at a path, in the log's own order."""
    names = dict.fromkeys(name for line in lines for name in _part(line, *path))
    return {name: value for name in names if (value := _latest(lines, *path, name)) is not None}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
