"""Tables 1 and 4 on the toy world's preferences: the four ways of asking and the fixed query, for several seeds.

    OMP_NUM_THREADS=1 python experiments/judge_tables/run.py --output work/judge_tables

Each seed has preferences of its own, made as the demo makes them (`--demos`: folders in which it has done so already,
or will), and three judges, tuned with the same recipe and seed on pairs alone, with the task, with task and dimension.
Prints one JSON line a seed and one for all: accuracy, mean of nine cells, of each row, and the differences to
`task_dimension` with their 95 % intervals. Takes about 15 minutes a seed on two idle cores; run again it goes on.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onereward.demo import demo_stages
from onereward.evaluate.judge import evaluate_judge
from onereward.metrics.accuracy import MEAN
from onereward.metrics.gsb import ALL
from onereward.metrics.judge_table import JudgeTable, judge_table
from onereward.metrics.records import Answer
from onereward.query import Variant
from onereward.recipes.demo import full_demo
from onereward.recipes.toy_judge import toy_judge
from onereward.runtime.threads import torch_threads
from onereward.runtime.workers import worker_processes
from onereward.store.shards import read_records
from onereward.train.reward import train_reward

UNTUNED = "untuned"
TUNED = (Variant.PAIR, Variant.TASK, Variant.TASK_DIMENSION)
ROWS = (UNTUNED, *Variant)  # Table 1, then Table 4's further row
DATA_STAGES = ("data", "select", "candidates", "votes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--demos", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    demos = args.demos or [args.output / f"demo-{seed}" for seed in range(args.seeds)]
    tables = []
    for seed, demo in enumerate(demos):
        tables.append(table_of(demo, args.output / f"seed-{seed}", seed, args.processes))
        print(json.dumps({"seed": seed, **summary([tables[-1]])}), flush=True)
    print(json.dumps({"seeds": len(tables), **summary(tables)}))


def table_of(demo: Path, output: Path, seed: int, processes: int) -> JudgeTable:
    """The tables of one seed, as `output`/table.json has them too."""
    make_preferences(demo, seed)
    judges = {UNTUNED: "toy"}
    with torch_threads(1):
        for variant in TUNED:
            config = replace(toy_judge(), seed=seed, variant=variant)
            train, folder = demo / "train" / "preferences", output / variant
            judges[variant] = str(train_reward(config, train, folder, processes=processes))
    judges[Variant.FIXED_QUERY] = judges[Variant.TASK_DIMENSION]
    asked = {UNTUNED: Variant.TASK_DIMENSION, **dict.fromkeys(Variant, None), Variant.FIXED_QUERY: Variant.FIXED_QUERY}
    with worker_processes(processes) as executor:
        for row in ROWS:
            folder = output / "answers" / row
            evaluate_judge(demo / "test" / "preferences", folder, judges[row], asked[row], row, executor=executor)
    answers = [answer for row in ROWS for answer in read_records(output / "answers" / row, Answer)]
    table = judge_table(answers, seed=seed)
    (output / "table.json").write_text(table.to_json() + "\n")
    return table


def make_preferences(demo: Path, seed: int) -> None:
    """The demo's first stages, up to the votes; they do nothing where they have been done."""
    if (demo / "test" / "preferences" / "manifest.json").exists():
        return
    for stage in demo_stages(demo, replace(full_demo(), seed=seed)):
        if stage.name in DATA_STAGES:
            stage.run()


def summary(tables: Sequence[JudgeTable]) -> dict[str, object]:
    """The means over the seeds, and each seed's difference to `task_dimension` over all pairs as value, low, high."""
    found = {
        (line.variant, place): line.accuracy for place, t in enumerate(tables) for line in t.judge if line.task == MEAN
    }
    behind: dict[str, list[list[float]]] = {}
    for line in (line for table in tables for line in table.comparisons if line.task == ALL):
        behind.setdefault(line.variant, []).append([round(x, 4) for x in (line.difference, line.low, line.high)])
    means = {row: sum(found[row, place] for place in range(len(tables))) / len(tables) for row in ROWS}
    return {
        "mean of nine cells": {row: round(mean, 4) for row, mean in means.items()},
        "minus task_dimension, all pairs": behind,
    }


if __name__ == "__main__":
    main()
