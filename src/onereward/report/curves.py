"""Reward curves of RL runs (Fig. 4), read from their log.jsonl."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onereward.store.rundir import RunDir
from onereward.terms import DIMENSIONS, Task

WINDOW = 0.15
"""Width of the smoothing as a share of the run's length."""

REWARD, WIN_RATE = "reward", "win_rate"
"""P(better) against the reference trained with, and against the frozen start. Under Algorithm 2 the first tends back to
one half by design and measures nothing, so that there the second is drawn."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """P(yes) of one task and dimension over the steps of one run, raw and smoothed; `measure` is REWARD or WIN_RATE."""

    editor: str
    task: str
    dimension: str
    measure: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    smooth: tuple[float, ...]


def read_curves(editor: str, run: Path) -> list[Curve]:
    """The curves of one run by task and dimension: the win rate of a dynamic run, the reward of another.

    A line of the log names its `task` and holds `reward: {dimension: value}` and, now and then,
    `win_rate: {task: {dimension: value}}`.
    """
    folder = RunDir(run)
    if not folder.log.exists():
        raise ValueError(f"{run} has no log.jsonl: pass the folder that train-rl wrote")
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    measure = WIN_RATE if json.loads(folder.config_file.read_text()).get("dynamic") else REWARD
    curves = []
    for task in Task:
        for dimension in DIMENSIONS[task]:
            points = [
                (float(line["step"]), float(value))
                for line in lines
                if (value := _measured(line, measure, task).get(dimension)) is not None
            ]
            if points:
                steps, values = zip(*points, strict=True)
                smooth = smoothed(steps, values, max(WINDOW * lines[-1]["step"], 1))
                curves.append(
                    Curve(
                        editor=editor,
                        task=task,
                        dimension=dimension,
                        measure=measure,
                        steps=steps,
                        values=values,
                        smooth=smooth,
                    )
                )
    return curves


def _measured(line: Mapping[str, Any], measure: str, task: Task) -> Mapping[str, float]:
    """What a line of the log says of a task, by dimension."""
    of_task = {line.get("task"): line.get(REWARD, {})} if measure == REWARD else line.get(WIN_RATE, {})
    found: Mapping[str, float] = of_task.get(task, {})
    return found


def smoothed(steps: Sequence[float], values: Sequence[float], width: float) -> tuple[float, ...]:
    """Mean of the values at steps within +- width / 2 of each step: centred, so that it lags nowhere."""
    means = []
    for step in steps:
        near = [value for other, value in zip(steps, values, strict=True) if abs(other - step) <= width / 2]
        means.append(sum(near) / len(near))
    return tuple(means)
