"""A reward-hacking drill: a policy trained through a judge that saw too few pairs, watched by one that saw them all.

    OMP_NUM_THREADS=1 python experiments/hacking_drill/run.py --preferences runs/demo/train/preferences \\
        --held-out-judge runs/demo/judge/final --output runs/drill

Trains the weak judge, then the same RL run twice, without any of the recipe's safeguards: once with alarms that only
warn, once with alarms that roll back. Every ten steps the oracle scores the released editor on validation scenes. The
curves are in `curves.json`, and printed: step, win rate by the weak judge, by the held-out judge, gain by the oracle.
"""

import argparse
import json
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.rl_gain import Exam, Snapshot
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.recipes.settings import with_settings
from onereward.recipes.toy import ToyScenes, toy, toy_probe
from onereward.recipes.toy_judge import toy_judge
from onereward.store.shards import read_records, run_stage
from onereward.terms import Preference
from onereward.train.alarms import Action, Alarm
from onereward.train.reward import train_reward
from onereward.train.rl import Sources, train_rl
from onereward.train.rl_config import TrainRLConfig

PAIRS = 300
STEPS = 120
EVERY = 10
UNGUARDED = ("bound=1.0", "anchor=0", "shift=0", "tone=0", "both_orders=true", "learning_rate=1e-4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preferences", type=Path, required=True)
    parser.add_argument("--held-out-judge", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--scenes", type=int, default=40, help="validation scenes a task that the oracle scores")
    parser.add_argument("--set", action="append", default=list(UNGUARDED))
    args = parser.parse_args()
    torch.set_num_threads(1)
    weak = weak_judge(args.preferences, args.output)
    curves = {}
    for action in (Action.WARN, Action.ROLL_BACK):
        changed = replace(toy(), judge=str(weak), held_out_judge=args.held_out_judge, probe_every=EVERY)
        actions = {**dict.fromkeys(Alarm, Action.WARN), Alarm.HACKED: action, Alarm.COLLAPSED: action}
        config = with_settings(replace(changed, alarm_actions=actions), args.set)
        curves[action] = curve(config, args.output / action, args.steps, args.scenes)
        (args.output / "curves.json").write_text(json.dumps(curves, indent=1))


def weak_judge(preferences: Path, output: Path) -> Path:
    """A judge that learnt from `PAIRS` votes."""
    few = output / "few"
    votes = list(islice(read_records(preferences, Preference), PAIRS))
    run_stage(
        few,
        kind=Preference,
        stage="drill",
        config=toy_judge(),
        inputs={},
        shard_count=1,
        make_shard=lambda index: votes,
    )
    return train_reward(replace(toy_judge(), steps=150), few, output / "judge")


def curve(config: TrainRLConfig, run: Path, steps: int, scenes: int) -> list[dict[str, Any]]:
    """What both judges and the oracle say after every `EVERY` steps."""
    exam = Exam(config, scenes)
    sources = Sources(
        editor=partial(load_flux_fill, config.editor),
        judge=partial(load_qwen_vl, config.judge),
        held_out_judge=partial(load_qwen_vl, str(config.held_out_judge)),
        triplets=ToyScenes(),
        probe=toy_probe(64),
    )
    rows = []
    for step in range(EVERY, steps + 1, EVERY):
        final = train_rl(replace(config, steps=step), run, sources)
        line = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        weights = load_flux_fill(str(final)).transformer.state_dict()
        report = exam.report(Snapshot(updates=step, seconds=0.0, cpu_seconds=0.0, weights=weights))
        rows.append(
            {
                "step": step,
                "reward": mean_of(line["win_rate"]),
                "held_out": mean_of(line["held_out"]),
                "oracle": report["gain"],
                "differences": report["differences"],
                "alarms": line.get("alarms", []),
                "action": line.get("action"),
                "learning_rate": line["learning_rate"],
                "drift": line["drift"],
            }
        )
        shown = {name: rows[-1][name] for name in ("step", "reward", "held_out", "oracle", "action", "alarms")}
        print(json.dumps(shown), flush=True)
    return rows


def mean_of(cells: dict[str, dict[str, float]]) -> float:
    values = [value for row in cells.values() for value in row.values()]
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
