"""`onereward train-reward`: preferences -> a judge (Sec. 4.3)."""

import argparse
import json
import os

HELP = "train the judge on preferences"
EXAMPLE = """
onereward train-reward toy --input preferences --output runs/judge --processes 2
onereward train-reward qwen-3b-lora --input train --validation validation --output runs/judge --set patience=3
"""

_RECIPES = ("toy", "qwen", "qwen-lora", "qwen-3b-lora")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the preferences, the run folder, and changes to the recipe."""
    parser.add_argument("recipe", choices=_RECIPES, help="the run's config")
    parser.add_argument("--input", metavar="PREFERENCES", help="folder of preferences to learn from")
    parser.add_argument(
        "--validation",
        metavar="PREFERENCES",
        help="folder of preferences that are not learnt from: for the log, `patience` and the temperatures",
    )
    parser.add_argument("--output", metavar="RUN", help="run folder; run again to resume")
    parser.add_argument("--judge", metavar="NAME", help="judge to start from (default: the recipe's)")
    parser.add_argument("--steps", type=int, metavar="N", help="a larger number continues a finished run")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="K", help="processes of one thread each (default: 1)"
    )
    parser.add_argument(
        "--sharded", action="store_true", help="split the judge's weights over the processes (FSDP2), under torchrun"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field, such as variant=task"
    )
    parser.add_argument("--print-config", action="store_true", help="print the config as JSON and stop")


def run(args: argparse.Namespace) -> None:
    """Build the config, train."""
    from dataclasses import replace
    from pathlib import Path

    from onereward.recipes.qwen_judge import qwen_3b_lora_judge, qwen_judge, qwen_lora_judge
    from onereward.recipes.settings import with_settings
    from onereward.recipes.toy_judge import toy_judge
    from onereward.runtime.threads import torch_threads
    from onereward.store.rundir import to_json_values
    from onereward.train.reward import train_reward

    recipes = {
        "toy": toy_judge,
        "qwen": qwen_judge,
        "qwen-lora": qwen_lora_judge,
        "qwen-3b-lora": qwen_3b_lora_judge,
    }
    recipe = recipes[args.recipe]()
    named = {"judge": args.judge, "steps": args.steps, "seed": args.seed}
    config = with_settings(replace(recipe, **{k: v for k, v in named.items() if v is not None}), args.set)
    if args.print_config:
        print(json.dumps(to_json_values(config), indent=1))
        return
    if args.input is None or args.output is None:
        raise ValueError("got no --input or no --output, expected preferences and the run's folder")
    if args.processes < 1:
        raise ValueError(f"got --processes {args.processes}, expected 1 or more")
    with torch_threads(1 if args.processes > 1 else None):
        final = train_reward(
            config,
            args.input,
            Path(args.output),
            validation=args.validation,
            processes=args.processes,
            sharded=args.sharded,
        )
    if os.environ.get("RANK", "0") == "0":  # torchrun's other processes leave the word to the first
        print(json.dumps({"judge": str(final)}) if args.json else f"the judge is in {final}")
