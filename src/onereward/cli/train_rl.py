"""`onereward train-rl`: triplets and a judge -> a better editor (Algorithms 1 and 2)."""

import argparse
import json
from pathlib import Path

from onereward.cli import editor_options

HELP = "train the editor through the judge (Algorithms 1 and 2)"
EXAMPLE = "onereward train-rl toy --output runs/rl --judge runs/judge/final --steps 150"

_RECIPES = ("toy",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the run folder, and changes to the recipe."""
    parser.add_argument("recipe", choices=_RECIPES, help="the run's config")
    parser.add_argument("--output", metavar="RUN", help="run folder; run again to resume")
    parser.add_argument("--input", metavar="TRIPLETS", help="folder of triplets (default: the recipe's)")
    parser.add_argument("--probe", metavar="TRIPLETS", help="held-out triplets: win rates in the log, pictures")
    parser.add_argument("--editor", metavar="NAME", help="editor to start from (default: the recipe's)")
    editor_options.add_source(parser)
    parser.add_argument("--judge", metavar="NAME", help="toy, folder or repository (default: the recipe's)")
    parser.add_argument("--steps", type=int, metavar="N", help="a larger number continues a finished run")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--dynamic", action=argparse.BooleanOptionalAction, help="Algorithm 2: the average is beaten")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the config"
    )
    parser.add_argument("--print-config", action="store_true", help="print the config as JSON and stop")
    editor_options.add_execution(parser, training=True)


def run(args: argparse.Namespace) -> None:
    """Build the config, load the models, train."""
    from dataclasses import replace

    from onereward.recipes.settings import with_settings
    from onereward.recipes.toy import TOY_SCENES, ToyScenes, toy, toy_probe
    from onereward.store.rundir import to_json_values

    named = {"steps": args.steps, "seed": args.seed, "dynamic": args.dynamic}
    named |= {"triplets": args.input, "editor": args.editor, "judge": args.judge}
    given = {name: value for name, value in named.items() if value is not None}
    config = with_settings(replace(toy(), **given), args.set)
    if args.print_config:
        print(json.dumps(to_json_values(config), indent=1))
        return
    if args.output is None:
        raise ValueError("got no --output, expected the run's folder (see: onereward train-rl --help)")

    load = editor_options.loader_of(args)
    from onereward.models.load_judge import load_qwen_vl
    from onereward.store.shards import read_records
    from onereward.terms import Triplet
    from onereward.train.rl import TripletPool, TripletSource, train_rl

    triplets: TripletSource = ToyScenes()
    probe = toy_probe()
    if config.triplets != TOY_SCENES:
        triplets, probe = TripletPool(config.triplets), []
    if args.probe is not None:
        probe = list(read_records(args.probe, Triplet))
    final = train_rl(
        config,
        Path(args.output),
        editor=load(config.editor),
        judge=load_qwen_vl(config.judge, device=load.device),
        triplets=triplets,
        probe=probe,
    )
    print(json.dumps({"editor": str(final)}) if args.json else f"the editor is in {final}")
