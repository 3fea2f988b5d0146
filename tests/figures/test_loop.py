"""What the demo claims, from its own report and scores: the judge is right, RL improves the editor, nothing is hacked.

The long form is the full demo with three seeds (`runs/demo` is used if `make demo` was run, the others are made beside
it); the short form is a smaller demo, with what so little training can show.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from onereward.demo import run_demo
from onereward.metrics.accuracy import MEAN, NINE_CELLS, AccuracyRow
from onereward.metrics.gsb import ALL, GoodSameBad, good_same_bad, score_table
from onereward.metrics.intervals import bootstrap_mean
from onereward.metrics.records import Score
from onereward.recipes.demo import DemoConfig, full_demo
from onereward.report import Report
from onereward.store.shards import read_records
from onereward.terms import Task

ALGORITHMS = ("algorithm-1", "algorithm-2")
MARGIN = -0.02  # a dimension is hacked if its whole interval lies below


@dataclass(frozen=True, kw_only=True)
class Form:
    """How much is run, and the bars that so much must clear."""

    configs: tuple[DemoConfig, ...]
    judge_mean: float
    judge_cell: float
    pairs_per_cell: int
    improves: bool  # whether intervals must lie above 0, or only not below


LONG = Form(
    configs=tuple(replace(full_demo(), seed=seed) for seed in range(3)),
    judge_mean=0.80,
    judge_cell=0.65,
    pairs_per_cell=100,
    improves=True,
)
SHORT = Form(
    configs=(
        replace(
            full_demo(),
            pool=160,
            selected=128,
            candidates=4,
            test_preferences=96,
            test_per_task=6,
            judge_steps=150,
            rl_steps=2,
            rl_probe=6,
        ),
    ),
    judge_mean=0.57,
    judge_cell=0.30,
    pairs_per_cell=10,
    improves=False,
)
FORMS = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.soak)]


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    shutil.rmtree(_short_folder(), ignore_errors=True)


@cache
def _short_folder() -> Path:
    return Path(mkdtemp(prefix="loop-"))


def folder_of(config: DemoConfig) -> Path:
    if config in SHORT.configs:
        return _short_folder() / "demo"
    return Path("runs") / ("demo" if config.seed == 0 else f"demo-seed-{config.seed}")


@cache
def reports(form: Form) -> list[Report]:
    return [run_demo(folder_of(config), config)[0] for config in form.configs]


def nets(report: Report, dimension: str = ALL) -> dict[tuple[str, str], GoodSameBad]:
    return {(row.editor, row.task): row for row in report.gsb if row.dimension == dimension}


def print_rows(rows: Sequence[AccuracyRow | GoodSameBad]) -> None:
    for row in rows:
        value = row.accuracy if isinstance(row, AccuracyRow) else row.net
        name = row.variant if isinstance(row, AccuracyRow) else row.editor
        print(f"{name:16} {row.task:8} {row.dimension:16} {value:+.3f} [{row.low:+.3f}, {row.high:+.3f}] n {row.n}")


@pytest.mark.parametrize("form", FORMS)
def test_the_judge_is_right_in_every_cell(form: Form) -> None:
    for report in reports(form):
        print_rows(report.judge)
        tuned = {(row.task, row.dimension): row for row in report.judge if row.variant == "task_dimension"}
        assert tuned[MEAN, MEAN].accuracy >= form.judge_mean
        assert min(tuned[str(task), str(e)].accuracy for task, e in NINE_CELLS) >= form.judge_cell
        assert min(tuned[str(task), str(e)].n for task, e in NINE_CELLS) >= form.pairs_per_cell
        other = {row.variant: row.accuracy for row in report.judge if row.task == MEAN}
        assert other["untuned"] < tuned[MEAN, MEAN].accuracy
        assert not form.improves or other["fixed_query"] < tuned[MEAN, MEAN].accuracy


@pytest.mark.parametrize("form", FORMS)
def test_few_votes_are_skips(form: Form) -> None:
    for report in reports(form):
        for row in report.skips:
            print(f"{row.task:8} {row.dimension:16} {row.share:.3f} of {row.votes}")
        assert max(row.share for row in report.skips if (row.task, row.dimension) in NINE_CELLS) <= 0.40


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", FORMS)
def test_fill_and_extend_improve_with_every_seed(form: Form, algorithm: str) -> None:
    for report in reports(form):
        rows = [nets(report)[algorithm, task] for task in (Task.FILL, Task.EXTEND)]
        print_rows(rows)
        assert all(row.low > 0 if form.improves else row.high >= 0 for row in rows)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", FORMS)
def test_removal_falls_with_no_seed(form: Form, algorithm: str) -> None:
    rows = [nets(report)[algorithm, Task.REMOVE] for report in reports(form)]
    print_rows(rows)
    assert all(row.high >= 0 for row in rows)


@pytest.mark.soak
@pytest.mark.xfail(reason="missed, docs/log.md 2026-11-24", strict=True, raises=AssertionError)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_removal_improves_over_the_seeds_together(algorithm: str) -> None:
    pooled = bootstrap_mean(removal_verdicts(LONG, algorithm), seed=0)
    print(f"pooled {pooled.value:+.3f} [{pooled.low:+.3f}, {pooled.high:+.3f}]")
    assert pooled.low > 0


def removal_verdicts(form: Form, algorithm: str) -> list[float]:
    """Per triplet, the mean over the seeds of 1 good, 0 same, -1 bad."""
    verdicts = defaultdict(list)
    for config in form.configs:
        scores = [s for s in read_records(folder_of(config) / "evaluation" / "scores", Score) if s.task is Task.REMOVE]
        for triplet in {score.triplet_id for score in scores}:
            (row,) = (
                row
                for row in good_same_bad(score_table(s for s in scores if s.triplet_id == triplet), algorithm)
                if row.dimension == ALL
            )
            verdicts[triplet].append(row.net)
    return [float(np.mean(values)) for values in verdicts.values()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", FORMS)
def test_no_dimension_of_any_task_is_hacked(form: Form, algorithm: str) -> None:
    for report in reports(form):
        rows = [row for row in report.gsb if row.editor == algorithm and row.dimension != ALL]
        print_rows(rows)
        assert [(row.task, row.dimension) for row in rows if row.high < MARGIN] == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", FORMS)
def test_the_surroundings_drift_at_most_twice_as_far(form: Form, algorithm: str) -> None:
    for report in reports(form):
        drift = {row.editor: row.drift for row in report.drift}
        print(f"{algorithm} {drift[algorithm]:.3f}, base {drift['base']:.3f} grey levels")
        assert drift[algorithm] <= 2 * drift["base"]
