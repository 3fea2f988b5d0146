"""`onereward train-rl`: triplets and a judge -> a better editor (Algorithms 1 and 2)."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli import editor_options

if TYPE_CHECKING:
    from onereward.train.rl import Sources
    from onereward.train.rl_config import TrainRLConfig

HELP = "train the editor through the judge (Algorithms 1 and 2)"
EXAMPLE = """
onereward train-rl toy --output runs/rl --judge runs/judge/final --steps 150
onereward train-rl flux_fill_lora --input triplets --judge runs/judge/final --probe held-out --output runs/rl
"""

_RECIPES = ("toy", "flux_fill", "flux_fill_dynamic", "flux_fill_lora")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the run folder, changes to the recipe, and by what it runs."""
    add_config(parser)
    parser.add_argument("--output", metavar="RUN", help="run folder; run again to resume")
    parser.add_argument("--probe", metavar="TRIPLETS", help="held-out triplets: win rates, alarms, pictures")
    editor_options.add_source(parser)
    parser.add_argument(
        "--processes", type=int, default=1, metavar="K", help="processes of one thread each, on a CPU (default: 1)"
    )
    parser.add_argument(
        "--sharded", action="store_true", help="split the weights over the processes (FSDP2), under torchrun"
    )
    parser.add_argument(
        "--offload-idle",
        action="store_true",
        help="keep the average, the start and a held-out judge in the CPU's memory until they are called",
    )
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument(
        "--reference-actors", type=int, metavar="N", help="Ray actors that make each process's references beforehand"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="the Ray that they live in (default: one of its own)")
    parser.add_argument(
        "--tracker",
        action="append",
        metavar="NAME",
        help="where figures go beside log.jsonl: tensorboard (default), wandb, trackio or none; may be repeated",
    )
    parser.add_argument("--print-config", action="store_true", help="print the config as JSON and stop")
    editor_options.add_execution(parser, training=True)


def add_config(parser: argparse.ArgumentParser) -> None:
    """What decides what is learnt, which `onereward plan` takes too."""
    parser.add_argument("recipe", choices=_RECIPES, help="the run's config")
    parser.add_argument("--input", metavar="TRIPLETS", help="folder of triplets (default: the recipe's)")
    parser.add_argument("--editor", metavar="NAME", help="editor to start from (default: the recipe's)")
    parser.add_argument("--judge", metavar="NAME", help="toy, folder or repository (default: the recipe's)")
    parser.add_argument("--held-out-judge", metavar="NAME", help="a judge that only looks on: what the alarms go by")
    parser.add_argument("--steps", type=int, metavar="N", help="a larger number continues a finished run")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--dynamic", action=argparse.BooleanOptionalAction, help="Algorithm 2: the average is beaten")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the config"
    )


def config_of(args: argparse.Namespace) -> "TrainRLConfig":
    """The recipe with what the command line changes."""
    from dataclasses import replace

    from onereward.recipes.flux_fill import flux_fill, flux_fill_dynamic, flux_fill_lora
    from onereward.recipes.settings import with_settings
    from onereward.recipes.toy import toy

    recipes = {
        "toy": toy,
        "flux_fill": flux_fill,
        "flux_fill_dynamic": flux_fill_dynamic,
        "flux_fill_lora": flux_fill_lora,
    }
    named = {name: getattr(args, name) for name in ("steps", "seed", "dynamic", "editor", "judge", "held_out_judge")}
    named["triplets"] = args.input
    given = {name: value for name, value in named.items() if value is not None}
    return with_settings(replace(recipes[args.recipe](), **given), args.set)


def run(args: argparse.Namespace) -> None:
    """Build the config, train."""
    from onereward.store.rundir import to_json_values

    config = config_of(args)
    if args.print_config:
        print(json.dumps(to_json_values(config), indent=1))
        return
    if args.output is None:
        raise ValueError("got no --output, expected the run's folder (see: onereward train-rl --help)")
    if args.processes < 1:
        raise ValueError(f"got --processes {args.processes}, expected 1 or more")

    from onereward.train.remote_references import ActorOptions
    from onereward.train.rl import Means, train_rl

    if args.ray is not None and args.reference_actors is None:
        raise ValueError("got --ray without --reference-actors N, of which it would be the home")
    actors = None
    if args.reference_actors is not None:
        actors = ActorOptions(actors=args.reference_actors, address=args.ray)
    trackers = args.tracker or ["tensorboard"]
    if "none" in trackers and len(trackers) > 1:
        raise ValueError("got --tracker none beside others, expected it alone")
    means = Means(
        processes=args.processes,
        sharded=args.sharded,
        offload_idle=args.offload_idle,
        compile=args.compile,
        actors=actors,
        trackers=() if trackers == ["none"] else tuple(trackers),
    )
    final = train_rl(config, Path(args.output), _sources(config, args), means)
    if os.environ.get("RANK", "0") == "0":  # torchrun's other processes leave the word to the first
        print(json.dumps({"editor": str(final)}) if args.json else f"the editor is in {final}")


def _sources(config: "TrainRLConfig", args: argparse.Namespace) -> "Sources":
    from dataclasses import replace
    from functools import partial

    from onereward.models.device import Precision
    from onereward.models.load_judge import load_qwen_vl
    from onereward.recipes.toy import TOY_SCENES, ToyScenes, toy_probe
    from onereward.store.shards import read_records
    from onereward.terms import Triplet
    from onereward.train.draws import TripletPool, TripletSource
    from onereward.train.rl import Sources

    load = editor_options.loader_of(args)
    triplets: TripletSource = ToyScenes()
    probe = toy_probe()
    if config.triplets != TOY_SCENES:
        triplets, probe = TripletPool(config.triplets), []
    if args.probe is not None:
        probe = list(read_records(args.probe, Triplet))
    as_saved = config.precision is Precision.FLOAT32
    judge = partial(
        load_qwen_vl,
        dtype=None if as_saved else config.precision.dtype,
        device=load.device,
        max_pixels=config.judge_pixels,
    )
    return Sources(
        editor=partial(replace(load, dtype=config.precision.dtype), config.editor),
        judge=partial(judge, config.judge),
        triplets=triplets,
        probe=probe,
        held_out_judge=None if config.held_out_judge is None else partial(judge, config.held_out_judge),
    )
