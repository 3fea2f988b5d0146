"""A report of made-up figures in the shape of a full demo, to draw pages without running the loop."""

import io
import math

import numpy as np
from PIL import Image

from onereward.metrics.gsb import good_same_bad, score_rows, score_table
from onereward.metrics.judge_table import judge_table
from onereward.metrics.records import Answer, Score
from onereward.report.content import DriftRow, Example, Report, Setting, SkipRow, TimeRow
from onereward.report.curves import Curve, smoothed
from onereward.terms import DIMENSIONS, Task

_SKILL = {"untuned": 0.1, "pair": 0.5, "task": 0.7, "task_dimension": 1.0, "fixed_query": -0.4}
_EDITORS = {"hole": -0.4, "base": 0.0, "algorithm-1": 0.05, "algorithm-2": 0.08, "ceiling": 0.3}
_CELLS = [(task, dimension) for task in Task for dimension in DIMENSIONS[task]]


def fake_report(triplets: int = 60) -> Report:
    generator = np.random.default_rng(0)
    answers = [
        Answer(
            triplet_id=f"{task}-{index}",
            task=task,
            dimension=dimension,
            variant=variant,
            winner_first=float(skill + generator.normal()),
            loser_first=float(-skill + generator.normal()),
            outside=0.01,
            voter=voter,
            kind="oracle",
        )
        for variant, skill in _SKILL.items()
        for task, dimension in _CELLS
        for index in range(triplets)
        for voter in ("ann", "bob")[: 1 + (task is Task.REMOVE)]
    ]
    scores = [
        Score(
            triplet_id=f"{task}-{index}",
            task=task,
            dimension=dimension,
            editor=editor,
            scorer="oracle",
            value=float(np.clip(0.55 + gain + 0.1 * generator.normal(), 0, 1)),
            dead_band=0.05,
        )
        for editor, gain in _EDITORS.items()
        for task, dimension in _CELLS
        for index in range(triplets)
    ]
    table = score_table(scores)
    editors = ["base", "algorithm-1", "algorithm-2"]
    return Report(
        settings=[Setting(stage="generate", name="candidates", value="4")],
        table=judge_table(answers),
        curves=[_curve(editor, task, e, generator) for editor in editors[1:] for task, e in _CELLS],
        examples=[_example(task, index, generator) for task in Task for index in range(4)],
        scores=[row for editor in editors for row in score_rows(table, editor)],
        gsb=[row for editor in editors[1:] for row in good_same_bad(table, editor)],
        drift=[DriftRow(editor=editor, n=240, drift=2.5, low=2.3, high=2.7) for editor in editors],
        skips=[SkipRow(task=task, dimension=e, votes=200, skips=31, share=0.155) for task, e in _CELLS],
        timing=[
            TimeRow(stage="generate", seconds=181.2, budget=200),
            TimeRow(stage="train-reward", seconds=222, budget=240),
            TimeRow(stage="report", seconds=2.2, budget=None),
        ],
        versions={"python": "3.11.2", "onereward": "0.1.0"},
    )


def _curve(editor: str, task: str, dimension: str, generator: np.random.Generator) -> Curve:
    steps = tuple(float(step) for step in range(0, 120, 3))
    values = tuple(float(0.5 + 0.2 * (1 - math.exp(-s / 50)) + 0.08 * generator.normal()) for s in steps)
    measure = "reward" if editor == "algorithm-1" else "win_rate"
    smooth = smoothed(steps, values, 20)
    return Curve(
        editor=editor, task=task, dimension=dimension, measure=measure, steps=steps, values=values, smooth=smooth
    )


def _example(task: Task, index: int, generator: np.random.Generator) -> Example:
    images = {}
    for editor in ("hole", "base", "algorithm-1", "algorithm-2"):
        buffer = io.BytesIO()
        coarse = Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
        images[editor] = buffer.getvalue()
    return Example(triplet_id=f"{task}-{index}", task=task, prompt='a sign that says "<AB>"', images=images)
