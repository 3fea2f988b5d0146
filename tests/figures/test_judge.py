"""Tables 1 and 4: the judge that is told task and dimension is the best row, the fixed query clearly worse.

The long form is the toy world's preferences with three seeds (`experiments/judge_tables`); the short form a world in
which each cell wants something else of the same two images, so that only who is told the cell can be right.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.judge_tables.run import ROWS, table_of
from onereward.evaluate.judge import evaluate_judge
from onereward.metrics.comparison import Comparison
from onereward.metrics.gsb import ALL
from onereward.metrics.judge_table import JudgeTable, judge_table
from onereward.metrics.records import Answer
from onereward.query import Variant
from onereward.recipes.toy_judge import toy_judge
from onereward.store.shards import read_records, run_stage
from onereward.terms import Dimension, Preference, Task
from onereward.train.reward import train_reward
from tests.preferences import _Made, bright_preference

BRIGHTER = {(Task.FILL, Dimension.STRUCTURE): True, (Task.FILL, Dimension.AESTHETICS): False}
"""Which image wins; the task alone does not tell it."""


def contrary_preferences(folder: Path, pairs: range) -> Path:
    """Every pair voted on in both cells."""
    votes = [
        replace(made, task=task, dimension=dimension, triplet_id=f"{task}-{index}", weight=1.0)
        if brighter
        else replace(
            made,
            task=task,
            dimension=dimension,
            triplet_id=f"{task}-{index}",
            weight=1.0,
            winner=made.loser,
            loser=made.winner,
        )
        for index in pairs
        for made in [bright_preference(4 * index)]
        for (task, dimension), brighter in BRIGHTER.items()
    ]
    run_stage(
        folder,
        kind=Preference,
        stage="test",
        config=_Made(count=len(votes)),
        inputs={},
        shard_count=1,
        make_shard=lambda shard: votes,
    )
    return folder


def all_pairs(table: JudgeTable) -> dict[str, Comparison]:
    """Each row against `task_dimension` over all pairs."""
    found = {line.variant: line for line in table.comparisons if line.task == ALL}
    for row, line in found.items():
        print(f"{row:16} {line.difference:+.3f} [{line.low:+.3f}, {line.high:+.3f}] n {line.n}, p {line.p:.2g}")
    return found


def test_only_who_is_told_task_and_dimension_can_be_right_where_cells_disagree(tmp_path: Path) -> None:
    train = contrary_preferences(tmp_path / "train", range(24))
    test = contrary_preferences(tmp_path / "test", range(24, 40))
    answers: list[Answer] = []
    for variant in (Variant.PAIR, Variant.TASK, Variant.TASK_DIMENSION):
        config = replace(
            toy_judge(),
            variant=variant,
            steps=60,
            batch=8,
            learning_rate=2e-3,
            warm_up=5,
            decay=0.9,
            mirror=False,
            shift=0,
            tone=0.0,
        )
        tuned = str(train_reward(config, train, tmp_path / variant))
        asked = [variant] if variant is not Variant.TASK_DIMENSION else [variant, Variant.FIXED_QUERY]
        for row in asked:
            evaluate_judge(test, tmp_path / "answers" / row, tuned, row, row)
            answers += read_records(tmp_path / "answers" / row, Answer)
    table = judge_table(answers)
    behind = all_pairs(table)
    told = [row for row in table.judge if row.variant == Variant.TASK_DIMENSION]
    assert [row.accuracy for row in told] == pytest.approx([1.0] * 2, abs=0.1)
    assert set(behind) == {Variant.PAIR, Variant.TASK, Variant.FIXED_QUERY}
    assert all(line.high < 0 for line in behind.values())


SEEDS = range(3)


@pytest.fixture(scope="module")
def tables() -> Sequence[JudgeTable]:
    """Of the toy world's preferences, a seed each; what `runs/` has of them already is used."""
    demos = [Path("runs") / ("demo" if seed == 0 else f"demo-seed-{seed}") for seed in SEEDS]
    return [table_of(demo, Path("work/judge_tables") / f"seed-{seed}", seed, 2) for seed, demo in enumerate(demos)]


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("row", [row for row in ROWS if row != Variant.TASK_DIMENSION])
def test_task_and_dimension_is_the_best_row(row: str, seed: int, tables: Sequence[JudgeTable]) -> None:
    assert all_pairs(tables[seed])[row].high < 0
