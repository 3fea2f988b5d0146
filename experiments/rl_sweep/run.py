"""One RL setting: train with it, then compare with the base on validation scenes by the oracle.

    OMP_NUM_THREADS=1 python experiments/rl_sweep/run.py --judge runs/demo/judge/final --output work/sweep/bound-.6 \\
        --seed 0 --set bound=.6 --set learning_rate=5e-5

Prints one JSON line: the settings, net good-same-bad and mean score difference a task and dimension with 95 %
intervals, and drift outside the mask against the base's. Sweeps look at validation scenes only; `--split test` is for
the final figures.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch

from onereward.evaluate.editor import edit_triplets, score_edits
from onereward.metrics.gsb import good_same_bad, score_rows, score_table
from onereward.metrics.records import Edit, Score
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.recipes.settings import with_settings
from onereward.recipes.toy import ToyScenes, toy, toy_probe
from onereward.store.shards import read_records
from onereward.terms import Task
from onereward.toy.oracle import ToyOracle
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import TASK_CYCLE, Split
from onereward.train.rl import train_rl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dynamic", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--split", type=Split, default=Split.VALIDATION)
    parser.add_argument("--first", type=int, default=20_000, help="first scene compared on")
    parser.add_argument("--per-task", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = with_settings(replace(toy(dynamic=args.dynamic), judge=args.judge, seed=args.seed), args.set)
    final = train_rl(
        config,
        args.output / "run",
        editor=load_flux_fill(config.editor),
        judge=load_qwen_vl(config.judge),
        triplets=ToyScenes(),
        probe=toy_probe(16),
    )
    rarest = min(TASK_CYCLE.count(task) for task in Task)
    pool = ToyPoolConfig(split=args.split, count=ceil(args.per_task / rarest) * len(TASK_CYCLE), first=args.first)
    triplets, edits, scores = (args.output / name for name in ("triplets", "edits", "scores"))
    write_toy_pool(triplets, pool)
    edit_triplets(triplets, edits, {"base": config.editor, "tuned": str(final)}, seed=0)
    score_edits(triplets, edits, scores, ToyOracle())
    table = score_table(read_records(scores, Score))
    net = {
        f"{row.task}/{row.dimension}": [round(value, 3) for value in (row.net, row.low, row.high)]
        for row in good_same_bad(table, "tuned")
    }
    difference = {
        f"{row.task}/{row.dimension}": [
            round(value, 3) for value in (row.difference, row.difference_low, row.difference_high)
        ]
        for row in score_rows(table, "tuned")
    }
    drift = defaultdict(list)
    for edit in read_records(edits, Edit):
        drift[edit.editor].append(edit.drift)
    line = {
        "settings": args.set,
        "dynamic": args.dynamic,
        "seed": args.seed,
        "split": args.split,
        "net": net,
        "difference": difference,
        "drift": round(float(np.mean(drift["tuned"]) / np.mean(drift["base"])), 3),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
